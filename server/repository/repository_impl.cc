// The order of steps around a save; the parts do the work.

#include <algorithm>
#include <atomic>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/logging.h"
#include "server/base/rfc3339.h"
#include "server/base/status_macros.h"
#include "server/domain/errors.h"
#include "server/domain/subject.h"
#include "server/ipld/cid.h"
#include "server/repository/blocks.h"
#include "server/repository/chain_reader.h"
#include "server/repository/history.h"
#include "server/repository/loader.h"
#include "server/repository/repository.h"
#include "server/repository/saver.h"
#include "server/repository/snapshot_store.h"
#include "server/repository/snapshotter.h"
#include "server/repository/state_store.h"
#include "server/repository/truncator.h"
#include "server/repository/user_blocks.h"

namespace persistd::repository {
namespace {

using jetstream::StreamPtr;

class RepositoryImpl final : public Repository {
 public:
  RepositoryImpl(const RepositoryOptions& options, Connections connections, base::Executor* executor,
                 const base::Clock* clock)
      : enable_ipld_(options.enable_ipld),
        storage_(options.storage, connections, executor, clock),
        types_(&storage_, options.control_bucket, connections, executor),
        history_(&storage_, &snapshots_),
        block_bucket_(options.block_bucket, connections.writes, connections.reads, executor),
        user_blocks_(&block_bucket_, &storage_.reader(), options.block_hints),
        blocks_(&block_bucket_, {.snapshot_bucket = options.snapshot_bucket.bucket}),
        snapshot_bucket_(options.snapshot_bucket, connections.writes, connections.reads, executor),
        snapshots_(&snapshot_bucket_, &blocks_, connections.writes, executor, clock),
        states_(options.head_cache_bytes / 2, &storage_, &history_, &blocks_, executor),
        saver_({.head_cache_bytes = options.head_cache_bytes, .hints = options.hints, .chain = options.enable_ipld},
               &storage_, &history_, executor, clock),
        loader_({.state_cache_entries = options.state_cache_entries,
                 .state_cache_bytes = options.state_cache_bytes,
                 .cache_ttl = options.cache_ttl,
                 .max_load_bytes = options.max_load_bytes,
                 .rules = options.rules,
                 .transforms = options.transforms,
                 .snapshots = options.snapshots != nullptr ? options.snapshots : &snapshots_},
                &storage_, &history_, &states_, executor, clock),
        truncator_({.rules = options.rules,
                    .transforms = options.transforms,
                    .min_age = options.truncation_min_age,
                    .fsync_always = options.fsync_always},
                   &storage_, &history_, &snapshots_, executor, clock),
        snapshotter_({.policies = options.snapshot_policies}, &storage_, &history_, &loader_, &snapshots_, &truncator_,
                     executor, clock) {}

  base::Task<absl::StatusOr<SaveResult>> Save(SaveCommand command, base::SteadyTime deadline) override;
  base::Task<absl::StatusOr<SaveAllResult>> SaveAll(SaveAllCommand command, base::SteadyTime deadline) override;
  base::Task<absl::StatusOr<LoadResult>> Load(LoadCommand command, base::SteadyTime deadline) override {
    return loader_.Load(std::move(command), deadline);
  }
  base::Task<absl::StatusOr<AggregateInfo>> Info(domain::AggregateRef ref, base::SteadyTime deadline) override {
    return loader_.Info(std::move(ref), deadline);
  }
  base::Task<absl::Status> History(HistoryQuery query, EventSink sink, base::SteadyTime deadline) override;

  base::Task<absl::StatusOr<SnapshotInfo>> CreateSnapshot(SnapshotCommand command, base::SteadyTime deadline) override {
    return snapshotter_.Create(std::move(command), deadline);
  }
  base::Task<absl::StatusOr<std::vector<SnapshotInfo>>> ListSnapshots(domain::AggregateRef ref,
                                                                      base::SteadyTime deadline) override {
    return snapshotter_.List(std::move(ref), deadline);
  }
  base::Task<absl::Status> DeleteSnapshot(domain::AggregateRef ref, uint64_t version,
                                          base::SteadyTime deadline) override {
    return snapshotter_.Delete(std::move(ref), version, deadline);
  }

