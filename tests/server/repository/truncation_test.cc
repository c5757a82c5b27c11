// Types whose events are removed after snapshots: what goes, what stays, and that nothing goes when in doubt.

#include <atomic>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "cim/persistence/v1/errors.pb.h"
#include "server/domain/errors.h"
#include "server/domain/subject.h"
#include "server/jetstream/api.h"
#include "server/repository/snapshot_manifest.h"
#include "tests/server/repository/repository_fixture.h"
#include "tests/testing/catch.h"
#include "tests/testing/must.h"
#include "tests/testing/nats_server.h"
#include "tests/testing/poll.h"

namespace persistd::repository {
namespace {

namespace pb = cim::persistence::v1;
using ::persistd::testing::Must;
using ::persistd::testing::NatsServer;
using ::persistd::testing::PollUntil;

// Wall time that tests move.
class MovedClock final : public base::Clock {
 public:
  base::WallTime WallNow() const override { return base::Clock::System().WallNow() + moved_.load(); }
  base::SteadyTime SteadyNow() const override { return base::Clock::System().SteadyNow(); }
  void Advance(std::chrono::minutes by) { moved_ = moved_.load() + by; }

 private:
  std::atomic<std::chrono::minutes> moved_{};
};

RepositoryOptions Truncating(std::chrono::milliseconds age) {
  RepositoryOptions options;
  options.storage.truncating = {{"sales", "order"}};
  options.truncation_age = age;
  options.snapshot_policies[{"sales", "order"}] = {.every_events = 10, .after_events = {}, .keep = 2};
  return options;
}

std::string StateOf(uint64_t version) { return absl::StrCat("{\"version\":", version, "}"); }

// A daemon over an own nats-server.
struct Bench {
  explicit Bench(std::chrono::milliseconds age = 0ms)
      : nats(Must(NatsServer::Start({}))), daemon(nats->url(), Truncating(age), &clock) {}

  SaveCommand Next(const domain::AggregateRef& ref, uint64_t version, size_t events = 1) const {
    SaveCommand command = Command(ref, version, events);
    command.state = NewState{.schema_version = 1,
                             .payload = {.content_type = "application/json", .data = StateOf(version + events)}};
    return command;
  }
  // Saves of one event until `version`, and that all their snapshots are taken.
  void SaveUpTo(const domain::AggregateRef& ref, uint64_t version) {
    uint64_t now = 0;
    if (const absl::StatusOr<AggregateInfo> info = daemon.Info(ref); info.ok()) now = info->version;
    for (; now < version; ++now) {
      Must(daemon.Save(Next(ref, now)));
      if ((now + 1) % 10 == 0) REQUIRE(PollUntil([&] { return Newest(ref) == now + 1; }, 20s));
    }
  }
  uint64_t Newest(const domain::AggregateRef& ref) {
    const auto list = Must(base::BlockOn(daemon.repository().ListSnapshots(ref, TestRepository::In(20s))));
    return list.empty() ? 0 : list.front().version;
  }
  // How many messages the stream of events has.
  uint64_t Messages() {
    const jetstream::ApiAnswer info = Must(base::BlockOn(jetstream::CallApi(
        daemon.writes(), "$JS.API.STREAM.INFO.CIM-EVENTS+sales+order", "", TestRepository::In(20s))));
    return jetstream::UnsignedField(jetstream::ObjectField(info.body, "state"), "messages");
  }
  bool EventuallyMessages(uint64_t count) {
    return PollUntil([&] { return Messages() == count; }, 20s);
  }
  absl::StatusOr<std::vector<Event>> History(const domain::AggregateRef& ref, uint64_t from, bool reverse = false) {
    HistoryQuery query;
    query.ref = ref;
    query.from_version = from;
    query.reverse = reverse;
    return daemon.History(std::move(query));
  }
  // As somebody with other rights than the daemon's would.
  void Purge(const domain::AggregateRef& ref, uint64_t before_sequence) {
    const std::string body = nlohmann::json{{"filter", domain::EventFilter(ref)}, {"seq", before_sequence}}.dump();
    const jetstream::ApiAnswer answer = Must(base::BlockOn(jetstream::CallApi(
        daemon.writes(), "$JS.API.STREAM.PURGE.CIM-EVENTS+sales+order", body, TestRepository::In(20s))));
    REQUIRE_FALSE(answer.error.has_value());
  }

