// What the collector of blocks removes and what it must leave, over a real nats-server.
//
// Blocks are as old as nats-server says. So that tests need not wait, min_age is 0 in most of them, and whoever stores
// blocks regards none as young: kYoung < min_age is then kept by both being nothing.

#include "server/repository/block_collector.h"

#include <atomic>
#include <chrono>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
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

using jetstream::Headers;
using jetstream::KvEntry;
using jetstream::ReadFrom;
using ::persistd::testing::Must;
using ::persistd::testing::NatsServer;

constexpr size_t kLarge = 1'200'000;  // Three blocks.

// Bytes that do not repeat, so that every block is another one.
std::string Content(uint32_t seed, size_t size = kLarge) {
  std::string content(size, '\0');
  for (char& c : content) {
    seed = seed * 1664525 + 1013904223;
    c = static_cast<char>(seed >> 24);
  }
  return content;
}

std::set<std::string> KeysOf(const std::string& content) {
  std::set<std::string> keys;
  for (size_t at = 0; at < content.size(); at += domain::kChunkBytes) {
    keys.insert(ipld::RawCid(absl::string_view(content).substr(at, domain::kChunkBytes)).ToString());
  }
  return keys;
}

// Time that tests move.
class MovedClock final : public base::Clock {
 public:
  base::WallTime WallNow() const override { return base::Clock::System().WallNow() + moved_.load(); }
  base::SteadyTime SteadyNow() const override { return base::Clock::System().SteadyNow() + moved_.load(); }
  void Advance(std::chrono::minutes by) { moved_ = moved_.load() + by; }

 private:
  std::atomic<std::chrono::minutes> moved_{};
};

BlockCollectorOptions AtOnce() {
  BlockCollectorOptions options;
  options.min_age = 0ms;
  options.grace = 0ms;
  return options;
}

struct Bench {
  explicit Bench(BlocksOptions of_blocks = {.young = 0ms})
      : nats(Must(NatsServer::Start({}))),
        daemon(nats->url()),
        block_bucket({.bucket = "cim-blocks"}, &daemon.writes(), &daemon.writes(), &daemon.executor()),
        snapshot_bucket({.bucket = "cim-snapshots"}, &daemon.writes(), &daemon.writes(), &daemon.executor()),
        blocks(&block_bucket, of_blocks),
        snapshots(&snapshot_bucket, &blocks, &daemon.writes(), &daemon.executor(), &base::Clock::System()) {}

  static base::SteadyTime In20s() { return TestRepository::In(20s); }

  absl::StatusOr<Collection> Collect(BlockCollectorOptions options = AtOnce()) {
    BlockCollector collector(std::move(options), &daemon.writes(), &daemon.writes(), &daemon.executor());
    return collector.Run();
  }

  // A state of aggregate `id`, saved by a daemon.
  void SaveState(const std::string& id, uint64_t version, std::string content) {
    SaveCommand command = Command(Order(id), version);
    command.state.emplace();
    command.state->payload = {.content_type = "application/json", .data = std::move(content)};
    CHECK(Must(daemon.Save(std::move(command))).state == StateResult::kWritten);
  }
  std::string LoadedState(const std::string& id) {
    const LoadResult loaded = Must(daemon.Load(Order(id)));
    REQUIRE(loaded.state.has_value());
    return loaded.state->payload.data;
  }
  // As a daemon leaves them that is killed before the list.
  void StoreOrphans(const std::string& content) { Must(base::BlockOn(blocks.Store(content, In20s()))); }

  domain::StateRecord Record(uint64_t version, std::string content) {
    domain::StateRecord state;
    state.ref = Order("snap");
    state.version = version;
    state.payload = {.content_type = "application/json", .data = std::move(content)};
    state.commit_id = "c";
    state.recorded_time = base::Clock::System().WallNow();
    return state;
  }
  void AddSnapshot(uint64_t version, std::string content) {
    Must(base::BlockOn(snapshots.Add(Record(version, std::move(content)), 0, In20s())));
  }
  // What a load of `version` finds.
  std::string SnapshotAt(uint64_t version) {
    const auto found = Must(base::BlockOn(snapshots.Latest(Order("snap"), version, In20s())));
    return found.has_value() && found->version == version ? found->payload.data : "";
  }

