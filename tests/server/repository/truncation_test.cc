// retention: truncate_before_snapshot over a real nats-server: what is removed, what never is, and what reads say then.

#include <algorithm>
#include <future>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/ipld/cid.h"
#include "server/jetstream/api.h"
#include "server/jetstream/event_codec.h"
#include "tests/server/repository/truncation_fixture.h"
#include "tests/testing/catch.h"

namespace persistd::repository {
namespace {

using ::persistd::testing::Must;
using ::persistd::testing::NatsServer;
using ::persistd::testing::PollUntil;

uint64_t FirstKept(const absl::Status& status) {
  REQUIRE(IsRemovedError(status));
  return domain::GetErrorDetail(status)->history_removed().first_version();
}

// A time between what was saved before and what is saved after.
base::WallTime Between() {
  const base::WallTime now = base::Clock::System().WallNow();
  REQUIRE(PollUntil([&] { return base::Clock::System().WallNow() > now + 2ms; }, 5s));
  return now + 1ms;
}

TEST_CASE("Events before the oldest snapshot that is kept are removed, and the aggregate loads as before",
          "[truncation]") {
  Truncated one(Nats());
  const domain::AggregateRef ref = Order("plain");
  one.Grow(ref, 0, 3);
  Must(one.daemon.Save(Command(ref, 3, 3)));  // Versions 4 to 6 are one save, with a snapshot due.
  Must(one.Snapshot(ref, 6, StateOf("{\"v\":6}")));
  // Its whole save stays.
  REQUIRE(one.FirstBecomes(ref, 4));
  CHECK(one.Stored(ref) == Range(4, 6));
  one.Grow(ref, 6, 1);
  const LoadResult loaded = Must(one.daemon.Load(ref));
  CHECK(loaded.info.version == 7);
  CHECK(loaded.state->payload.data == "{\"v\":7}");
  Truncated other(Nats());
  CHECK(other.LoadedState(ref) == "{\"v\":7}");
  Must(other.daemon.Save(Command(ref, 7)));  // Version 8: a snapshot is due, but there is no state of it.
  CHECK(Must(other.daemon.Load(ref)).info.version == 8);
  CHECK(Must(other.daemon.Info(ref)).version == 8);
  CHECK(other.daemon.repository().stats().snapshots.removed_events == 0);
  CHECK(one.daemon.repository().stats().snapshots.removed_events == 3);
}

TEST_CASE("As many snapshots as asked for stay usable, and nothing is removed before there are so many",
          "[truncation]") {
  Truncated one(Nats(), Truncating(/*keep=*/2));
  const domain::AggregateRef ref = Order("keep 2");
  one.Grow(ref, 0, 4);
  REQUIRE(PollUntil([&] { return one.Snapshots(ref) == std::vector<uint64_t>{4}; }, 20s));
  one.Grow(ref, 4, 3);
  CHECK(one.Stored(ref) == Range(1, 7));
  one.Grow(ref, 7, 1);
  REQUIRE(one.FirstBecomes(ref, 4));
  CHECK(one.Snapshots(ref) == std::vector<uint64_t>{8, 4});
  one.Grow(ref, 8, 4);
  REQUIRE(one.FirstBecomes(ref, 8));
  CHECK(one.Snapshots(ref) == std::vector<uint64_t>{12, 8});
  const std::optional<Truncation> truncation = one.Manifest(ref).truncation;
  REQUIRE(truncation.has_value());
  CHECK(truncation->base == 8);
  CHECK(truncation->first_kept == 8);
  CHECK(truncation->removed_before == 4);
}

TEST_CASE("Histories, old versions and old times say what was removed", "[truncation]") {
  Truncated one(Nats());
  const domain::AggregateRef ref = Order("history");
  one.Grow(ref, 0, 2);
  const base::WallTime early = Between();
  one.Grow(ref, 2, 6);
  REQUIRE(one.FirstBecomes(ref, 8));
  const base::WallTime late = Between();
  one.Grow(ref, 8, 2);
  Truncated other(Nats());
  for (Truncated* daemon : {&one, &other}) {
    CHECK(daemon->History(AllOf(ref)) == Range(8, 10));
    HistoryQuery query = AllOf(ref);
    query.reverse = true;
    CHECK(daemon->History(query) == std::vector<uint64_t>{10, 9, 8});
    query.reverse = false;
    query.from_version = 7;
    CHECK(daemon->History(query) == Range(8, 10));
    query.from_version = 3;
    CHECK(FirstKept(daemon->daemon.History(query).status()) == 8);
    query.reverse = true;
    CHECK(FirstKept(daemon->daemon.History(query).status()) == 8);
    query = AllOf(ref);
    query.to_version = 5;
    CHECK(FirstKept(daemon->daemon.History(query).status()) == 8);
    query.to_version = 9;
    CHECK(daemon->History(query) == Range(8, 9));

    CHECK(FirstKept(daemon->daemon.LoadVersion(ref, 3).status()) == 8);
    CHECK(FirstKept(daemon->daemon.LoadVersion(ref, 1).status()) == 8);
    CHECK(Must(daemon->daemon.LoadVersion(ref, 8)).state->payload.data == "{\"v\":8}");
    const LoadResult nine = Must(daemon->daemon.LoadVersion(ref, 9));
    CHECK(nine.snapshot_version == 8);
    CHECK(nine.events.size() == 1);
    CHECK(FirstKept(daemon->daemon.LoadAsOf(ref, early).status()) == 8);
    CHECK(Must(daemon->daemon.LoadAsOf(ref, late)).info.version == 8);
    // Before there was anything: nobody can tell any more.
    CHECK(FirstKept(daemon->daemon.LoadAsOf(ref, early - 1h).status()) == 8);
    LoadCommand events;
    events.ref = ref;
    events.use_snapshot = false;
    CHECK(FirstKept(daemon->daemon.Load(events).status()) == 8);
    events.include_events = false;
    CHECK(FirstKept(daemon->daemon.Load(events).status()) == 8);
  }
}

TEST_CASE("A long history is truncated in parts and read from where it begins", "[truncation]") {
  Truncated one(Nats());
  const domain::AggregateRef ref = Order("long");
  const domain::AggregateRef between = Order("long neighbour");
  uint64_t version = 0;
  std::vector<base::WallTime> times;
  for (int i = 0; i < 24; ++i) {
    Must(one.daemon.Save(Command(ref, version, 250)));
    version += 250;
    if (i % 3 == 0) Must(one.daemon.Save(Command(between, std::nullopt, 1)));
    times.push_back(Between());
  }
  const uint64_t last = version;  // 6000
  for (uint64_t part = 1; part <= 6; ++part) {
    Must(one.daemon.Save(Command(ref, version, 250)));
    version += 250;
    Must(one.Snapshot(ref, 0, StateOf("{\"all\":true}")));
    // About a thousand at a time, and whole saves.
    REQUIRE(one.FirstBecomes(ref, std::min(1250 * part, version - 250) + 1));
  }
  Truncated other(Nats());
  CHECK(last == 6000);
  CHECK(other.History(AllOf(ref)) == Range(7251, 7500));
  HistoryQuery reverse = AllOf(ref);
  reverse.reverse = true;
  CHECK(other.History(reverse).size() == 250);
  for (const base::WallTime& time : times) CHECK(FirstKept(other.daemon.LoadAsOf(ref, time).status()) == 7251);
  CHECK(FirstKept(other.daemon.LoadVersion(ref, 7250).status()) == 7251);
  CHECK(FirstKept(other.daemon.LoadVersion(ref, 1024).status()) == 7251);
  // Inside the first save that is kept there is no state to start from.
  CHECK(FirstKept(other.daemon.LoadVersion(ref, 7300).status()) == 7251);
  Must(other.daemon.Save(WithId(Command(ref, 7500), FreshId())));
  CHECK(Must(other.daemon.Load(ref)).info.version == 7501);
  CHECK(other.Stored(between).size() == 8);
}

TEST_CASE("A state that is older than what is kept is passed over for a snapshot", "[truncation]") {
  Truncated one(Nats());
  const domain::AggregateRef ref = Order("old state");
  one.Grow(ref, 0, 2);  // The last state that is stored.
  for (uint64_t version = 2; version < 7; ++version) Must(one.daemon.Save(Command(ref, version)));
  Must(one.Snapshot(ref, 6, StateOf("{\"v\":6}")));
  REQUIRE(one.FirstBecomes(ref, 6));
  for (const bool events : {true, false}) {
    Truncated other(Nats());
    LoadCommand command;
    command.ref = ref;
    command.include_events = events;
    const LoadResult loaded = Must(other.daemon.Load(command));
    REQUIRE(loaded.state.has_value());
    CHECK(loaded.state->version == 6);
    CHECK(loaded.snapshot_version == 6);
    CHECK(loaded.events.size() == (events ? 1 : 0));
  }
}

TEST_CASE("A damaged newest snapshot is never what events are removed for, and the next older one is used",
          "[truncation]") {
  Truncated one(Nats());
  const domain::AggregateRef ref = Order("damaged");
  one.Grow(ref, 0, 4);
  REQUIRE(one.FirstBecomes(ref, 4));
  for (uint64_t version = 4; version < 7; ++version) Must(one.daemon.Save(Command(ref, version)));
  // A list that names a snapshot which nobody can read, as one that a power cut took.
  SnapshotManifest manifest = one.Manifest(ref);
  ManifestEntry entry = manifest.entries.back();
  entry.version = 6;
  entry.commit_id = Must(one.daemon.History(AllOf(ref)))[2].event.commit_id;
  manifest.Set(entry);
  one.Overwrite(ManifestKey(ref), manifest.ToJson());
  Truncated strict(Nats(), Truncating(/*keep=*/2));
  Must(strict.Snapshot(ref, 7, StateOf("{\"v\":7}")));
  REQUIRE(PollUntil([&] { return strict.Newest(ref) == 7; }, 20s));
  CHECK(strict.Stored(ref) == Range(4, 7));  // Two can be used: 7 and 4.
  Must(one.Snapshot(ref, 5, StateOf("{\"v\":5}")));
  REQUIRE(one.FirstBecomes(ref, 7));
  one.Overwrite(SnapshotKey(ref, 7), "damaged");
  // Now the only one is damaged: an error, and never an answer without state.
  Truncated other(Nats());
  for (const bool events : {true, false}) {
    LoadCommand command;
    command.ref = ref;
    command.include_events = events;
    const absl::Status status = other.daemon.Load(command).status();
    // The stored state of version 4 is older than what is kept.
    CHECK(FirstKept(status) == 7);
  }
  Must(other.daemon.Save(Command(ref, 7)));
  Must(other.Snapshot(ref, 8, StateOf("{\"v\":8}")));
  REQUIRE(other.FirstBecomes(ref, 8));
  CHECK(other.LoadedState(ref) == "{\"v\":8}");
}

TEST_CASE("Of two snapshots the older one serves where the newer one is damaged", "[truncation]") {
  Truncated one(Nats(), Truncating(/*keep=*/2));
  const domain::AggregateRef ref = Order("older serves");
  one.Grow(ref, 0, 8);
  REQUIRE(one.FirstBecomes(ref, 4));
  for (uint64_t version = 8; version < 11; ++version) Must(one.daemon.Save(Command(ref, version)));
  one.Overwrite(SnapshotKey(ref, 8), "damaged");
  Truncated other(Nats(), Truncating(/*keep=*/2));
  LoadCommand at;
  at.ref = ref;
  at.at = uint64_t{10};
  const LoadResult loaded = Must(other.daemon.Load(at));
  CHECK(loaded.snapshot_version == 4);
  CHECK(loaded.state->payload.data == "{\"v\":4}");
  CHECK(loaded.events.size() == 6);
  // A third one: two can be used again, of which 4 is the older one, so nothing more is removed.
  Must(other.Snapshot(ref, 11, StateOf("{\"v\":11}")));
  REQUIRE(PollUntil([&] { return other.Newest(ref) == 11; }, 20s));
  Must(other.Snapshot(ref, 10, StateOf("{\"v\":10}")));
  REQUIRE(other.FirstBecomes(ref, 10));
  CHECK(other.Snapshots(ref) == std::vector<uint64_t>{11, 10});
}

TEST_CASE("The last snapshot that stands for removed events cannot be deleted", "[truncation]") {
  Truncated one(Nats());
  const domain::AggregateRef ref = Order("guard");
  one.Grow(ref, 0, 4);
  REQUIRE(one.FirstBecomes(ref, 4));
  Truncated other(Nats(), RepositoryOptions());  // Whatever its configuration says.
  for (Truncated* daemon : {&one, &other}) {
    const absl::Status refused = daemon->Delete(ref, 4);
    CHECK(FirstKept(refused) == 4);
    CHECK(absl::IsFailedPrecondition(refused));
    CHECK(absl::StrContains(refused.message(), "must stay"));
  }
  // A second one, by a daemon that does not truncate.
  other.Grow(ref, 4, 1);
  Must(other.Snapshot(ref, 5));
  CHECK(one.Delete(ref, 4).ok());
  CHECK_FALSE(one.Delete(ref, 5).ok());
  CHECK(domain::HasReason(one.Delete(ref, 4), pb::ERROR_REASON_SNAPSHOT_NOT_FOUND));
  CHECK(other.LoadedState(ref) == "{\"v\":5}");
  CHECK(one.Stored(ref) == Range(4, 5));
  // One that is damaged does not count as another.
  one.Grow(ref, 5, 1);
  Must(one.Snapshot(ref, 6));
  REQUIRE(one.FirstBecomes(ref, 6));
  other.Grow(ref, 6, 1);
  Must(other.Snapshot(ref, 7));
  one.Overwrite(SnapshotKey(ref, 7), "damaged");
  CHECK_FALSE(one.Delete(ref, 6).ok());
  CHECK(one.Delete(ref, 7).ok());
}

TEST_CASE("Without fsync nothing is removed, however old it is", "[truncation]") {
  MovedClock clock;
  const RepositoryOptions options = Truncating(/*keep=*/1, 0ms, /*fsync_always=*/false);
  Truncated one(Nats(), options, &clock);
  const domain::AggregateRef ref = Order("not on disk");
  for (uint64_t version = 0; version < 16; version += 4) {
    one.Grow(ref, version, 4);
    REQUIRE(PollUntil([&] { return one.Newest(ref) == version + 4; }, 20s));
    clock.Advance(24h);
  }
  CHECK_FALSE(one.Manifest(ref).truncation.has_value());
  CHECK(one.Stored(ref) == Range(1, 16));
  // With it, all of that goes.
  Truncated other(Nats(), Truncating(), &clock);
  other.Grow(ref, 16, 4);
  REQUIRE(other.FirstBecomes(ref, 20));
}

TEST_CASE("Events that are younger than truncation_min_age stay", "[truncation]") {
  MovedClock clock;
  Truncated one(Nats(), Truncating(/*keep=*/1, 30min), &clock);
  const domain::AggregateRef ref = Order("young");
  one.Grow(ref, 0, 4);
  REQUIRE(PollUntil([&] { return one.Newest(ref) == 4; }, 20s));
  clock.Advance(5min);
  one.Grow(ref, 4, 4);
  REQUIRE(PollUntil([&] { return one.Newest(ref) == 8; }, 20s));
  clock.Advance(24min);
  one.Grow(ref, 8, 4);
  REQUIRE(PollUntil([&] { return one.Newest(ref) == 12; }, 20s));
  CHECK(one.Stored(ref).front() == 1);
  clock.Advance(10min);
  one.Grow(ref, 12, 4);
  REQUIRE(one.FirstBecomes(ref, 8));
  CHECK(one.Snapshots(ref) == std::vector<uint64_t>{16, 12, 8});
}

TEST_CASE("Snapshots that wait until they are old enough do not pile up", "[truncation]") {
  MovedClock clock;
  Truncated one(Nats(), Truncating(/*keep=*/2, 80min), &clock);
  const domain::AggregateRef ref = Order("many snapshots");
  for (uint64_t version = 0; version < 160; version += 4) {
    one.Grow(ref, version, 4);
    REQUIRE(PollUntil([&] { return one.Newest(ref) == version + 4; }, 20s));
    clock.Advance(5min);
  }
  CHECK(one.Snapshots(ref).size() < 16);
  REQUIRE(one.FirstBecomes(ref, one.Snapshots(ref).back()));
  CHECK(one.LoadedState(ref) == "{\"v\":160}");
}

TEST_CASE("Turned off again nothing more is removed, and what was removed is read as before", "[truncation]") {
  const domain::AggregateRef ref = Order("turned off");
  RepositoryOptions off = Truncating(/*keep=*/1);
  off.snapshot_policies[{"sales", "order"}].truncates = false;
  off.storage.truncated.clear();
  Truncated on(Nats());
  on.Grow(ref, 0, 4);
  REQUIRE(on.FirstBecomes(ref, 4));
  Truncated other(Nats(), off);
  CHECK(other.Follow().empty());
  CHECK(other.LoadedState(ref) == "{\"v\":4}");
  other.Grow(ref, 4, 4);
  REQUIRE(PollUntil([&] { return other.Snapshots(ref) == std::vector<uint64_t>{8}; }, 20s));
  CHECK(other.Stored(ref) == Range(4, 8));
  CHECK(other.History(AllOf(ref)) == Range(4, 8));
  CHECK(FirstKept(other.daemon.LoadVersion(ref, 3).status()) == 4);
  CHECK_FALSE(other.Delete(ref, 8).ok());
  // Without any policy as well.
  Truncated bare(Nats(), RepositoryOptions());
  CHECK(bare.Follow().empty());
  CHECK(bare.LoadedState(ref) == "{\"v\":8}");
  CHECK(bare.History(AllOf(ref)) == Range(4, 8));
}

TEST_CASE("A stream that denies purges is said to keep everything", "[truncation]") {
  const auto nats = Must(NatsServer::Start({}));
  const domain::AggregateRef ref = Order("denied");
  {
    Truncated before(*nats, RepositoryOptions());
    before.Grow(ref, 0, 3);
  }
  Truncated one(*nats);
  CHECK(absl::StrContains(one.Follow(), "deny_purge"));
  one.Grow(ref, 3, 9);
  REQUIRE(PollUntil([&] { return one.Snapshots(ref) == std::vector<uint64_t>{12}; }, 20s));
  CHECK(one.Stored(ref) == Range(1, 12));
  CHECK_FALSE(one.Manifest(ref).truncation.has_value());
  CHECK(Must(one.daemon.LoadVersion(ref, 2)).info.version == 2);
  CHECK(one.Delete(ref, 12).ok());
}

TEST_CASE("Nothing is removed where the snapshots could end before the events", "[truncation]") {
  const auto nats = Must(NatsServer::Start({}));
  RepositoryOptions options = Truncating();
  options.snapshot_bucket.ttl = std::chrono::hours(1);
  Truncated one(*nats, options);
  const domain::AggregateRef ref = Order("ttl");
  one.Grow(ref, 0, 8);
  REQUIRE(PollUntil([&] { return one.Snapshots(ref) == std::vector<uint64_t>{8}; }, 20s));
  CHECK(one.Stored(ref) == Range(1, 8));
}

TEST_CASE("A repeated save is recognised, or refused, but never stored again", "[truncation]") {
  Truncated one(Nats());
  const domain::AggregateRef ref = Order("repeated");
  const std::string old_id = FreshId();
  const std::string any_id = FreshId();
  const SaveCommand exact = WithId(Command(ref, 0), old_id);
  const SaveCommand any = WithId(Command(ref, std::nullopt), any_id);
  const SaveCommand named = WithId(Command(ref, std::nullopt), "an id without time");
  Must(one.daemon.Save(exact));
  Must(one.daemon.Save(any));
  Must(one.daemon.Save(named));
  one.Grow(ref, 3, 5);
  REQUIRE(one.FirstBecomes(ref, 8));
  const SaveCommand kept = WithId(Command(ref, 8), FreshId());
  const SaveCommand kept_any = WithId(Command(ref, std::nullopt), "a second id");
  Must(one.daemon.Save(kept));
  Must(one.daemon.Save(kept_any));
  // This one remembers it; what others do without an index that does is what the API says of ids without time.
  CHECK(IsRemovedError(one.daemon.Save(named).status()));
  Truncated other(Nats());
  for (Truncated* daemon : {&one, &other}) {
    CHECK(domain::HasReason(daemon->daemon.Save(exact).status(), pb::ERROR_REASON_VERSION_CONFLICT));
    const absl::Status refused = daemon->daemon.Save(any).status();
    CHECK(IsRemovedError(refused));
    CHECK(absl::StrContains(refused.message(), "new request_id"));
    CHECK(Must(daemon->daemon.Save(kept)).deduplicated);
    CHECK(Must(daemon->daemon.Save(kept_any)).deduplicated);
    CHECK(Must(daemon->daemon.Info(ref)).version == 10);
  }
}

TEST_CASE("A fresh save of any version goes on where what is kept is old enough", "[truncation]") {
  MovedClock clock;
  Truncated one(Nats(), Truncating(/*keep=*/1, 10min), &clock);
  const domain::AggregateRef ref = Order("fresh any");
  one.Grow(ref, 0, 4);
  REQUIRE(PollUntil([&] { return one.Newest(ref) == 4; }, 20s));
  clock.Advance(11min);
  one.Grow(ref, 4, 4);
  REQUIRE(one.FirstBecomes(ref, 4));
  for (uint64_t version = 9; version < 15; ++version) {
    Truncated other(Nats(), Truncating(/*keep=*/1, 10min), &clock);  // Remembers nothing.
    const SaveCommand save = WithId(Command(ref, std::nullopt), base::NewUuidV7(clock.WallNow()));
    CHECK(Must(other.daemon.Save(save)).info.version == version);
    CHECK(Must(one.daemon.Save(save)).deduplicated);
  }
}

TEST_CASE("A position of a removed event has been reached", "[truncation]") {
  Truncated one(Nats());
  const domain::AggregateRef ref = Order("position");
  const domain::AggregateRef reader = Order("position reader");
  Must(one.daemon.Save(Command(reader, 0)));
  const SaveResult saved = Must(one.daemon.Save(Command(ref, 0)));
  one.Grow(ref, 1, 3);
  REQUIRE(one.FirstBecomes(ref, 4));
  LoadCommand command;
  command.ref = reader;
  command.consistency = Consistency::kAtLeast;
  command.at_least = saved.info.position;
  CHECK(Must(one.daemon.Load(command, 3s)).info.version == 1);
}

TEST_CASE("A deleted aggregate keeps its tombstone, and can be undeleted", "[truncation]") {
  Truncated one(Nats());
  const domain::AggregateRef ref = Order("deleted");
  one.Grow(ref, 0, 5);
  REQUIRE(one.FirstBecomes(ref, 4));
  SaveCommand deletion = Command(ref, 5);
  deletion.events.front().event.type = domain::kDeletedType;
  deletion.events.front().event.payload = {};
  deletion.tombstone = true;
  Must(one.daemon.Save(deletion));
  CHECK(Must(one.daemon.Load(ref, Consistency::kStrong).status().code() == absl::StatusCode::kNotFound
                 ? absl::StatusOr<bool>(true)
                 : absl::StatusOr<bool>(false)));
  CHECK(one.History(AllOf(ref)) == Range(4, 6));
  CHECK_FALSE(one.Snapshot(ref).ok());
  one.Grow(ref, 6, 2);  // Version 7 undeletes, version 8 has a snapshot.
  REQUIRE(one.FirstBecomes(ref, 8));
  CHECK(one.LoadedState(ref) == "{\"v\":8}");
}

TEST_CASE("What a power cut takes of the snapshots makes loads fail, and never answer wrongly", "[truncation]") {
  Truncated one(Nats());
  const domain::AggregateRef ref = Order("lost list");
  one.Grow(ref, 0, 4);
  REQUIRE(one.FirstBecomes(ref, 4));
  Must(one.daemon.Save(Command(ref, 4)));
  const std::string list = one.Record(ManifestKey(ref))->value;
  Truncated other(Nats());
  LoadCommand events;
  events.ref = ref;
  events.use_snapshot = false;
  for (const std::string damage : {"erased", "{", "{\"format\":1,\"snapshots\":[]}"}) {
    if (damage == "erased") {
      one.Erase(ManifestKey(ref));
    } else {
      one.Overwrite(ManifestKey(ref), damage);
    }
    INFO(damage);
    // The stored state is of an event that is kept, so nothing else is needed.
    CHECK(other.LoadedState(ref) == "{\"v\":4}");
    CHECK(absl::IsDataLoss(other.daemon.Load(events).status()));
    CHECK(absl::IsDataLoss(other.daemon.LoadVersion(ref, 2).status()));
    CHECK(absl::IsDataLoss(other.daemon.History(AllOf(ref)).status()));
    LoadCommand at;
    at.ref = ref;
    at.at = uint64_t{5};
    CHECK(absl::IsDataLoss(other.daemon.Load(at).status()));
  }
  one.Overwrite(ManifestKey(ref), list);
  CHECK(IsRemovedError(other.daemon.LoadVersion(ref, 2).status()));
  CHECK(other.History(AllOf(ref)) == Range(4, 5));
  // The list of another history explains nothing.
  SnapshotManifest foreign = Must(SnapshotManifest::Parse(list));
  foreign.truncation->commit_id = "another";
  one.Overwrite(ManifestKey(ref), foreign.ToJson());
  CHECK(absl::IsDataLoss(other.daemon.LoadVersion(ref, 2).status()));
}

TEST_CASE("An event that is lost beside those that were removed is a loss", "[truncation]") {
  Truncated one(Nats());
  const domain::AggregateRef ref = Order("lost event");
  one.Grow(ref, 0, 4);
  REQUIRE(one.FirstBecomes(ref, 4));
  one.Grow(ref, 4, 3);
  // As if somebody purged too much.
  const std::string filter = domain::EventFilter(ref);
  jetstream::Reader reader(&one.daemon.writes());
  const std::optional<jetstream::Message> last =
      Must(base::BlockOn(reader.Last(kOrderEvents, filter, jetstream::ReadFrom::kLeader, TestRepository::In(20s))));
  const std::string body = absl::StrCat("{\"filter\":\"", filter, "\",\"seq\":", last->sequence, "}");
  Must(base::BlockOn(jetstream::CallApi(one.daemon.writes(), absl::StrCat("$JS.API.STREAM.PURGE.", kOrderEvents), body,
                                        TestRepository::In(20s))));
  Truncated other(Nats());
  CHECK(absl::IsDataLoss(other.daemon.LoadVersion(ref, 5).status()));
  CHECK(absl::IsDataLoss(other.daemon.LoadVersion(ref, 2).status()));  // The snapshot's event is gone, too.
  CHECK(absl::IsDataLoss(other.daemon.History(AllOf(ref)).status()));
}

absl::StatusOr<SaveAllResult> SaveAll(TestRepository& repository, std::vector<SaveCommand> saves) {
  SaveAllCommand command;
  command.saves = std::move(saves);
  return base::BlockOn(repository.repository().SaveAll(std::move(command), TestRepository::In(20s)));
}

TEST_CASE("The end of a commit of several aggregates stays while others need it", "[truncation]") {
  Truncated one(Nats());
  const domain::AggregateRef first = Order("group first");
  const domain::AggregateRef last = Order("group last");
  one.Grow(last, 0, 2);
  // `last` has the end of the commit, at version 3.
  Must(SaveAll(one.daemon, {Command(first, 0), Command(last, 2)}));
  one.Grow(last, 3, 5);
  REQUIRE(one.FirstBecomes(last, 3));
  REQUIRE(PollUntil([&] { return one.Snapshots(last) == std::vector<uint64_t>{8}; }, 20s));
  Truncated other(Nats());
  // Nobody sees it as torn.
  CHECK(Must(other.daemon.Info(first)).version == 1);
  CHECK(Must(other.daemon.Load(first)).events.size() == 1);
  CHECK(other.LoadedState(last) == "{\"v\":8}");
  other.Grow(last, 8, 4);
  REQUIRE(PollUntil([&] { return other.Snapshots(last) == std::vector<uint64_t>{12}; }, 20s));
  CHECK(other.Stored(last) == Range(3, 12));
  // Once the first one has let go of its part, so can the last one.
  one.Grow(first, 1, 3);
  REQUIRE(one.FirstBecomes(first, 4));
  one.Grow(last, 12, 4);
  REQUIRE(one.FirstBecomes(last, 16));
  CHECK(Must(other.daemon.Info(first)).version == 4);
  CHECK(Must(other.daemon.Info(last)).version == 16);
}

TEST_CASE("A beginning of a commit of several aggregates may go before its end", "[truncation]") {
  Truncated one(Nats());
  const domain::AggregateRef first = Order("begin first");
  const domain::AggregateRef middle = Order("begin middle");
  const domain::AggregateRef last = Order("begin last");
  Must(SaveAll(one.daemon, {Command(first, 0), Command(middle, 0, 2), Command(last, 0)}));
  one.Grow(middle, 2, 2);
  REQUIRE(one.FirstBecomes(middle, 4));
  Truncated other(Nats());
  CHECK(Must(other.daemon.Info(first)).version == 1);
  CHECK(Must(other.daemon.Info(middle)).version == 4);
  CHECK(Must(other.daemon.Info(last)).version == 1);
}

TEST_CASE("A fold goes on from the snapshot", "[truncation][fold]") {
  TruncatedFolding folding(Nats());
  Truncated& one = *folding;
  const domain::AggregateRef ref = Order("folded");
  for (uint64_t version = 0; version < 6; ++version) Must(one.daemon.Save(Command(ref, version)));
  REQUIRE(one.FirstBecomes(ref, 4));
  TruncatedFolding fresh(Nats());
  Truncated& other = *fresh;
  CHECK(other.LoadedState(ref) == R"({"n":6,"sum":0})");  // Fewer than 32 events are not worth a snapshot otherwise.
  CHECK(Must(other.daemon.LoadVersion(ref, 5)).state->payload.data == R"({"n":5,"sum":0})");
  CHECK(FirstKept(other.daemon.LoadVersion(ref, 3).status()) == 4);

  // A snapshot that a fold cannot continue does not count.
  NewState text = StateOf("no json");
  Must(one.Snapshot(ref, 5, text));
  Must(one.daemon.Save(Command(ref, 6)));
  NewState plain = StateOf("plain");
  plain.payload.content_type = "text/plain";
  Must(one.Snapshot(ref, 6, plain));
  Must(one.Snapshot(ref, 7, StateOf("{\"n\":1000}", 2)));
  CHECK(one.LoadedState(ref) == R"({"n":7,"sum":0})");
  CHECK(one.Delete(ref, 4).code() == absl::StatusCode::kFailedPrecondition);
  Must(one.daemon.Save(Command(ref, 7)));
  REQUIRE(one.FirstBecomes(ref, 8));
  CHECK(TruncatedFolding(Nats())->LoadedState(ref) == R"({"n":8,"sum":0})");
}

TEST_CASE("With a new schema version the events that are gone cannot be folded, and that is said",
          "[truncation][fold]") {
  TruncatedFolding folding(Nats());
  Truncated& one = *folding;
  const domain::AggregateRef ref = Order("new schema");
  for (uint64_t version = 0; version < 6; ++version) Must(one.daemon.Save(Command(ref, version)));
  REQUIRE(one.FirstBecomes(ref, 4));
  TruncatedFolding other(Nats(), Truncating(), /*schema=*/2);
  Truncated& changed = *other;
  const absl::Status status = changed.daemon.Load(ref).status();
  CHECK(FirstKept(status) == 4);
  CHECK(absl::StrContains(status.message(), "state_schema_version"));
  // Nothing more is removed for a snapshot of the other schema version.
  Must(changed.Snapshot(ref, 6, StateOf("{\"n\":6}", 1)));
  Must(changed.daemon.Save(Command(ref, 6)));
  CHECK(changed.Stored(ref) == Range(4, 7));
  CHECK(one.LoadedState(ref) == R"({"n":7,"sum":0})");
  // A state of the new version given by a caller is a new beginning.
  Must(changed.Snapshot(ref, 7, StateOf("{\"n\":7,\"sum\":0}", 2)));
  REQUIRE(changed.FirstBecomes(ref, 7));
  Must(changed.daemon.Save(Command(ref, 7)));
  CHECK(changed.LoadedState(ref) == R"({"n":8,"sum":0})");
}

TEST_CASE("A large snapshot stands for events when its blocks are there", "[truncation]") {
  Truncated one(Nats());
  const domain::AggregateRef ref = Order("blocks");
  one.Grow(ref, 0, 3);
  const std::string content = absl::StrCat("\"", std::string(1'200'000, 'x'), "\"");
  SaveCommand command = Command(ref, 3);
  command.state = StateOf(content);
  Must(one.daemon.Save(std::move(command)));
  REQUIRE(one.FirstBecomes(ref, 4));
  CHECK(one.LoadedState(ref) == content);
}

TEST_CASE("Two daemons that truncate the same aggregates harm nobody", "[truncation]") {
  Truncated one(Nats(), Truncating(/*keep=*/2));
  Truncated other(Nats(), Truncating(/*keep=*/2));
  const domain::AggregateRef ref = Order("two daemons");
  for (uint64_t version = 0; version < 120; version += 2) {
    one.Grow(ref, version, 1);
    other.Grow(ref, version + 1, 1);
    const std::vector<uint64_t> snapshots = other.Snapshots(ref);
    if (!snapshots.empty() && version % 10 == 0) one.Delete(ref, snapshots[version % snapshots.size()]).IgnoreError();
    CHECK(one.LoadedState(ref) == absl::StrCat("{\"v\":", version + 2, "}"));
    CHECK(other.IsWhole(ref, version + 2));
  }
  const std::vector<uint64_t> snapshots = one.Snapshots(ref);
  REQUIRE_FALSE(snapshots.empty());
  CHECK(snapshots.front() >= one.Stored(ref).front());
  CHECK(one.Stored(ref).front() > 1);
}

TEST_CASE("What was removed before NATS was killed is read the same when it is back", "[truncation]") {
  const auto nats = Must(NatsServer::Start({}));
  Truncated one(*nats, Truncating());
  const domain::AggregateRef ref = Order("killed");
  one.Grow(ref, 0, 8);
  REQUIRE(one.FirstBecomes(ref, 8));
  nats->Kill9();
  Must(nats->Restart());
  REQUIRE(PollUntil([&] { return one.daemon.Info(ref).ok(); }, 20s));
  one.Grow(ref, 8, 8);
  REQUIRE(one.FirstBecomes(ref, 16));
  Truncated other(*nats, Truncating());
  CHECK(other.LoadedState(ref) == "{\"v\":16}");
  CHECK(other.History(AllOf(ref)) == Range(16, 16));
}

TEST_CASE("What comes back of removed events without those after it is not shown", "[truncation]") {
  // Nothing is removed by this one.
  Truncated one(Nats(), Truncating(/*keep=*/1, 0ms, /*fsync_always=*/false));
  const domain::AggregateRef ref = Order("gap");
  for (uint64_t version = 0; version < 8; ++version) {
    SaveCommand command = Command(ref, version);
    command.events.front().event.type = version == 2 || version == 4 ? "gone" : "stays";
    command.state = StateOf(absl::StrCat("{\"v\":", version + 1, "}"));
    Must(one.daemon.Save(std::move(command)));
  }
  REQUIRE(PollUntil([&] { return one.Snapshots(ref) == std::vector<uint64_t>{8}; }, 20s));
  one.Grow(ref, 8, 3);
  // As if somebody had announced that all before version 8 goes, and ended in the middle of it.
  SnapshotManifest manifest = one.Manifest(ref);
  const std::vector<Event> events = Must(one.daemon.History(AllOf(ref)));
  Truncation announced;
  announced.base = 8;
  announced.commit_id = events[7].event.commit_id;
  announced.base_sequence = events[7].event.sequence;
  announced.first_kept = 8;
  announced.first_sequence = events[7].event.sequence;
  announced.marked = base::Clock::System().WallNow();
  manifest.truncation = announced;
  one.Overwrite(ManifestKey(ref), manifest.ToJson());
  CHECK(one.History(AllOf(ref)) == Range(1, 11));
  const std::string body = R"({"filter":"cim.events.sales.order.gap.gone.v1"})";
  Must(base::BlockOn(jetstream::CallApi(one.daemon.writes(), absl::StrCat("$JS.API.STREAM.PURGE.", kOrderEvents), body,
                                        TestRepository::In(20s))));
  Truncated other(Nats());
  CHECK(other.History(AllOf(ref)) == Range(6, 11));
  HistoryQuery reverse = AllOf(ref);
  reverse.reverse = true;
  CHECK(other.History(reverse).back() == 6);
  CHECK(Must(other.daemon.LoadVersion(ref, 8)).state->payload.data == "{\"v\":8}");
  CHECK(IsRemovedError(other.daemon.LoadVersion(ref, 7).status()));
  other.Grow(ref, 11, 1);
  REQUIRE(other.FirstBecomes(ref, 12));
  CHECK(other.History(AllOf(ref)) == Range(12, 12));
}

TEST_CASE("Two snapshots of one version at once leave one that can be read", "[truncation]") {
  Truncated one(Nats(), Truncating());
  Truncated other(Nats(), Truncating());
  for (int round = 0; round < 20; ++round) {
    const domain::AggregateRef ref = Order(absl::StrCat("raced ", round));
    Must(one.daemon.Save(Command(ref, 0)));
    auto first = std::async(std::launch::async, [&] { return one.Snapshot(ref, 0, StateOf(R"({"by":"one"})")); });
    auto second =
        std::async(std::launch::async, [&] { return other.Snapshot(ref, 0, StateOf(R"({"by":"another"})")); });
    Must(first.get());
    Must(second.get());
    const SnapshotManifest manifest = one.Manifest(ref);
    REQUIRE(manifest.entries.size() == 1);
    CHECK(ipld::RawCid(one.LoadedState(ref)).ToString() == manifest.entries.front().cid);
  }
}

TEST_CASE("A list of snapshots that says what was removed is read as it was written", "[truncation]") {
  SnapshotManifest manifest;
  manifest.entries.push_back({.version = 8,
                              .schema_version = 1,
                              .content_type = "",
                              .size = 3,
                              .cid = "c",
                              .commit_id = "id",
                              .created = base::WallTime(1s)});
  const std::string plain = manifest.ToJson();
  CHECK(absl::StrContains(plain, "\"format\":1"));
  manifest.truncation = Truncation{.base = 8,
                                   .commit_id = "id",
                                   .base_sequence = 90,
                                   .first_kept = 7,
                                   .first_sequence = 80,
                                   .removed_before = 3,
                                   .marked = base::WallTime(2s)};
  const std::string json = manifest.ToJson();
  CHECK(Must(SnapshotManifest::Parse(json)) == manifest);
  // Who does not know of it must not take it for a plain list.
  CHECK(absl::StrContains(json, "\"format\":2"));
  for (const auto& [from, to] : std::vector<std::pair<std::string, std::string>>{{"\"base\":8", "\"base\":6"},
                                                                                 {"\"base\":8", "\"base\":\"8\""},
                                                                                 {"\"first_sequence\":80", "\"x\":80"},
                                                                                 {"\"removed_before\":3", "\"x\":3"},
                                                                                 {"\"truncation\"", "\"x\""}}) {
    std::string damaged = json;
    damaged.replace(damaged.find(from), from.size(), to);
    INFO(damaged);
    CHECK(absl::IsDataLoss(SnapshotManifest::Parse(damaged).status()));
  }
}

}  // namespace
}  // namespace persistd::repository
