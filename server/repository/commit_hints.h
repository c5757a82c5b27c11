// Where a save with a commit id may be, told by something that has read all events. Thread-safe.
//
// Only a hint: what it says is compared with the stream, and what it does not know may be there all the same.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "server/base/clock.h"
#include "server/base/task.h"
#include "server/domain/aggregate_ref.h"

namespace persistd::repository {

class CommitHints {
 public:
  virtual ~CommitHints() = default;

  // The first version of the save. Only asked for ids that carry no time (others than UUIDv7).
  virtual base::Task<std::optional<uint64_t>> FirstVersion(domain::AggregateRef ref, std::string commit_id,
                                                           base::SteadyTime deadline) = 0;
};

}  // namespace persistd::repository
