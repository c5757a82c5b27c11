// The saver: sends the messages of a save until it is known what became of them (README.md, step 6).
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/domain/errors.h"
#include "server/repository/retry.h"
#include "server/repository/saver.h"

namespace persistd::repository {
namespace {

using jetstream::PublishOutcome;
using jetstream::StreamPtr;

// True when the save that begins with `stored` was sent from here. Another daemon gives the same save its own times and
// event ids, and may have been asked to save something else under the same request id.
bool IsCopyOf(const domain::RecordedEvent& stored, const std::vector<Event>& sent) {
  const domain::RecordedEvent& first = sent.front().event;
  return stored.event_id == first.event_id && stored.recorded_time == first.recorded_time && stored.cid == first.cid &&
         stored.commit_size == first.commit_size;
}

}  // namespace

base::Task<Saver::Settled> Saver::PublishUntilSettled(Attempt& attempt, const Prepared& prepared) {
  // What these messages continue, to the end.
  std::vector<Continued> sent;
  sent.reserve(attempt.parts.size());
  for (const Part& part : attempt.parts) sent.push_back({part.known.head.version, part.known.head.last_sequence});
  Settled settled;
  Backoff backoff;
  absl::Status last_error;
  while (clock_->SteadyNow() < attempt.deadline && !storage_->writes().closed()) {
    attempt.sent = true;
    const PublishOutcome outcome =
        co_await storage_->committer().Commit(attempt.stream, prepared.unit, AttemptTime(backoff), attempt.deadline);
    if (outcome.kind == PublishOutcome::Kind::kStored) {
      settled.kind = Settled::Kind::kStored;
      settled.last_sequence = outcome.last_sequence;
      co_return settled;
    }
    last_error = outcome.status;
    const bool answered =
        outcome.kind == PublishOutcome::Kind::kConflict || outcome.kind == PublishOutcome::Kind::kRefused;
    if (outcome.kind == PublishOutcome::Kind::kUnknown) settled.was_unknown = true;
    // A refusal may come in the middle of a batch.
    if (settled.was_unknown || outcome.kind == PublishOutcome::Kind::kRefused) attempt.open = true;
    if (answered) {
      std::optional<Settled> found =
          co_await LookAfterAnswer(attempt, prepared, sent, outcome, settled.was_unknown, last_error);
      if (found.has_value()) co_return *std::move(found);
      // What a server that failed to store has stored after all could not be read, so it is not known.
      if (outcome.kind == PublishOutcome::Kind::kRefused) settled.was_unknown = true;
      if (IsPermanent(last_error) && outcome.kind == PublishOutcome::Kind::kConflict) {
        settled.status = settled.was_unknown ? OutcomeUnknown(attempt, last_error.message()) : last_error;
        co_return settled;
      }
    } else if (!settled.was_unknown && !storage_->writes().status().ok()) {
      settled.status = outcome.status;  // NATS is away and nothing was sent: the caller need not wait.
      co_return settled;
    }
    co_await executor_->Sleep(std::min(attempt.deadline, backoff.Next()));
    // Where it only waited for its turn in vain there is nothing to learn about the stream.
    const bool unsent = outcome.kind == PublishOutcome::Kind::kNotStored;
    absl::Status lost = co_await CheckStream(attempt, unsent && !absl::IsResourceExhausted(outcome.status));
    if (!lost.ok()) {
      // It may come back, with a copy of these messages.
      settled.status = settled.was_unknown ? OutcomeUnknown(attempt, lost.message()) : lost;
      co_return settled;
    }
  }
  if (settled.was_unknown) {
    settled.status = OutcomeUnknown(attempt, last_error.message());
  } else if (absl::IsUnknown(last_error) || absl::IsAborted(last_error)) {
    settled.status = domain::NatsUnavailable(last_error.message());
  } else if (last_error.ok()) {
    settled.status = domain::NatsUnavailable("the call's time was over before the events were sent");
  } else {
    settled.status = last_error;
  }
  co_return settled;
}

base::Task<std::optional<Saver::Settled>> Saver::LookAfterAnswer(Attempt& attempt, const Prepared& prepared,
                                                                 const std::vector<Continued>& sent,
                                                                 const PublishOutcome& outcome, bool was_unknown,
                                                                 absl::Status& last_error) {
  // The server has dealt with these copies, so now reading tells what is stored: an earlier copy, or, after an error in
  // the middle of storing, even these.
  const absl::Status refreshed = co_await RefreshHeads(attempt, /*only_stale=*/false);
  if (!refreshed.ok()) {
    last_error = refreshed;
    co_return std::nullopt;
  }
  const Head& now = attempt.parts.front().known.head;
  absl::StatusOr<std::optional<domain::RecordedEvent>> ours =
      co_await search_.At(attempt.first_ref(), now, attempt.commit_id, sent.front().version + 1, attempt.deadline);
  Settled settled;
  settled.was_unknown = was_unknown;
  if (IsRemoved(ours.status())) {
    // The place of these events is taken, and what took it is not kept any more. If a copy of them may have been stored
    // it may be that; otherwise it is an other save, as the answer says.
    if (was_unknown || attempt.open) {
      settled.status = OutcomeUnknown(attempt, ours.status().message());
      co_return settled;
    }
    ours = std::optional<domain::RecordedEvent>();
  }
  if (!ours.ok()) {
    last_error = ours.status();
    co_return std::nullopt;
  }
  if (ours->has_value()) {
    attempt.stored = true;
    const Prepared::Save& save = prepared.saves.front();
    if (!IsCopyOf(**ours, save.events)) {
      settled.kind = Settled::Kind::kLostRace;  // To this save itself, which the caller repeated elsewhere.
      co_return settled;
    }
    settled.kind = Settled::Kind::kStored;
    settled.last_sequence = (*ours)->sequence + prepared.unit->messages.size() - save.first_message - 1;
    co_return settled;
  }
  bool moved = false;
  for (size_t i = 0; i < sent.size(); ++i) {
    moved |= attempt.parts[i].known.head.last_sequence != sent[i].last_sequence;
  }
  // No copy of these messages can pass the checks any more. A server that ran out of space in the middle of a batch has
  // moved the head by itself, to a torn save.
  if (moved) {
    settled.kind = Settled::Kind::kLostRace;
    if (outcome.kind == PublishOutcome::Kind::kRefused) settled.status = outcome.status;
    co_return settled;
  }
  if (outcome.kind == PublishOutcome::Kind::kRefused && !was_unknown) {
    settled.status = outcome.status;
    // A leader that has no room gives up its place; replicas that have some may store what it refused.
    if (attempt.stream->replicas > 1 && absl::IsResourceExhausted(outcome.status)) {
      settled.status = OutcomeUnknown(attempt, outcome.status.message());
    }
    co_return settled;
  }
  co_return std::nullopt;
}

base::Task<absl::Status> Saver::CheckStream(const Attempt& attempt, bool forget) {
  // After a loss of the connection the stream is looked at again; it must still be the same one.
  if (forget) storage_->Forget(*attempt.stream);
  absl::StatusOr<StreamPtr> stream = co_await storage_->FindEvents(attempt.first_ref(), attempt.deadline);
  if (IsPermanent(stream.status())) co_return stream.status();
  if (stream.ok() && (*stream == nullptr || (*stream)->incarnation != attempt.stream->incarnation)) {
    co_return domain::StorageUnsuitable(
        absl::StrCat("stream ", attempt.stream->name, " was removed or replaced during the save"));
  }
  co_return absl::OkStatus();
}

}  // namespace persistd::repository
