// Snapshots and large states over a real nats-server: what is kept, what a damaged store does to it, and several
// daemons at once.

#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "cim/persistence/v1/errors.pb.h"
#include "server/domain/errors.h"
#include "server/ipld/cid.h"
#include "server/jetstream/api.h"
#include "server/repository/snapshot_store.h"
#include "tests/server/repository/repository_fixture.h"
#include "tests/testing/catch.h"
#include "tests/testing/must.h"
#include "tests/testing/nats_server.h"
#include "tests/testing/poll.h"

namespace persistd::repository {
namespace {

namespace pb = cim::persistence::v1;
using jetstream::KvEntry;
using jetstream::ReadFrom;
using ::persistd::testing::Must;
using ::persistd::testing::NatsServer;
using ::persistd::testing::PollUntil;

NewState State(std::string data, uint32_t schema = 1) {
  NewState state;
  state.schema_version = schema;
  state.payload = {.content_type = "application/json", .data = std::move(data)};
  return state;
}

SaveCommand WithState(SaveCommand command, std::string data) {
  command.state = State(std::move(data));
  return command;
}

RepositoryOptions EverySecondEvent(size_t keep) {
  RepositoryOptions options;
  options.snapshot_policies[{"sales", "order"}] = {.every_events = 2, .after_events = {"closed"}, .keep = keep};
  return options;
}

// Bytes that do not repeat, so that every block is another one.
std::string Content(size_t size, uint32_t seed = 1) {
  std::string content(size, '\0');
  for (char& c : content) {
    seed = seed * 1664525 + 1013904223;
    c = static_cast<char>(seed >> 24);
  }
  return content;
}

// Wall time that tests move; what is waited for goes on by the machine's clock.
class MovedClock final : public base::Clock {
 public:
  base::WallTime WallNow() const override { return base::Clock::System().WallNow() + moved_.load(); }
  base::SteadyTime SteadyNow() const override { return base::Clock::System().SteadyNow(); }
  void Advance(std::chrono::minutes by) { moved_ = moved_.load() + by; }

 private:
  std::atomic<std::chrono::minutes> moved_{};
};

struct Bench {
  explicit Bench(const RepositoryOptions& options = {})
      : nats(Must(NatsServer::Start({}))), daemon(nats->url(), options) {}

  absl::StatusOr<SnapshotInfo> Create(SnapshotCommand command) {
    return base::BlockOn(daemon.repository().CreateSnapshot(std::move(command), TestRepository::In(120s)));
  }
  absl::StatusOr<SnapshotInfo> Create(const domain::AggregateRef& ref, uint64_t version = 0,
                                      std::optional<NewState> state = std::nullopt) {
    return Create({.ref = ref, .version = version, .state = std::move(state)});
  }
  std::vector<uint64_t> Versions(const domain::AggregateRef& ref) {
    std::vector<uint64_t> versions;
    for (const SnapshotInfo& info :
         Must(base::BlockOn(daemon.repository().ListSnapshots(ref, TestRepository::In(20s))))) {
      versions.push_back(info.version);
    }
    return versions;
  }
  absl::Status Delete(const domain::AggregateRef& ref, uint64_t version) {
    return base::BlockOn(daemon.repository().DeleteSnapshot(ref, version, TestRepository::In(20s)));
  }
  bool Eventually(const domain::AggregateRef& ref, const std::vector<uint64_t>& versions) {
    return PollUntil([&] { return Versions(ref) == versions; }, 20s);
  }

