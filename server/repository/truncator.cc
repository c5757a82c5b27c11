#include "server/repository/truncator.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cim/persistence/v1/errors.pb.h"
#include "server/base/logging.h"
#include "server/base/status_macros.h"
#include "server/domain/errors.h"
#include "server/domain/subject.h"
#include "server/jetstream/event_codec.h"
#include "server/repository/event_fold.h"
#include "server/repository/retry.h"

namespace persistd::repository {
namespace {

using jetstream::Message;
using jetstream::ReadFrom;
using jetstream::StreamPtr;

// Snapshots that wait until they are old enough are at least this part of that age apart; the newest ones all stay.
constexpr int kWaiting = 8;
constexpr int kAttempts = 5;

EventNode NodeOf(const Head& head) {
  return {.version = head.version, .sequence = head.sequence, .pointers = head.pointers};
}

}  // namespace

Truncator::Truncator(Options options, Storage* storage, History* history, SnapshotStore* store,
                     base::Executor* executor, const base::Clock* clock)
    : options_(std::move(options)),
      storage_(storage),
      history_(history),
      store_(store),
      executor_(executor),
      clock_(clock) {}

bool Truncator::IsOld(base::WallTime time) const { return clock_->WallNow() - time >= options_.min_age; }

base::Task<absl::StatusOr<bool>> Truncator::FoldContinues(const domain::StateRecord& state, base::SteadyTime deadline) {
  const auto found = options_.rules.find({state.ref.context, state.ref.aggregate});
  if (found == options_.rules.end() || found->second.fold == nullptr) co_return true;
  const TypeRules& rules = found->second;
  if (state.schema_version != rules.state_schema_version || !IsJsonState(state.payload)) co_return false;
  if (options_.transforms == nullptr) co_return false;
  // Numbers, sizes and depths that the workers refuse they also refuse without an event.
  std::vector<transform::FoldInput> nothing;
  const transform::FoldOutput output =
      co_await options_.transforms->Fold(rules.fold, state.payload.data, std::move(nothing), deadline);
  if (output.status.ok()) co_return true;
  if (absl::IsInvalidArgument(output.status) || absl::IsOutOfRange(output.status)) co_return false;
  co_return domain::Overloaded(absl::StrCat("the fold could not run: ", output.status.message()));
}

base::Task<absl::StatusOr<std::optional<Truncator::Usable>>> Truncator::Test(domain::AggregateRef ref, const Head& head,
                                                                             ManifestEntry entry,
                                                                             base::SteadyTime deadline) {
  std::optional<Usable> no;
  if (entry.version > head.version) co_return no;
  Usable usable;
  absl::StatusOr<jetstream::DecodedEvent> decoded =
      co_await history_->EventAt(ref, head.stream, NodeOf(head), entry.version, deadline);
  if (IsRemoved(decoded.status()) || absl::IsDataLoss(decoded.status())) co_return no;
  if (!decoded.ok()) co_return decoded.status();
  usable.event = std::move(decoded->event);
  usable.event.payload = {};
  if (usable.event.commit_id != entry.commit_id || !usable.event.ends_commit()) co_return no;
  absl::StatusOr<std::optional<SnapshotStore::Stored>> stored = co_await store_->ReadBack(ref, entry, deadline);
  if (absl::IsDataLoss(stored.status())) {
    base::LogError("a snapshot is damaged", {{"key", SnapshotKey(ref, entry.version)}, {"error", stored.status()}});
    co_return no;
  }
  if (!stored.ok()) co_return stored.status();
  if (!stored->has_value()) co_return no;
  CO_ASSIGN_OR_RETURN(const bool continues, co_await FoldContinues((*stored)->state, deadline));
  if (!continues) co_return no;
  usable.written = (*stored)->written;
  if (!IsOld(usable.written)) co_return no;
  co_return std::optional<Usable>(std::move(usable));
}

base::Task<absl::StatusOr<bool>> Truncator::HasUsable(domain::AggregateRef ref, const Head& head,
                                                      const SnapshotManifest& manifest, uint64_t version,
                                                      uint64_t except, base::SteadyTime deadline) {
  for (auto entry = manifest.entries.rbegin(); entry != manifest.entries.rend(); ++entry) {
    if (entry->version < version || entry->version == except) continue;
    CO_ASSIGN_OR_RETURN(const std::optional<Usable> usable, co_await Test(ref, head, *entry, deadline));
    if (usable.has_value()) co_return true;
  }
  co_return false;
}

base::Task<absl::StatusOr<std::optional<Truncator::Base>>> Truncator::FindBase(domain::AggregateRef ref,
                                                                               const Head& head,
                                                                               const SnapshotManifest& manifest,
                                                                               size_t keep, base::SteadyTime deadline) {
  std::optional<Base> none;
  size_t usables = 0;
  for (auto entry = manifest.entries.rbegin(); entry != manifest.entries.rend(); ++entry) {
    // Without reading it: a snapshot is never older than its entry.
    if (!IsOld(entry->created)) continue;
    CO_ASSIGN_OR_RETURN(std::optional<Usable> usable, co_await Test(ref, head, *entry, deadline));
    if (!usable.has_value()) continue;
    if (++usables < keep || !IsOld(usable->event.recorded_time)) continue;
    Base found;
    found.entry = *entry;
    found.event = std::move(usable->event);
    co_return std::optional<Base>(std::move(found));
  }
  co_return none;
}

base::Task<absl::StatusOr<bool>> Truncator::IsLastOfGroup(const Head& head, const domain::RecordedEvent& end,
                                                          base::SteadyTime deadline) {
  const uint64_t first = end.sequence - end.group_place + 1;
  for (uint64_t sequence = first; sequence < end.sequence; ++sequence) {
    CO_ASSIGN_OR_RETURN(std::optional<Message> message,
                        co_await storage_->reader().Get(head.stream->name, sequence, ReadFrom::kLeader, deadline));
    if (!message.has_value()) continue;
    const std::optional<domain::ParsedEventSubject> subject = domain::ParseEventSubject(message->subject);
    // Its own events go with it. What is no event, such as a check, counts for nobody.
    if (subject.has_value() && subject->ref != end.ref) co_return false;
  }
  co_return true;
}

base::Task<absl::StatusOr<Truncator::FirstKept>> Truncator::FindFirstKept(domain::AggregateRef ref, const Head& head,
                                                                          const domain::RecordedEvent& base,
                                                                          uint64_t from, base::SteadyTime deadline) {
  const uint64_t last = base.version - base.commit_index;
  FirstKept first;
  // The last event that ends a commit of several aggregates must stay as long as others have events of it: it tells
  // that these count.
  bool ended = false;
  absl::Status failed;
  uint64_t read = 0;
  const EventVisitor visit = [&](domain::RecordedEvent event) -> base::Task<bool> {
    if (event.commit_index == 0) first = {.version = event.version, .sequence = event.sequence};
    if (event.version == last) co_return false;
    if (++read >= options_.max_events && event.commit_index == 0) co_return false;
    if (event.group_size == 0 || event.group_place != event.group_size) co_return true;
    absl::StatusOr<bool> goes = co_await IsLastOfGroup(head, event, deadline);
    if (!goes.ok()) failed = goes.status();
    ended = !goes.ok() || !*goes;
    co_return !ended;
  };
  const uint64_t enough = from + options_.max_events + domain::kMaxEventsPerSave;
  const History::Range range{.first = from, .last = std::min(last, enough), .reverse = false};
  CO_RETURN_IF_ERROR(co_await history_->Visit(ref, head, range, visit, deadline));
  CO_RETURN_IF_ERROR(failed);
  co_return first;
}

base::Task<absl::StatusOr<std::vector<uint64_t>>> Truncator::Pieces(domain::AggregateRef ref, const Head& head,
                                                                    jetstream::DecodedEvent kept,
                                                                    base::SteadyTime deadline) {
  std::vector<uint64_t> sequences = {kept.event.sequence};
  // One read for each 32 events: the last one that an event points to.
  while (!kept.pointers.back.empty()) {
    const uint64_t sequence = kept.pointers.back.back();
    CO_ASSIGN_OR_RETURN(std::optional<Message> message,
                        co_await storage_->reader().Get(head.stream->name, sequence, ReadFrom::kLeader, deadline));
    if (!message.has_value()) break;
    absl::StatusOr<jetstream::DecodedEvent> decoded = jetstream::DecodeEvent(*std::move(message));
    if (!decoded.ok() || decoded->event.ref != ref) break;
    sequences.push_back(sequence);
    kept = *std::move(decoded);
  }
  co_return sequences;
}

base::Task<absl::Status> Truncator::Purge(domain::AggregateRef ref, const Head& head, Truncation truncation,
                                          base::SteadyTime deadline) {
  jetstream::Reader& reader = storage_->reader();
  const std::string& stream = head.stream->name;
  const std::string filter = domain::EventFilter(ref);
  CO_ASSIGN_OR_RETURN(const std::optional<Message> oldest,
                      co_await reader.Next(stream, filter, 1, ReadFrom::kLeader, deadline));
  if (!oldest.has_value() || oldest->sequence >= truncation.first_sequence) co_return absl::OkStatus();
  if (truncation.base > head.version || truncation.first_sequence > head.sequence) {
    co_return domain::CorruptData(stream, head.sequence, "the history ends before what must stay after a truncation");
  }
  // What stays is looked at once more: the stream could have been restored from a backup since.
  const auto read = [&](uint64_t version, uint64_t sequence) -> base::Task<absl::StatusOr<jetstream::DecodedEvent>> {
    CO_ASSIGN_OR_RETURN(std::optional<Message> message,
                        co_await reader.Get(stream, sequence, ReadFrom::kLeader, deadline));
    if (!message.has_value()) co_return domain::CorruptData(stream, sequence, "an event that must stay is missing");
    absl::StatusOr<jetstream::DecodedEvent> decoded = jetstream::DecodeEvent(*std::move(message));
    if (!decoded.ok() || decoded->event.ref != ref || decoded->event.version != version) {
      co_return domain::CorruptData(stream, sequence, "is not the event that is to stay after a truncation");
    }
    co_return decoded;
  };
  CO_ASSIGN_OR_RETURN(const jetstream::DecodedEvent stands, co_await read(truncation.base, truncation.base_sequence));
  if (stands.event.commit_id != truncation.commit_id) {
    co_return domain::CorruptData(stream, truncation.base_sequence, "is not of the save that a snapshot stands for");
  }
  CO_ASSIGN_OR_RETURN(jetstream::DecodedEvent kept, co_await read(truncation.first_kept, truncation.first_sequence));
  if (kept.event.commit_index != 0) {
    co_return domain::CorruptData(stream, truncation.first_sequence, "does not begin a save");
  }
  CO_ASSIGN_OR_RETURN(std::vector<uint64_t> pieces, co_await Pieces(ref, head, std::move(kept), deadline));
  // The stream takes no message while NATS purges, which looks through each of its blocks that holds one of the events.
  // So only some go at a time, and as long as that took it is left alone.
  uint64_t removed = 0;
  for (auto sequence = pieces.rbegin(); sequence != pieces.rend(); ++sequence) {
    if (*sequence <= oldest->sequence) continue;
    const base::SteadyTime began = clock_->SteadyNow();
    CO_ASSIGN_OR_RETURN(const uint64_t purged,
                        co_await storage_->all_streams().PurgeBelow(stream, filter, *sequence, deadline));
    removed += purged;
    removed_ += purged;
    const base::SteadyTime now = clock_->SteadyNow();
    if (std::next(sequence) != pieces.rend()) co_await executor_->Sleep(now + (now - began));
  }
  base::LogDebug("events removed", {{"stream", stream}, {"events", removed}, {"before", truncation.first_kept}});
  co_return absl::OkStatus();
}

std::vector<uint64_t> Truncator::Surplus(const SnapshotManifest& manifest, const std::optional<Base>& base,
                                         size_t keep) const {
  const std::vector<ManifestEntry>& entries = manifest.entries;
  std::vector<uint64_t> surplus;
  // While events are removed, only what a base is known for goes.
  if (!base.has_value() && manifest.truncation.has_value()) return surplus;
  const std::chrono::milliseconds apart = options_.min_age / kWaiting;
  std::optional<base::WallTime> last;
  for (size_t i = 0; i < entries.size(); ++i) {
    const ManifestEntry& entry = entries[i];
    if (base.has_value() && entry.version < base->entry.version) {
      surplus.push_back(entry.version);
    } else if (i + keep < entries.size() && last.has_value() && !IsOld(entry.created) &&
               entry.created - *last < apart) {
      surplus.push_back(entry.version);
    } else {
      last = entry.created;
    }
  }
  return surplus;
}

base::Task<absl::Status> Truncator::Run(domain::AggregateRef ref, size_t keep, bool remove, base::SteadyTime deadline) {
  if (keep == 0) co_return absl::OkStatus();
  absl::Status status;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    status = co_await RunOnce(ref, keep, remove, deadline);
    if (!absl::IsAborted(status)) break;
  }
  // Another daemon was faster, or snapshots are taken too quickly: it is looked after again with the next one.
  if (absl::IsAborted(status) || IsRemoved(status)) co_return absl::OkStatus();
  co_return status;
}

