// The stored states of aggregates: one message each, never replaced by an older one. Thread-safe.
//
// A state belongs to a history only if the event of its version was stored by the same save. After a power cut that
// lost events whose state survived, that is not so; such a state is ignored when loading and replaced by the next save.
#pragma once

#include <optional>

#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/executor.h"
#include "server/base/task.h"
#include "server/domain/event.h"
#include "server/repository/history.h"
#include "server/repository/repository.h"
#include "server/repository/storage.h"

namespace persistd::repository {

class StateStore {
 public:
  StateStore(Storage* storage, History* history, base::Executor* executor)
      : storage_(storage), history_(history), executor_(executor) {}

  // Writes the state of `state.version`, which is stored. fresh: the aggregate had no earlier version, so most likely
  // there is no state yet. kPending says that it could not be written, or that this is not known. The only error is
  // REQUEST_ID_REUSED: this save has written another state.
  base::Task<absl::StatusOr<StateResult>> Write(domain::StateRecord state, bool fresh, base::SteadyTime deadline);

  // What an answer from the state stream holds. A message that is not ours is no state: it is counted, and the next
  // state replaces it.
  absl::StatusOr<std::optional<domain::StateRecord>> Decode(const jetstream::Stream& stream,
                                                            std::optional<jetstream::Message> message) const;

 private:
  // What a new state replaces.
  struct Existing {
    uint64_t sequence = 0;                     // 0: nothing is there.
    std::optional<domain::StateRecord> state;  // nullopt: nothing, or nothing that can be read.
  };
  base::Task<absl::StatusOr<Existing>> ReadExisting(domain::AggregateRef ref, jetstream::StreamPtr stream,
                                                    jetstream::ReadFrom from, base::SteadyTime deadline);
  base::Task<absl::StatusOr<bool>> IsNewer(domain::StateRecord existing, domain::StateRecord state,
                                           base::SteadyTime deadline);
  base::Task<void> RemovePreviousSchema(jetstream::StreamPtr stream, uint64_t sequence, base::SteadyTime deadline);

  Storage* const storage_;
  History* const history_;
  base::Executor* const executor_;
};

}  // namespace persistd::repository
