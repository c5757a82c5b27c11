#include "server/repository/truncator.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/logging.h"
#include "server/base/status_macros.h"
#include "server/domain/errors.h"
#include "server/domain/subject.h"
#include "server/jetstream/api.h"

namespace persistd::repository {

using jetstream::StreamPtr;

base::Task<absl::StatusOr<RemovedBefore>> Truncator::FirstToKeep(domain::AggregateRef ref, StreamPtr stream,
                                                                 ManifestEntry oldest, base::SteadyTime deadline) {
  RemovedBefore nothing;
  CO_ASSIGN_OR_RETURN(Head head, co_await history_.ReadHead(ref, stream, Absence::kVerify, deadline));
  if (head.version < oldest.version) co_return nothing;
  const EventNode from{.version = head.version, .sequence = head.sequence, .pointers = std::move(head.pointers)};
  CO_ASSIGN_OR_RETURN(jetstream::DecodedEvent made,
                      co_await history_.EventAt(ref, stream, from, oldest.version, deadline));
  if (made.event.commit_id != oldest.commit_id) co_return nothing;  // Of a history that was lost.
  // The whole save stays, so that a repeat of it can be answered.
  const uint64_t first = oldest.version - made.event.commit_index;
  if (first <= 1) co_return nothing;
  CO_ASSIGN_OR_RETURN(const jetstream::DecodedEvent begin,
                      co_await history_.EventAt(ref, stream, from, first, deadline));
  co_return RemovedBefore{.version = first, .sequence = begin.event.sequence};
}

base::Task<absl::Status> Truncator::Truncate(domain::AggregateRef ref, base::SteadyTime deadline) {
  CO_ASSIGN_OR_RETURN(const StreamPtr stream, co_await storage_.FindEvents(ref, deadline));
  if (stream == nullptr || !stream->truncates) co_return absl::OkStatus();
  CO_ASSIGN_OR_RETURN(const SnapshotManifest manifest, co_await snapshots_.Manifest(ref, deadline));
  if (manifest.entries.empty()) co_return absl::OkStatus();
  const ManifestEntry oldest = manifest.entries.front();
  if (clock_.WallNow() - oldest.created < min_age_) co_return absl::OkStatus();
  CO_ASSIGN_OR_RETURN(const RemovedBefore before, co_await FirstToKeep(ref, stream, oldest, deadline));
  if (before.version == 0) co_return absl::OkStatus();
  CO_ASSIGN_OR_RETURN(const std::optional<domain::StateRecord> snapshot,
                      co_await snapshots_.Latest(ref, oldest.version, deadline));
  if (!snapshot.has_value() || snapshot->version != oldest.version) {
    co_return absl::DataLossError(absl::StrCat("the snapshot of version ", oldest.version, " cannot be read"));
  }
  // From now on one that stands for the events stays.
  CO_RETURN_IF_ERROR(co_await snapshots_.NoteRemoval(ref, oldest, before, deadline));
  const std::string body =
      nlohmann::json{{"filter", domain::EventFilter(ref)}, {"seq", before.sequence}}.dump();
  CO_ASSIGN_OR_RETURN(const jetstream::ApiAnswer answer,
                      co_await jetstream::CallApi(storage_.writes(), absl::StrCat("$JS.API.STREAM.PURGE.", stream->name),
                                                  body, deadline));
  if (answer.error.has_value()) co_return absl::UnavailableError(answer.error->ToString());
  const uint64_t removed = jetstream::UnsignedField(answer.body, "purged");
  removed_events_ += removed;
  if (removed > 0) {
    base::LogDebug("events removed after a snapshot", {{"stream", stream->name},
                                                       {"aggregate", ManifestKey(ref)},
                                                       {"before_version", before.version},
                                                       {"events", removed}});
  }
  co_return absl::OkStatus();
}

}  // namespace persistd::repository