  std::set<std::string> Keys() {
    std::set<std::string> keys;
    for (const KvEntry& entry : Must(base::BlockOn(block_bucket.List("", "", 1000, 1u << 30, In20s()))).entries) {
      keys.insert(entry.key);
    }
    return keys;
  }
  bool Has(const std::string& content) {
    const std::set<std::string> keys = Keys();
    for (const std::string& key : KeysOf(content)) {
      if (!keys.contains(key)) return false;
    }
    return true;
  }
  KvEntry Stored(const std::string& key) {
    return Must(base::BlockOn(block_bucket.Last(key, ReadFrom::kLeader, In20s()))).value();
  }
  uint64_t Messages(const std::string& stream) {
    const jetstream::ApiAnswer info = Must(
        base::BlockOn(jetstream::CallApi(daemon.writes(), absl::StrCat("$JS.API.STREAM.INFO.", stream), "", In20s())));
    return jetstream::UnsignedField(jetstream::ObjectField(info.body, "state"), "messages");
  }
  // Writes what persistd did not.
  void Publish(const std::string& subject, Headers headers, std::string data) {
    auto ask =
        [](base::Future<absl::StatusOr<jetstream::Message>> answer) -> base::Task<absl::StatusOr<jetstream::Message>> {
      co_return co_await answer;
    };
    jetstream::OutgoingMessage message;
    message.subject = subject;
    message.headers = std::move(headers);
    message.data = std::move(data);
    Must(base::BlockOn(ask(daemon.writes().Request(message, In20s()))));
  }

  std::unique_ptr<NatsServer> nats;
  TestRepository daemon;
  jetstream::Kv block_bucket;
  jetstream::Kv snapshot_bucket;
  Blocks blocks;
  SnapshotStore snapshots;
};

// Takes a snapshot out of the list, and removes its record.
void Drop(SnapshotStore& store, uint64_t version) {
  SnapshotStore::Listed list = Must(base::BlockOn(store.List(Order("snap"), Bench::In20s())));
  Must(base::BlockOn(store.Replace(Order("snap"), std::move(list), {version}, Bench::In20s())));
}

TEST_CASE("Blocks that nothing lists are collected without a trace, all others stay", "[collector]") {
  Bench bench;
  const std::string replaced = Content(1), current = Content(2), kept = Content(3), orphans = Content(4);
  bench.SaveState("1", 0, replaced);
  bench.SaveState("1", 1, current);
  bench.AddSnapshot(7, kept);
  bench.StoreOrphans(orphans);
  REQUIRE(bench.Keys().size() == 12);
  const Collection collected = Must(bench.Collect());
  CHECK(collected.candidates == 12);
  CHECK(collected.lists == 2);
  CHECK(collected.collected == 6);
  CHECK(collected.collected_bytes == 2 * kLarge);
  CHECK(bench.Has(current));
  CHECK(bench.Has(kept));
  CHECK(bench.Keys().size() == 6);
  CHECK(bench.Messages("KV_cim-blocks") == 6);  // No markers.
  CHECK((bench.LoadedState("1") == current));
  CHECK((bench.SnapshotAt(7) == kept));
  CHECK(Must(bench.Collect()).collected == 0);
  // What was collected can be stored again.
  bench.SaveState("2", 0, orphans);
  CHECK((bench.LoadedState("2") == orphans));
}

TEST_CASE("A block goes when the last of those that list it does", "[collector]") {
  Bench bench;
  const std::string shared = Content(1);
  bench.SaveState("1", 0, shared);
  bench.SaveState("2", 0, shared);
  bench.AddSnapshot(3, shared);
  bench.SaveState("1", 1, "small");
  CHECK(Must(bench.Collect()).collected == 0);
  bench.SaveState("2", 1, "small");
  CHECK(Must(bench.Collect()).collected == 0);
  CHECK((bench.SnapshotAt(3) == shared));
  Drop(bench.snapshots, 3);
  CHECK(Must(bench.Collect()).collected == 3);
  CHECK(bench.Messages("KV_cim-blocks") == 0);
}