  base::Task<absl::StatusOr<Verification>> VerifyChain(VerifyCommand command, VerifyProgressSink progress,
                                                       base::SteadyTime deadline) override {
    return chains_.Verify(std::move(command), std::move(progress), deadline);
  }
  base::Task<absl::Status> ReadChain(domain::AggregateRef ref, uint64_t first, uint64_t last, ChainSink sink,
                                     base::SteadyTime deadline) override {
    return chains_.Read(std::move(ref), first, last, std::move(sink), deadline);
  }

  void NoteSave(const domain::AggregateRef& ref, uint64_t version, const jetstream::Message& last) override {
    saver_.NoteSave(ref, last);
    loader_.NoteSave(ref, version);
  }

  Types* types() override { return &types_; }
  BlockStore* blocks() override { return &user_blocks_; }
  std::vector<StreamPtr> streams() const override { return storage_.streams(); }
  RepositoryStats stats() const override {
    return {.foreign_messages = history_.foreign_messages(),
            .caches = {{"heads", saver_.head_stats()}, {"loads", loader_.load_stats()}},
            .snapshots = snapshotter_.stats()};
  }

 private:
  // What a save asks for beside its events and state.
  struct AfterSave {
    bool create_snapshot = false;
    bool tombstone = false;

    static AfterSave Of(const SaveCommand& command) { return {command.create_snapshot, command.tombstone}; }
  };
  // Writes the state of a stored save and says what it came to.
  base::Task<absl::StatusOr<SaveResult>> FinishSave(domain::AggregateRef ref, Commit commit,
                                                    std::optional<NewState> new_state, AfterSave after,
                                                    base::SteadyTime deadline);
  void Snapshot(const domain::AggregateRef& ref, const Commit& commit, const NewState* state, AfterSave after);

