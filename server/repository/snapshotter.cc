#include "server/repository/snapshotter.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "server/base/logging.h"
#include "server/base/status_macros.h"
#include "server/domain/errors.h"

namespace persistd::repository {
namespace {

namespace pb = cim::persistence::v1;

constexpr absl::string_view kTombstone = "_deleted";
constexpr size_t kJobBytes = 512;  // Of one that waits, beside its state.
constexpr size_t kAgeBytes = 128;
constexpr size_t kMaxAges = 100'000;
constexpr std::chrono::seconds kDropLogInterval{10};

SnapshotInfo InfoOf(const domain::AggregateRef& ref, const ManifestEntry& entry) {
  SnapshotInfo info;
  info.ref = ref;
  info.version = entry.version;
  info.schema_version = entry.schema_version;
  info.content_type = entry.content_type;
  info.size = entry.size;
  info.cid = entry.cid;
  info.created = entry.created;
  return info;
}

}  // namespace

Snapshotter::Snapshotter(Options options, Storage* storage, History* history, Loader* loader, SnapshotStore* store,
                         Truncator* truncator, base::Executor* executor, const base::Clock* clock)
    : options_(std::move(options)),
      storage_(storage),
      history_(history),
      loader_(loader),
      store_(store),
      truncator_(truncator),
      executor_(executor),
      clock_(clock),
      ages_({.max_entries = kMaxAges, .max_bytes = kMaxAges * kAgeBytes}) {}

base::Task<absl::StatusOr<Snapshotter::Made>> Snapshotter::MadeBy(domain::AggregateRef ref, uint64_t version,
                                                                  base::SteadyTime deadline) {
  CO_ASSIGN_OR_RETURN(jetstream::StreamPtr stream, co_await storage_->FindEvents(ref, deadline));
  if (stream == nullptr) co_return domain::AggregateNotFound(ref);
  CO_ASSIGN_OR_RETURN(Head head, co_await history_->ReadHead(ref, stream, Absence::kVerify, deadline));
  if (head.version == 0) co_return domain::AggregateNotFound(ref);
  if (version > head.version) co_return domain::VersionNotFound(ref, version, head.version);
  Made made;
  made.version = version == 0 ? head.version : version;
  if (made.version == head.version) {
    if (head.deleted) co_return domain::AggregateNotFound(ref, /*deleted=*/true);
    made.is_last = true;
    made.commit_id = std::move(head.commit_id);
    made.recorded_time = head.recorded_time;
    co_return made;
  }
  EventNode from{.version = head.version, .sequence = head.sequence, .pointers = std::move(head.pointers)};
  CO_ASSIGN_OR_RETURN(const jetstream::DecodedEvent decoded,
                      co_await history_->EventAt(ref, stream, std::move(from), version, deadline));
  const domain::RecordedEvent& event = decoded.event;
  if (event.type == kTombstone) co_return domain::AggregateNotFound(ref, /*deleted=*/true);
  if (!event.ends_commit()) {
    const uint64_t last = version - event.commit_index + event.commit_size - 1;
    co_return domain::InvalidField(
        "version", absl::StrCat(version, " is inside a save; allowed: the version that a save ends with, here ", last));
  }
  made.commit_id = event.commit_id;
  made.recorded_time = event.recorded_time;
  co_return made;
}

base::Task<absl::StatusOr<domain::StateRecord>> Snapshotter::StateAt(domain::AggregateRef ref, Made made,
                                                                     base::SteadyTime deadline) {
  LoadCommand command;
  command.ref = ref;
  command.include_events = false;
  if (!made.is_last) command.at = made.version;
  absl::StatusOr<LoadResult> loaded = co_await loader_->Load(command, deadline);
  if (made.is_last && loaded.ok() && loaded->info.version != made.version) {
    // Others saved meanwhile.
    command.at = made.version;
    loaded = co_await loader_->Load(std::move(command), deadline);
  }
  if (!loaded.ok()) co_return loaded.status();
  if (!loaded->state.has_value() || loaded->state->version != made.version) {
    co_return domain::NoState(ref, made.version);
  }
  domain::StateRecord state = *std::move(loaded->state);
  state.ref = std::move(ref);
  state.commit_id = std::move(made.commit_id);
  state.recorded_time = made.recorded_time;
  co_return state;
}

base::Task<absl::StatusOr<SnapshotInfo>> Snapshotter::Create(SnapshotCommand command, base::SteadyTime deadline) {
  const domain::AggregateRef ref = command.ref;
  CO_ASSIGN_OR_RETURN(Made made, co_await MadeBy(ref, command.version, deadline));
  CO_ASSIGN_OR_RETURN(const SnapshotManifest manifest, co_await store_->Manifest(ref, deadline));
  const ManifestEntry* there = manifest.Find(made.version);
  if (there != nullptr && there->commit_id == made.commit_id) co_return InfoOf(ref, *there);
  domain::StateRecord state;
  if (command.state.has_value()) {
    state.ref = ref;
    state.version = made.version;
    state.schema_version = command.state->schema_version;
    state.payload = std::move(command.state->payload);
    state.commit_id = std::move(made.commit_id);
    state.recorded_time = made.recorded_time;
  } else {
    CO_ASSIGN_OR_RETURN(state, co_await StateAt(ref, std::move(made), deadline));
  }
  CO_ASSIGN_OR_RETURN(const SnapshotStore::Added added, co_await store_->Add(std::move(state), /*keep=*/0, deadline));
  {
    base::MutexLock lock(mutex_);
    if (added.fresh) ++stats_.taken;
  }
  if (const SnapshotPolicy* policy = PolicyOf(ref); policy != nullptr && policy->truncates) {
    Job job;
    job.ref = ref;
    job.version = added.entry.version;
    job.only_truncate = true;
    job.bytes = kJobBytes;
    Enqueue(std::move(job));
  }
  co_return InfoOf(ref, added.entry);
}

base::Task<absl::StatusOr<std::vector<SnapshotInfo>>> Snapshotter::List(domain::AggregateRef ref,
                                                                        base::SteadyTime deadline) {
  CO_ASSIGN_OR_RETURN(const SnapshotManifest manifest, co_await store_->Manifest(ref, deadline));
  std::vector<SnapshotInfo> snapshots;
  for (const ManifestEntry& entry : manifest.entries) snapshots.push_back(InfoOf(ref, entry));
  std::reverse(snapshots.begin(), snapshots.end());
  co_return snapshots;
}

base::Task<absl::Status> Snapshotter::Delete(domain::AggregateRef ref, uint64_t version, base::SteadyTime deadline) {
  return truncator_->Drop(std::move(ref), version, deadline);
}

const SnapshotPolicy* Snapshotter::PolicyOf(const domain::AggregateRef& ref) const {
  if (options_.policies.empty()) return nullptr;
  const auto found = options_.policies.find({ref.context, ref.aggregate});
  return found != options_.policies.end() ? &found->second : nullptr;
}

bool Snapshotter::MayBeOld(const SnapshotPolicy& policy, const Saved& saved) {
  const std::optional<base::WallTime> since = ages_.Get(saved.ref);
  const bool fresh = saved.first_version == 1;
  const bool old = !fresh && (!since.has_value() || saved.recorded_time - *since >= policy.max_age);
  // Also when it is old: the next saves need not ask again while the snapshot is being taken.
  if (old || fresh) ages_.Put(saved.ref, saved.recorded_time, kAgeBytes);
  return old;
}

void Snapshotter::OnSaved(const Saved& saved) {
  bool wanted = saved.requested;
  bool only_if_old = false;
  if (const SnapshotPolicy* policy = PolicyOf(saved.ref); policy != nullptr && !wanted) {
    const uint64_t every = policy->every_events;
    wanted = every > 0 && saved.last_version / every > (saved.first_version - 1) / every;
    for (size_t i = 0; i < saved.event_types.size() && !wanted; ++i) {
      const std::vector<std::string>& types = policy->after_events;
      wanted = std::find(types.begin(), types.end(), saved.event_types[i]) != types.end();
    }
    if (policy->max_age.count() > 0 && !wanted && MayBeOld(*policy, saved)) {
      wanted = true;
      only_if_old = true;
    }
  }
  if (!wanted) return;
  Job job;
  job.ref = saved.ref;
  job.version = saved.last_version;
  job.only_if_old = only_if_old;
  job.bytes = kJobBytes;
  if (saved.state != nullptr) {
    domain::StateRecord state;
    state.ref = saved.ref;
    state.version = saved.last_version;
    state.schema_version = saved.state->schema_version;
    state.payload = saved.state->payload;
    state.commit_id = std::string(saved.commit_id);
    state.recorded_time = saved.recorded_time;
    job.bytes += state.payload.data.size();
    job.state = std::move(state);
  }
  Enqueue(std::move(job));
}

void Snapshotter::Enqueue(Job job) {
  bool start = false;
  uint64_t dropped = 0;
  {
    base::MutexLock lock(mutex_);
    const bool full = queue_.size() >= options_.queue_entries ||
                      (!queue_.empty() && queued_bytes_ + job.bytes > options_.queue_bytes);
    if (full) {
      ++stats_.dropped;
      const base::SteadyTime now = base::Clock::System().SteadyNow();
      if (now - last_drop_log_ >= kDropLogInterval) {
        last_drop_log_ = now;
        dropped = stats_.dropped;
      }
    } else {
      queued_bytes_ += job.bytes;
      queue_.push_back(std::move(job));
      start = working_ < options_.workers;
      if (start) ++working_;
    }
  }
  if (dropped > 0) base::LogWarn("snapshots are dropped: too many wait", {{"dropped", dropped}});
  // On another thread: the save goes on.
  if (start) executor_->Post([this] { base::Spawn(Work()); });
}

base::Task<void> Snapshotter::Work() {
  while (true) {
    Job job;
    {
      base::MutexLock lock(mutex_);
      if (queue_.empty() || storage_->writes().closed()) {
        --working_;
        co_return;
      }
      job = std::move(queue_.front());
      queue_.pop_front();
      queued_bytes_ -= job.bytes;
    }
    const domain::AggregateRef ref = job.ref;
    const uint64_t version = job.version;
    const base::SteadyTime deadline = base::Clock::System().SteadyNow() + options_.patience;
    const absl::Status status = co_await Take(std::move(job), deadline);
    if (status.ok()) continue;
    // A type without states and fold has none to keep; so it is when the aggregate was deleted, or that version removed
    // after a later snapshot, meanwhile.
    if (domain::HasReason(status, pb::ERROR_REASON_NO_STATE) || absl::IsNotFound(status) || IsRemoved(status)) {
      base::LogDebug("no snapshot: there is no state", {{"context", ref.context}, {"aggregate", ref.aggregate}});
      continue;
    }
    base::LogWarn("a snapshot is not taken", {{"key", SnapshotKey(ref, version)}, {"error", status}});
    base::MutexLock lock(mutex_);
    ++stats_.failed;
  }
}

base::Task<void> Snapshotter::Truncate(domain::AggregateRef ref, bool truncated, base::SteadyTime deadline) {
  const SnapshotPolicy* policy = PolicyOf(ref);
  if (policy == nullptr || policy->keep == 0 || !(truncated || policy->truncates)) co_return;
  const absl::Status status = co_await truncator_->Run(ref, policy->keep, policy->truncates, deadline);
  // The next snapshot goes on with it.
  if (!status.ok()) base::LogWarn("events are not truncated", {{"key", ManifestKey(ref)}, {"error", status}});
}

base::Task<absl::Status> Snapshotter::Take(Job job, base::SteadyTime deadline) {
  const SnapshotPolicy* policy = PolicyOf(job.ref);
  if (job.only_truncate) {
    co_await Truncate(std::move(job.ref), /*truncated=*/true, deadline);
    co_return absl::OkStatus();
  }
  if (job.only_if_old && policy != nullptr) {
    CO_ASSIGN_OR_RETURN(const SnapshotManifest manifest, co_await store_->Manifest(job.ref, deadline));
    if (!manifest.entries.empty() && clock_->WallNow() - manifest.entries.back().created < policy->max_age) {
      ages_.Put(job.ref, manifest.entries.back().created, kAgeBytes);
      co_return absl::OkStatus();
    }
  }
  if (!job.state.has_value()) {
    CO_ASSIGN_OR_RETURN(Made made, co_await MadeBy(job.ref, job.version, deadline));
    CO_ASSIGN_OR_RETURN(job.state, co_await StateAt(job.ref, std::move(made), deadline));
  }
  // Of a type that is truncated, which ones are superfluous depends on which can be used.
  const size_t keep = policy != nullptr && !policy->truncates ? policy->keep : 0;
  const absl::StatusOr<SnapshotStore::Added> added = co_await store_->Add(*std::move(job.state), keep, deadline);
  if (added.ok()) {
    ages_.Put(job.ref, added->entry.created, kAgeBytes);
    base::MutexLock lock(mutex_);
    if (added->fresh) ++stats_.taken;
  }
  // Also when the list is full: this makes room in it.
  const bool truncated = added.ok() && added->truncated;
  if (added.ok() || absl::IsResourceExhausted(added.status())) {
    co_await Truncate(std::move(job.ref), truncated, deadline);
  }
  co_return added.status();
}

SnapshotStats Snapshotter::stats() const {
  base::MutexLock lock(mutex_);
  SnapshotStats stats = stats_;
  stats.damaged = store_->damaged();
  stats.removed_events = truncator_->removed();
  return stats;
}

}  // namespace persistd::repository