TEST_CASE("Young blocks stay, and where all are young nothing is read", "[collector]") {
  Bench bench;
  CHECK(Must(bench.Collect()).candidates == 0);
  CHECK_FALSE(Must(base::BlockOn(bench.block_bucket.Exists(Bench::In20s()))));
  bench.StoreOrphans(Content(1));
  BlockCollectorOptions options = AtOnce();
  options.min_age = BlockCollector::kLeastAge;
  bool marked = false;
  options.on_marked = [&] { marked = true; };
  CHECK(Must(bench.Collect(std::move(options))).candidates == 0);
  CHECK_FALSE(marked);
  CHECK(bench.Keys().size() == 3);
}

TEST_CASE("A block that is listed anew between mark and sweep stays", "[collector]") {
  Bench bench;
  const std::string content = Content(1);
  bench.SaveState("1", 0, "small");
  bench.StoreOrphans(content);
  bench.StoreOrphans(Content(2));
  BlockCollectorOptions options = AtOnce();
  options.on_marked = [&] { bench.AddSnapshot(5, content); };
  const Collection collected = Must(bench.Collect(std::move(options)));
  CHECK(collected.candidates == 6);
  CHECK(collected.collected == 3);
  CHECK((bench.SnapshotAt(5) == content));
  // Of them only what nobody had written again.
  CHECK_FALSE(bench.Has(Content(2)));
}

TEST_CASE("A list that cannot be read stops the run", "[collector]") {
  const bool is_state = GENERATE(true, false);
  Bench bench;
  bench.SaveState("1", 0, "small");
  bench.StoreOrphans(Content(1));
  Headers headers;
  std::string body = "{\"chunks\":[\"bafk\"]}";
  SECTION("damaged") {
    headers.Add("ce-persistd", "1");
    headers.Add("ce-chunkedsize", "1000000");
  }
  SECTION("without its marker") { headers.Add("ce-chunkedsize", "1000000"); }
  SECTION("of a later version") {
    headers.Add("ce-persistd", "2");
    body = "{}";
  }
  if (!is_state) bench.AddSnapshot(1, "small");
  const std::string subject = is_state ? "cim.aggregates.sales.order.9.state.v1" : "$KV.cim-snapshots.sales/order.9.1";
  bench.Publish(subject, std::move(headers), std::move(body));
  const absl::Status status = bench.Collect().status();
  CHECK(absl::IsDataLoss(status));
  INFO(status.ToString());
  const char* stream = is_state ? "stream CIM-AGGREGATES+sales+order" : "stream KV_cim-snapshots";
  CHECK(absl::StrContains(status.message(), stream));
  CHECK(absl::StrContains(status.message(), is_state ? "message 2" : "message 3"));
  CHECK(bench.Keys().size() == 3);
}

TEST_CASE("Messages that are no lists do not matter", "[collector]") {
  Bench bench;
  bench.SaveState("1", 0, "small");
  bench.StoreOrphans(Content(1));
  bench.Publish("cim.aggregates.sales.order.9.state.v1", Headers(), "not ours");
  Must(base::BlockOn(bench.block_bucket.Put("no-cid", "x", Bench::In20s())));
  Must(base::BlockOn(bench.block_bucket.Purge(*KeysOf(Content(1)).begin(), std::nullopt, Bench::In20s())));
  CHECK(Must(bench.Collect()).collected == 2);
}

TEST_CASE("Without streams that could list blocks none are collected", "[collector]") {
  Bench bench;
  bench.StoreOrphans(Content(1));
  CHECK(absl::IsFailedPrecondition(bench.Collect().status()));
  CHECK(bench.Keys().size() == 3);
}

TEST_CASE("Nothing is collected while a stream is missing that could list blocks before", "[collector]") {
  Bench bench;
  bench.SaveState("1", 0, Content(1));
  bench.StoreOrphans(Content(2));
  CHECK(Must(bench.Collect()).collected == 3);
  bench.StoreOrphans(Content(3));
  // Another type's, so that there is still one to read.
  SaveCommand other = Command({.context = "sales", .aggregate = "cart", .entity_id = "1"}, 0);
  other.state.emplace();
  other.state->payload = {.content_type = "application/json", .data = "{}"};
  Must(bench.daemon.Save(std::move(other)));
  const auto removed = Must(base::BlockOn(jetstream::CallApi(
      bench.daemon.writes(), "$JS.API.STREAM.DELETE.CIM-AGGREGATES+sales+order", "", Bench::In20s())));
  REQUIRE_FALSE(removed.error.has_value());
  const absl::Status missing = bench.Collect().status();
  CHECK(absl::IsFailedPrecondition(missing));
  CHECK(absl::StrContains(missing.message(), "CIM-AGGREGATES+sales+order"));
  CHECK(bench.Has(Content(1)));
  CHECK(bench.Has(Content(3)));

  // Who has removed it on purpose says so.
  jetstream::Kv control({.bucket = "cim-control"}, &bench.daemon.writes(), &bench.daemon.writes(),
                        &bench.daemon.executor());
  Must(base::BlockOn(control.Delete("blocks.listing_streams", std::nullopt, Bench::In20s())));
  CHECK(Must(bench.Collect()).collected == 6);
}

