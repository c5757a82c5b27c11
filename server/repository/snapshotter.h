// Takes snapshots: when a call asks for one, and after saves as the policy of the aggregate's type says. The latter
// happens off the save path: a save only puts a note into a bounded queue, which is worked off by coroutines of its own
// and never makes the save wait or fail. Thread-safe.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/executor.h"
#include "server/base/mutex.h"
#include "server/base/task.h"
#include "server/repository/history.h"
#include "server/repository/loader.h"
#include "server/repository/lru_cache.h"
#include "server/repository/repository.h"
#include "server/repository/snapshot_policy.h"
#include "server/repository/snapshot_store.h"
#include "server/repository/storage.h"
#include "server/repository/truncator.h"

namespace persistd::repository {

class Snapshotter {
 public:
  struct Options {
    SnapshotPolicies policies;
    // Snapshots that wait to be taken, and the bytes of the states they hold.
    size_t queue_entries = 1000;
    size_t queue_bytes = 64u << 20;
    int workers = 2;
    std::chrono::milliseconds patience{30'000};  // For one snapshot.
  };

  // All must outlive it.
  Snapshotter(Options options, Storage* storage, History* history, Loader* loader, SnapshotStore* store,
              Truncator* truncator, base::Executor* executor, const base::Clock* clock);

  base::Task<absl::StatusOr<SnapshotInfo>> Create(SnapshotCommand command, base::SteadyTime deadline);
  base::Task<absl::StatusOr<std::vector<SnapshotInfo>>> List(domain::AggregateRef ref, base::SteadyTime deadline);
  base::Task<absl::Status> Delete(domain::AggregateRef ref, uint64_t version, base::SteadyTime deadline);

  // A save that is done.
  struct Saved {
    const domain::AggregateRef& ref;
    uint64_t first_version = 0;
    uint64_t last_version = 0;
    std::string_view commit_id;
    base::WallTime recorded_time;
    std::vector<std::string_view> event_types;
    const NewState* state = nullptr;  // nullptr: it had none.
    bool requested = false;           // The save asked for a snapshot.
  };
  // Whether OnSaved may do anything after saves of this type that ask for nothing.
  bool HasPolicy(const domain::AggregateRef& ref) const { return PolicyOf(ref) != nullptr; }
  // Takes a snapshot soon where the save or the type's policy asks for one. Returns at once.
  void OnSaved(const Saved& saved);

  SnapshotStats stats() const;

 private:
  struct Job {
    domain::AggregateRef ref;
    uint64_t version = 0;
    std::optional<domain::StateRecord> state;
    bool only_if_old = false;    // Because of max_age alone.
    bool only_truncate = false;  // It is taken already.
    size_t bytes = 0;
  };

  const SnapshotPolicy* PolicyOf(const domain::AggregateRef& ref) const;
  // Whether the policy's age may have come; remembers when it last came.
  bool MayBeOld(const SnapshotPolicy& policy, const Saved& saved);
  void Enqueue(Job job);
  void StartWorker();
  base::Task<void> Work();
  // Looks after what was removed, and what can be, after a snapshot was added. It only makes room.
  base::Task<void> Truncate(domain::AggregateRef ref, bool truncated, base::SteadyTime deadline);
  base::Task<absl::Status> Take(Job job, base::SteadyTime deadline);
  // Which save made a version; 0: the last one.
  struct Made {
    uint64_t version = 0;
    bool is_last = false;
    std::string commit_id;
    base::WallTime recorded_time;
  };
  base::Task<absl::StatusOr<Made>> MadeBy(domain::AggregateRef ref, uint64_t version, base::SteadyTime deadline);
  // NO_STATE when there is none of exactly that version.
  base::Task<absl::StatusOr<domain::StateRecord>> StateAt(domain::AggregateRef ref, Made made,
                                                          base::SteadyTime deadline);

  const Options options_;
  Storage* const storage_;
  History* const history_;
  Loader* const loader_;
  SnapshotStore* const store_;
  Truncator* const truncator_;
  base::Executor* const executor_;
  const base::Clock* const clock_;
  LruCache<base::WallTime> ages_;  // When the newest snapshot was taken, or the aggregate began.

  mutable base::Mutex mutex_;
  std::deque<Job> queue_ GUARDED_BY(mutex_);
  size_t queued_bytes_ GUARDED_BY(mutex_) = 0;
  int working_ GUARDED_BY(mutex_) = 0;
  base::SteadyTime last_drop_log_ GUARDED_BY(mutex_);
  SnapshotStats stats_ GUARDED_BY(mutex_);
};

}  // namespace persistd::repository
