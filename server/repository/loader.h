// Loads aggregates: head, state, the events after it; now or as they were. Thread-safe.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/task.h"
#include "server/domain/event.h"
#include "server/repository/head.h"
#include "server/repository/history.h"
#include "server/repository/lru_cache.h"
#include "server/repository/repository.h"
#include "server/repository/state_store.h"
#include "server/repository/storage.h"

namespace persistd::repository {

domain::Position PositionOf(const jetstream::Stream& stream, uint64_t sequence);
// What a head tells of its aggregate.
AggregateInfo InfoOf(const domain::AggregateRef& ref, const Head& head);

class Loader {
 public:
  struct Options {
    size_t state_cache_entries = 0;
    size_t state_cache_bytes = 0;
    std::chrono::milliseconds cache_ttl{};
    size_t max_load_bytes = 0;
  };

  Loader(Options options, Storage* storage, History* history, StateStore* states, const base::Clock* clock)
      : options_(options),
        clock_(clock),
        storage_(*storage),
        history_(*history),
        states_(*states),
        loads_({.max_entries = options.state_cache_entries, .max_bytes = options.state_cache_bytes}) {}

  base::Task<absl::StatusOr<LoadResult>> Load(LoadCommand command, base::SteadyTime deadline);
  base::Task<absl::StatusOr<AggregateInfo>> Info(domain::AggregateRef ref, base::SteadyTime deadline);
  // NOT_FOUND when there is no complete save.
  base::Task<absl::StatusOr<Head>> ExistingHead(domain::AggregateRef ref, base::SteadyTime deadline);

  // To be called when the aggregate has changed.
  void Forget(const domain::AggregateRef& ref) { loads_.Erase(ref); }
  // Some daemon has saved the aggregate, which has this version now. Drops what is older.
  void NoteSave(const domain::AggregateRef& ref, uint64_t version) {
    loads_.EraseOutdated(ref, [version](const CachedLoad& cached) { return cached.result.info.version < version; });
  }
  CacheStats load_stats() const { return loads_.stats(); }

 private:
  struct CachedLoad {
    LoadResult result;
    base::SteadyTime loaded_at;
  };
  struct HeadAndState {
    Head head;
    std::optional<domain::StateRecord> state;
  };

  base::Task<absl::StatusOr<LoadResult>> LoadNow(domain::AggregateRef ref, Consistency consistency,
                                                 base::SteadyTime deadline);
  // The events up to `version`, or up to the last one recorded at or before `as_of`.
  base::Task<absl::StatusOr<LoadResult>> LoadVersion(domain::AggregateRef ref, uint64_t version,
                                                     base::SteadyTime deadline);
  base::Task<absl::StatusOr<LoadResult>> LoadAsOf(domain::AggregateRef ref, base::WallTime as_of,
                                                  base::SteadyTime deadline);
  base::Task<absl::StatusOr<HeadAndState>> ReadHeadAndState(domain::AggregateRef ref, base::SteadyTime deadline);
  base::Task<absl::StatusOr<bool>> BelongsTo(const Head& head, const domain::StateRecord& state,
                                             base::SteadyTime deadline);
  base::Task<absl::StatusOr<LoadResult>> StrongLoad(domain::AggregateRef ref, base::SteadyTime deadline);
  base::Task<absl::StatusOr<LoadResult>> ReplayTo(domain::AggregateRef ref, Head head, uint64_t version,
                                                  base::SteadyTime deadline);
  base::Task<absl::Status> AppendEvents(const Head& head, uint64_t first, uint64_t last, LoadResult& result,
                                        base::SteadyTime deadline);

  const Options options_;
  const base::Clock* const clock_;
  Storage& storage_;
  History& history_;
  StateStore& states_;
  LruCache<CachedLoad> loads_;
};

}  // namespace persistd::repository