TEST_CASE("Collectors that run at once remove each block once", "[collector]") {
  Bench bench;
  TestRepository other(bench.nats->url());
  bench.SaveState("1", 0, Content(1));
  for (uint32_t seed = 10; seed < 20; ++seed) bench.StoreOrphans(Content(seed));
  std::atomic<uint64_t> collected = 0;
  const auto collect = [&](TestRepository& daemon) {
    BlockCollector collector(AtOnce(), &daemon.writes(), &daemon.writes(), &daemon.executor());
    collected += Must(collector.Run()).collected;
  };
  std::thread first([&] { collect(bench.daemon); });
  std::thread second([&] { collect(other); });
  first.join();
  second.join();
  CHECK(collected == 30);
  CHECK(bench.Keys() == KeysOf(Content(1)));
  CHECK((bench.LoadedState("1") == Content(1)));
}

TEST_CASE("Blocks of users stay, also those that are chunks as well", "[collector]") {
  Bench bench;
  bench.SaveState("1", 0, "small");
  const std::string users = "a user's block", users_first = Content(1, 600'000), chunk_first = Content(2, 600'000);
  // How many of its blocks were there.
  const auto put = [&](const std::string& content) {
    int existed = 0;
    for (size_t at = 0; at < content.size(); at += domain::kChunkBytes) {
      const std::string bytes = content.substr(at, domain::kChunkBytes);
      BlockStore& store = *bench.daemon.repository().blocks();
      if (Must(base::BlockOn(store.Put(ipld::RawCid(bytes), bytes, Bench::In20s())))) ++existed;
    }
    return existed;
  };
  CHECK(put(users) == 0);
  CHECK(put(users_first) == 0);
  const uint64_t revision = bench.Stored(*KeysOf(users_first).begin()).revision;
  bench.StoreOrphans(users_first);
  CHECK(bench.Stored(*KeysOf(users_first).begin()).revision == revision);
  CHECK(put(users_first) == 2);
  CHECK(bench.Stored(*KeysOf(users_first).begin()).revision == revision);
  bench.StoreOrphans(chunk_first);
  CHECK(put(chunk_first) == 2);
  CHECK(bench.Stored(*KeysOf(chunk_first).begin()).headers.Find(kChunkHeader) == nullptr);
  bench.StoreOrphans(Content(3));
  CHECK(Must(bench.Collect()).collected == 3);
  CHECK(bench.Has(users));
  CHECK(bench.Has(users_first));
  CHECK(bench.Has(chunk_first));
  // One that is damaged was not there.
  Must(base::BlockOn(bench.block_bucket.Put(*KeysOf(users).begin(), "damaged", Bench::In20s())));
  CHECK(put(users) == 0);
  CHECK(put(users) == 1);
  // Mended, a user's block is still one.
  const std::string key = *KeysOf(users_first).begin();
  Must(base::BlockOn(bench.block_bucket.Put(key, "damaged", Bench::In20s())));
  bench.StoreOrphans(users_first);
  CHECK(bench.Stored(key).headers.Find(kChunkHeader) == nullptr);
  CHECK(ipld::RawCid(bench.Stored(key).value).ToString() == key);
}

