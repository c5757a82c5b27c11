#include "server/jetstream/kv.h"

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "cim/persistence/v1/errors.pb.h"
#include "server/domain/errors.h"
#include "tests/server/jetstream/live.h"
#include "tests/testing/catch.h"
#include "tests/testing/must.h"
#include "tests/testing/nats_server.h"
#include "tests/testing/poll.h"
#include "tests/testing/tcp_proxy.h"

namespace persistd::jetstream {
namespace {

namespace pb = cim::persistence::v1;
using ::persistd::testing::Must;
using ::persistd::testing::NatsServer;
using ::persistd::testing::TcpProxy;
using std::chrono_literals::operator""ms;

KvOptions Bucket(int history = 1) {
  KvOptions options;
  options.bucket = "things";
  options.history = history;
  return options;
}

template <typename T>
T Run(base::Task<T> task) {
  return base::BlockOn(std::move(task));
}

struct Bench {
  explicit Bench(KvOptions options = Bucket())
      : nats(Must(NatsServer::Start({}))),
        live(To(nats->url())),
        kv(std::move(options), &live.connection(), &live.connection(), &live.executor()) {
    REQUIRE(live.WaitUntilUp());
  }

  std::optional<KvEntry> Get(const std::string& key, ReadFrom from = ReadFrom::kLeader) {
    return Must(Run(kv.Get(key, from, In(kPatience))));
  }
  uint64_t Put(const std::string& key, const std::string& value) {
    return Must(Run(kv.Put(key, value, In(kPatience))));
  }
  std::vector<std::string> Keys(const std::string& prefix, size_t page_size = 1000) {
    std::vector<std::string> keys;
    std::string after;
    do {
      const KvPage page = Must(Run(kv.List(prefix, after, page_size, 1 << 20, In(kPatience))));
      REQUIRE(page.entries.size() <= page_size);
      for (const KvEntry& entry : page.entries) {
        REQUIRE(entry.value == absl::StrCat("value of ", entry.key));
        keys.push_back(entry.key);
      }
      after = page.next;
    } while (!after.empty());
    return keys;
  }

