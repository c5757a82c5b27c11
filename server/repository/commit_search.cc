#include "server/repository/commit_search.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/base/uuid.h"
#include "server/domain/errors.h"

namespace persistd::repository {
namespace {

// Beyond this many events the window starts anew, and is filled when it is needed.
constexpr uint64_t kMaxCaughtUp = 4096;

CommitWindow::Commit CommitOf(const domain::RecordedEvent& end) {
  return {
      .id_hash = CommitWindow::Hash(end.commit_id), .last_version = end.version, .recorded_time = end.recorded_time};
}

uint64_t FirstVersion(const domain::RecordedEvent& event) { return event.version - event.commit_index; }

}  // namespace

base::Task<absl::StatusOr<std::optional<domain::RecordedEvent>>> CommitSearch::At(domain::AggregateRef ref, Head head,
                                                                                  std::string commit_id,
                                                                                  uint64_t version,
                                                                                  base::SteadyTime deadline) {
  if (head.version < version) co_return std::nullopt;
  EventNode from{.version = head.version, .sequence = head.sequence, .pointers = head.pointers};
  CO_ASSIGN_OR_RETURN(jetstream::DecodedEvent decoded,
                      co_await history_->EventAt(ref, head.stream, std::move(from), version, deadline));
  if (decoded.event.commit_id != commit_id || decoded.event.commit_index != 0) co_return std::nullopt;
  co_return std::move(decoded.event);
}

base::Task<absl::StatusOr<uint64_t>> CommitSearch::VisitCommits(domain::AggregateRef ref, Head head, uint64_t first,
                                                                uint64_t last, CommitVisitor visitor,
                                                                base::SteadyTime deadline) {
  const EventVisitor visit = [&visitor](domain::RecordedEvent event) -> base::Task<bool> {
    co_return !event.ends_commit() || visitor(event);
  };
  const History::Range range{.first = first, .last = last, .reverse = true};
  absl::StatusOr<uint64_t> reached =
      co_await history_->VisitKept(std::move(ref), std::move(head), range, visit, deadline);
  if (IsRemoved(reached.status())) co_return last + 1;
  co_return reached;
}

base::Task<absl::Status> CommitSearch::CatchUp(domain::AggregateRef ref, Head head, CommitWindow& window,
                                               base::SteadyTime deadline) {
  if (window.last_version() > head.version || head.version - window.last_version() > kMaxCaughtUp) {
    window = CommitWindow::After(head.version);
    co_return absl::OkStatus();
  }
  std::vector<CommitWindow::Commit> missed;
  const CommitVisitor note = [&missed](const domain::RecordedEvent& end) {
    missed.push_back(CommitOf(end));
    return true;
  };
  const uint64_t last = head.version;
  const uint64_t first = window.last_version() + 1;
  if (first > last) co_return absl::OkStatus();
  CO_ASSIGN_OR_RETURN(const uint64_t reached,
                      co_await VisitCommits(std::move(ref), std::move(head), first, last, note, deadline));
  // What the window has no part in is not kept any more: then it begins after that.
  if (reached > first) window = CommitWindow::After(missed.empty() ? last : reached - 1);
  for (auto commit = missed.rbegin(); commit != missed.rend(); ++commit) window.Append(*commit);
  co_return absl::OkStatus();
}

base::Task<absl::StatusOr<std::optional<uint64_t>>> CommitSearch::ByHint(domain::AggregateRef ref, Head head,
                                                                         std::string commit_id,
                                                                         base::SteadyTime deadline) {
  if (hints_ == nullptr) co_return std::nullopt;
  const std::optional<uint64_t> first = co_await hints_->FirstVersion(ref, commit_id, deadline);
  // What the index has read may be gone again: a hint is worth what the stream says of it.
  if (!first.has_value() || *first < 1 || *first > head.version) co_return std::nullopt;
  const uint64_t version = *first;
  const absl::StatusOr<std::optional<domain::RecordedEvent>> found =
      co_await At(ref, std::move(head), std::move(commit_id), version, deadline);
  // The index has seen it while it was there.
  if (IsRemoved(found.status())) co_return MayBeRemoved(ref, found.status());
  if (!found.ok()) co_return found.status();
  if (!found->has_value()) co_return std::nullopt;
  co_return version;
}

absl::Status CommitSearch::MayBeRemoved(const domain::AggregateRef& ref, const absl::Status& removed) {
  const uint64_t first = domain::GetErrorDetail(removed)->history_removed().first_version();
  return domain::HistoryRemoved(
      ref, first,
      "so whether a save with this request_id is stored already cannot be told, and it is not "
      "stored again: load the aggregate, decide again, and save under a new request_id");
}

base::Task<absl::StatusOr<std::optional<uint64_t>>> CommitSearch::Anywhere(domain::AggregateRef ref, Head head,
                                                                           std::string commit_id, CommitWindow& window,
                                                                           base::SteadyTime deadline) {
  if (head.version == 0) co_return std::nullopt;
  const std::optional<base::WallTime> made = base::UuidV7Time(commit_id);
  // Nothing before these can be the save.
  const base::WallTime since = made.has_value() ? *made - kClockSkew : base::WallTime::min();
  const uint64_t least_version =
      made.has_value() ? 1 : std::max<uint64_t>(1, head.version - std::min(head.version, kSearchedEvents) + 1);
  if (head.recorded_time < since) co_return std::nullopt;

  const uint64_t hash = CommitWindow::Hash(commit_id);
  if (const std::optional<uint64_t> end = window.Find(hash, since); end.has_value()) {
    EventNode from{.version = head.version, .sequence = head.sequence, .pointers = head.pointers};
    absl::StatusOr<jetstream::DecodedEvent> decoded =
        co_await history_->EventAt(ref, head.stream, std::move(from), *end, deadline);
    if (IsRemoved(decoded.status())) co_return MayBeRemoved(ref, decoded.status());
    if (!decoded.ok()) co_return decoded.status();
    if (decoded->event.commit_id == commit_id) co_return FirstVersion(decoded->event);
  }
  if (window.CoversSince(since)) co_return std::nullopt;
  if (!made.has_value()) {
    CO_ASSIGN_OR_RETURN(const std::optional<uint64_t> hinted, co_await ByHint(ref, head, commit_id, deadline));
    if (hinted.has_value()) co_return hinted;
  }
  if (window.first_version() <= least_version) co_return std::nullopt;

  std::optional<uint64_t> found;
  const CommitVisitor visit = [&](const domain::RecordedEvent& end) {
    if (end.commit_id == commit_id) found = FirstVersion(end);
    window.Prepend(CommitOf(end), FirstVersion(end));
    return !found.has_value() && end.recorded_time >= since;
  };
  bool before = false;  // It went so far back that nothing earlier can be the save.
  const CommitVisitor look = [&](const domain::RecordedEvent& end) {
    const bool more = visit(end);
    before = before || end.recorded_time < since;
    return more;
  };
  const uint64_t last = window.first_version() - 1;
  const domain::AggregateRef saved = ref;
  CO_ASSIGN_OR_RETURN(const uint64_t reached,
                      co_await VisitCommits(std::move(ref), std::move(head), least_version, last, look, deadline));
  // Of an id that carries no time, what is kept is all there is to search, beside the hints.
  if (made.has_value() && !found.has_value() && !before && reached > least_version) {
    co_return MayBeRemoved(saved, domain::HistoryRemoved(saved, reached));
  }
  co_return found;
}

absl::Status CheckSameContent(const SaveCommand& command, absl::string_view request_id,
                              const std::vector<Event>& stored, const domain::AggregateLabels& labels) {
  const auto reused = [&command, request_id](absl::string_view difference) {
    return domain::RequestIdReused(command.ref, request_id, difference);
  };
  if (command.events.size() != stored.size()) {
    return reused(absl::StrCat("it had ", stored.size(), " events, not ", command.events.size()));
  }
  for (size_t i = 0; i < stored.size(); ++i) {
    const domain::RecordedEvent& before = stored[i].event;
    const SaveEvent& asked = command.events[i];
    domain::EventMetadata metadata = asked.event.metadata;
    metadata.traceparent = before.metadata.traceparent;  // A retry is traced anew.
    const bool same = asked.event.type == before.type && asked.event.schema_version == before.schema_version &&
                      asked.event.payload == before.payload && metadata == before.metadata &&
                      (!asked.has_event_id || asked.event.event_id == before.event_id) &&
                      (!asked.has_time || asked.event.time == before.time);
    if (!same) return reused(absl::StrCat("events[", i, "] differs"));
  }
  // A save without labels keeps those of the save before it, which cannot be told from labels of its own.
  if (command.tags.has_value() && *command.tags != labels.tags) return reused("the tags differ");
  if (command.metadata.has_value() && *command.metadata != labels.metadata) return reused("the metadata differs");
  return absl::OkStatus();
}

}  // namespace persistd::repository
