#include "server/jetstream/kv_watch.h"

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/mutex.h"
#include "tests/server/jetstream/live.h"
#include "tests/testing/catch.h"
#include "tests/testing/must.h"
#include "tests/testing/nats_server.h"
#include "tests/testing/poll.h"

namespace persistd::jetstream {
namespace {

using ::persistd::testing::Must;
using ::persistd::testing::NatsServer;
using ::persistd::testing::PollUntil;

// Keeps the values that a watch tells of.
class Mirror final : public KvWatcher {
 public:
  void OnEntry(KvEntry entry) override {
    base::MutexLock lock(mutex_);
    // Later revisions of a key come later.
    ordered_ = ordered_ && entry.revision > revisions_[entry.key];
    revisions_[entry.key] = entry.revision;
    if (entry.operation == KvEntry::Operation::kDelete) {
      values_.erase(entry.key);
    } else {
      values_[entry.key] = entry.value;
    }
  }
  void OnCaughtUp() override {
    base::MutexLock lock(mutex_);
    ++caught_up_;
    first_ = caught_up_ == 1 ? values_ : first_;
  }
  void OnReset() override {
    base::MutexLock lock(mutex_);
    ++resets_;
    values_.clear();
    revisions_.clear();
  }

  [[nodiscard]] bool Becomes(const std::map<std::string, std::string>& values) {
    return PollUntil(
        [&] {
          base::MutexLock lock(mutex_);
          return caught_up_ > resets_ && values_ == values;
        },
        kPatience);
  }
  std::map<std::string, std::string> first() {
    base::MutexLock lock(mutex_);
    return first_;
  }
  int caught_up() {
    base::MutexLock lock(mutex_);
    return caught_up_;
  }
  bool ordered() {
    base::MutexLock lock(mutex_);
    return ordered_;
  }

 private:
  base::Mutex mutex_;
  std::map<std::string, std::string> values_ GUARDED_BY(mutex_);
  std::map<std::string, std::string> first_ GUARDED_BY(mutex_);
  std::map<std::string, uint64_t> revisions_ GUARDED_BY(mutex_);
  int caught_up_ GUARDED_BY(mutex_) = 0;
  int resets_ GUARDED_BY(mutex_) = 0;
  bool ordered_ GUARDED_BY(mutex_) = true;
};

struct Bench {
  Bench()
      : nats(Must(NatsServer::Start({}))),
        live(To(nats->url())),
        kv({.bucket = "things"}, &live.connection(), &live.connection(), &live.executor()),
        watch(&kv, &live.connection(), &live.executor(), &mirror) {
    REQUIRE(live.WaitUntilUp());
  }
  void Put(const std::string& key, const std::string& value) { Must(base::BlockOn(kv.Put(key, value, In(kPatience)))); }
  void Delete(const std::string& key) { Must(base::BlockOn(kv.Delete(key, std::nullopt, In(kPatience)))); }

  std::unique_ptr<NatsServer> nats;
  Live live;
  Kv kv;
  Mirror mirror;
  KvWatch watch;
};

TEST_CASE("A watch gives what is there, says so, then gives what changes", "[kv]") {
  Bench bench;
  std::map<std::string, std::string> values;
  for (int i = 0; i < 300; ++i) {
    values[absl::StrCat("k.", i)] = absl::StrCat("value ", i);
    bench.Put(absl::StrCat("k.", i), absl::StrCat("value ", i));
  }
  bench.Put("gone", "x");
  bench.Delete("gone");
  bench.watch.Start();
  REQUIRE(bench.mirror.Becomes(values));
  CHECK(bench.mirror.first() == values);
  bench.Put("k.7", "changed");
  bench.Put("new", "");
  bench.Delete("k.8");
  values["k.7"] = "changed";
  values["new"] = "";
  values.erase("k.8");
  REQUIRE(bench.mirror.Becomes(values));
  CHECK(bench.mirror.caught_up() == 1);
  // Values that are replaced faster than they are read.
  for (int i = 0; i < 200; ++i) bench.Put("fast", absl::StrCat(i));
  values["fast"] = "199";
  REQUIRE(bench.mirror.Becomes(values));
  CHECK(bench.mirror.ordered());
}

TEST_CASE("A watch of a bucket that is not there yet is caught up, and sees it come, go and come again", "[kv]") {
  Bench bench;
  bench.watch.Start();
  REQUIRE(bench.mirror.Becomes({}));
  bench.Put("a", "1");
  REQUIRE(bench.mirror.Becomes({{"a", "1"}}));
  bench.live.Api("STREAM.DELETE.KV_things");
  REQUIRE(bench.mirror.Becomes({}));
  bench.Put("b", "2");
  REQUIRE(bench.mirror.Becomes({{"b", "2"}}));
}

TEST_CASE("A watch goes on when NATS comes back, and stops while it is away", "[kv]") {
  Bench bench;
  bench.Put("a", "1");
  bench.watch.Start();
  REQUIRE(bench.mirror.Becomes({{"a", "1"}}));
  Must(bench.nats->Restart());
  REQUIRE(bench.live.WaitUntilUp(2));
  bench.Put("a", "2");
  bench.Put("b", "3");
  REQUIRE(bench.mirror.Becomes({{"a", "2"}, {"b", "3"}}));
  CHECK(bench.mirror.ordered());
  bench.nats->Kill9();
  REQUIRE(bench.live.WaitUntilDown());
  bench.watch.Stop();
  bench.watch.Stop();
}

}  // namespace
}  // namespace persistd::jetstream