  std::unique_ptr<NatsServer> nats;
  Live live;
  Kv kv;
};

TEST_CASE("A bucket is made by the first write, as NATS's tools know one", "[kv]") {
  KvOptions options = Bucket(5);
  options.max_bytes = 1 << 20;
  options.ttl = std::chrono::hours(1);
  Bench bench(options);
  CHECK_FALSE(Must(Run(bench.kv.Exists(In(kPatience)))));
  CHECK_FALSE(bench.Get("a").has_value());
  CHECK(bench.Keys("").empty());
  REQUIRE(bench.Put("a", "1") == 1);

  const nlohmann::json config = ObjectField(bench.live.Api("STREAM.INFO.KV_things").body, "config");
  CHECK(config["subjects"] == nlohmann::json::array({"$KV.things.>"}));
  CHECK(config["max_msgs_per_subject"] == 5);
  CHECK(config["discard"] == "new");
  CHECK(config["max_bytes"] == 1 << 20);
  CHECK(config["max_age"] == 3'600'000'000'000);
  for (const char* flag : {"allow_rollup_hdrs", "deny_delete", "allow_direct", "allow_atomic", "allow_msg_ttl"}) {
    INFO(flag);
    CHECK(BoolField(config, flag));
  }
}

TEST_CASE("A value is read back with its revision and headers, until it is deleted", "[kv]") {
  Bench bench(Bucket(10));
  Headers headers;
  headers.Add("ce-about", "x");
  const uint64_t first = Must(Run(bench.kv.Put("a.b=2F/c_-1", std::string("bytes\0\r\n", 8), In(kPatience), headers)));
  for (const ReadFrom from : {ReadFrom::kAnyReplica, ReadFrom::kLeader}) {
    const std::optional<KvEntry> entry = bench.Get("a.b=2F/c_-1", from);
    REQUIRE(entry.has_value());
    CHECK(entry->key == "a.b=2F/c_-1");
    CHECK(entry->value == std::string("bytes\0\r\n", 8));
    CHECK(entry->revision == first);
    REQUIRE(entry->headers.Find("ce-about") != nullptr);
    CHECK(*entry->headers.Find("ce-about") == "x");
    CHECK(entry->time > base::WallTime());
  }
  CHECK(bench.Put("a.b=2F/c_-1", "2") > first);
  REQUIRE(bench.Get("a.b=2F/c_-1")->value == "2");

  const uint64_t gone = Must(Run(bench.kv.Delete("a.b=2F/c_-1", std::nullopt, In(kPatience))));
  CHECK_FALSE(bench.Get("a.b=2F/c_-1").has_value());
  const std::optional<KvEntry> marker = Must(Run(bench.kv.Last("a.b=2F/c_-1", ReadFrom::kLeader, In(kPatience))));
  REQUIRE(marker.has_value());
  CHECK(marker->revision == gone);
  CHECK(marker->operation == KvEntry::Operation::kDelete);
  CHECK(bench.live.CountMessages("KV_things") == 3);
  Must(Run(bench.kv.Purge("a.b=2F/c_-1", gone, In(kPatience))));
  CHECK(bench.live.CountMessages("KV_things") == 1);
}

TEST_CASE("A write that expects another revision is refused and changes nothing", "[kv]") {
  Bench bench;
  const uint64_t one = Must(Run(bench.kv.Create("k", "1", In(kPatience))));
  CHECK(absl::IsAborted(Run(bench.kv.Create("k", "2", In(kPatience))).status()));
  CHECK(absl::IsAborted(Run(bench.kv.Create("k", "1", In(kPatience))).status()));  // The same value, but not by it.
  CHECK(absl::IsAborted(Run(bench.kv.Update("k", "2", one + 1, In(kPatience))).status()));
  CHECK(absl::IsAborted(Run(bench.kv.Update("other", "2", one, In(kPatience))).status()));
  CHECK(absl::IsAborted(Run(bench.kv.Delete("k", one + 1, In(kPatience))).status()));
  CHECK(absl::IsAborted(Run(bench.kv.Purge("k", one + 1, In(kPatience))).status()));
  CHECK(bench.Get("k")->value == "1");
  const uint64_t two = Must(Run(bench.kv.Update("k", "2", one, In(kPatience))));
  CHECK(bench.Get("k")->revision == two);
  Must(Run(bench.kv.Delete("k", two, In(kPatience))));
  Must(Run(bench.kv.Create("k", "3", In(kPatience))));  // Over the marker.
  CHECK(bench.Get("k")->value == "3");
}

TEST_CASE("Of several creators of a bucket and a key one wins", "[kv]") {
  Bench bench;
  Kv other(Bucket(), &bench.live.connection(), &bench.live.connection(), &bench.live.executor());
  base::Promise<absl::StatusOr<uint64_t>> done;
  const auto create = [&](Kv& kv, std::string value) -> base::Task<void> {
    done.TrySet(co_await kv.Create("k", std::move(value), In(kPatience)));
  };
  base::Spawn(create(other, "b"));
  const absl::StatusOr<uint64_t> mine = Run(bench.kv.Create("k", "a", In(kPatience)));
  const absl::StatusOr<uint64_t> theirs = Await(done.future());
  CHECK(mine.ok() != theirs.ok());
  CHECK(absl::IsAborted(mine.ok() ? theirs.status() : mine.status()));
  CHECK(bench.Get("k")->value == (mine.ok() ? "a" : "b"));
}

TEST_CASE("Erased values leave nothing behind, and later ones stay", "[kv]") {
  Bench bench;
  const uint64_t first = bench.Put("k", "1");
  bench.Put("k.sub", "value");
  const uint64_t second = bench.Put("k", "2");
  Must(Run(bench.kv.Erase("k", first, In(kPatience))));
  CHECK(bench.Get("k")->value == "2");  // Written since.
  Must(Run(bench.kv.Erase("k", second, In(kPatience))));
  CHECK_FALSE(Must(Run(bench.kv.Last("k", ReadFrom::kLeader, In(kPatience)))).has_value());
  CHECK(bench.Get("k.sub")->value == "value");
  CHECK(bench.live.CountMessages("KV_things") == 1);
  Must(Run(bench.kv.Create("k", "3", In(kPatience))));
}

TEST_CASE("Lists come in pages, by whole tokens, without what was deleted", "[kv]") {
  Bench bench;
  std::vector<std::string> wanted;
  for (int i = 0; i < 100; ++i) {
    const std::string key = absl::StrCat(i % 2 == 0 ? "even." : "odd.", "k", 1000 + i);
    bench.Put(key, absl::StrCat("value of ", key));
    if (i % 2 == 0 && i % 3 != 0) wanted.push_back(key);
    if (i % 3 == 0) Must(Run(bench.kv.Delete(key, std::nullopt, In(kPatience))));
  }
  bench.Put("even", "not below even");
  bench.Put("evening.k", "another token");
  for (const size_t page_size : {1, 7, 32, 33, 1000}) {
    INFO(page_size);
    CHECK(bench.Keys("even", page_size) == wanted);
  }
  CHECK(bench.Keys("no").empty());
  CHECK(bench.Keys("odd").size() == 33);
  // A page also ends by its bytes.
  const KvPage page = Must(Run(bench.kv.List("even", "", 1000, 1, In(kPatience))));
  CHECK(page.entries.size() == 1);
  CHECK(page.next == page.entries.back().key);
}

TEST_CASE("A page ends with the entry that reaches its bytes", "[kv]") {
  Bench bench;
  for (int i = 0; i < 9; ++i) bench.Put(absl::StrCat("k", i), std::string(1000, 'x'));
  Kv::KeyFilter filter;
  filter.prefix = "k";
  std::vector<size_t> sizes;
  std::string after;
  do {
    const KvPage page = Must(Run(bench.kv.ListMatching(filter, after, 1000, 3500, In(kPatience))));
    sizes.push_back(page.entries.size());
    after = page.next;
  } while (!after.empty());
  CHECK(sizes == std::vector<size_t>{4, 4, 1});
}

TEST_CASE("A list over many deleted keys answers with empty pages, and comes to its end", "[kv]") {
  Bench bench;
  constexpr int kDeleted = 600;
  for (int begin = 0; begin < kDeleted; begin += 300) {
    std::vector<KvWrite> writes;
    for (int i = 0; i < 300; ++i) {
      KvWrite write;
      write.key = absl::StrCat("k.", 1000 + begin + i);
      write.operation = KvEntry::Operation::kDelete;
      write.headers.Add("KV-Operation", "DEL");
      writes.push_back(std::move(write));
    }
    Must(Run(bench.kv.WriteAll(std::move(writes), In(kPatience))));
  }
  bench.Put("k.9999", "value of k.9999");
  const KvPage first = Must(Run(bench.kv.List("k", "", 1, 1 << 20, In(kPatience))));
  CHECK(first.entries.empty());
  CHECK_FALSE(first.next.empty());
  CHECK(bench.Keys("k", 1) == std::vector<std::string>{"k.9999"});
}

TEST_CASE("Keys that NATS or other tools would not take are refused", "[kv]") {
  for (const char* key :
       {"", ".", "a.", ".a", "a..b", "a b", "a*", "a.>", "a\r\nPUB x", "_kv", "_kvx.a", "\xC3\xA9", "a:b"}) {
    INFO(key);
    CHECK_FALSE(IsKvKey(key));
  }
  CHECK_FALSE(IsKvKey(std::string(1025, 'a')));
  CHECK(IsKvKey("sales/order.A=2F1.7"));
  Bench bench;
  CHECK(domain::HasReason(Run(bench.kv.Put("a b", "", In(kPatience))).status(), pb::ERROR_REASON_INTERNAL));
}

TEST_CASE("Buckets whose values could vanish are refused with what is wrong", "[kv]") {
  const auto good = [] {
    return nlohmann::json{{"name", "KV_things"},   {"subjects", nlohmann::json::array({"$KV.things.>"})},
                          {"retention", "limits"}, {"storage", "file"},
                          {"discard", "new"},      {"max_msgs_per_subject", 1},
                          {"allow_direct", true},  {"allow_rollup_hdrs", true},
                          {"num_replicas", 1}};
  };
  // As it comes from the server: nlohmann tells numbers that were parsed from those that were not.
  const auto wrong_of = [](const nlohmann::json& config, const KvOptions& options) {
    return BucketUnsuitableBecause(nlohmann::json::parse(config.dump()), options);
  };
  REQUIRE(wrong_of(good(), Bucket()).empty());
  const std::vector<std::pair<nlohmann::json, std::string>> cases = {
      {{{"subjects", nlohmann::json::array({"$KV.other.>"})}}, "subjects must be $KV.things.>"},
      {{{"retention", "interest"}}, "retention must be limits"},
      {{{"storage", "memory"}}, "storage must be file"},
      {{{"discard", "old"}}, "discard must be new"},
      {{{"max_msgs_per_subject", -1}}, "max_msgs_per_subject must be 1 to 64"},
      {{{"max_age", 1000}}, "max_age must be unset"},
      {{{"allow_rollup_hdrs", false}}, "allow_rollup_hdrs must be on"},
      {{{"allow_direct", false}}, "allow_direct must be on"},
      {{{"deny_purge", true}}, "deny_purge must be off"},
      {{{"discard_new_per_subject", true}}, "discard_new_per_subject must be off"},
      {{{"sealed", true}}, "it must not be sealed"},
      {{{"no_ack", true}}, "no_ack must be off"},
      {{{"allow_msg_counter", true}}, "it must not hold counters"},
      {{{"persist_mode", "async"}}, "persist_mode must not be async"},
      {{{"mirror", {{"name", "x"}}}}, "it must be neither a mirror"},
      {{{"sources", {{{"name", "x"}}}}}, "it must be neither a mirror"},
      {{{"subject_transform", {{"src", ">"}}}}, "it must not transform subjects"},
  };
  for (const auto& [change, wrong] : cases) {
    nlohmann::json config = good();
    config.update(change);
    INFO(change.dump());
    CHECK(absl::StrContains(wrong_of(config, Bucket()), wrong));
  }
  KvOptions needy = Bucket();
  needy.batches = true;
  needy.entry_ttl = true;
  CHECK(wrong_of(good(), needy) == "allow_atomic must be on; allow_msg_ttl must be on");
  KvOptions loose = Bucket();
  loose.storage = "memory";
  loose.ttl = std::chrono::seconds(1);
  nlohmann::json config = good();
  config.update({{"storage", "memory"}, {"max_age", 1000}});
  CHECK(wrong_of(config, loose).empty());

  Bench bench;
  nlohmann::json aging = good();
  aging["max_age"] = 3'600'000'000'000;
  bench.live.MakeStream(aging);
  const absl::Status status = Run(bench.kv.Put("k", "v", In(kPatience))).status();
  CHECK(domain::HasReason(status, pb::ERROR_REASON_STORAGE_UNSUITABLE));
  CHECK(absl::StrContains(status.message(), "max_age must be unset"));
  CHECK(domain::HasReason(Run(bench.kv.Get("k", ReadFrom::kLeader, In(kPatience))).status(),
                          pb::ERROR_REASON_STORAGE_UNSUITABLE));
}

TEST_CASE("A bucket that is full, or removed, says so or is made again", "[kv]") {
  KvOptions options = Bucket();
  options.max_bytes = 1024;
  Bench bench(options);
  bench.Put("k", "small");
  const absl::Status full = Run(bench.kv.Put("big", std::string(2048, 'x'), In(kPatience))).status();
  CHECK(domain::HasReason(full, pb::ERROR_REASON_STORAGE_FULL));
  const absl::Status huge = Run(bench.kv.Put("huge", std::string(2 << 20, 'x'), In(kPatience))).status();
  CHECK(domain::HasReason(huge, pb::ERROR_REASON_STORAGE_UNSUITABLE));
  bench.live.Api("STREAM.DELETE.KV_things");
  CHECK(bench.Put("k", "again") == 1);
  CHECK(bench.Get("k")->value == "again");
}

TEST_CASE("A bucket that another stream's subjects overlap cannot be made", "[kv]") {
  Bench bench;
  bench.live.MakeStream({{"name", "X"}, {"subjects", nlohmann::json::array({"$KV.*.k"})}});
  CHECK(domain::HasReason(Run(bench.kv.Put("k", "v", In(kPatience))).status(), pb::ERROR_REASON_STORAGE_UNSUITABLE));
}

TEST_CASE("A write whose answers are lost is settled, and applied once", "[kv]") {
  auto nats = Must(NatsServer::Start({}));
  auto proxy = Must(TcpProxy::Start(nats->port()));
  Live live(To(absl::StrCat("nats://127.0.0.1:", proxy->port())));
  REQUIRE(live.WaitUntilUp());
  Kv kv(Bucket(), &live.connection(), &live.connection(), &live.executor());
  const uint64_t first = Must(Run(kv.Put("k", "1", In(kPatience))));

  proxy->StrikeAt("settle-me", TcpProxy::Strike::kLoseAnswers);
  base::Promise<absl::StatusOr<uint64_t>> done;
  const auto update = [&]() -> base::Task<void> {
    done.TrySet(co_await kv.Update("k", "settle-me", first, In(kPatience)));
  };
  base::Spawn(update());
  REQUIRE(proxy->WaitForStrike(kPatience));
  proxy->CutStruck();
  const absl::StatusOr<uint64_t> settled = Await(done.future());
  INFO(settled.status());
  REQUIRE(settled.ok());
  CHECK(*settled == first + 1);
  const std::optional<KvEntry> entry = Must(Run(kv.Get("k", ReadFrom::kLeader, In(kPatience))));
  CHECK(entry->revision == *settled);
  CHECK(entry->value == "settle-me");
}

// A bucket behind a proxy that loses answers, and beside it.
struct Lossy {
  Lossy()
      : nats(Must(NatsServer::Start({}))),
        proxy(Must(TcpProxy::Start(nats->port()))),
        live(To(absl::StrCat("nats://127.0.0.1:", proxy->port()))),
        other_live(To(nats->url())),
        kv(Bucket(), &live.connection(), &live.connection(), &live.executor()),
        other(Bucket(), &other_live.connection(), &other_live.connection(), &other_live.executor()) {
    REQUIRE(live.WaitUntilUp());
    REQUIRE(other_live.WaitUntilUp());
  }

