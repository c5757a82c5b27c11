// The stored states of aggregates: one message each, never replaced by an older one. Thread-safe.
//
// A state belongs to a history only if the event of its version was stored by the same save. After a power cut that
// lost events whose state survived, that is not so; such a state is ignored when loading and replaced by the next save.
#pragma once

#include <limits>
#include <optional>

#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/executor.h"
#include "server/base/task.h"
#include "server/domain/event.h"
#include "server/repository/blocks.h"
#include "server/repository/history.h"
#include "server/repository/lru_cache.h"
#include "server/repository/repository.h"
#include "server/repository/storage.h"

namespace persistd::repository {

class StateStore {
 public:
  // place_cache_bytes: for what is known of the places of states, which spares a write its read.
  StateStore(size_t place_cache_bytes, Storage* storage, History* history, Blocks* blocks, base::Executor* executor)
      : storage_(storage),
        history_(history),
        blocks_(blocks),
        executor_(executor),
        places_({.max_entries = std::numeric_limits<size_t>::max(), .max_bytes = place_cache_bytes}) {}

  // Writes the state of `state.version`, which is stored. fresh: the aggregate had no earlier version, so most likely
  // there is no state yet. kPending says that it could not be written, or that this is not known. The only error is
  // REQUEST_ID_REUSED: this save has written another state.
  base::Task<absl::StatusOr<StateResult>> Write(domain::StateRecord state, bool fresh, base::SteadyTime deadline);

  // Brings the content of a state that Decode gave, where that is in blocks. CORRUPT_DATA when they do not hold it.
  base::Task<absl::Status> Fill(domain::StateRecord& state, const jetstream::Stream& stream, base::SteadyTime deadline);

  // What an answer from the state stream holds, without content that is in blocks. A message that is not ours is no
  // state: it is counted, and the next state replaces it.
  absl::StatusOr<std::optional<domain::StateRecord>> Decode(const jetstream::Stream& stream,
                                                            std::optional<jetstream::Message> message) const;

 private:
  // What a new state replaces.
  struct Existing {
    uint64_t sequence = 0;                     // 0: nothing is there.
    uint32_t schema_version = 0;               // 0: nothing that can be read.
    std::optional<domain::StateRecord> state;  // nullopt: nothing that can be read, or it was not read.
  };
  // Where the state of an aggregate is that this daemon wrote last. The publish checks that it still is.
  struct Place {
    jetstream::StreamPtr stream;
    uint64_t sequence = 0;
    uint64_t version = 0;
    uint32_t schema_version = 0;
  };
  base::Task<absl::StatusOr<Existing>> ReadExisting(domain::AggregateRef ref, jetstream::StreamPtr stream,
                                                    jetstream::ReadFrom from, base::SteadyTime deadline);
  base::Task<absl::StatusOr<bool>> IsNewer(domain::StateRecord existing, domain::StateRecord state,
                                           base::SteadyTime deadline);
  // The state that lists them is stored: written or, when its blocks may be gone after a long time, pending.
  base::Task<StateResult> BlocksKept(Blocks::Spilled& spilled, base::SteadyTime deadline);
  base::Task<void> RemovePreviousSchema(jetstream::StreamPtr stream, uint64_t sequence, base::SteadyTime deadline);

  Storage* const storage_;
  History* const history_;
  Blocks* const blocks_;
  base::Executor* const executor_;
  LruCache<Place> places_;
};

}  // namespace persistd::repository