  // The buckets, as another program would reach them.
  jetstream::Kv Bucket(const std::string& name) {
    return jetstream::Kv({.bucket = name}, &daemon.writes(), &daemon.writes(), &daemon.executor());
  }
  std::optional<KvEntry> Stored(const std::string& bucket, const std::string& key) {
    jetstream::Kv kv = Bucket(bucket);
    return Must(base::BlockOn(kv.Last(key, ReadFrom::kLeader, TestRepository::In(20s))));
  }
  std::vector<KvEntry> All(const std::string& bucket) {
    jetstream::Kv kv = Bucket(bucket);
    return Must(base::BlockOn(kv.List("", "", 1000, 1u << 30, TestRepository::In(20s)))).entries;
  }
  uint64_t CountBlocks() {
    const jetstream::ApiAnswer info = Must(base::BlockOn(
        jetstream::CallApi(daemon.writes(), "$JS.API.STREAM.INFO.KV_cim-blocks", "", TestRepository::In(20s))));
    return jetstream::UnsignedField(jetstream::ObjectField(info.body, "state"), "messages");
  }
  std::string LoadedState(const domain::AggregateRef& ref) {
    const LoadResult loaded = Must(daemon.Load(ref, Consistency::kStrong, 120s));
    REQUIRE(loaded.state.has_value());
    REQUIRE_FALSE(loaded.state->chunks.has_value());
    return loaded.state->payload.data;
  }
  void Overwrite(const std::string& bucket, const std::string& key, std::string value) {
    jetstream::Kv kv = Bucket(bucket);
    Must(base::BlockOn(kv.Put(key, std::move(value), TestRepository::In(20s))));
  }
  void Erase(const std::string& bucket, const std::string& key) {
    jetstream::Kv kv = Bucket(bucket);
    Must(base::BlockOn(kv.Erase(key, 1'000'000, TestRepository::In(20s))));
  }

  std::unique_ptr<NatsServer> nats;
  TestRepository daemon;
};

// The store alone, as loads see it.
struct StoreBench : Bench {
  StoreBench()
      : snapshot_bucket({.bucket = "cim-snapshots"}, &daemon.writes(), &daemon.writes(), &daemon.executor()),
        block_bucket({.bucket = "cim-blocks"}, &daemon.writes(), &daemon.writes(), &daemon.executor()),
        blocks(&block_bucket),
        store(&snapshot_bucket, &blocks, &daemon.writes(), &daemon.executor(), &base::Clock::System()) {}

  domain::StateRecord Record(uint64_t version, std::string data, std::string commit_id = "c") {
    domain::StateRecord state;
    state.ref = Order("1");
    state.version = version;
    state.payload = {.content_type = "application/json", .data = std::move(data)};
    state.commit_id = std::move(commit_id);
    state.recorded_time = base::Clock::System().WallNow();
    return state;
  }
  SnapshotStore::Added Add(domain::StateRecord state, size_t keep = 0) {
    return Must(base::BlockOn(store.Add(std::move(state), keep, TestRepository::In(20s))));
  }
  // The version of what a load of `at_most` would find; 0: nothing.
  uint64_t Latest(uint64_t at_most) {
    const auto found = Must(base::BlockOn(store.Latest(Order("1"), at_most, TestRepository::In(20s))));
    return found.has_value() ? found->version : 0;
  }