base::Task<absl::Status> Truncator::RunOnce(domain::AggregateRef ref, size_t keep, bool remove,
                                            base::SteadyTime deadline) {
  CO_ASSIGN_OR_RETURN(const StreamPtr stream, co_await storage_->FindEvents(ref, deadline));
  if (stream == nullptr) co_return absl::OkStatus();
  CO_ASSIGN_OR_RETURN(const Head head, co_await history_->ReadHead(ref, stream, Absence::kVerify, deadline));
  // Of a deleted one everything stays: a later save may undelete it.
  if (head.version == 0 || head.deleted || head.foreign_tail) co_return absl::OkStatus();
  CO_ASSIGN_OR_RETURN(SnapshotStore::Listed list, co_await store_->List(ref, deadline));
  if (list.manifest.entries.empty()) co_return absl::OkStatus();
  std::optional<Truncation>& marked = list.manifest.truncation;
  // Whatever is removed may be gone for good at once, so what stands for it must be on disk, and stay there while lists
  // and blocks are written anew. Only a NATS that calls fsync before it acknowledges promises that.
  const bool durable = options_.fsync_always(stream->replicas);
  bool may_remove = remove && stream->purgeable && durable;
  if (remove && stream->purgeable && !durable && !said_not_durable_.exchange(true)) {
    base::LogWarn(
        "events are not truncated: it is not known that NATS calls fsync before it acknowledges",
        {{"stream", stream->name}, {"needed", "sync_interval: always, and nats.monitoring_url of all servers"}});
  }
  if (may_remove) {
    CO_ASSIGN_OR_RETURN(may_remove, co_await store_->IsAsSafeAs(stream->replicas, deadline));
  }

  // What was announced, but perhaps not removed: somebody may have ended in between.
  if (marked.has_value() && may_remove) {
    CO_ASSIGN_OR_RETURN(const bool stands,
                        co_await HasUsable(ref, head, list.manifest, marked->base, /*except=*/0, deadline));
    if (!stands) {
      base::LogError("events are not truncated: the snapshots that would stand for them cannot be used",
                     {{"key", ManifestKey(ref)}, {"version", marked->base}});
      co_return absl::OkStatus();
    }
    CO_RETURN_IF_ERROR(co_await Purge(ref, head, *marked, deadline));
  }

  CO_ASSIGN_OR_RETURN(const std::optional<Base> base, co_await FindBase(ref, head, list.manifest, keep, deadline));
  // The list must go on to name one from the announced base on.
  if (base.has_value() && marked.has_value() && base->entry.version < marked->base) co_return absl::OkStatus();
  std::vector<uint64_t> surplus = Surplus(list.manifest, base, keep);
  bool fresh = false;
  if (base.has_value() && may_remove) {
    const uint64_t from = marked.has_value() ? marked->first_kept : 1;
    CO_ASSIGN_OR_RETURN(const FirstKept first, co_await FindFirstKept(ref, head, base->event, from, deadline));
    fresh = first.version > from;
    if (fresh) {
      Truncation next;
      next.base = base->entry.version;
      next.commit_id = base->entry.commit_id;
      next.base_sequence = base->event.sequence;
      next.first_kept = first.version;
      next.first_sequence = first.sequence;
      next.removed_before = from;
      next.marked = clock_->WallNow();
      marked = std::move(next);
    }
  }
  if (!fresh && surplus.empty()) co_return absl::OkStatus();
  const Truncation announced = marked.value_or(Truncation());
  CO_RETURN_IF_ERROR(co_await store_->Replace(ref, std::move(list), std::move(surplus), deadline));
  if (fresh) CO_RETURN_IF_ERROR(co_await Purge(ref, head, announced, deadline));
  co_return absl::OkStatus();
}

