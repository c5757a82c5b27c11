// Removes the events that a snapshot covers, for types whose retention is truncate_before_snapshot. Thread-safe.
//
// What is removed cannot be had back, so every step looks first: the oldest snapshot that is kept is read, with its
// content; it was made by this history; and it is old enough to be on the disk of a server that calls fsync every two
// minutes, and for repeated saves of that time to be recognised. Then the snapshots' list says what may be gone, and
// only then the events before the save that made the snapshot's version are removed. A crash in between leaves events
// that nobody needs; the next snapshot's turn removes them.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/task.h"
#include "server/repository/history.h"
#include "server/repository/snapshot_store.h"
#include "server/repository/storage.h"

namespace persistd::repository {

class Truncator {
 public:
  // min_age: of the snapshot whose events are removed. All must outlive it.
  Truncator(std::chrono::milliseconds min_age, Storage* storage, History* history, SnapshotStore* snapshots,
            const base::Clock* clock)
      : min_age_(min_age), storage_(*storage), history_(*history), snapshots_(*snapshots), clock_(*clock) {}

  bool Applies(const domain::AggregateRef& ref) const { return storage_.Truncates(ref); }
  std::chrono::milliseconds min_age() const { return min_age_; }

  // To be called after a snapshot was taken. Removes nothing when in doubt.
  base::Task<absl::Status> Truncate(domain::AggregateRef ref, base::SteadyTime deadline);

  // Since the start.
  uint64_t removed_events() const { return removed_events_; }

 private:
  // The first event that stays, by the oldest snapshot; version 0: nothing can be removed.
  base::Task<absl::StatusOr<RemovedBefore>> FirstToKeep(domain::AggregateRef ref, jetstream::StreamPtr stream,
                                                        ManifestEntry oldest, base::SteadyTime deadline);

  const std::chrono::milliseconds min_age_;
  Storage& storage_;
  History& history_;
  SnapshotStore& snapshots_;
  const base::Clock& clock_;
  std::atomic<uint64_t> removed_events_ = 0;
};

}  // namespace persistd::repository
