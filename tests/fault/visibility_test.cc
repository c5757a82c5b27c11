// Nobody ever reads a part of a save, however often and through whichever daemon they look while saves run.

#include <atomic>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cpp/client.h"
#include "server/base/mutex.h"
#include "tests/fault/seed.h"
#include "tests/testing/catch.h"
#include "tests/testing/daemon.h"
#include "tests/testing/must.h"
#include "tests/testing/nats_server.h"

namespace persistd::fault {
namespace {

namespace pb = cim::persistence::v1;
using testing::Daemon;
using testing::Must;
using testing::NatsServer;

constexpr uint64_t kEvents = 7;  // Of every save.
constexpr int kAggregates = 2;

pb::AggregateRef RefOf(int aggregate) { return client::Ref("fault", "whole", absl::StrCat(aggregate)); }

// What readers found wrong, and how much they read. Thread-safe.
class Findings {
 public:
  template <typename... Parts>
  void Problem(const Parts&... parts) {
    base::MutexLock lock(mutex_);
    problem_ = absl::StrCat(parts...);
  }
  std::string problem() const {
    base::MutexLock lock(mutex_);
    return problem_;
  }
  std::atomic<size_t> in_flight_reads = 0;  // That saw the aggregate between its first and its last save.

 private:
  mutable base::Mutex mutex_;
  std::string problem_ GUARDED_BY(mutex_);
};

void CheckLoad(const client::Client& client, int aggregate, uint64_t& least, Findings& findings) {
  const absl::StatusOr<pb::LoadResponse> loaded = client.Load(RefOf(aggregate));
  if (!loaded.ok()) return findings.Problem("load: ", loaded.status().ToString());
  const uint64_t version = loaded->metadata().version();
  if (version % kEvents != 0) findings.Problem("load shows version ", version);
  if (version < least) findings.Problem("load went back from version ", least, " to ", version);
  least = version;
  uint64_t next = 1;
  if (loaded->has_state()) {
    const pb::AggregateState& state = loaded->state();
    if (state.version() % kEvents != 0 || state.version() > version) {
      findings.Problem("state of version ", state.version(), " at version ", version);
    }
    if (state.payload().data() != absl::StrCat("{\"version\":", state.version(), "}")) {
      findings.Problem("state of version ", state.version(), " is ", state.payload().data());
    }
    next = state.version() + 1;
  }
  for (const pb::RecordedEvent& event : loaded->events()) {
    if (event.version() != next++) findings.Problem("load has version ", event.version(), " after ", next - 2);
  }
  if (next != version + 1) findings.Problem("load of version ", version, " ends at ", next - 1);
}

void CheckHistory(const client::Client& client, int aggregate, bool reverse, uint64_t& least, Findings& findings) {
  pb::GetHistoryRequest request;
  *request.mutable_ref() = RefOf(aggregate);
  request.set_reverse(reverse);
  client::HistoryReader reader = client.History(std::move(request));
  uint64_t first = 0;
  uint64_t last = 0;
  uint64_t count = 0;
  while (true) {
    const absl::StatusOr<std::optional<pb::RecordedEvent>> event = reader.Next();
    if (!event.ok()) return findings.Problem("history: ", event.status().ToString());
    if (!event->has_value()) break;
    const uint64_t version = (*event)->version();
    if (count++ == 0) {
      first = version;
    } else if (version != (reverse ? last - 1 : last + 1)) {
      findings.Problem("history has version ", version, " after ", last);
    }
    last = version;
  }
  const uint64_t lowest = reverse ? last : first;
  const uint64_t highest = reverse ? first : last;
  if (lowest != 1 || count % kEvents != 0 || highest != count) {
    findings.Problem("history shows versions ", lowest, " to ", highest, ", ", count, " events");
  }
  if (count < least) findings.Problem("history went back from version ", least, " to ", count);
  least = count;
}

TEST_CASE("Readers of two daemons never see a part of a save of seven events and a state", "[fault]") {
  const auto nats = Must(NatsServer::Start({.sync_always = true}));
  const std::vector<std::string> sets = {absl::StrCat("nats.urls=[", nats->url(), "]")};
  const auto writing = Must(Daemon::Start({.sets = sets}));
  const auto reading = Must(Daemon::Start({.sets = sets}));
  const client::Client writer = Must(client::Client::Connect({.address = writing->address()}));
  const uint64_t saves = 60 * static_cast<uint64_t>(Scale());
  const auto save = [&](int aggregate, uint64_t number) {
    pb::SaveRequest request;
    *request.mutable_ref() = RefOf(aggregate);
    request.set_expected_version(number * kEvents);
    for (uint64_t i = 0; i < kEvents; ++i) *request.add_events() = client::JsonEvent("changed", "{}");
    *request.mutable_state() = client::JsonPayload(absl::StrCat("{\"version\":", (number + 1) * kEvents, "}"));
    return writer.Save(std::move(request)).status();
  };
  for (int aggregate = 0; aggregate < kAggregates; ++aggregate) Must(save(aggregate, 0));

  Findings findings;
  std::atomic<int> writers_left = kAggregates;
  std::vector<std::thread> threads;
  for (int aggregate = 0; aggregate < kAggregates; ++aggregate) {
    threads.emplace_back([&, aggregate] {
      for (uint64_t number = 1; number < saves && findings.problem().empty(); ++number) {
        if (const absl::Status status = save(aggregate, number); !status.ok()) {
          findings.Problem("save: ", status.ToString());
        }
      }
      --writers_left;
    });
    for (const std::string& address : {writing->address(), reading->address()}) {
      threads.emplace_back([&, aggregate, client = Must(client::Client::Connect({.address = address}))] {
        uint64_t least = 0;
        for (int i = 0; writers_left > 0 && findings.problem().empty(); ++i) {
          if (i % 3 == 0) {
            CheckHistory(client, aggregate, i % 2 == 0, least, findings);
          } else {
            CheckLoad(client, aggregate, least, findings);
          }
          if (least < saves * kEvents) ++findings.in_flight_reads;
        }
      });
    }
  }
  for (std::thread& thread : threads) thread.join();
  REQUIRE(findings.problem() == "");
  REQUIRE(findings.in_flight_reads > 20);
}

}  // namespace
}  // namespace persistd::fault