  MovedClock clock;
  std::unique_ptr<NatsServer> nats;
  TestRepository daemon;
};

bool IsRemoved(const absl::Status& status) { return domain::HasReason(status, pb::ERROR_REASON_HISTORY_REMOVED); }

TEST_CASE("Events before the oldest snapshot that is kept are removed, and all else is answered as before",
          "[repository]") {
  Bench bench;
  const domain::AggregateRef ref = Order("a");
  const domain::AggregateRef other = Order("b");
  bench.SaveUpTo(other, 9);
  bench.SaveUpTo(ref, 35);
  // Snapshots 20 and 30 are kept: 1 to 19 go, those of others stay.
  REQUIRE(bench.EventuallyMessages(9 + 16));
  CHECK(Must(bench.History(other, 0)).size() == 9);

  const LoadResult now = Must(bench.daemon.Load(ref));
  CHECK(now.info.version == 35);
  CHECK(now.state->payload.data == StateOf(35));
  CHECK(Must(bench.History(ref, 19)).size() == 16);
  CHECK(Must(bench.daemon.LoadVersion(ref, 20)).state->payload.data == StateOf(20));
  const LoadResult at_33 = Must(bench.daemon.LoadVersion(ref, 33));
  CHECK(at_33.state->payload.data == StateOf(30));
  CHECK(at_33.events.size() == 3);

  CHECK(IsRemoved(bench.History(ref, 0).status()));
  CHECK(absl::StrContains(bench.History(ref, 18).status().message(), "before version 20"));
  CHECK(IsRemoved(bench.History(ref, 0, /*reverse=*/true).status()));
  CHECK(IsRemoved(bench.daemon.LoadVersion(ref, 19).status()));
  LoadCommand from_events{.ref = ref};
  from_events.use_snapshot = false;
  CHECK(IsRemoved(bench.daemon.Load(from_events).status()));
  CHECK(bench.daemon.repository().stats().snapshots.removed_events == 19);

  // It goes on.
  bench.SaveUpTo(ref, 41);
  REQUIRE(bench.EventuallyMessages(9 + 12));
  CHECK(Must(bench.History(ref, 29)).size() == 12);
  // Another daemon answers the same, and one that does not know of the retention does not touch the type.
  TestRepository there(bench.nats->url(), Truncating(0ms));
  CHECK(Must(there.Load(ref)).info.version == 41);
  CHECK(IsRemoved(there.LoadVersion(ref, 29).status()));
  CHECK(Must(there.Save(bench.Next(ref, 41))).info.version == 42);
  TestRepository stranger(bench.nats->url());
  CHECK(domain::HasReason(stranger.Load(ref).status(), pb::ERROR_REASON_STORAGE_UNSUITABLE));
}

TEST_CASE("Without a stored state, what is left of a history begins with the snapshot", "[repository]") {
  Bench bench;
  const domain::AggregateRef ref = Order("a");
  // Only the save that makes a snapshot has a state, and it is older than what is removed later.
  Must(bench.daemon.Save(bench.Next(ref, 0)));
  for (uint64_t version = 1; version < 25; ++version) Must(bench.daemon.Save(Command(ref, version)));
  const auto snapshot = [&](uint64_t version) {
    SnapshotCommand command{.ref = ref, .version = version, .state = NewState{}};
    command.state->payload = {.content_type = "application/json", .data = StateOf(version)};
    return base::BlockOn(bench.daemon.repository().CreateSnapshot(command, TestRepository::In(20s)));
  };
  Must(snapshot(12));
  REQUIRE(bench.EventuallyMessages(14));  // 12 to 25
  const LoadResult loaded = Must(bench.daemon.Load(ref));
  CHECK(loaded.snapshot_version == 12);
  CHECK(loaded.state->payload.data == StateOf(12));
  CHECK(loaded.events.size() == 13);

  // What stands for the events cannot be deleted, until another snapshot does.
  const auto remove = [&](uint64_t version) {
    return base::BlockOn(bench.daemon.repository().DeleteSnapshot(ref, version, TestRepository::In(20s)));
  };
  CHECK(IsRemoved(remove(12)));
  Must(snapshot(20));
  CHECK(remove(12).ok());
  CHECK(IsRemoved(remove(20)));
  CHECK(Must(bench.daemon.Load(ref)).snapshot_version == 20);
}

TEST_CASE("Repeats of saves that are kept are recognised, of those that are gone refused", "[repository]") {
  Bench bench;
  const domain::AggregateRef ref = Order("a");
  const SaveCommand gone = WithId(bench.Next(ref, 3), FreshId());
  bench.SaveUpTo(ref, 3);
  Must(bench.daemon.Save(gone));
  bench.SaveUpTo(ref, 19);
  // The save that passes 20 begins with 20 and is kept whole.
  const SaveCommand kept = WithId(bench.Next(ref, 19, 3), FreshId());
  Must(bench.daemon.Save(kept));
  REQUIRE(PollUntil([&] { return bench.Newest(ref) == 22; }, 20s));
  bench.SaveUpTo(ref, 29);
  REQUIRE(bench.EventuallyMessages(20));  // From 10 on, of the snapshots 10 and 22.
  Must(bench.daemon.Save(bench.Next(ref, 29)));
  REQUIRE(bench.EventuallyMessages(11));  // From 20 on, of the snapshots 22 and 30.
  CHECK(Must(bench.History(ref, 19)).front().event.version == 20);

  TestRepository there(bench.nats->url(), Truncating(0ms));
  CHECK(Must(there.Save(kept)).deduplicated);
  CHECK(IsRemoved(there.Save(gone).status()));
  CHECK(Must(there.Info(ref)).version == 30);
}

TEST_CASE("Nothing is removed for a snapshot that is young or cannot be read", "[repository]") {
  Bench bench(/*age=*/10min);
  const domain::AggregateRef ref = Order("a");
  bench.SaveUpTo(ref, 35);
  std::this_thread::sleep_for(200ms);
  CHECK(bench.Messages() == 35);
  CHECK(Must(bench.History(ref, 0)).size() == 35);
  bench.clock.Advance(11min);

  // Of 10, 20 and 30 the first one stays beside the newest two, because it is the first that will be old enough.
  jetstream::Kv bucket({.bucket = "cim-snapshots"}, &bench.daemon.writes(), &bench.daemon.writes(),
                       &bench.daemon.executor());
  SECTION("damaged") {
    Must(base::BlockOn(bucket.Put(SnapshotKey(ref, 30), "damaged", TestRepository::In(20s))));
    bench.SaveUpTo(ref, 40);
    std::this_thread::sleep_for(200ms);
    CHECK(bench.Messages() == 40);
    CHECK(Must(bench.History(ref, 0)).size() == 40);
  }
  SECTION("missing") {
    Must(base::BlockOn(bucket.Erase(SnapshotKey(ref, 30), 1'000'000, TestRepository::In(20s))));
    bench.SaveUpTo(ref, 40);
    std::this_thread::sleep_for(200ms);
    CHECK(bench.Messages() == 40);
  }
  SECTION("neither") {
    bench.SaveUpTo(ref, 40);
    REQUIRE(bench.EventuallyMessages(11));  // 30 is the newest that is old enough.
    CHECK(Must(bench.daemon.Load(ref)).info.version == 40);
  }
  SECTION("many young ones") {
    bench.SaveUpTo(ref, 100);
    // Of 30, old enough; of 40, which will be; of the newest two.
    const auto list = Must(base::BlockOn(bench.daemon.repository().ListSnapshots(ref, TestRepository::In(20s))));
    std::vector<uint64_t> versions;
    for (const SnapshotInfo& info : list) versions.push_back(info.version);
    CHECK(versions == std::vector<uint64_t>{100, 90, 40, 30});
    REQUIRE(bench.EventuallyMessages(71));
  }
}

TEST_CASE("An event that was not removed on purpose is still missed", "[repository]") {
  Bench bench;
  const domain::AggregateRef ref = Order("a");
  bench.SaveUpTo(ref, 35);
  REQUIRE(bench.EventuallyMessages(16));
  const uint64_t of_25 = Must(bench.History(ref, 24)).front().event.sequence;
  bench.Purge(ref, of_25);
  CHECK(domain::HasReason(bench.History(ref, 19).status(), pb::ERROR_REASON_CORRUPT_DATA));
  CHECK(IsRemoved(bench.daemon.LoadVersion(ref, 5).status()));
  CHECK(Must(bench.daemon.Load(ref)).state->payload.data == StateOf(35));

  // Also of an aggregate of which nothing was ever removed.
  const domain::AggregateRef other = Order("b");
  bench.SaveUpTo(other, 5);
  bench.Purge(other, Must(bench.History(other, 2)).front().event.sequence);
  CHECK(domain::HasReason(bench.History(other, 0).status(), pb::ERROR_REASON_CORRUPT_DATA));
}

TEST_CASE("A stream that is protected for ever is not truncated, and such types are not saved together",
          "[repository]") {
  const auto nats = Must(NatsServer::Start({}));
  {
    TestRepository before(nats->url());
    Must(before.Save(Command(Order("a"), 0)));
  }
  TestRepository after(nats->url(), Truncating(0ms));
  const absl::Status refused = after.Save(Command(Order("a"), 1)).status();
  CHECK(domain::HasReason(refused, pb::ERROR_REASON_STORAGE_UNSUITABLE));
  CHECK(absl::StrContains(refused.message(), "deny_purge"));

  RepositoryOptions options = Truncating(0ms);
  options.storage.truncating = {{"iot", "sensor"}};
  TestRepository sensors(nats->url(), options);
  SaveAllCommand command;
  for (const char* id : {"a", "b"}) {
    command.saves.push_back(Command({.context = "iot", .aggregate = "sensor", .entity_id = id}, 0));
  }
  const absl::Status together =
      base::BlockOn(sensors.repository().SaveAll(command, TestRepository::In(20s))).status();
  CHECK(domain::HasReason(together, pb::ERROR_REASON_INVALID_FIELD));
  CHECK(absl::StrContains(together.message(), "retention"));
}

}  // namespace
}  // namespace persistd::repository
