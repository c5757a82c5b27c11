// NATS is away, or does not answer: calls end within their deadlines and say so, and work again when it is back.

#include <chrono>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cpp/client.h"
#include "tests/testing/catch.h"
#include "tests/testing/daemon.h"
#include "tests/testing/must.h"
#include "tests/testing/nats_server.h"
#include "tests/testing/poll.h"

namespace persistd::fault {
namespace {

namespace pb = cim::persistence::v1;
using std::chrono_literals::operator""s;
using std::chrono_literals::operator""ms;
using testing::Daemon;
using testing::Must;
using testing::NatsServer;
using testing::PollUntil;

constexpr auto kTimeout = 2s;
constexpr auto kTolerance = 1500ms;  // Of a busy machine.

pb::SaveRequest SaveOf(const std::string& entity) {
  pb::SaveRequest request;
  *request.mutable_ref() = client::Ref("fault", "thing", entity);
  request.set_request_id(client::NewRequestId());
  *request.add_events() = client::JsonEvent("changed", "{}");
  return request;
}

struct Fixture {
  std::unique_ptr<NatsServer> nats = Must(NatsServer::Start({.sync_always = true}));
  std::unique_ptr<Daemon> daemon = Must(Daemon::Start({.sets = {absl::StrCat("nats.urls=[", nats->url(), "]")}}));
  // One attempt for each call.
  client::Client client = Must(client::Client::Connect(
      {.address = daemon->address(), .default_timeout = kTimeout, .retry = {.max_elapsed = 0ms}}));

  absl::Status History(const std::string& entity) const {
    pb::GetHistoryRequest request;
    *request.mutable_ref() = client::Ref("fault", "thing", entity);
    return client.History(std::move(request)).Next().status();
  }
  // The outcome of one call of each kind; none takes longer than its deadline.
  std::vector<std::pair<std::string, absl::Status>> CallAll(const std::string& entity,
                                                            const pb::SaveRequest& save) const {
    const pb::AggregateRef ref = client::Ref("fault", "thing", entity);
    pb::GetAtVersionRequest at;
    *at.mutable_ref() = ref;
    at.set_version(1);
    std::vector<std::pair<std::string, absl::Status>> outcomes;
    const auto call = [&outcomes](const char* name, auto method) {
      const auto start = std::chrono::steady_clock::now();
      outcomes.emplace_back(name, method());
      const auto elapsed = std::chrono::steady_clock::now() - start;
      INFO(name << ": " << outcomes.back().second);
      REQUIRE((elapsed < kTimeout + kTolerance));
    };
    call("Save", [&] { return client.Save(save).status(); });
    call("Load", [&] { return client.Load(ref).status(); });
    call("GetMetadata", [&] { return client.GetMetadata(ref).status(); });
    call("GetAtVersion", [&] { return client.GetAtVersion(at).status(); });
    call("GetHistory", [&] { return History(entity); });
    return outcomes;
  }
  bool connected() const { return Must(client.GetServerInfo()).nats().connected(); }
};

TEST_CASE("While NATS is away every call is UNAVAILABLE at once, and works by itself when it is back", "[fault]") {
  const Fixture fixture;
  Must(fixture.client.Save(SaveOf("1")));
  for (int round = 0; round < 2; ++round) {
    fixture.nats->Kill9();
    REQUIRE(PollUntil([&] { return !fixture.connected(); }, 10s));
    for (const std::string entity : {"1", "new"}) {
      const pb::SaveRequest save = SaveOf(entity);
      for (const auto& [name, status] : fixture.CallAll(entity, save)) {
        INFO(name << " of " << entity << ": " << status);
        REQUIRE(absl::IsUnavailable(status));
        REQUIRE(client::GetErrorDetail(status).value().reason() == pb::ERROR_REASON_NATS_UNAVAILABLE);
        REQUIRE(client::GetErrorDetail(status)->retryable());
      }
    }
    REQUIRE(Must(fixture.client.GetServerInfo()).warnings_size() > 0);
    Must(fixture.nats->Restart());
    REQUIRE(PollUntil([&] { return fixture.connected() && fixture.client.Load(SaveOf("1").ref()).ok(); }, 20s));
    for (const auto& [name, status] : fixture.CallAll("1", SaveOf("1"))) {
      INFO(name << ": " << status);
      REQUIRE(status.ok());
    }
    REQUIRE(Must(fixture.client.GetMetadata(SaveOf("1").ref())).version() == static_cast<uint64_t>(round) + 2);
    REQUIRE(absl::IsNotFound(fixture.client.Load(SaveOf("new").ref()).status()));
  }
}

TEST_CASE("While NATS hangs every call ends within its deadline, and a save's outcome is settled later", "[fault]") {
  const Fixture fixture;
  Must(fixture.client.Save(SaveOf("1")));
  const pb::SaveRequest save = SaveOf("1");
  fixture.nats->Pause();
  for (const auto& [name, status] : fixture.CallAll("1", save)) {
    INFO(name << ": " << status);
    REQUIRE(absl::IsUnavailable(status));
    if (name == "Save") REQUIRE(client::MayHaveBeenStored(status));
  }
  fixture.nats->Resume();
  REQUIRE(PollUntil([&] { return fixture.connected() && fixture.client.Load(save.ref()).ok(); }, 20s));
  const pb::SaveResponse settled = Must(fixture.client.Save(save));
  REQUIRE(settled.metadata().version() == 2);
  REQUIRE(Must(fixture.client.GetMetadata(save.ref())).version() == 2);
}

}  // namespace
}  // namespace persistd::fault
