#include "server/jetstream/stream_scan.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/server/jetstream/live.h"
#include "tests/testing/catch.h"
#include "tests/testing/must.h"
#include "tests/testing/nats_server.h"

namespace persistd::jetstream {
namespace {

using ::persistd::testing::Must;
using ::persistd::testing::NatsServer;

struct World {
  World() : nats(Must(NatsServer::Start({}))), live(To(nats->url())) { REQUIRE(live.WaitUntilUp()); }

  void MakeStream() {
    live.MakeStream({{"name", "S"}, {"subjects", {"s.>"}}, {"allow_direct", true}, {"max_msgs_per_subject", 1}});
  }
  void Publish(int first, int count) {
    std::vector<base::Future<absl::StatusOr<Message>>> answers;
    for (int i = first; i < first + count; ++i) {
      OutgoingMessage message;
      message.subject = absl::StrCat("s.", i);
      message.headers.Add("n", absl::StrCat(i));
      message.data = "a body";
      answers.push_back(live.connection().Request(message, In(kPatience)));
    }
    for (auto& answer : answers) REQUIRE(Await(std::move(answer)).ok());
  }
  absl::Status Scan(const ScanVisitor& visit, ScanOptions options = {}) {
    options.stream = "S";
    return ScanStream(options, &live.connection(), &live.executor(), visit);
  }
  // Notes what is visited.
  absl::Status ScanAll(ScanOptions options = {}) {
    visited.clear();
    return Scan(
        [this](Message message) -> absl::StatusOr<ScanStep> {
          CHECK(message.data.empty());
          CHECK(*message.headers.Find("Nats-Msg-Size") == "6");
          CHECK(*message.headers.Find("n") == message.subject.substr(2));
          visited.push_back(message.sequence);
          return ScanStep::kNext;
        },
        options);
  }

  std::unique_ptr<NatsServer> nats;
  Live live;
  std::vector<uint64_t> visited;
};

TEST_CASE("A scan visits every message once and in order, without bodies", "[scan]") {
  World world;
  CHECK(absl::IsNotFound(world.ScanAll()));
  world.MakeStream();
  Must(world.ScanAll());
  CHECK(world.visited.empty());
  world.Publish(0, 3000);
  world.Publish(0, 500);  // In place of the first ones.
  Must(world.ScanAll({.window = 64}));
  REQUIRE(world.visited.size() == 3000);
  CHECK(world.visited.front() == 501);
  CHECK(world.visited.back() == 3500);
  CHECK(std::is_sorted(world.visited.begin(), world.visited.end()));
  // The end of the stream may be empty.
  for (int i = 400; i < 500; ++i) world.live.Api("STREAM.PURGE.S", absl::StrCat("{\"filter\":\"s.", i, "\"}"));
  Must(world.ScanAll());
  CHECK(world.visited.size() == 2900);
  world.live.Api("STREAM.PURGE.S");
  Must(world.ScanAll());
  CHECK(world.visited.empty());
}

TEST_CASE("A scan ends when its visitor says so", "[scan]") {
  World world;
  world.MakeStream();
  world.Publish(0, 1000);
  int visits = 0;
  const ScanVisitor seven = [&](Message) -> absl::StatusOr<ScanStep> {
    return ++visits == 7 ? ScanStep::kStop : ScanStep::kNext;
  };
  Must(world.Scan(seven));
  CHECK(visits == 7);
  const absl::Status refused =
      world.Scan([&](Message) -> absl::StatusOr<ScanStep> { return absl::DataLossError("no good"); });
  CHECK(absl::IsDataLoss(refused));
  CHECK(refused.message() == "reading stream S: no good");
  bool cancelled = false;
  const ScanVisitor cancel = [&](Message) -> absl::StatusOr<ScanStep> {
    cancelled = true;
    return ScanStep::kNext;
  };
  CHECK(absl::IsCancelled(world.Scan(cancel, {.window = 8, .cancelled = [&] { return cancelled; }})));
}

TEST_CASE("What changes during a scan does not disturb it", "[scan]") {
  World world;
  world.MakeStream();
  world.Publish(0, 1000);
  std::vector<uint64_t> visited;
  const ScanVisitor visit = [&](Message message) -> absl::StatusOr<ScanStep> {
    // Some that were visited, and some that were not yet, move to the end; others go.
    if (visited.size() == 100) {
      world.Publish(0, 10);
      world.Publish(900, 50);
      for (int i = 950; i < 1000; ++i) world.live.Api("STREAM.PURGE.S", absl::StrCat("{\"filter\":\"s.", i, "\"}"));
    }
    visited.push_back(message.sequence);
    return ScanStep::kNext;
  };
  Must(world.Scan(visit, {.window = 16}));
  CHECK(visited.size() >= 900);
}

TEST_CASE("A stream that is replaced during a scan is not read to its end", "[scan]") {
  World world;
  world.MakeStream();
  world.Publish(0, 1000);
  int visits = 0;
  const ScanVisitor visit = [&](Message) -> absl::StatusOr<ScanStep> {
    if (++visits == 100) {
      world.live.Api("STREAM.DELETE.S");
      world.MakeStream();
      world.Publish(0, 1200);
    }
    return ScanStep::kNext;
  };
  const absl::Status status = world.Scan(visit, {.window = 16});
  CHECK(absl::IsAborted(status));
}

}  // namespace
}  // namespace persistd::jetstream