base::Task<absl::Status> Truncator::Drop(domain::AggregateRef ref, uint64_t version, base::SteadyTime deadline) {
  Backoff backoff;
  while (true) {
    CO_ASSIGN_OR_RETURN(SnapshotStore::Listed list, co_await store_->List(ref, deadline));
    if (list.manifest.Find(version) == nullptr) co_return domain::SnapshotNotFound(ref, version);
    if (list.manifest.truncation.has_value()) {
      const Truncation truncation = *list.manifest.truncation;
      CO_ASSIGN_OR_RETURN(const StreamPtr stream, co_await storage_->FindEvents(ref, deadline));
      Head head;
      if (stream != nullptr) {
        CO_ASSIGN_OR_RETURN(head, co_await history_->ReadHead(ref, stream, Absence::kVerify, deadline));
      }
      bool another = false;
      if (head.version > 0) {
        CO_ASSIGN_OR_RETURN(another, co_await HasUsable(ref, head, list.manifest, truncation.base, version, deadline));
      }
      if (!another) {
        co_return domain::HistoryRemoved(
            ref, truncation.first_kept,
            absl::StrCat("no other snapshot stands for them, so the one of version ", version,
                         " must stay: take another one first (one counts when it is as old as "
                         "repository.truncation_min_age)"));
      }
    }
    std::vector<uint64_t> dropped = {version};
    const absl::Status replaced = co_await store_->Replace(ref, std::move(list), std::move(dropped), deadline);
    if (!absl::IsAborted(replaced)) co_return replaced;
    CO_RETURN_IF_ERROR(co_await store_->Pause(backoff, deadline));
  }
}

}  // namespace persistd::repository
