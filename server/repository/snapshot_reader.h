// Where loads look for snapshots: what they need of the snapshot store and no more.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>

#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/task.h"
#include "server/domain/aggregate_ref.h"
#include "server/domain/event.h"

namespace persistd::repository {

// Thread-safe.
class SnapshotReader {
 public:
  virtual ~SnapshotReader() = default;

  // The newest snapshot of a version of at most `at_most_version`, with its content; nullopt: there is none. Whether
  // it belongs to the history (its commit id is that of the event of its version) is for the caller to check.
  virtual base::Task<absl::StatusOr<std::optional<domain::StateRecord>>> Latest(domain::AggregateRef ref,
                                                                                uint64_t at_most_version,
                                                                                base::SteadyTime deadline) = 0;
  // The same where nothing can be answered without a snapshot: as the leader lists them, and however many have to be
  // passed over. Not OK when that cannot be told.
  virtual base::Task<absl::StatusOr<std::optional<domain::StateRecord>>> Needed(domain::AggregateRef ref,
                                                                                uint64_t at_most_version,
                                                                                base::SteadyTime deadline) {
    return Latest(std::move(ref), at_most_version, deadline);
  }
};

}  // namespace persistd::repository