  const bool enable_ipld_;
  Storage storage_;
  Types types_;
  class History history_;
  ChainReader chains_{&storage_, &history_};
  jetstream::Kv block_bucket_;
  UserBlocks user_blocks_;
  Blocks blocks_;
  jetstream::Kv snapshot_bucket_;
  SnapshotStore snapshots_;
  StateStore states_;
  Saver saver_;
  Loader loader_;
  Truncator truncator_;
  Snapshotter snapshotter_;
};

base::Task<absl::StatusOr<SaveResult>> RepositoryImpl::Save(SaveCommand command, base::SteadyTime deadline) {
  const domain::AggregateRef ref = command.ref;
  std::optional<NewState> state = std::exchange(command.state, std::nullopt);
  const AfterSave after = AfterSave::Of(command);
  absl::StatusOr<Commit> commit = co_await saver_.Save(std::move(command), deadline);
  loader_.Forget(ref);
  if (!commit.ok()) co_return storage_.WithLimit(ref, commit.status());
  co_return co_await FinishSave(ref, *std::move(commit), std::move(state), after, deadline);
}

base::Task<absl::StatusOr<SaveAllResult>> RepositoryImpl::SaveAll(SaveAllCommand command, base::SteadyTime deadline) {
  std::vector<domain::AggregateRef> refs;
  std::vector<std::optional<NewState>> states;
  std::vector<AfterSave> afters;
  for (SaveCommand& save : command.saves) {
    refs.push_back(save.ref);
    states.push_back(std::exchange(save.state, std::nullopt));
    afters.push_back(AfterSave::Of(save));
  }
  absl::StatusOr<std::vector<Commit>> commits = co_await saver_.SaveAll(std::move(command), deadline);
  for (const domain::AggregateRef& ref : refs) loader_.Forget(ref);
  if (!commits.ok()) co_return storage_.WithLimit(refs.front(), commits.status());
  // All states are written at once.
  using Finished = absl::StatusOr<SaveResult>;
  std::vector<base::Future<Finished>> finished;
  for (size_t i = 0; i < commits->size(); ++i) {
    base::Promise<Finished> promise;
    finished.push_back(promise.future());
    base::Task<Finished> finish =
        FinishSave(refs[i], std::move((*commits)[i]), std::move(states[i]), afters[i], deadline);
    base::Spawn([](base::Task<Finished> task, base::Promise<Finished> done) -> base::Task<void> {
      Finished result = co_await task;
      done.TrySet(std::move(result));
    }(std::move(finish), promise));
  }
  SaveAllResult result;
  absl::Status failed;
  for (base::Future<Finished>& future : finished) {
    Finished one = co_await future;
    if (one.ok()) {
      result.results.push_back(*std::move(one));
    } else if (failed.ok()) {
      failed = one.status();
    }
  }
  if (!failed.ok()) co_return failed;
  result.deduplicated = result.results.front().deduplicated;
  result.commit_id = result.results.front().commit_id;
  co_return result;
}

void RepositoryImpl::Snapshot(const domain::AggregateRef& ref, const Commit& commit, const NewState* state,
                              AfterSave after) {
  if (after.tombstone || (!after.create_snapshot && !snapshotter_.HasPolicy(ref))) return;
  Snapshotter::Saved saved{.ref = ref,
                           .first_version = commit.first_version,
                           .last_version = commit.head.version,
                           .commit_id = commit.commit_id,
                           .recorded_time = commit.head.recorded_time,
                           .event_types = {},
                           .state = state,
                           .requested = after.create_snapshot};
  for (const Event& event : commit.events) saved.event_types.push_back(event.event.type);
  snapshotter_.OnSaved(saved);
}

base::Task<absl::StatusOr<SaveResult>> RepositoryImpl::FinishSave(domain::AggregateRef ref, Commit commit,
                                                                  std::optional<NewState> new_state, AfterSave after,
                                                                  base::SteadyTime deadline) {
  Snapshot(ref, commit, new_state.has_value() ? &*new_state : nullptr, after);
  SaveResult result;
  result.info = InfoOf(ref, commit.head);
  result.replicas = commit.head.stream->replicas;
  result.in_memory = commit.head.stream->in_memory;
  result.deduplicated = commit.deduplicated;
  result.commit_id = commit.commit_id;
  result.events.reserve(commit.events.size());
  for (Event& event : commit.events) {
    result.events.push_back({.version = event.event.version,
                             .event_id = std::move(event.event.event_id),
                             .cid = std::move(event.event.cid),
                             .prev_cid = std::move(event.event.prev_cid),
                             .position = std::move(event.position)});
  }
  if (new_state.has_value()) {
    domain::StateRecord state;
    state.ref = ref;
    state.version = commit.head.version;
    state.schema_version = new_state->schema_version;
    state.payload = std::move(new_state->payload);
    if (enable_ipld_) state.cid = ipld::RawCid(state.payload.data).ToString();
    state.commit_id = commit.commit_id;
    state.recorded_time = commit.head.recorded_time;
    const bool fresh = commit.first_version == 1 && !commit.deduplicated;
    result.info.state_schema_version = state.schema_version;
    result.info.state_cid = state.cid;
    CO_ASSIGN_OR_RETURN(result.state, co_await states_.Write(std::move(state), fresh, deadline));
    if (result.state != StateResult::kWritten) {
      result.info.state_schema_version = 0;
      result.info.state_cid.clear();
    }
  }
  co_return result;
}

base::Task<absl::Status> RepositoryImpl::History(HistoryQuery query, EventSink sink, base::SteadyTime deadline) {
  CO_ASSIGN_OR_RETURN(Head head, co_await loader_.ExistingHead(query.ref, deadline));
  const StreamPtr stream = head.stream;
  const EventVisitor visit = [&](domain::RecordedEvent event) -> base::Task<bool> {
    const bool wanted =
        query.types.empty() || std::find(query.types.begin(), query.types.end(), event.type) != query.types.end();
    if (!wanted) co_return true;
    Event found;
    found.position = PositionOf(*stream, event.sequence);
    found.event = std::move(event);
    co_return co_await sink(std::move(found));
  };
  if (query.from_version >= head.version) co_return absl::OkStatus();
  const struct History::Range range {
    .first = query.from_version + 1, .last = std::min(head.version, query.to_version.value_or(head.version)),
    .reverse = query.reverse
  };
  if (query.from_version > 0) co_return co_await history_.Visit(query.ref, std::move(head), range, visit, deadline);
  // Whoever names no beginning gets what is kept.
  const absl::StatusOr<uint64_t> first =
      co_await history_.VisitKept(query.ref, std::move(head), range, visit, deadline);
  co_return first.status();
}

}  // namespace

std::unique_ptr<Repository> Repository::Create(RepositoryOptions options, Connections connections,
                                               base::Executor* executor, const base::Clock* clock) {
  return std::make_unique<RepositoryImpl>(std::move(options), connections, executor, clock);
}

}  // namespace persistd::repository
