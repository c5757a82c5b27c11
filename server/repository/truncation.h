// What of an aggregate's history was removed, or may be removed at any moment, because a snapshot stands for it: a part
// of the aggregate's list of snapshots (snapshot_manifest.h). Plain values, and what reads need to know of them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/task.h"
#include "server/domain/aggregate_ref.h"

namespace persistd::repository {

// It is written before anything is removed, and stays. As long as it is there, the list names a usable snapshot of
// version `base` or later.
struct Truncation {
  uint64_t base = 0;           // The version whose snapshot stands for the events up to it.
  std::string commit_id;       // Of the save that made that version.
  uint64_t base_sequence = 0;  // Of the event of that version.
  // The first event that stays, the first one of a save. Those before it are removed when this is stored.
  uint64_t first_kept = 0;
  uint64_t first_sequence = 0;
  uint64_t removed_before = 1;  // Those before this version were removed earlier; 1: none.
  base::WallTime marked;        // When this was announced. Decides nothing.

  bool operator==(const Truncation&) const = default;
};

// Thread-safe.
class TruncationReader {
 public:
  virtual ~TruncationReader() = default;

  // As the leader has it; nullopt: nothing was removed.
  virtual base::Task<absl::StatusOr<std::optional<Truncation>>> TruncationOf(domain::AggregateRef ref,
                                                                             base::SteadyTime deadline) = 0;
};

}  // namespace persistd::repository