  // Writes these, whose answer is lost; `meanwhile` happens when the last of them is stored.
  absl::StatusOr<uint64_t> WriteAll(const std::vector<KvWrite>& writes, const std::function<void()>& meanwhile) {
    proxy->StrikeAt(writes.back().value, TcpProxy::Strike::kLoseAnswers);
    base::Promise<absl::StatusOr<uint64_t>> done;
    const auto write = [&]() -> base::Task<void> { done.TrySet(co_await kv.WriteAll(writes, In(kPatience))); };
    base::Spawn(write());
    REQUIRE(proxy->WaitForStrike(kPatience));
    REQUIRE(
        ::persistd::testing::PollUntil([&] { return ValueOf(writes.back().key) == writes.back().value; }, kPatience));
    meanwhile();
    proxy->CutStruck();
    return Await(done.future());
  }
  std::string ValueOf(const std::string& key) {
    const std::optional<KvEntry> entry = Must(Run(other.Get(key, ReadFrom::kLeader, In(kPatience))));
    return entry.has_value() ? entry->value : "";
  }

  std::unique_ptr<NatsServer> nats;
  std::unique_ptr<TcpProxy> proxy;
  Live live;
  Live other_live;
  Kv kv;
  Kv other;
};

KvWrite FirstOf(std::string key, std::string value) {
  KvWrite write;
  write.key = std::move(key);
  write.value = std::move(value);
  write.revision = 0;
  return write;
}

TEST_CASE("Several writes are stored together, in order, or none of them", "[kv]") {
  Bench bench;
  const uint64_t last = Must(Run(bench.kv.WriteAll({FirstOf("a", "1"), FirstOf("b", "2")}, In(kPatience))));
  CHECK(bench.Get("a")->revision == last - 1);
  CHECK(bench.Get("b")->revision == last);
  CHECK(absl::IsAborted(Run(bench.kv.WriteAll({FirstOf("c", "3"), FirstOf("b", "4")}, In(kPatience))).status()));
  CHECK_FALSE(bench.Get("c").has_value());
}

TEST_CASE("Several writes whose answer is lost are settled, and applied once", "[kv]") {
  Lossy lossy;
  const std::vector<KvWrite> writes = {FirstOf("a", "1"), FirstOf("b", "2"), FirstOf("c", "strike-here")};
  // That somebody writes over another than the last changes nothing.
  uint64_t over = 0;
  const uint64_t settled =
      Must(lossy.WriteAll(writes, [&] { over = Must(Run(lossy.other.Put("a", "over", In(kPatience)))); }));
  CHECK(settled == over - 1);
  CHECK(Must(Run(lossy.other.Get("c", ReadFrom::kLeader, In(kPatience))))->revision == settled);
  CHECK(lossy.ValueOf("a") == "over");
}

TEST_CASE("A write whose answer is lost and that is written over has an unknown outcome", "[kv]") {
  Lossy lossy;
  const absl::Status status =
      lossy.WriteAll({FirstOf("k", "strike-here")}, [&] { Must(Run(lossy.other.Put("k", "over", In(kPatience)))); })
          .status();
  INFO(status);
  CHECK(domain::HasReason(status, pb::ERROR_REASON_OUTCOME_UNKNOWN));
  CHECK(lossy.ValueOf("k") == "over");
}

TEST_CASE("A write that gets no answer in time says that its outcome is not known", "[kv]") {
  Bench bench;
  bench.Put("k", "1");
  bench.nats->Pause();
  const absl::Status status = Run(bench.kv.Put("k", "2", In(300ms))).status();
  bench.nats->Resume();
  CHECK(domain::HasReason(status, pb::ERROR_REASON_OUTCOME_UNKNOWN));
  bench.nats->Kill9();
  REQUIRE(bench.live.WaitUntilDown());
  CHECK(domain::HasReason(Run(bench.kv.Put("k", "3", In(300ms))).status(), pb::ERROR_REASON_NATS_UNAVAILABLE));
  CHECK(domain::HasReason(Run(bench.kv.Get("k", ReadFrom::kLeader, In(300ms))).status(),
                          pb::ERROR_REASON_NATS_UNAVAILABLE));
}

}  // namespace
}  // namespace persistd::jetstream
