// Loads aggregates: head, state, the events after it; now or as they were. Thread-safe.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/executor.h"
#include "server/base/task.h"
#include "server/domain/event.h"
#include "server/repository/head.h"
#include "server/repository/history.h"
#include "server/repository/lru_cache.h"
#include "server/repository/repository.h"
#include "server/repository/snapshot_reader.h"
#include "server/repository/state_store.h"
#include "server/repository/storage.h"
#include "server/repository/type_rules.h"
#include "server/transform/runner.h"

namespace persistd::repository {

// What a head tells of its aggregate.
AggregateInfo InfoOf(const domain::AggregateRef& ref, const Head& head);

class Loader {
 public:
  struct Options {
    size_t state_cache_entries = 0;
    size_t state_cache_bytes = 0;
    std::chrono::milliseconds cache_ttl{};
    size_t max_load_bytes = 0;
    TypeRulesMap rules{};
    transform::Runner* transforms = nullptr;  // Must outlive the loader; may be nullptr when no type has a fold.
    SnapshotReader* snapshots = nullptr;      // Must outlive the loader; nullptr: there are none.
  };

  Loader(Options options, Storage* storage, History* history, StateStore* states, base::Executor* executor,
         const base::Clock* clock)
      : options_(std::move(options)),
        clock_(clock),
        executor_(executor),
        storage_(*storage),
        history_(*history),
        states_(*states),
        loads_({.max_entries = options_.state_cache_entries, .max_bytes = options_.state_cache_bytes}) {}

  base::Task<absl::StatusOr<LoadResult>> Load(LoadCommand command, base::SteadyTime deadline);
  // NOT_FOUND when the aggregate does not exist or is deleted.
  base::Task<absl::StatusOr<AggregateInfo>> Info(domain::AggregateRef ref, base::SteadyTime deadline);
  // NOT_FOUND when there is no complete save; a deleted aggregate has a head.
  base::Task<absl::StatusOr<Head>> ExistingHead(domain::AggregateRef ref, base::SteadyTime deadline);

  // To be called when the aggregate has changed.
  void Forget(const domain::AggregateRef& ref) { loads_.Erase(ref); }
  // Some daemon has saved the aggregate, which has this version now. Drops what is older.
  void NoteSave(const domain::AggregateRef& ref, uint64_t version) {
    loads_.EraseUnless(ref, [version](const CachedLoad& cached) { return cached.result->info.version >= version; });
  }
  CacheStats load_stats() const { return loads_.stats(); }

 private:
  // What a load without further wishes answered, and which message of the stream it ends with.
  struct CachedLoad {
    std::shared_ptr<const LoadResult> result;
    uint64_t incarnation = 0;  // Of the stream.
    uint64_t sequence = 0;
    std::string commit_id;
    base::SteadyTime loaded_at;
  };
  struct HeadAndState {
    Head head;                                 // Of version 0: there is nothing.
    std::optional<domain::StateRecord> state;  // One that belongs to the head's history.
  };
  // How one call wants its answer.
  struct Plan {
    TypeRules rules;
    bool folds = false;  // The type has a fold.
    bool events = true;  // Answer with them.
    bool base = true;    // Start from a stored state or a snapshot.
    bool keeps = true;   // The answer is what the cache keeps.
  };
  Plan PlanFor(const LoadCommand& command) const;

  base::Task<absl::StatusOr<LoadResult>> LoadNow(LoadCommand command, base::SteadyTime deadline);
  base::Task<absl::StatusOr<LoadResult>> LoadThen(LoadCommand command, base::SteadyTime deadline);
  std::optional<CachedLoad> FromCache(const LoadCommand& command, const Plan& plan);
  void Keep(const Plan& plan, const Head& head, const LoadResult& result, base::SteadyTime loaded_at);

  // stateless: the head alone, for the state is known.
  base::Task<absl::StatusOr<HeadAndState>> ReadHeadAndState(domain::AggregateRef ref, bool stateless,
                                                            base::SteadyTime deadline);
  // The same, once the stream has the position. Without replicas that are behind: what they answer is compared with it.
  base::Task<absl::StatusOr<HeadAndState>> ReadReached(domain::AggregateRef ref, bool stateless,
                                                       domain::Position at_least, base::SteadyTime deadline);
  base::Task<absl::StatusOr<std::optional<domain::StateRecord>>> ReadState(
      base::Future<absl::StatusOr<jetstream::Message>> answer, jetstream::StreamPtr stream);
  base::Task<absl::StatusOr<std::optional<Head>>> HeadOfReplica(domain::AggregateRef ref, jetstream::StreamPtr stream,
                                                                uint64_t at_least, base::SteadyTime deadline);
  base::Task<absl::Status> DropForeignState(HeadAndState& read, base::SteadyTime deadline);
  // Whether a state or snapshot was made by this history. ends: only if its version ends a save.
  base::Task<absl::StatusOr<bool>> BelongsTo(const Head& head, const domain::StateRecord& state, bool ends,
                                             base::SteadyTime deadline);
  // The head as it was when `version` was the last one. 1 <= version <= head.version.
  base::Task<absl::StatusOr<Head>> HeadAt(domain::AggregateRef ref, Head head, uint64_t version,
                                          base::SteadyTime deadline);

  // The answer at `head`, from `state`, or a snapshot where that is closer.
  base::Task<absl::StatusOr<LoadResult>> Build(domain::AggregateRef ref, Head head,
                                               std::optional<domain::StateRecord> state, Plan plan,
                                               base::SteadyTime deadline);
  base::Task<absl::StatusOr<std::optional<domain::StateRecord>>> CloserSnapshot(
      domain::AggregateRef ref, const Head& head, const std::optional<domain::StateRecord>& state, const Plan& plan,
      base::SteadyTime deadline);
  // For a head whose history does not begin with its first event: the newest snapshot that can be continued, of a
  // version of at most `at_most`. nullopt: there is none.
  base::Task<absl::StatusOr<std::optional<domain::StateRecord>>> NeededSnapshot(domain::AggregateRef ref,
                                                                                const Head& head, uint64_t at_most,
                                                                                const Plan& plan,
                                                                                base::SteadyTime deadline);
  // Whether the type's fold can go on from a snapshot.
  static bool Continuable(const domain::StateRecord& snapshot, const Plan& plan);
  // Adds to an answer that has its state, if any, what comes after it.
  base::Task<absl::Status> Complete(const Head& head, const Plan& plan, LoadResult& result, base::SteadyTime deadline);
  base::Task<absl::Status> Fold(const Head& head, const Plan& plan, LoadResult& result, base::SteadyTime deadline);
  base::Task<absl::Status> AppendEvents(const Head& head, uint64_t first, LoadResult& result,
                                        base::SteadyTime deadline);

  const Options options_;
  const base::Clock* const clock_;
  base::Executor* const executor_;
  Storage& storage_;
  History& history_;
  StateStore& states_;
  LruCache<CachedLoad> loads_;
};

}  // namespace persistd::repository
