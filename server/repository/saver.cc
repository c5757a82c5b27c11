#include "server/repository/saver.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/base/uuid.h"
#include "server/domain/errors.h"
#include "server/domain/subject.h"
#include "server/repository/retry.h"

namespace persistd::repository {
namespace {

using jetstream::EventPlace;
using jetstream::OutgoingMessage;
using jetstream::PlacePointers;
using jetstream::PublishOutcome;
using jetstream::StreamPtr;

// nats-server refuses headers over 64 KiB; it and the publisher add some of their own.
constexpr size_t kMaxHeaderBytes = 60 * 1024;

bool Meets(const Expectation& expectation, uint64_t version) {
  switch (expectation.kind) {
    case Expectation::Kind::kAny:
      return true;
    case Expectation::Kind::kExact:
      return version == expectation.version;
    case Expectation::Kind::kMustExist:
      return version > 0;
  }
  return false;
}

absl::Status Conflict(const SaveCommand& command, uint64_t actual) {
  const bool exact = command.expectation.kind == Expectation::Kind::kExact;
  return domain::VersionConflict(command.ref, exact ? std::optional(command.expectation.version) : std::nullopt,
                                 actual);
}

// True for errors that say that nothing of the save is stored, or will be.
bool PromisesNotStored(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsResourceExhausted(status) || absl::IsFailedPrecondition(status) ||
         domain::HasReason(status, cim::persistence::v1::ERROR_REASON_INVALID_FIELD);
}

size_t HeadBytes(const Head& head) {
  size_t bytes = 400 + head.commit_id.size() + head.torn_commit_id.size() + head.cid.size() +
                 head.pointers.back.size() * sizeof(uint64_t);
  for (const std::string& tag : head.labels.tags) bytes += tag.size() + 32;
  for (const auto& [key, value] : head.labels.metadata) bytes += key.size() + value.size() + 96;
  return bytes;
}

// Batch places become sequences once the batch's first sequence is known.
jetstream::Pointers Resolve(const PlacePointers& places, uint64_t first_sequence) {
  const auto sequence = [first_sequence](const EventPlace& place) {
    return place.in_batch ? first_sequence + place.number : place.number;
  };
  jetstream::Pointers pointers;
  for (const EventPlace& place : places.back) pointers.back.push_back(sequence(place));
  for (const jetstream::SkipPlace& skip : places.skip) {
    pointers.skip.push_back({.version = skip.version, .sequence = sequence(skip.place)});
  }
  return pointers;
}

domain::Position PositionOf(const jetstream::Stream& stream, uint64_t sequence) {
  return domain::Position({.stream = stream.name, .incarnation = stream.incarnation, .sequence = sequence});
}

// True when the save that begins with `stored` was sent from here. Another daemon gives the same save its own times and
// event ids, and may have been asked to save something else under the same request id.
bool IsCopyOf(const domain::RecordedEvent& stored, const std::vector<Event>& sent) {
  const domain::RecordedEvent& first = sent.front().event;
  return stored.event_id == first.event_id && stored.recorded_time == first.recorded_time &&
         stored.commit_size == first.commit_size;
}

}  // namespace

Saver::Saver(Options options, Storage* storage, History* history, base::Executor* executor, const base::Clock* clock)
    : storage_(storage),
      history_(history),
      executor_(executor),
      clock_(clock),
      search_(history),
      locks_(executor),
      heads_({.max_entries = std::numeric_limits<size_t>::max(), .max_bytes = options.head_cache_bytes}) {}

base::Task<absl::StatusOr<Commit>> Saver::Save(SaveCommand command, base::SteadyTime deadline) {
  Attempt attempt;
  attempt.commit_id = command.request_id.empty() ? base::NewUuidV7(clock_->WallNow()) : command.request_id;
  attempt.command = std::move(command);
  attempt.deadline = deadline;
  CO_ASSIGN_OR_RETURN(const AggregateLocks::Guard guard, co_await locks_.Acquire(attempt.command.ref, deadline));
  absl::StatusOr<Commit> commit = co_await SaveLocked(attempt);
  if (PromisesNotStored(commit.status())) {
    if (attempt.stored) {
      commit = OutcomeUnknown(attempt, absl::StrCat("it was seen, then: ", commit.status().message()));
    } else if (attempt.known.head.torn_commit_id == attempt.commit_id) {
      commit =
          OutcomeUnknown(attempt, absl::StrCat("a part of it is stored, and the NATS server may complete it when it "
                                               "starts again; ",
                                               commit.status().message()));
    }
  }
  // Whatever went wrong, the next save looks at the stream again. After a conflict, this one just did.
  if (!commit.ok() && !absl::IsAborted(commit.status())) heads_.Erase(attempt.command.ref);
  co_return commit;
}

base::Task<absl::StatusOr<Commit>> Saver::SaveLocked(Attempt& attempt) {
  const SaveCommand& command = attempt.command;
  CO_RETURN_IF_ERROR(co_await FindStream(attempt));
  std::optional<KnownHead> cached = heads_.Get(command.ref);
  if (cached.has_value() && cached->head.stream == attempt.stream) {
    attempt.known = *std::move(cached);
  } else {
    CO_RETURN_IF_ERROR(co_await RefreshHead(attempt));
  }
  Backoff backoff;
  while (true) {
    CO_ASSIGN_OR_RETURN(std::optional<Commit> earlier, co_await FindEarlier(attempt));
    if (earlier.has_value()) co_return *std::move(earlier);
    if (!Meets(command.expectation, attempt.known.head.version)) {
      if (attempt.fresh) co_return Conflict(command, attempt.known.head.version);
      CO_RETURN_IF_ERROR(co_await RefreshHead(attempt));
      continue;
    }
    if (attempt.known.head.foreign_tail) {
      co_return domain::ForeignMessage(command.ref, attempt.stream->name, attempt.known.head.last_sequence);
    }
    CO_ASSIGN_OR_RETURN(Prepared prepared, Prepare(attempt));
    const Settled settled = co_await PublishUntilSettled(attempt, prepared);
    if (settled.kind == Settled::Kind::kStored) co_return Finish(attempt, std::move(prepared), settled.last_sequence);
    if (settled.kind == Settled::Kind::kFailed) co_return settled.status;
    // Others moved the head, which PublishUntilSettled has read again: these events are not stored and never will be.
    if (command.expectation.kind == Expectation::Kind::kExact)
      continue;  // Ends in a conflict, or finds an earlier copy.
    if (settled.was_unknown) {
      // The caller may have repeated this save elsewhere meanwhile.
      CO_ASSIGN_OR_RETURN(std::optional<Commit> repeated, co_await FindEarlier(attempt));
      if (repeated.has_value()) co_return *std::move(repeated);
      if (!settled.status.ok()) co_return settled.status;
      co_return domain::NatsUnavailable("another save came first while NATS could not be reached");
    }
    if (clock_->SteadyNow() >= attempt.deadline) {
      co_return domain::Overloaded("other saves of this aggregate took all of this call's time");
    }
    co_await executor_->Sleep(std::min(attempt.deadline, backoff.Next()));
  }
}

absl::Status Saver::OutcomeUnknown(const Attempt& attempt, absl::string_view why) {
  return domain::OutcomeUnknown(attempt.command.ref, why, /*repeatable=*/!attempt.command.request_id.empty());
}

base::Task<absl::Status> Saver::FindStream(Attempt& attempt) {
  const SaveCommand& command = attempt.command;
  // A save that expects something to be there must not leave a new stream behind.
  if (!Meets(command.expectation, 0)) {
    CO_ASSIGN_OR_RETURN(attempt.stream, co_await storage_->FindEvents(command.ref, attempt.deadline));
    if (attempt.stream == nullptr) co_return Conflict(command, 0);
    co_return absl::OkStatus();
  }
  CO_ASSIGN_OR_RETURN(attempt.stream, co_await storage_->CreateEvents(command.ref, attempt.deadline));
  co_return absl::OkStatus();
}

base::Task<absl::Status> Saver::RefreshHead(Attempt& attempt) {
  const domain::AggregateRef& ref = attempt.command.ref;
  std::optional<KnownHead> before = heads_.Get(ref);
  // A publish that follows checks that there is nothing.
  const bool publish_checks = !attempt.sent && Meets(attempt.command.expectation, 0);
  CO_ASSIGN_OR_RETURN(
      Head head, co_await history_->ReadHead(ref, attempt.stream, publish_checks ? Absence::kAccept : Absence::kVerify,
                                             attempt.deadline));
  auto window = std::make_shared<CommitWindow>(CommitWindow::After(head.version));
  // What was known of earlier saves stays true, as long as it is the same history.
  const bool same_history = before.has_value() && before->head.stream == attempt.stream;
  if (same_history && before->window->last_version() <= head.version && !attempt.command.request_id.empty() &&
      attempt.command.expectation.kind != Expectation::Kind::kExact) {
    window = std::move(before->window);
    CO_RETURN_IF_ERROR(co_await search_.CatchUp(ref, head, *window, attempt.deadline));
  }
  attempt.known = KnownHead{.head = std::move(head), .window = std::move(window)};
  attempt.fresh = true;
  Remember(ref, attempt.known);
  co_return absl::OkStatus();
}

base::Task<absl::StatusOr<std::optional<Commit>>> Saver::FindEarlier(Attempt& attempt) {
  const SaveCommand& command = attempt.command;
  const Head& head = attempt.known.head;
  // An id made here can be stored only by this very save.
  if ((command.request_id.empty() && !attempt.open) || head.version == 0) co_return std::nullopt;
  std::optional<uint64_t> first_version;
  if (command.expectation.kind == Expectation::Kind::kExact) {
    if (command.expectation.version < head.version) {
      const uint64_t place = command.expectation.version + 1;
      CO_ASSIGN_OR_RETURN(const std::optional<domain::RecordedEvent> found,
                          co_await search_.At(command.ref, head, attempt.commit_id, place, attempt.deadline));
      if (found.has_value()) first_version = place;
    }
    if (!first_version.has_value() && head.commit_id == attempt.commit_id) {
      co_return domain::RequestIdReused(command.ref, command.request_id, "it expected another version");
    }
  } else {
    CO_ASSIGN_OR_RETURN(first_version, co_await search_.Anywhere(command.ref, head, attempt.commit_id,
                                                                 *attempt.known.window, attempt.deadline));
  }
  if (!first_version.has_value()) co_return std::nullopt;
  attempt.stored = true;
  CO_ASSIGN_OR_RETURN(Commit commit, co_await CommitFound(attempt, *first_version));
  CO_RETURN_IF_ERROR(CheckSameContent(command, commit.events, commit.head.labels));
  Remember(command.ref, attempt.known);
  co_return commit;
}

base::Task<absl::StatusOr<Commit>> Saver::CommitFound(Attempt& attempt, uint64_t first_version) {
  const domain::AggregateRef& ref = attempt.command.ref;
  const Head& head = attempt.known.head;
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

absl::StatusOr<Saver::Prepared> Saver::Prepare(const Attempt& attempt) const {
  const SaveCommand& command = attempt.command;
  const Head& head = attempt.known.head;
  Prepared prepared;
  prepared.labels.tags = command.tags.value_or(head.labels.tags);
  prepared.labels.metadata = command.metadata.value_or(head.labels.metadata);
  // Recorded times never go down within an aggregate, whatever the clocks of the daemons say.
  const base::WallTime recorded = std::max(clock_->WallNow(), head.recorded_time);
  if (const std::optional<base::WallTime> made = base::UuidV7Time(command.request_id);
      made.has_value() && *made > recorded + CommitSearch::kClockSkew &&
      command.expectation.kind != Expectation::Kind::kExact) {
    return domain::InvalidField(
        "request_id",
        absl::StrCat("is a UUIDv7 of a time that is ",
                     std::chrono::ceil<std::chrono::seconds>(*made - recorded).count(),
                     " s ahead of the daemon's clock; at most ", std::chrono::seconds(CommitSearch::kClockSkew).count(),
                     " s are allowed without expected_version, or a repeated save would not be recognised: correct the "
                     "clock of the client (or of the daemon)"));
  }
  const size_t count = command.events.size();
  prepared.unit = std::make_shared<CommitUnit>();
  prepared.unit->checks.push_back({.filter = domain::EventFilter(command.ref), .last_sequence = head.last_sequence});
  PlacePointers pointers;
  if (head.version > 0) {
    pointers = jetstream::NextPointers(head.version, {.in_batch = false, .number = head.sequence},
                                       jetstream::ToPlaces(head.pointers));
  }
  for (size_t i = 0; i < count; ++i) {
    const domain::NewEvent& asked = command.events[i].event;
    domain::RecordedEvent event;
    event.ref = command.ref;
    event.version = head.version + i + 1;
    event.event_id = asked.event_id;
    event.type = asked.type;
    event.schema_version = asked.schema_version;
    event.payload = asked.payload;
    event.metadata = asked.metadata;
    event.time = asked.time;
    event.recorded_time = recorded;
    event.commit_id = attempt.commit_id;
    event.commit_index = static_cast<uint32_t>(i);
    event.commit_size = static_cast<uint32_t>(count);
    if (i > 0) pointers = jetstream::NextPointers(event.version - 1, {.in_batch = true, .number = i - 1}, pointers);
    OutgoingMessage message = jetstream::EncodeEvent(event, pointers, i, i + 1 == count ? &prepared.labels : nullptr);
    if (const size_t bytes = jetstream::HeaderBytes(message.headers); bytes > kMaxHeaderBytes) {
      return domain::TooLarge(
          {.name = absl::StrCat("events[", i, "].metadata"),
           .limit = kMaxHeaderBytes,
           .value = bytes,
           .config_key = ""},
          "the metadata of an event, with the aggregate's tags and metadata, must fit its encoded headers");
    }
    jetstream::AddCheck(prepared.unit->checks.front(), message);
    prepared.unit->messages.push_back(std::move(message));
    prepared.pointers.push_back(pointers);
    event.payload = {};
    prepared.events.push_back({.event = std::move(event), .position = {}});
  }
  return prepared;
}

base::Task<Saver::Settled> Saver::PublishUntilSettled(Attempt& attempt, const Prepared& prepared) {
  const SaveCommand& command = attempt.command;
  const Head head = attempt.known.head;  // What these messages continue, to the end.
  Settled settled;
  Backoff backoff;
  absl::Status last_error = domain::NatsUnavailable("the call's time was over before the events were sent");
  while (clock_->SteadyNow() < attempt.deadline && !storage_->writes().closed()) {
    attempt.sent = true;
    const PublishOutcome outcome = co_await storage_->committer().Commit(attempt.stream, prepared.unit,
                                                                         AttemptDeadline(backoff, attempt.deadline));
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
      // The server has dealt with these copies, so now reading tells what is stored: an earlier copy, or, after an
      // error in the middle of storing, even these.
      absl::Status refreshed = co_await RefreshHead(attempt);
      if (refreshed.ok()) {
        const Head& now = attempt.known.head;
        absl::StatusOr<std::optional<domain::RecordedEvent>> ours =
            co_await search_.At(command.ref, now, attempt.commit_id, head.version + 1, attempt.deadline);
        if (ours.ok() && ours->has_value()) attempt.stored = true;
        if (ours.ok() && ours->has_value() && !IsCopyOf(**ours, prepared.events)) {
          settled.kind = Settled::Kind::kLostRace;  // To this save itself, which the caller repeated elsewhere.
          co_return settled;
        }
        if (ours.ok() && ours->has_value()) {
          settled.kind = Settled::Kind::kStored;
          settled.last_sequence = (*ours)->sequence + prepared.unit->messages.size() - 1;
          co_return settled;
        }
        // No copy of these messages can pass the check any more. A server that ran out of space in the middle of a
        // batch has moved the head by itself, to a torn save.
        if (ours.ok() && now.last_sequence != head.last_sequence) {
          settled.kind = Settled::Kind::kLostRace;
          if (outcome.kind == PublishOutcome::Kind::kRefused) settled.status = outcome.status;
          co_return settled;
        }
        if (ours.ok() && outcome.kind == PublishOutcome::Kind::kRefused && !settled.was_unknown) {
          settled.status = outcome.status;
          // A leader that has no room gives up its place; replicas that have some may store what it refused.
          if (attempt.stream->replicas > 1 && absl::IsResourceExhausted(outcome.status)) {
            settled.status = OutcomeUnknown(attempt, outcome.status.message());
          }
          co_return settled;
        }
        if (!ours.ok()) last_error = ours.status();
      } else {
        last_error = refreshed;
      }
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
    // After a loss of the connection the stream is looked at again; it must still be the same one.
    if (outcome.kind == PublishOutcome::Kind::kNotStored) storage_->Forget(*attempt.stream);
    absl::StatusOr<StreamPtr> stream = co_await storage_->FindEvents(command.ref, attempt.deadline);
    absl::Status lost = IsPermanent(stream.status()) ? stream.status() : absl::OkStatus();
    if (stream.ok() && (*stream == nullptr || (*stream)->incarnation != attempt.stream->incarnation)) {
      lost = domain::StorageUnsuitable(
          absl::StrCat("stream ", attempt.stream->name, " was removed or replaced during the save"));
    }
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
  } else {
    settled.status = last_error;
  }
  co_return settled;
}

Commit Saver::Finish(Attempt& attempt, Prepared prepared, uint64_t last_sequence) {
  const uint64_t count = prepared.events.size();
  const uint64_t first_sequence = last_sequence - count + 1;
  Commit commit;
  commit.commit_id = attempt.commit_id;
  commit.first_version = prepared.events.front().event.version;
  for (uint64_t i = 0; i < count; ++i) {
    Event& event = prepared.events[i];
    event.event.sequence = first_sequence + i;
    event.position = PositionOf(*attempt.stream, first_sequence + i);
  }
  const domain::RecordedEvent& last = prepared.events.back().event;
  Head& head = commit.head;
  head.stream = attempt.stream;
  head.version = last.version;
  head.sequence = last_sequence;
  head.last_sequence = last_sequence;
  head.pointers = Resolve(prepared.pointers.back(), first_sequence);
  head.commit_id = attempt.commit_id;
  head.recorded_time = last.recorded_time;
  head.cid = last.cid;
  head.labels = std::move(prepared.labels);
  commit.events = std::move(prepared.events);

  KnownHead known{.head = head, .window = std::move(attempt.known.window)};
  if (known.window->last_version() + 1 != commit.first_version) {
    *known.window = CommitWindow::After(commit.first_version - 1);
  }
  known.window->Append({.id_hash = CommitWindow::Hash(attempt.commit_id),
                        .last_version = head.version,
                        .recorded_time = head.recorded_time});
  Remember(attempt.command.ref, std::move(known));
  return commit;
}

void Saver::Remember(const domain::AggregateRef& ref, KnownHead known) {
  const size_t bytes = HeadBytes(known.head) + known.window->bytes();
  heads_.Put(ref, std::move(known), bytes);
}

}  // namespace persistd::repository
