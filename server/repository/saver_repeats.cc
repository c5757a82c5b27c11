// The saver: whether this very save was stored before, by an earlier call, by this one, or by another daemon.
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/base/uuid.h"
#include "server/domain/errors.h"
#include "server/repository/saver.h"

namespace persistd::repository {

bool Saver::MayBeStored(const Attempt& attempt) {
  // An id made here can be stored only by this very save.
  if (attempt.command.request_id.empty() && !attempt.open) return false;
  const Part& first = attempt.parts.front();
  const Head& head = first.known.head;
  if (head.version == 0) return false;
  return first.expectation.kind != Expectation::Kind::kExact || first.expectation.version < head.version ||
         head.commit_id == attempt.commit_id;
}

base::Task<absl::StatusOr<std::optional<std::vector<Commit>>>> Saver::FindEarlier(Attempt& attempt) {
  CO_ASSIGN_OR_RETURN(std::optional<uint64_t> first_version, co_await FindEarlier(attempt, attempt.parts.front()));
  if (!first_version.has_value()) co_return std::nullopt;
  attempt.stored = true;
  std::vector<Commit> commits;
  for (size_t i = 0; i < attempt.command.saves.size(); ++i) {
    Part& part = attempt.parts[i];
    if (i > 0) {
      CO_ASSIGN_OR_RETURN(first_version, co_await FindEarlier(attempt, part));
      // Its head may be older than that of the first part, where the commit was found.
      if (!first_version.has_value()) {
        CO_RETURN_IF_ERROR(co_await RefreshHead(attempt, part));
        part.fresh = true;
        CO_ASSIGN_OR_RETURN(first_version, co_await FindEarlier(attempt, part));
      }
    }
    if (!first_version.has_value()) {
      co_return domain::RequestIdReused(part.ref, attempt.command.request_id, "it did not save this aggregate");
    }
    CO_ASSIGN_OR_RETURN(Commit commit, co_await CommitFound(attempt, part, *first_version));
    const uint32_t messages = commit.events.front().event.group_size;
    CO_RETURN_IF_ERROR(CheckSameContent(*part.command, attempt.command.request_id, commit.events, commit.head.labels));
    if ((messages > 0) == attempt.single()) {
      co_return domain::RequestIdReused(part.ref, attempt.command.request_id, "it saved other aggregates with it");
    }
    Remember(part.ref, part.known.head, part.known.window);
    commits.push_back(std::move(commit));
  }
  co_return commits;
}

base::Task<absl::StatusOr<std::optional<uint64_t>>> Saver::FindEarlier(const Attempt& attempt, Part& part) {
  const Head& head = part.known.head;
  if (head.version == 0) co_return std::nullopt;
  if (part.expectation.kind != Expectation::Kind::kExact) {
    if (part.known.window == nullptr) {
      part.known.window = std::make_shared<CommitWindow>(CommitWindow::After(head.version));
    }
    co_return co_await search_.Anywhere(part.ref, head, attempt.commit_id, *part.known.window, attempt.deadline);
  }
  if (part.expectation.version < head.version) {
    const uint64_t place = part.expectation.version + 1;
    const absl::StatusOr<std::optional<domain::RecordedEvent>> found =
        co_await search_.At(part.ref, head, attempt.commit_id, place, attempt.deadline);
    // An event that is not kept any more: the aggregate has moved on since, which is the answer to a save of that
    // version whether it is stored or not. Of a commit whose first aggregate is found it is no answer.
    const bool removed = IsRemoved(found.status()) && !attempt.stored && !attempt.open;
    if (!found.ok() && !removed) co_return found.status();
    if (found.ok() && found->has_value()) co_return place;
  }
  if (head.commit_id == attempt.commit_id) {
    co_return domain::RequestIdReused(part.ref, attempt.command.request_id, "it expected another version");
  }
  co_return std::nullopt;
}

base::Task<absl::StatusOr<Commit>> Saver::CommitFound(const Attempt& attempt, const Part& part,
                                                      uint64_t first_version) {
  const domain::AggregateRef& ref = part.ref;
  const Head& head = part.known.head;
  EventNode from{.version = head.version, .sequence = head.sequence, .pointers = head.pointers};
  CO_ASSIGN_OR_RETURN(jetstream::DecodedEvent first,
                      co_await history_->EventAt(ref, head.stream, from, first_version, attempt.deadline));
  const uint64_t last_version = first_version + first.event.commit_size - 1;
  if (last_version > head.version) {
    co_return domain::CorruptData(head.stream->name, first.event.sequence, "a save is longer than its history");
  }
  CO_ASSIGN_OR_RETURN(jetstream::DecodedEvent last,
                      co_await history_->EventAt(ref, head.stream, from, last_version, attempt.deadline));
  Commit commit;
  commit.commit_id = first.event.commit_id;
  commit.deduplicated = !attempt.command.request_id.empty();
  commit.first_version = first_version;
  commit.head.stream = head.stream;
  commit.head.version = last_version;
  commit.head.sequence = last.event.sequence;
  commit.head.last_sequence = last.event.sequence;
  commit.head.recorded_time = last.event.recorded_time;
  commit.head.cid = last.event.cid;
  commit.head.labels = std::move(last.labels);
  commit.head.deleted = last.event.type == domain::kDeletedType;
  const EventVisitor collect = [&commit, &head](domain::RecordedEvent event) -> base::Task<bool> {
    Event stored;
    stored.position = PositionOf(*head.stream, event.sequence);
    stored.event = std::move(event);
    commit.events.push_back(std::move(stored));
    co_return true;
  };
  const History::Range range{.first = first_version, .last = last_version, .reverse = false};
  CO_RETURN_IF_ERROR(co_await history_->Visit(ref, head, range, collect, attempt.deadline));
  co_return commit;
}

absl::Status Saver::CheckRequestId(const Attempt& attempt, base::WallTime recorded) const {
  const std::optional<base::WallTime> made = base::UuidV7Time(attempt.command.request_id);
  if (!made.has_value() || *made <= recorded + CommitSearch::kClockSkew) return absl::OkStatus();
  return domain::InvalidField(
      "request_id",
      absl::StrCat("is a UUIDv7 of a time that is ", std::chrono::ceil<std::chrono::seconds>(*made - recorded).count(),
                   " s ahead of the daemon's clock; at most ", std::chrono::seconds(CommitSearch::kClockSkew).count(),
                   " s are allowed without expected_version, or a repeated save would not be recognised: correct the "
                   "clock of the client (or of the daemon)"));
}

}  // namespace persistd::repository
