// Loads with options: as of versions and times, with and without events, states and snapshots, at a position.

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "server/domain/errors.h"
#include "tests/server/repository/repository_fixture.h"
#include "tests/testing/catch.h"
#include "tests/testing/nats_server.h"

namespace persistd::repository {
namespace {

namespace pb = cim::persistence::v1;
using testing::Must;

HistoryQuery All(domain::AggregateRef ref) {
  HistoryQuery query;
  query.ref = std::move(ref);
  return query;
}

SaveCommand WithState(SaveCommand command, std::string state, uint32_t schema_version = 1) {
  command.state = NewState{.schema_version = schema_version,
                           .payload = {.content_type = "application/json", .data = std::move(state)}};
  return command;
}

SaveCommand Tombstone(const domain::AggregateRef& ref, uint64_t expected) {
  SaveCommand command = Command(ref, expected, 0);
  command.events.push_back(NewEvent(domain::kDeletedType, ""));
  command.tombstone = true;
  return command;
}

std::vector<uint64_t> Versions(const LoadResult& result) {
  std::vector<uint64_t> versions;
  for (const Event& event : result.events) versions.push_back(event.event.version);
  return versions;
}

TEST_CASE("Events come with a load as asked", "[repository][load]") {
  auto nats = Must(testing::NatsServer::Start({}));
  TestRepository repository(nats->url());
  const auto ref = Order("events");
  Must(repository.Save(WithState(Command(ref, 0, 2), "{\"at\":2}")));
  Must(repository.Save(Command(ref, 2, 2)));
  const auto load = [&](std::optional<bool> events, bool use_snapshot) {
    return Must(repository.Load(LoadCommand{.ref = ref, .include_events = events, .use_snapshot = use_snapshot}));
  };
  CHECK(Versions(load(std::nullopt, true)) == std::vector<uint64_t>{3, 4});
  CHECK(Versions(load(true, true)) == std::vector<uint64_t>{3, 4});
  CHECK(load(false, true).events.empty());
  CHECK(load(false, true).state->version == 2);
  CHECK(Versions(load(std::nullopt, false)) == std::vector<uint64_t>{1, 2, 3, 4});
  CHECK_FALSE(load(std::nullopt, false).state.has_value());
  CHECK_FALSE(load(false, false).state.has_value());
  CHECK(load(false, false).info.version == 4);
  // None of these has changed what the next plain load answers.
  CHECK(Versions(load(std::nullopt, true)) == std::vector<uint64_t>{3, 4});
  CHECK(load(std::nullopt, true).state->payload.data == "{\"at\":2}");
}

TEST_CASE("A load at a position of another stream or an earlier one is refused", "[repository][load]") {
  auto nats = Must(testing::NatsServer::Start({}));
  TestRepository repository(nats->url());
  const auto ref = Order("refused");
  const SaveResult saved = Must(repository.Save(Command(ref, 0)));
  const auto load = [&](domain::StreamPosition position) {
    return repository
        .Load(LoadCommand{.ref = ref, .consistency = Consistency::kAtLeast, .at_least = domain::Position(position)}, 2s)
        .status();
  };
  domain::StreamPosition position = saved.info.position.streams().front();
  for (const bool cached : {false, true}) {
    INFO(cached);
    domain::StreamPosition other = position;
    other.stream = "CIM-EVENTS+sales+invoice";
    CHECK(domain::HasReason(load(other), pb::ERROR_REASON_INVALID_FIELD));
    domain::StreamPosition earlier = position;
    --earlier.incarnation;
    CHECK(domain::HasReason(load(earlier), pb::ERROR_REASON_INVALID_FIELD));
    CHECK(absl::StrContains(load(earlier).message(), "made again since"));
    CHECK(load(position).ok());
  }
  domain::StreamPosition future = position;
  future.sequence += 1;
  const base::SteadyTime start = base::Clock::System().SteadyNow();
  CHECK(domain::HasReason(load(future), pb::ERROR_REASON_POSITION_NOT_REACHED));
  CHECK(base::Clock::System().SteadyNow() - start >= 1s);
  // Somebody else's save takes that place: then the position is reached, though this aggregate has not changed.
  Must(repository.Save(Command(Order("another"), 0)));
  CHECK(load(future).ok());
  // An aggregate that does not exist is known not to, as of then.
  const auto none = repository.Load(
      LoadCommand{.ref = Order("none"), .consistency = Consistency::kAtLeast, .at_least = domain::Position(future)});
  CHECK(domain::HasReason(none.status(), pb::ERROR_REASON_AGGREGATE_NOT_FOUND));
  // A type of which nothing was ever saved has no position yet.
  domain::AggregateRef unknown = ref;
  unknown.aggregate = "unknown";
  CHECK(domain::HasReason(
      repository
          .Load(
              LoadCommand{.ref = unknown, .consistency = Consistency::kAtLeast, .at_least = domain::Position(position)},
              500ms)
          .status(),
      pb::ERROR_REASON_POSITION_NOT_REACHED));
}

TEST_CASE("A load at a position sees that save, through another daemon as well, also when it waits",
          "[repository][load]") {
  auto nats = Must(testing::NatsServer::Start({}));
  TestRepository one(nats->url());
  TestRepository two(nats->url());
  const auto ref = Order("position");
  domain::Position position = Must(one.Save(Command(ref, 0))).info.position;
  CHECK(Must(two.Load(ref)).info.version == 1);  // Cached.
  for (uint64_t version = 2; version < 20; ++version) {
    const domain::Position before = position;
    position = Must(one.Save(Command(ref, version - 1))).info.position;
    // The cache is good enough for the position before, and answers from then; not for the new one.
    const auto at = [&](const domain::Position& at_least) {
      return Must(two.Load(LoadCommand{.ref = ref, .consistency = Consistency::kAtLeast, .at_least = at_least}))
          .info.version;
    };
    CHECK(at(before) == version - 1);
    CHECK(at(position) == version);
    CHECK(Must(two.Load(ref, Consistency::kCached)).info.version == version);
  }
}

TEST_CASE("A deleted aggregate is not found now, but as it was", "[repository][load]") {
  auto nats = Must(testing::NatsServer::Start({}));
  TestRepository repository(nats->url());
  const auto ref = Order("deleted");
  Must(repository.Save(WithState(Command(ref, 0, 2), "{}")));
  CHECK(Must(repository.Load(ref)).info.version == 2);  // Cached.
  Must(repository.Save(Tombstone(ref, 2)));
  const auto gone = [](const absl::Status& status) {
    const auto detail = domain::GetErrorDetail(status);
    return detail.has_value() && detail->reason() == pb::ERROR_REASON_AGGREGATE_NOT_FOUND && detail->deleted();
  };
  CHECK(gone(repository.Load(ref).status()));
  CHECK(gone(repository.Load(ref, Consistency::kCached).status()));
  CHECK(gone(repository.Info(ref).status()));
  CHECK(gone(repository.LoadVersion(ref, 3).status()));
  CHECK(gone(repository.LoadAsOf(ref, base::Clock::System().WallNow() + 1h).status()));
  CHECK(Versions(Must(repository.LoadVersion(ref, 2))) == std::vector<uint64_t>{1, 2});
  CHECK(Must(repository.History(All(ref))).size() == 3);
  // Undeleted: the whole history is there, with the tombstone in it.
  Must(repository.Save(Command(ref, 3)));
  const LoadResult back = Must(repository.Load(ref));
  CHECK(Versions(back) == std::vector<uint64_t>{3, 4});
  CHECK(back.events.front().event.type == domain::kDeletedType);
  CHECK(back.state->version == 2);
  CHECK_FALSE(back.info.deleted);
  CHECK(gone(repository.LoadVersion(ref, 3).status()));
}

TEST_CASE("A cached answer is given again only while it is the newest one", "[repository][load]") {
  auto nats = Must(testing::NatsServer::Start({}));
  TestRepository one(nats->url());
  TestRepository two(nats->url());
  const auto ref = Order("cached");
  Must(one.Save(WithState(Command(ref, 0, 3), "{\"v\":3}")));
  for (int round = 0; round < 2; ++round) CHECK(Must(two.Load(ref)).state->payload.data == "{\"v\":3}");
  // A save without a state, by another daemon: two has to read the state again, and does not lose it.
  Must(one.Save(Command(ref, 3)));
  for (int round = 0; round < 2; ++round) {
    const LoadResult loaded = Must(two.Load(ref));
    CHECK(loaded.state->version == 3);
    CHECK(Versions(loaded) == std::vector<uint64_t>{4});
  }
  Must(one.Save(WithState(Command(ref, 4), "{\"v\":5}", 2)));
  for (int round = 0; round < 2; ++round) {
    const LoadResult loaded = Must(two.Load(ref));
    CHECK(loaded.state->payload.data == "{\"v\":5}");
    CHECK(loaded.info.state_schema_version == 2);
    CHECK(loaded.events.empty());
  }
}

// Snapshots out of a map.
class FakeSnapshots final : public SnapshotReader {
 public:
  base::Task<absl::StatusOr<std::optional<domain::StateRecord>>> Latest(domain::AggregateRef, uint64_t at_most_version,
                                                                        base::SteadyTime) override {
    ++asked;
    if (!status.ok()) co_return status;
    auto after = snapshots.upper_bound(at_most_version);
    std::optional<domain::StateRecord> found;
    if (after != snapshots.begin()) found = std::prev(after)->second;
    co_return found;
  }