TEST_CASE("A user's block that is stored while the collector is at its chunk stays, and is stored once",
          "[collector]") {
  Bench bench;
  TestRepository other(bench.nats->url());
  bench.SaveState("1", 0, "small");
  const std::string bytes = Content(1, 1000);
  const ipld::Cid cid = ipld::RawCid(bytes);
  const auto put = [&](TestRepository& daemon) {
    return Must(base::BlockOn(daemon.repository().blocks()->Put(cid, bytes, Bench::In20s())));
  };
  BlockCollectorOptions options = AtOnce();
  SECTION("before the sweep") {
    bench.StoreOrphans(bytes);
    options.on_marked = [&] { CHECK(put(other)); };
    CHECK(Must(bench.Collect(std::move(options))).collected == 0);
  }
  SECTION("by two daemons and a collector, all at once") {
    std::atomic<int> made = 0;
    for (int round = 0; round < 20; ++round) {
      bench.StoreOrphans(bytes);
      std::thread collector([&] { Must(bench.Collect()); });
      std::thread first([&] { made += put(other) ? 0 : 1; });
      made += put(bench.daemon) ? 0 : 1;
      first.join();
      collector.join();
      CHECK(made <= 1);  // Once where the chunk went first, never where it did not.
      CHECK(bench.Stored(cid.ToString()).headers.Find(kChunkHeader) == nullptr);
      CHECK(Must(bench.Collect()).collected == 0);
      CHECK(put(other));
      Must(base::BlockOn(
          bench.block_bucket.Erase(cid.ToString(), bench.Stored(cid.ToString()).revision, Bench::In20s())));
      made = 0;
    }
  }
}

TEST_CASE("Chunks of snapshots in a bucket of another name stay", "[collector]") {
  Bench bench;
  const std::string shared = Content(1), own = Content(2);
  jetstream::Kv bucket({.bucket = "others"}, &bench.daemon.writes(), &bench.daemon.writes(), &bench.daemon.executor());
  Blocks blocks(&bench.block_bucket, {.snapshot_bucket = "others"});
  SnapshotStore store(&bucket, &blocks, &bench.daemon.writes(), &bench.daemon.executor(), &base::Clock::System());
  bench.AddSnapshot(1, shared);
  Must(base::BlockOn(store.Add(bench.Record(1, shared), 0, Bench::In20s())));
  Must(base::BlockOn(store.Add(bench.Record(2, own), 0, Bench::In20s())));
  CHECK(*bench.Stored(*KeysOf(shared).begin()).headers.Find(kChunkHeader) == "cim-snapshots,others");
  Drop(bench.snapshots, 1);
  CHECK(Must(bench.Collect()).collected == 0);
  for (const uint64_t version : {1, 2}) {
    const auto found = Must(base::BlockOn(store.Latest(Order("snap"), version, Bench::In20s())));
    REQUIRE(found.has_value());
    CHECK((found->payload.data == (version == 1 ? shared : own)));
  }
  Drop(store, 1);
  CHECK(Must(bench.Collect()).collected == 3);
}

TEST_CASE("More candidates than fit into memory are collected in rounds", "[collector]") {
  Bench bench;
  bench.StoreOrphans(Content(1));
  bench.SaveState("1", 0, Content(2));
  bench.StoreOrphans(Content(3));
  BlockCollectorOptions options = AtOnce();
  options.max_candidates = 2;
  int rounds = 0;
  options.on_marked = [&] { ++rounds; };
  const Collection collected = Must(bench.Collect(std::move(options)));
  CHECK(collected.candidates == 9);
  CHECK(collected.collected == 6);
  CHECK(rounds == 5);
  CHECK((bench.LoadedState("1") == Content(2)));
}

TEST_CASE("A run that is cancelled removes nothing more", "[collector]") {
  Bench bench;
  bench.SaveState("1", 0, "small");
  bench.StoreOrphans(Content(1));
  BlockCollectorOptions options = AtOnce();
  options.grace = 1h;
  std::function<void()> cancel;
  options.on_marked = [&] { cancel(); };
  BlockCollector collector(options, &bench.daemon.writes(), &bench.daemon.writes(), &bench.daemon.executor());
  cancel = [&] { collector.Cancel(); };
  CHECK(absl::IsCancelled(collector.Run().status()));
  CHECK(absl::IsCancelled(collector.Run().status()));
  CHECK(bench.Keys().size() == 3);
}

