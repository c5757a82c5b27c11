#include <map>
#include <string>
#include <vector>

#include "server/base/clock.h"
#include "server/base/executor.h"
#include "server/base/status_macros.h"
#include "server/domain/errors.h"
#include "server/repository/aggregate_locks.h"
#include "server/repository/commit_window.h"
#include "server/repository/lru_cache.h"
#include "tests/testing/catch.h"
#include "tests/testing/must.h"
#include "tests/testing/properties.h"

namespace persistd::repository {
namespace {

using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""s;
using testing::Must;

domain::AggregateRef Ref(int id) { return {.context = "c", .aggregate = "a", .entity_id = std::to_string(id)}; }
base::WallTime At(int seconds) { return base::WallTime(std::chrono::seconds(seconds)); }

TEST_CASE("The cache forgets what was used longest ago, by entries and by bytes", "[caches]") {
  LruCache<int> cache({.max_entries = 3, .max_bytes = 100});
  for (int i = 1; i <= 3; ++i) cache.Put(Ref(i), i, 10);
  REQUIRE(cache.Get(Ref(1)) == 1);  // Used: 2 is the oldest now.
  cache.Put(Ref(4), 4, 10);
  REQUIRE(cache.size() == 3);
  REQUIRE_FALSE(cache.Get(Ref(2)).has_value());
  cache.Put(Ref(5), 5, 85);  // Room for one small one beside it.
  REQUIRE(cache.size() == 2);
  REQUIRE(cache.Get(Ref(4)) == 4);
  REQUIRE(cache.Get(Ref(5)) == 5);
  cache.Put(Ref(5), 6, 10);
  REQUIRE(cache.Get(Ref(5)) == 6);
  cache.Put(Ref(4), 7, 101);  // Too large to be kept, and what was there is out of date.
  REQUIRE_FALSE(cache.Get(Ref(4)).has_value());
  cache.Erase(Ref(5));
  REQUIRE(cache.size() == 0);
}

TEST_CASE("A window finds the saves it covers, and knows how far back they reach", "[caches]") {
  CommitWindow window = CommitWindow::After(10);
  REQUIRE(window.first_version() == 11);
  REQUIRE(window.last_version() == 10);
  REQUIRE_FALSE(window.CoversSince(At(0)));
  window.Append({.id_hash = 1, .last_version = 12, .recorded_time = At(100)});
  window.Append({.id_hash = 2, .last_version = 13, .recorded_time = At(200)});
  REQUIRE(window.Find(1, At(0)) == 12);
  REQUIRE(window.Find(2, At(200)) == 13);
  REQUIRE_FALSE(window.Find(1, At(101)).has_value());
  REQUIRE_FALSE(window.Find(3, At(0)).has_value());
  REQUIRE(window.CoversSince(At(101)));
  REQUIRE_FALSE(window.CoversSince(At(100)));  // A save of the same time may lie before it.
  window.Prepend({.id_hash = 3, .last_version = 10, .recorded_time = At(50)}, 1);
  REQUIRE(window.Find(3, At(0)) == 10);
  REQUIRE(window.CoversSince(At(0)));  // From the first version on.
}

TEST_CASE("A full window forgets its oldest saves and takes none before them", "[caches]") {
  CommitWindow window = CommitWindow::After(0);
  for (uint64_t i = 1; i <= CommitWindow::kMaxCommits + 5; ++i) {
    window.Append({.id_hash = i, .last_version = i, .recorded_time = At(i < 7 ? static_cast<int>(i) : 7)});
  }
  REQUIRE(window.full());
  REQUIRE(window.first_version() == 6);
  REQUIRE_FALSE(window.Find(5, At(0)).has_value());
  REQUIRE(window.Find(6, At(0)) == 6);
  window.Prepend({.id_hash = 5, .last_version = 5, .recorded_time = At(5)}, 5);
  REQUIRE(window.first_version() == 6);
  REQUIRE_FALSE(window.CoversSince(At(6)));
  REQUIRE(window.CoversSince(At(7)));
}

TEST_CASE("A window forgets old saves, but not those of the last thousand versions", "[caches]") {
  CommitWindow window = CommitWindow::After(0);
  for (uint64_t i = 1; i <= 3000; ++i) {
    window.Append({.id_hash = i, .last_version = i, .recorded_time = At(static_cast<int>(i * 60))});
  }
  REQUIRE(window.last_version() == 3000);
  REQUIRE(window.first_version() == 3000 - CommitWindow::kKeptVersions + 1);
  REQUIRE(window.Find(window.first_version(), At(0)) == window.first_version());
  REQUIRE_FALSE(window.Find(window.first_version() - 1, At(0)).has_value());
  for (uint64_t i = 1; i <= 3000; ++i) {  // Fifty a minute: fifteen minutes are kept.
    window.Append(
        {.id_hash = 3000 + i, .last_version = 3000 + i * 100, .recorded_time = At(180'000 + static_cast<int>(i))});
  }
  const base::WallTime oldest_needed = At(180'000 + 3000 - 15 * 60);
  REQUIRE(window.CoversSince(oldest_needed + 1s));
  REQUIRE_FALSE(window.CoversSince(oldest_needed - 10s));
}

TEST_CASE("A window agrees with a list of all saves", "[caches]") {
  struct Saved {
    uint64_t last_version;
    base::WallTime time;
  };
  testing::CheckProperty([](const std::vector<uint8_t>& steps) {
    std::map<uint64_t, Saved> all;  // By id.
    CommitWindow window = CommitWindow::After(0);
    uint64_t version = 0;
    int now = 0;
    for (const uint8_t step : steps) {
      version += 1 + step % 3;
      now += step % 5 / 2;
      const uint64_t id = all.size() + 1;
      all[id] = {.last_version = version, .time = At(now)};
      window.Append({.id_hash = id, .last_version = version, .recorded_time = At(now)});
      for (const auto& [known, saved] : all) {
        for (int since = 0; since <= now; ++since) {
          const bool in_time = saved.time >= At(since);
          RC_ASSERT(window.Find(known, At(since)) == (in_time ? std::optional(saved.last_version) : std::nullopt));
        }
      }
    }
  });
}

base::Task<absl::StatusOr<bool>> HoldAndRelease(AggregateLocks& locks, base::SteadyTime deadline) {
  CO_ASSIGN_OR_RETURN(const AggregateLocks::Guard guard, co_await locks.Acquire(Ref(1), deadline));
  co_return true;
}

TEST_CASE("A lock is waited for until the deadline, and handed on in order", "[caches]") {
  base::Executor executor("test");
  {
    AggregateLocks locks(&executor);
    const auto in = [](std::chrono::milliseconds time) { return base::Clock::System().SteadyNow() + time; };
    {
      const auto held = Must(base::BlockOn(locks.Acquire(Ref(1), in(20s))));
      Must(base::BlockOn(locks.Acquire(Ref(2), in(20s))));  // Another aggregate's.
      const absl::Status late = base::BlockOn(HoldAndRelease(locks, in(20ms))).status();
      REQUIRE(domain::HasReason(late, cim::persistence::v1::ERROR_REASON_OVERLOADED));
    }
    // Whoever gave up is passed over.
    Must(base::BlockOn(HoldAndRelease(locks, in(20s))));
  }
  executor.Stop();
}

}  // namespace
}  // namespace persistd::repository
