#include <set>
#include <string>
#include <vector>

#include "server/domain/errors.h"
#include "tests/server/repository/repository_fixture.h"
#include "tests/testing/catch.h"
#include "tests/testing/must.h"

namespace persistd::repository {
namespace {

namespace pb = cim::persistence::v1;
using testing::Must;

pb::ErrorDetail::VersionConflict ConflictOf(const absl::Status& status) {
  REQUIRE(domain::HasReason(status, pb::ERROR_REASON_VERSION_CONFLICT));
  return domain::GetErrorDetail(status)->version_conflict();
}

TEST_CASE("A save is loaded again byte for byte", "[repository]") {
  TestRepository repository(Nats().url());
  SaveCommand command = Command(Order("byte for byte"), 0, 3);
  command.events[1].event.type = "paid";
  command.events[1].event.schema_version = 7;
  command.events[1].event.payload = {.content_type = "application/octet-stream", .data = std::string("\0\xff\r\n", 4)};
  command.events[1].event.metadata = {.correlation_id = "c 1",
                                      .causation_id = "é",
                                      .actor = "Zoë \"Q\" 50%",
                                      .traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                                      .custom = {{"a\r\nb", "x"}, {"emoji", "🎉"}}};
  command.events[2].event.payload = {};
  command.tags = std::vector<std::string>{"vip", "zürich"};
  command.metadata = domain::CustomMetadata{{"k", "v"}};
  const SaveCommand asked = command;
  const SaveResult saved = Must(repository.Save(std::move(command)));
  REQUIRE(saved.info.version == 3);
  REQUIRE(saved.events.size() == 3);
  REQUIRE(saved.events[2].version == 3);
  REQUIRE_FALSE(saved.deduplicated);
  REQUIRE(saved.state == StateResult::kNone);

  const LoadResult loaded = Must(repository.Load(asked.ref));
  REQUIRE(loaded.info.version == 3);
  REQUIRE(loaded.info.tags == *asked.tags);
  REQUIRE(loaded.info.metadata == *asked.metadata);
  REQUIRE_FALSE(loaded.state.has_value());
  REQUIRE(loaded.events.size() == 3);
  for (size_t i = 0; i < 3; ++i) {
    const domain::RecordedEvent& event = loaded.events[i].event;
    const domain::NewEvent& wanted = asked.events[i].event;
    REQUIRE(event.ref == asked.ref);
    REQUIRE(event.version == i + 1);
    REQUIRE(event.event_id == wanted.event_id);
    REQUIRE(event.type == wanted.type);
    REQUIRE(event.schema_version == wanted.schema_version);
    REQUIRE(event.payload == wanted.payload);
    REQUIRE(event.metadata == wanted.metadata);
    REQUIRE(event.time == wanted.time);
    REQUIRE(event.commit_id == saved.commit_id);
    REQUIRE(loaded.events[i].position == saved.events[i].position);
  }
}

TEST_CASE("Save refuses a stale expected version and tells the actual one", "[repository]") {
  TestRepository repository(Nats().url());
  TestRepository other(Nats().url());
  const auto ref = Order("stale");
  Must(repository.Save(Command(ref, 0, 2)));
  const auto again = ConflictOf(repository.Save(Command(ref, 0)).status());
  REQUIRE(again.expected_version() == 0);
  REQUIRE(again.actual_version() == 2);
  Must(other.Save(Command(ref, 2)));
  // `repository` still remembers version 2.
  REQUIRE(ConflictOf(repository.Save(Command(ref, 2)).status()).actual_version() == 3);
  REQUIRE(ConflictOf(repository.Save(Command(ref, 9)).status()).actual_version() == 3);
  REQUIRE(Must(repository.Save(Command(ref, 3))).info.version == 4);
}

TEST_CASE("The largest version there can be is one that nothing has", "[repository]") {
  TestRepository repository(Nats().url());
  const auto ref = Order("largest version");
  Must(repository.Save(Command(ref, 0, 2)));
  for (const std::string& id : {std::string(), FreshId()}) {
    for (const uint64_t version : {UINT64_MAX, UINT64_MAX - 1}) {
      REQUIRE(ConflictOf(repository.Save(WithId(Command(ref, version), id)).status()).actual_version() == 2);
    }
  }
  for (const bool reverse : {false, true}) {
    HistoryQuery query;
    query.ref = ref;
    query.from_version = UINT64_MAX;
    query.reverse = reverse;
    REQUIRE(Must(repository.History(query)).empty());
    query.to_version = UINT64_MAX;
    REQUIRE(Must(repository.History(query)).empty());
  }
  REQUIRE(domain::HasReason(repository.LoadVersion(ref, UINT64_MAX).status(), pb::ERROR_REASON_VERSION_NOT_FOUND));
}

TEST_CASE("Save with must_exist needs an aggregate, and leaves no stream behind without one", "[repository]") {
  TestRepository repository(Nats().url());
  SaveCommand command = Command({.context = "nowhere", .aggregate = "thing", .entity_id = "1"}, std::nullopt);
  command.expectation.kind = Expectation::Kind::kMustExist;
  const auto conflict = ConflictOf(repository.Save(command).status());
  REQUIRE_FALSE(conflict.has_expected_version());
  REQUIRE(conflict.actual_version() == 0);
  REQUIRE(repository.repository().streams().empty());
  Must(repository.Save(Command(command.ref, std::nullopt)));
  REQUIRE(Must(repository.Save(command)).info.version == 2);
}

TEST_CASE("A thousand events are saved and loaded as one", "[repository]") {
  TestRepository repository(Nats().url());
  const auto ref = Order("thousand");
  const SaveResult saved = Must(repository.Save(Command(ref, 0, 1000)));
  REQUIRE(saved.info.version == 1000);
  Must(repository.Save(Command(ref, 1000, 100)));
  const LoadResult loaded = Must(repository.Load(ref));
  REQUIRE(loaded.events.size() == 1100);
  for (size_t i = 0; i < loaded.events.size(); ++i) REQUIRE(loaded.events[i].event.version == i + 1);
}

TEST_CASE("A repeated save is stored once and returns the first result", "[repository]") {
  TestRepository repository(Nats().url());
  TestRepository other(Nats().url());
  const bool exact = GENERATE(true, false);
  const bool v7 = GENERATE(true, false);
  const auto ref = Order(std::string("repeated") + (exact ? "-exact" : "-any") + (v7 ? "-v7" : ""));
  SaveCommand command = Command(ref, exact ? std::optional<uint64_t>(0) : std::nullopt, 3);
  command.tags = std::vector<std::string>{"first"};
  command.request_id = v7 ? FreshId() : "my-own-id";
  const SaveResult first = Must(repository.Save(command));
  for (int i = 0; i < 40; ++i) {
    SaveCommand later = Command(ref, std::nullopt);
    later.tags = std::vector<std::string>{"later"};
    Must(other.Save(std::move(later)));
  }
  for (TestRepository* where : {&repository, &other}) {
    // A client that repeats fills in its events anew, but for what it chose.
    SaveCommand repeat = command;
    for (SaveEvent& event : repeat.events) event.event.event_id = FreshId();
    const SaveResult second = Must(where->Save(repeat));
    REQUIRE(second.deduplicated);
    REQUIRE(second.info.version == 3);
    REQUIRE(second.info.tags == std::vector<std::string>{"first"});
    REQUIRE(second.commit_id == first.commit_id);
    for (size_t i = 0; i < 3; ++i) {
      REQUIRE(second.events[i].version == first.events[i].version);
      REQUIRE(second.events[i].event_id == first.events[i].event_id);
      REQUIRE(second.events[i].position == first.events[i].position);
    }
  }
  REQUIRE(Must(repository.Load(ref)).info.version == 43);
}

TEST_CASE("A request id cannot be used for other content", "[repository]") {
  TestRepository repository(Nats().url());
  const auto ref = Order("reused");
  const SaveCommand first = WithId(Command(ref, 0, 2), FreshId());
  Must(repository.Save(first));
  SaveCommand other = first;
  other.events[1].event.payload.data = "{\"n\":99}";
  REQUIRE(domain::HasReason(repository.Save(other).status(), pb::ERROR_REASON_REQUEST_ID_REUSED));
  SaveCommand shorter = first;
  shorter.events.pop_back();
  REQUIRE(domain::HasReason(repository.Save(shorter).status(), pb::ERROR_REASON_REQUEST_ID_REUSED));
  SaveCommand moved = first;
  moved.expectation.version = 2;
  REQUIRE(domain::HasReason(repository.Save(moved).status(), pb::ERROR_REASON_REQUEST_ID_REUSED));
  SaveCommand any = other;
  any.expectation = {};
  REQUIRE(domain::HasReason(repository.Save(any).status(), pb::ERROR_REASON_REQUEST_ID_REUSED));
  SaveCommand tagged = first;
  tagged.tags = std::vector<std::string>{"other"};
  REQUIRE(domain::HasReason(repository.Save(tagged).status(), pb::ERROR_REASON_REQUEST_ID_REUSED));
  SaveCommand described = first;
  described.metadata = domain::CustomMetadata{{"k", "other"}};
  REQUIRE(domain::HasReason(repository.Save(described).status(), pb::ERROR_REASON_REQUEST_ID_REUSED));
  REQUIRE(Must(repository.Info(ref)).version == 2);
}

TEST_CASE("A request id cannot be used for another state", "[repository]") {
  TestRepository repository(Nats().url());
  const auto ref = Order("reused for state");
  SaveCommand first = WithId(Command(ref, 0), FreshId());
  first.state = NewState{.schema_version = 1, .payload = {.content_type = "text/plain", .data = "one"}};
  Must(repository.Save(first));
  REQUIRE(Must(repository.Save(first)).state == StateResult::kWritten);
  SaveCommand other = first;
  other.state->payload.data = "two";
  REQUIRE(domain::HasReason(repository.Save(other).status(), pb::ERROR_REASON_REQUEST_ID_REUSED));
  other = first;
  other.state->schema_version = 2;
  REQUIRE(domain::HasReason(repository.Save(other).status(), pb::ERROR_REASON_REQUEST_ID_REUSED));
  REQUIRE(Must(repository.Load(ref)).state->payload.data == "one");
}

TEST_CASE("A UUIDv7 of any age is recognised, and refused where it could not be", "[repository]") {
  TestRepository repository(Nats().url());
  TestRepository other(Nats().url());
  const auto age = GENERATE(4320min, 60min, 0min, -4min, -6min, -4320min);
  const std::string id = base::NewUuidV7(base::Clock::System().WallNow() - age);
  const auto ref = Order("aged " + std::to_string(age.count()));
  Must(repository.Save(Command(ref, std::nullopt)));
  const SaveCommand save = WithId(Command(ref, std::nullopt), id);
  // The sign: an age below zero is a time ahead of the daemon's.
  if (age < -5min) {
    REQUIRE(domain::HasReason(repository.Save(save).status(), pb::ERROR_REASON_INVALID_FIELD));
    REQUIRE(Must(repository.Info(ref)).version == 1);
    // With an expected version its place is known, whatever the clocks say.
    const SaveCommand exact = WithId(Command(ref, 1), id);
    Must(repository.Save(exact));
    REQUIRE(Must(other.Save(exact)).deduplicated);
    return;
  }
  REQUIRE_FALSE(Must(repository.Save(save)).deduplicated);
  for (int i = 0; i < 3; ++i) Must(other.Save(Command(ref, std::nullopt)));
  for (TestRepository* where : {&repository, &other}) REQUIRE(Must(where->Save(save)).deduplicated);
  REQUIRE(Must(repository.Info(ref)).version == 5);
}

TEST_CASE("A UUIDv7 made long before its save is recognised among many saves", "[repository]") {
  TestRepository repository(Nats().url());
  TestRepository other(Nats().url());
  const auto ref = Order("old id");
  const SaveCommand save = WithId(Command(ref, std::nullopt), base::NewUuidV7(base::Clock::System().WallNow() - 72h));
  Must(repository.Save(save));
  for (uint64_t i = 0; i < 3; ++i) Must(other.Save(Command(ref, std::nullopt, 1000)));
  REQUIRE(Must(other.Save(save)).deduplicated);
  TestRepository fresh(Nats().url());
  REQUIRE(Must(fresh.Save(save)).deduplicated);
}

TEST_CASE("State is loaded with the events after it, and an older one never replaces it", "[repository]") {
  TestRepository repository(Nats().url());
  const auto ref = Order("state");
  SaveCommand one = WithId(Command(ref, 0, 2), FreshId());
  one.state = NewState{.schema_version = 1, .payload = {.content_type = "text/plain", .data = "one"}};
  REQUIRE(Must(repository.Save(one)).state == StateResult::kWritten);
  Must(repository.Save(Command(ref, 2)));
  LoadResult loaded = Must(repository.Load(ref));
  REQUIRE(loaded.state->payload.data == "one");
  REQUIRE(loaded.state->version == 2);
  REQUIRE(loaded.events.size() == 1);
  REQUIRE(loaded.events[0].event.version == 3);

  SaveCommand two = Command(ref, 3);
  two.state = NewState{.schema_version = 2, .payload = {.content_type = "text/plain", .data = "two"}};
  REQUIRE(Must(repository.Save(two)).state == StateResult::kWritten);
  loaded = Must(repository.Load(ref));
  REQUIRE(loaded.state->payload.data == "two");
  REQUIRE(loaded.state->schema_version == 2);
  REQUIRE(loaded.info.state_schema_version == 2);
  REQUIRE(loaded.events.empty());
  // The state of the previous schema has a subject of its own. It is gone.
  const auto previous =
      base::BlockOn(jetstream::Reader(&repository.writes())
                        .Last("CIM-AGGREGATES+sales+order", "cim.aggregates.sales.order.state.state.v1",
                              jetstream::ReadFrom::kLeader, TestRepository::In(20s)));
  REQUIRE_FALSE(Must(previous).has_value());

  const SaveResult repeated = Must(repository.Save(one));
  REQUIRE(repeated.deduplicated);
  REQUIRE(repeated.state == StateResult::kSuperseded);
  REQUIRE(Must(repository.Load(ref)).state->payload.data == "two");
}

TEST_CASE("An aggregate that was never saved is not found, in a known and in an unknown type", "[repository]") {
  TestRepository repository(Nats().url());
  Must(repository.Save(Command(Order("known"), std::nullopt)));
  for (const auto& ref : {Order("unknown"), domain::AggregateRef{"no", "type", "1"}}) {
    REQUIRE(domain::HasReason(repository.Load(ref).status(), pb::ERROR_REASON_AGGREGATE_NOT_FOUND));
    REQUIRE(domain::HasReason(repository.Info(ref).status(), pb::ERROR_REASON_AGGREGATE_NOT_FOUND));
    REQUIRE(domain::HasReason(repository.LoadVersion(ref, 1).status(), pb::ERROR_REASON_AGGREGATE_NOT_FOUND));
    HistoryQuery query;
    query.ref = ref;
    REQUIRE(domain::HasReason(repository.History(query).status(), pb::ERROR_REASON_AGGREGATE_NOT_FOUND));
  }
}

TEST_CASE("A cached load is as old as the cache's time to live at most, and sees this daemon's own saves",
          "[repository]") {
  base::FakeClock clock(base::Clock::System().WallNow());
  RepositoryOptions options;
  options.cache_ttl = 1000ms;
  TestRepository other(Nats().url());
  TestRepository repository(Nats().url(), options, &clock);
  const auto ref = Order("cached");
  Must(repository.Save(Command(ref, 0)));
  REQUIRE(Must(repository.Load(ref, Consistency::kCached)).info.version == 1);
  Must(other.Save(Command(ref, 1)));
  REQUIRE(Must(repository.Load(ref, Consistency::kStrong)).info.version == 2);
  Must(other.Save(Command(ref, 2)));
  clock.Advance(999ms);
  REQUIRE(Must(repository.Load(ref, Consistency::kCached)).info.version == 2);
  clock.Advance(2ms);
  REQUIRE(Must(repository.Load(ref, Consistency::kCached)).info.version == 3);
  Must(repository.Save(Command(ref, 3)));
  REQUIRE(Must(repository.Load(ref, Consistency::kCached)).info.version == 4);
}

TEST_CASE("Any version and any time in the past can be loaded, and the answer stays the same", "[repository]") {
  TestRepository repository(Nats().url());
  const auto ref = Order("past");
  std::vector<base::WallTime> recorded;
  for (uint64_t version = 0; version < 70;) {
    const uint64_t count = 1 + version % 4;
    SaveCommand command = Command(ref, version, count);
    command.tags = std::vector<std::string>{"v" + std::to_string(version)};
    if (version % 3 == 0) command.state = NewState{.schema_version = 1, .payload = {"text/plain", "s"}};
    const SaveResult saved = Must(repository.Save(std::move(command)));
    for (uint64_t i = 0; i < count; ++i) recorded.push_back(saved.info.last_modified);
    version += count;
  }
  const uint64_t last = recorded.size();
  for (const uint64_t version : {uint64_t{1}, uint64_t{2}, uint64_t{32}, uint64_t{33}, uint64_t{34}, last}) {
    const LoadResult then = Must(repository.LoadVersion(ref, version));
    REQUIRE(then.info.version == version);
    REQUIRE(then.events.size() == version);
    REQUIRE(then.events.back().event.version == version);
    REQUIRE_FALSE(then.state.has_value());
    const LoadResult by_time = Must(repository.LoadAsOf(ref, recorded[version - 1]));
    REQUIRE(by_time.info.version >= version);
    REQUIRE(recorded[by_time.info.version - 1] == recorded[version - 1]);
  }
  const auto missing = repository.LoadVersion(ref, last + 1).status();
  REQUIRE(domain::HasReason(missing, pb::ERROR_REASON_VERSION_NOT_FOUND));
  REQUIRE(domain::GetErrorDetail(missing)->version_conflict().actual_version() == last);
  REQUIRE(domain::HasReason(repository.LoadAsOf(ref, recorded[0] - 1ms).status(), pb::ERROR_REASON_VERSION_NOT_FOUND));
}

TEST_CASE("History gives every range in both directions, across blocks, and filters types", "[repository]") {
  TestRepository repository(Nats().url());
  const auto ref = Order("history");
  constexpr uint64_t kEvents = 2500;
  for (uint64_t version = 0; version < kEvents; version += 250) {
    SaveCommand command = Command(ref, version, 250);
    for (size_t i = 0; i < 250; i += 10) command.events[i].event.type = "tenth";
    Must(repository.Save(std::move(command)));
    Must(repository.Save(Command(Order("between"), std::nullopt)));
  }
  struct Case {
    uint64_t from;
    std::optional<uint64_t> to;
    uint64_t first;
    uint64_t last;
  };
  for (const Case& range : std::vector<Case>{{0, std::nullopt, 1, 2500},
                                             {0, 1, 1, 1},
                                             {1023, 1025, 1024, 1025},
                                             {1024, 2048, 1025, 2048},
                                             {2499, 9999, 2500, 2500},
                                             {100, 2100, 101, 2100}}) {
    for (const bool reverse : {false, true}) {
      HistoryQuery query;
      query.ref = ref;
      query.from_version = range.from;
      query.to_version = range.to;
      query.reverse = reverse;
      const std::vector<Event> events = Must(repository.History(query));
      REQUIRE(events.size() == range.last - range.first + 1);
      for (size_t i = 0; i < events.size(); ++i) {
        REQUIRE(events[i].event.version == (reverse ? range.last - i : range.first + i));
      }
    }
  }
  HistoryQuery tenths;
  tenths.ref = ref;
  tenths.types = {"tenth"};
  REQUIRE(Must(repository.History(tenths)).size() == kEvents / 10);
  HistoryQuery none;
  none.ref = ref;
  none.from_version = kEvents;
  REQUIRE(Must(repository.History(none)).empty());
}

TEST_CASE("A load that is larger than allowed says how to read it instead", "[repository]") {
  RepositoryOptions options;
  options.max_load_bytes = 10'000;
  TestRepository repository(Nats().url(), options);
  const auto ref = Order("large");
  SaveCommand command = Command(ref, 0, 20);
  for (SaveEvent& event : command.events) event.event.payload.data.assign(1000, 'x');
  Must(repository.Save(std::move(command)));
  const absl::Status status = repository.Load(ref).status();
  REQUIRE(domain::HasReason(status, pb::ERROR_REASON_TOO_LARGE));
  REQUIRE(domain::GetErrorDetail(status)->limit().config_key() == "limits.max_load_size");
}

TEST_CASE("A load counts what events hold beside their payloads", "[repository]") {
  TestRepository repository(Nats().url());
  const auto ref = Order("large metadata");
  for (uint64_t saves = 0; saves < 6; ++saves) {
    SaveCommand command = Command(ref, saves * 100, 100);
    for (SaveEvent& event : command.events) event.event.metadata.custom = {{"k", std::string(8000, 'x')}};
    Must(repository.Save(std::move(command)));
  }
  REQUIRE(domain::HasReason(repository.Load(ref).status(), pb::ERROR_REASON_TOO_LARGE));
  REQUIRE(Must(repository.LoadVersion(ref, 400)).events.size() == 400);
}

TEST_CASE("Metadata that does not fit the headers is refused before anything is stored", "[repository]") {
  TestRepository repository(Nats().url());
  const auto ref = Order("headers");
  SaveCommand command = Command(ref, 0, 2);
  const std::string hostile(8000, '\x01');
  command.events[1].event.metadata.custom = {{"k", hostile}};
  command.metadata = domain::CustomMetadata{{"k", hostile}};
  const absl::Status status = repository.Save(std::move(command)).status();
  REQUIRE(domain::HasReason(status, pb::ERROR_REASON_TOO_LARGE));
  REQUIRE(domain::GetErrorDetail(status)->limit().name() == "events[1].metadata");
  REQUIRE(domain::HasReason(repository.Load(ref).status(), pb::ERROR_REASON_AGGREGATE_NOT_FOUND));
}

}  // namespace
}  // namespace persistd::repository
