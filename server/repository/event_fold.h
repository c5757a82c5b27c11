// Folds events into a state by the rule of their type, in parts of bounded size. One coroutine at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/task.h"
#include "server/domain/event.h"
#include "server/repository/type_rules.h"
#include "server/transform/runner.h"

namespace persistd::repository {

// True when a payload of this media type is JSON text.
bool IsJson(const std::string& content_type);
// Whether a fold can start from a state: it is JSON, and says so.
bool IsJsonState(const domain::Payload& payload);

class EventFold {
 public:
  // The runner must outlive it.
  EventFold(transform::Runner* runner, TypeRules rules, domain::AggregateRef ref)
      : runner_(*runner), rules_(std::move(rules)), ref_(std::move(ref)) {}

  // Starts from this state instead of null. TRANSFORM_FAILED when it is no JSON.
  absl::Status StartFrom(const domain::StateRecord& state);
  // The next event. TRANSFORM_FAILED with its version.
  base::Task<absl::Status> Add(const domain::RecordedEvent& event, base::SteadyTime deadline);
  // The state after all of them, as JSON.
  base::Task<absl::StatusOr<domain::Payload>> Finish(base::SteadyTime deadline);

 private:
  base::Task<absl::Status> Flush(base::SteadyTime deadline);

  transform::Runner& runner_;
  const TypeRules rules_;
  const domain::AggregateRef ref_;
  std::string state_;  // JSON; empty: null.
  std::vector<transform::FoldInput> waiting_;
  size_t waiting_bytes_ = 0;
  uint64_t first_waiting_ = 0;  // Its version.
};

}  // namespace persistd::repository