  std::map<uint64_t, domain::StateRecord> snapshots;
  absl::Status status;
  int asked = 0;
};

TEST_CASE("A load starts at the nearest snapshot of the same history", "[repository][load]") {
  auto nats = Must(testing::NatsServer::Start({}));
  FakeSnapshots snapshots;
  RepositoryOptions options;
  options.snapshots = &snapshots;
  TestRepository repository(nats->url(), options);
  const auto ref = Order("snapshots");
  std::vector<std::string> commits;
  for (uint64_t version = 0; version < 8; version += 2) {
    commits.push_back(Must(repository.Save(Command(ref, version, 2))).commit_id);
  }
  const auto snapshot = [&](uint64_t version) {
    domain::StateRecord state;
    state.ref = ref;
    state.version = version;
    state.payload = {.content_type = "application/json", .data = std::to_string(version)};
    state.commit_id = commits[(version - 1) / 2];
    return state;
  };
  snapshots.snapshots = {{3, snapshot(3)}, {6, snapshot(6)}};
  const LoadResult now = Must(repository.Load(ref));
  CHECK(now.snapshot_version == 6);
  CHECK(now.state->payload.data == "6");
  CHECK(Versions(now) == std::vector<uint64_t>{7, 8});
  const LoadResult then = Must(repository.LoadVersion(ref, 5));
  CHECK(then.snapshot_version == 3);
  CHECK(Versions(then) == std::vector<uint64_t>{4, 5});
  CHECK(Versions(Must(repository.LoadVersion(ref, 3))).empty());
  CHECK(Must(repository.LoadVersion(ref, 2)).snapshot_version == 0);
  CHECK(Versions(Must(repository.Load(LoadCommand{.ref = ref, .use_snapshot = false}))).size() == 8);
  // One of another history, or one that cannot be read, only costs time.
  snapshots.snapshots[7] = snapshot(7);
  snapshots.snapshots[7].commit_id = "another";
  CHECK(Versions(Must(repository.LoadVersion(ref, 7))).size() == 7);
  snapshots.status = absl::UnavailableError("away");
  CHECK(Versions(Must(repository.LoadVersion(ref, 6))).size() == 6);
  snapshots.status = absl::OkStatus();
  // A state that is newer than every snapshot is not looked past.
  Must(repository.Save(WithState(Command(ref, 8), "9")));
  const int asked = snapshots.asked;
  CHECK(Must(repository.Load(ref)).snapshot_version == 0);
  CHECK(snapshots.asked == asked);
}

}  // namespace
}  // namespace persistd::repository