  jetstream::Kv snapshot_bucket;
  jetstream::Kv block_bucket;
  Blocks blocks;
  SnapshotStore store;
};

TEST_CASE("A snapshot of the stored state is kept, listed and deleted", "[snapshots]") {
  Bench bench;
  const domain::AggregateRef ref = Order("A 1");
  Must(bench.daemon.Save(WithState(Command(ref, 0, 3), "{\"n\":3}")));
  CHECK(bench.Versions(ref).empty());
  const SnapshotInfo first = Must(bench.Create(ref));
  CHECK(first.version == 3);
  CHECK(first.size == 7);
  CHECK(first.content_type == "application/json");
  CHECK(first.cid == ipld::RawCid("{\"n\":3}").ToString());
  CHECK(bench.Versions(ref) == std::vector<uint64_t>{3});
  // Under the keys that the format documents.
  CHECK(bench.Stored("cim-snapshots", "sales/order.A=201").has_value());
  const std::optional<KvEntry> record = bench.Stored("cim-snapshots", "sales/order.A=201.3");
  REQUIRE(record.has_value());
  CHECK(record->value == "{\"n\":3}");

  // The same one again is the first one.
  const SnapshotInfo again = Must(bench.Create(ref, 3, State("another")));
  CHECK(again.cid == first.cid);
  CHECK(again.created == first.created);

  Must(bench.daemon.Save(Command(ref, 3, 2)));
  CHECK(Must(bench.Create(ref, 0, State("{\"n\":5}"))).version == 5);
  CHECK(bench.Versions(ref) == std::vector<uint64_t>{5, 3});
  CHECK(bench.Delete(ref, 3).ok());
  CHECK(bench.Versions(ref) == std::vector<uint64_t>{5});
  CHECK_FALSE(bench.Stored("cim-snapshots", "sales/order.A=201.3").has_value());
  CHECK(domain::HasReason(bench.Delete(ref, 3), pb::ERROR_REASON_SNAPSHOT_NOT_FOUND));
  CHECK(bench.Delete(ref, 5).ok());
  CHECK(bench.All("cim-snapshots").empty());  // Nothing stays.
  CHECK(Must(bench.Create(ref, 5, State("x"))).version == 5);
}

TEST_CASE("What cannot be kept as a snapshot is refused with the reason", "[snapshots]") {
  Bench bench;
  const domain::AggregateRef ref = Order("1");
  CHECK(domain::HasReason(bench.Create(ref).status(), pb::ERROR_REASON_AGGREGATE_NOT_FOUND));
  Must(bench.daemon.Save(Command(ref, 0, 3)));
  CHECK(domain::HasReason(bench.Create(ref).status(), pb::ERROR_REASON_NO_STATE));
  CHECK(domain::HasReason(bench.Create(ref, 4, State("x")).status(), pb::ERROR_REASON_VERSION_NOT_FOUND));
  Must(bench.daemon.Save(Command(ref, 3, 1)));
  const absl::Status inside = bench.Create(ref, 2, State("x")).status();
  CHECK(domain::HasReason(inside, pb::ERROR_REASON_INVALID_FIELD));
  CHECK(absl::StrContains(inside.message(), "here 3"));
  CHECK(Must(bench.Create(ref, 3, State("x"))).version == 3);
  CHECK(domain::HasReason(bench.Delete(ref, 1), pb::ERROR_REASON_SNAPSHOT_NOT_FOUND));
  CHECK(domain::HasReason(bench.Delete(Order("none"), 1), pb::ERROR_REASON_SNAPSHOT_NOT_FOUND));
}

TEST_CASE("A policy takes snapshots after saves and keeps the newest", "[snapshots]") {
  Bench bench(EverySecondEvent(2));
  const domain::AggregateRef ref = Order("1");
  for (uint64_t v = 0; v < 7; ++v) Must(bench.daemon.Save(WithState(Command(ref, v), absl::StrCat(v + 1))));
  REQUIRE(bench.Eventually(ref, {6, 4}));
  REQUIRE(PollUntil([&] { return !bench.Stored("cim-snapshots", "sales/order.1.2").has_value(); }, 20s));
  // A save that steps over a multiple, one with a named event, and one that asks.
  Must(bench.daemon.Save(WithState(Command(ref, 7, 4), "11")));
  REQUIRE(bench.Eventually(ref, {11, 6}));
  SaveCommand closed = WithState(Command(ref, 11, 2), "13");  // Also steps over 12.
  Must(bench.daemon.Save(std::move(closed)));
  REQUIRE(bench.Eventually(ref, {13, 11}));
  SaveCommand odd = WithState(Command(Order("2"), 0), "1");
  odd.events.front().event.type = "closed";
  Must(bench.daemon.Save(std::move(odd)));
  REQUIRE(bench.Eventually(Order("2"), {1}));
  SaveCommand asked = WithState(Command(Order("3"), 0), "1");
  asked.create_snapshot = true;
  Must(bench.daemon.Save(std::move(asked)));
  REQUIRE(bench.Eventually(Order("3"), {1}));
  CHECK(PollUntil([&] { return bench.daemon.repository().stats().snapshots.taken == 7; }, 20s));
  CHECK(bench.daemon.repository().stats().snapshots.failed == 0);
}

TEST_CASE("A policy by age takes one when the newest is old enough", "[snapshots]") {
  RepositoryOptions options;
  options.snapshot_policies[{"sales", "order"}] = {.max_age = 1h, .after_events = {}};
  auto nats = Must(NatsServer::Start({}));
  MovedClock clock;
  TestRepository daemon(nats->url(), options, &clock);
  const auto versions = [&](uint64_t expected) {
    return PollUntil(
        [&] {
          const auto list = Must(base::BlockOn(daemon.repository().ListSnapshots(Order("1"), TestRepository::In(20s))));
          return !list.empty() && list.front().version == expected;
        },
        20s);
  };
  Must(daemon.Save(WithState(Command(Order("1"), 0), "1")));
  clock.Advance(59min);
  Must(daemon.Save(WithState(Command(Order("1"), 1), "2")));
  clock.Advance(2min);
  Must(daemon.Save(WithState(Command(Order("1"), 2), "3")));
  REQUIRE(versions(3));
  Must(daemon.Save(WithState(Command(Order("1"), 3), "4")));
  clock.Advance(61min);
  Must(daemon.Save(WithState(Command(Order("1"), 4), "5")));
  REQUIRE(versions(5));
  CHECK(daemon.repository().stats().snapshots.taken == 2);
}

TEST_CASE("Saves go on while snapshots cannot be taken", "[snapshots]") {
  Bench bench(EverySecondEvent(2));
  // A bucket that is not fit for values: every snapshot fails.
  jetstream::KvOptions options{.bucket = "cim-snapshots", .ttl = 1h};
  jetstream::Kv unfit(options, &bench.daemon.writes(), &bench.daemon.writes(), &bench.daemon.executor());
  Must(base::BlockOn(unfit.Ensure(TestRepository::In(20s))));
  for (uint64_t v = 0; v < 6; ++v) Must(bench.daemon.Save(WithState(Command(Order("1"), v), "x")));
  REQUIRE(PollUntil([&] { return bench.daemon.repository().stats().snapshots.failed == 3; }, 20s));
  CHECK(domain::HasReason(bench.Create(Order("1")).status(), pb::ERROR_REASON_STORAGE_UNSUITABLE));
  CHECK(Must(bench.daemon.Load(Order("1"))).info.version == 6);
}

TEST_CASE("The nearest snapshot at or before a version is found in one of many", "[snapshots]") {
  StoreBench bench;
  CHECK(bench.Latest(100) == 0);
  for (uint64_t version = 10; version <= 300; version += 10) bench.Add(bench.Record(version, absl::StrCat(version)));
  CHECK(bench.Latest(9) == 0);
  CHECK(bench.Latest(10) == 10);
  CHECK(bench.Latest(19) == 10);
  CHECK(bench.Latest(155) == 150);
  CHECK(bench.Latest(1'000'000) == 300);
}

TEST_CASE("Damaged snapshots are passed over, and never given away", "[snapshots]") {
  StoreBench bench;
  bench.Add(bench.Record(1, "one"));
  bench.Add(bench.Record(2, "two"));
  bench.Add(bench.Record(3, Content(1'200'000)));
  REQUIRE(bench.Latest(9) == 3);
  SECTION("a block holds other bytes") {
    const std::string key = bench.All("cim-blocks").front().key;
    bench.Overwrite("cim-blocks", key, "other bytes");
    CHECK(bench.Latest(9) == 2);
    CHECK(bench.store.damaged() == 1);
  }
  SECTION("a block is missing") {
    bench.Erase("cim-blocks", bench.All("cim-blocks").back().key);
    CHECK(bench.Latest(9) == 2);
    CHECK(bench.store.damaged() == 1);
  }
  SECTION("records are missing or are something else") {
    bench.Erase("cim-snapshots", "sales/order.1.3");
    bench.Overwrite("cim-snapshots", "sales/order.1.2", "no snapshot");
    CHECK(bench.Latest(9) == 1);
    CHECK(bench.store.damaged() == 2);
  }
  SECTION("the list cannot be read") {
    bench.Overwrite("cim-snapshots", "sales/order.1", "{}");
    CHECK(bench.Latest(9) == 0);
    const absl::Status listed = base::BlockOn(bench.store.Manifest(Order("1"), TestRepository::In(20s))).status();
    CHECK(domain::HasReason(listed, pb::ERROR_REASON_CORRUPT_DATA));
  }
}

TEST_CASE("A snapshot of a history that was lost gives way to that of the new one", "[snapshots]") {
  StoreBench bench;
  CHECK(bench.Add(bench.Record(5, "lost", "old")).fresh);
  CHECK_FALSE(bench.Add(bench.Record(5, "other", "old")).fresh);
  CHECK(bench.Add(bench.Record(5, "new", "new")).fresh);
  const auto found = Must(base::BlockOn(bench.store.Latest(Order("1"), 5, TestRepository::In(20s))));
  REQUIRE(found.has_value());
  CHECK(found->payload.data == "new");
  CHECK(found->commit_id == "new");
}

TEST_CASE("Daemons that take and drop snapshots at once lose none", "[snapshots]") {
  StoreBench bench;
  {
    SnapshotStore other(&bench.snapshot_bucket, &bench.blocks, &bench.daemon.writes(), &bench.daemon.executor(),
                        &base::Clock::System());
    constexpr uint64_t kEach = 20;
    struct Progress {
      std::atomic<int> running = 4;
      std::atomic<int> failed = 0;
    } progress;
    const auto add = [&](SnapshotStore& store, uint64_t first) -> base::Task<void> {
      for (uint64_t i = 0; i < kEach; ++i) {
        const absl::StatusOr<SnapshotStore::Added> added =
            co_await store.Add(bench.Record(first + i, "x"), 0, TestRepository::In(60s));
        if (!added.ok()) ++progress.failed;
      }
      --progress.running;
    };
    // The same versions twice, others besides.
    base::Spawn(add(bench.store, 1));
    base::Spawn(add(other, 1));
    base::Spawn(add(bench.store, 101));
    base::Spawn(add(other, 201));
    REQUIRE(PollUntil([&] { return progress.running == 0; }, 60s));
    CHECK(progress.failed == 0);
    const SnapshotManifest manifest = Must(base::BlockOn(other.Manifest(Order("1"), TestRepository::In(20s))));
    CHECK(manifest.entries.size() == 3 * kEach);
    for (const ManifestEntry& entry : manifest.entries) CHECK(bench.Latest(entry.version) == entry.version);
  }
}

TEST_CASE("A state of 40 MiB is saved in blocks and read back as it was", "[large]") {
  Bench bench;
  const std::string large = Content(40u << 20);
  const SaveResult saved = Must(bench.daemon.Save(WithState(Command(Order("1"), 0), large), 120s));
  CHECK(saved.state == StateResult::kWritten);
  CHECK((bench.LoadedState(Order("1")) == large));
  CHECK(bench.CountBlocks() == 80);

  // Another aggregate with the same bytes, and a snapshot: they share the blocks.
  Must(bench.daemon.Save(WithState(Command(Order("2"), 0), large), 120s));
  CHECK((bench.LoadedState(Order("2")) == large));
  CHECK(Must(bench.Create(Order("2"))).size == large.size());
  CHECK(bench.CountBlocks() == 80);
}

TEST_CASE("A repeated save with a large state is the same only if the state is", "[large]") {
  Bench bench;
  const std::string id = FreshId();
  const SaveCommand first = WithId(WithState(Command(Order("1"), 0), Content(700'000)), id);
  Must(bench.daemon.Save(first));
  const SaveResult again = Must(bench.daemon.Save(first));
  CHECK(again.deduplicated);
  CHECK(again.state == StateResult::kWritten);
  SaveCommand other = first;
  other.state = State(Content(700'000, 2));
  CHECK(domain::HasReason(bench.daemon.Save(other).status(), pb::ERROR_REASON_REQUEST_ID_REUSED));
}

TEST_CASE("A load of a state whose blocks are damaged says which one", "[large]") {
  Bench bench;
  Must(bench.daemon.Save(WithState(Command(Order("1"), 0), Content(1'200'000))));
  const std::string second = ipld::RawCid(Content(1'200'000).substr(524'288, 524'288)).ToString();
  SECTION("missing") { bench.Erase("cim-blocks", second); }
  SECTION("other bytes of the same size") { bench.Overwrite("cim-blocks", second, std::string(524'288, 'x')); }
  SECTION("cut short") { bench.Overwrite("cim-blocks", second, "x"); }
  const absl::Status status = bench.daemon.Load(Order("1")).status();
  CHECK(domain::HasReason(status, pb::ERROR_REASON_CORRUPT_DATA));
  CHECK(absl::StrContains(status.message(), "block 2"));
  CHECK(absl::StrContains(status.message(), second));
  // Saving the same content again mends it.
  Must(bench.daemon.Save(WithState(Command(Order("1"), 1), Content(1'200'000))));
  CHECK((bench.LoadedState(Order("1")) == Content(1'200'000)));
}

TEST_CASE("Blocks that were stored without the state that lists them do no harm", "[large]") {
  StoreBench bench;
  // As a daemon leaves it that is killed between the two.
  const std::string content = Content(1'500'000);
  const domain::ChunkList list = Must(base::BlockOn(bench.blocks.Store(content, TestRepository::In(20s))));
  CHECK(list.size == content.size());
  CHECK(list.cids.size() == 3);
  CHECK(domain::HasReason(bench.daemon.Load(Order("1")).status(), pb::ERROR_REASON_AGGREGATE_NOT_FOUND));
  Must(bench.daemon.Save(WithState(Command(Order("1"), 0), content)));
  CHECK((bench.LoadedState(Order("1")) == content));
  CHECK(bench.CountBlocks() == 3);
}

TEST_CASE("States around the size of one block are read back as they were", "[large]") {
  Bench bench;
  uint64_t version = 0;
  for (const size_t size : {524'287, 524'288, 524'289, 1'048'576, 1'048'577}) {
    INFO(size);
    const std::string content = Content(size, static_cast<uint32_t>(size));
    Must(bench.daemon.Save(WithState(Command(Order("1"), version++), content)));
    CHECK((bench.LoadedState(Order("1")) == content));
  }
}

TEST_CASE("Manifests are read back, and everything else is refused", "[snapshots]") {
  SnapshotManifest manifest;
  const auto entry = [](uint64_t version) {
    ManifestEntry e;
    e.version = version;
    e.schema_version = 3;
    e.content_type = "application/json";
    e.size = 12;
    e.cid = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku";
    e.commit_id = "0199d3f0-0000-7000-8000-00000000000a";
    e.created = base::WallTime(std::chrono::nanoseconds(1'795'341'600'123'456'789));
    return e;
  };
  manifest.Set(entry(7));
  manifest.Set(entry(3));
  manifest.Set(entry(7));
  // For ever: what is stored has this form.
  CHECK(manifest.ToJson() ==
        "{\"format\":1,\"snapshots\":[{\"cid\":\"bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku\","
        "\"commit_id\":\"0199d3f0-0000-7000-8000-00000000000a\",\"content_type\":\"application/json\","
        "\"created\":\"2026-11-22T10:00:00.123456789Z\",\"schema_version\":3,\"size\":12,\"version\":3},"
        "{\"cid\":\"bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku\","
        "\"commit_id\":\"0199d3f0-0000-7000-8000-00000000000a\",\"content_type\":\"application/json\","
        "\"created\":\"2026-11-22T10:00:00.123456789Z\",\"schema_version\":3,\"size\":12,\"version\":7}]}");
  CHECK(Must(SnapshotManifest::Parse(manifest.ToJson())) == manifest);
  CHECK(manifest.Find(3) != nullptr);
  CHECK(manifest.Find(5) == nullptr);
  CHECK(manifest.Remove(3));
  CHECK_FALSE(manifest.Remove(3));
  for (const char* text : {"", "[]", "{}", "{\"format\":2,\"snapshots\":[]}", "{\"snapshots\":[]}",
                           "{\"format\":1,\"snapshots\":[1]}", "{\"format\":1,\"snapshots\":[{\"version\":1}]}"}) {
    INFO(text);
    CHECK(absl::IsDataLoss(SnapshotManifest::Parse(text).status()));
  }
  SnapshotManifest twice = manifest;
  twice.entries.push_back(entry(7));
  CHECK(absl::IsDataLoss(SnapshotManifest::Parse(twice.ToJson()).status()));
}

}  // namespace
}  // namespace persistd::repository