TEST_CASE("A block that is no longer young is written again when it is listed", "[collector]") {
  MovedClock clock;
  Bench bench({.clock = &clock});
  const std::string content = Content(1);
  const std::string key = *KeysOf(content).begin();
  bench.StoreOrphans(content);
  const KvEntry first = bench.Stored(key);
  CHECK(*first.headers.Find(kChunkHeader) == "cim-snapshots");
  clock.Advance(59min);
  bench.StoreOrphans(content);
  CHECK(bench.Stored(key).revision == first.revision);
  clock.Advance(2min);
  bench.StoreOrphans(content);
  const KvEntry again = bench.Stored(key);
  CHECK(again.revision > first.revision);
  CHECK(again.time > first.time);
  CHECK(*again.headers.Find(kChunkHeader) == "cim-snapshots");
  // A removal of what was seen before leaves it.
  CHECK(Must(base::BlockOn(bench.block_bucket.EraseCounted(key, first.revision, Bench::In20s()))) == 0);
  CHECK(bench.Stored(key).revision == again.revision);
  // A clock that is behind says nothing about the age.
  clock.Advance(-24h);
  bench.StoreOrphans(content);
  CHECK(bench.Stored(key).revision > again.revision);
}

TEST_CASE("A list that takes long has its blocks looked after", "[collector]") {
  MovedClock clock;
  Bench bench({.clock = &clock});
  domain::StateRecord state = bench.Record(1, Content(1));
  Blocks::Spilled spilled = Must(base::BlockOn(bench.blocks.Spill(state, Bench::In20s())));
  REQUIRE(state.chunks.has_value());
  CHECK(state.payload.data.empty());
  const std::string gone = state.chunks->cids[1];
  const auto erase = [&] { Must(base::BlockOn(bench.block_bucket.EraseCounted(gone, 1'000'000, Bench::In20s()))); };
  erase();
  clock.Advance(9min);
  Must(base::BlockOn(bench.blocks.Renew(spilled, Bench::In20s())));
  CHECK_FALSE(bench.Keys().contains(gone));  // It cannot be gone after so short a time.
  clock.Advance(2min);
  Must(base::BlockOn(bench.blocks.Renew(spilled, Bench::In20s())));
  CHECK(bench.Keys().contains(gone));
  // From then on anew.
  erase();
  clock.Advance(9min);
  Must(base::BlockOn(bench.blocks.Renew(spilled, Bench::In20s())));
  CHECK_FALSE(bench.Keys().contains(gone));
  // What fits into a message needs nothing.
  domain::StateRecord small = bench.Record(2, "small");
  Blocks::Spilled none = Must(base::BlockOn(bench.blocks.Spill(small, Bench::In20s())));
  CHECK_FALSE(none.any());
  CHECK(small.payload.data == "small");
}

TEST_CASE("Snapshots that come and go while blocks are collected stay whole", "[collector]") {
  // Short times in the proportions of the long ones. However slow this machine is, Renew must make up for it.
  Bench bench({.young = 300ms, .renew_after = 500ms});
  bench.SaveState("1", 0, "small");
  BlockCollectorOptions options;
  options.min_age = 1500ms;
  options.grace = 0ms;
  std::atomic<bool> stop = false;
  std::atomic<uint64_t> collected = 0;
  std::atomic<int> runs = 0;
  std::thread collecting([&] {
    while (!stop) {
      const absl::StatusOr<Collection> run = bench.Collect(options);
      if (run.ok()) {
        collected += run->collected;
        ++runs;
      }
    }
  });
  // Four contents that are listed and dropped over and over, so that old blocks are listed anew all the time.
  uint64_t version = 0;
  const base::SteadyTime end = TestRepository::In(12s);
  int broken = 0;
  while (base::Clock::System().SteadyNow() < end) {
    const auto seed = static_cast<uint32_t>(version % 4);
    bench.AddSnapshot(++version, Content(seed));
    if ((bench.SnapshotAt(version) != Content(seed))) ++broken;
    if (version > 2) Drop(bench.snapshots, version - 2);
    std::this_thread::sleep_for(100ms * (version % 7));
    if (version > 1 && (bench.SnapshotAt(version - 1) != Content(static_cast<uint32_t>((version - 2) % 4)))) ++broken;
    if ((bench.SnapshotAt(version) != Content(seed))) ++broken;
  }
  stop = true;
  collecting.join();
  CHECK(broken == 0);
  CHECK(runs > 5);
  CHECK(collected > 0);
}

}  // namespace
}  // namespace persistd::repository
