#include "server/repository/saver.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/base/uuid.h"
#include "server/domain/errors.h"
#include "server/domain/subject.h"
#include "server/ipld/event_block.h"
#include "server/repository/retry.h"

namespace persistd::repository {
namespace {

using jetstream::EventPlace;
using jetstream::OutgoingMessage;
using jetstream::PlacePointers;
using jetstream::StreamPtr;

// nats-server refuses headers over 64 KiB; it and the publisher add some of their own.
constexpr size_t kMaxHeaderBytes = 60 * 1024;
// The heads of what others save are remembered while the saves are as recent as this.
constexpr std::chrono::minutes kRecent{10};

bool MetByNothing(const Expectation& expectation, bool tombstone) {
  return expectation.kind == Expectation::Kind::kExact ? expectation.version == 0
                                                       : expectation.kind == Expectation::Kind::kAny && !tombstone;
}

std::optional<uint64_t> ExpectedVersion(const Expectation& expectation) {
  return expectation.kind == Expectation::Kind::kExact ? std::optional(expectation.version) : std::nullopt;
}

// True for errors that say that nothing of the save is stored, or will be.
bool PromisesNotStored(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsResourceExhausted(status) || absl::IsFailedPrecondition(status) ||
         domain::HasReason(status, cim::persistence::v1::ERROR_REASON_INVALID_FIELD);
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

}  // namespace

Saver::Saver(Options options, Storage* storage, History* history, base::Executor* executor, const base::Clock* clock)
    : chain_(options.chain),
      storage_(storage),
      history_(history),
      executor_(executor),
      clock_(clock),
      search_(history, options.hints),
      locks_(executor),
      heads_({.max_entries = std::numeric_limits<size_t>::max(), .max_bytes = options.head_cache_bytes}) {}

base::Task<absl::StatusOr<Commit>> Saver::Save(SaveCommand command, base::SteadyTime deadline) {
  Attempt attempt;
  attempt.command.request_id = std::exchange(command.request_id, "");
  attempt.command.saves.push_back(std::move(command));
  attempt.deadline = deadline;
  CO_ASSIGN_OR_RETURN(std::vector<Commit> commits, co_await Run(attempt));
  co_return std::move(commits.front());
}

base::Task<absl::StatusOr<std::vector<Commit>>> Saver::SaveAll(SaveAllCommand command, base::SteadyTime deadline) {
  Attempt attempt;
  attempt.command = std::move(command);
  attempt.deadline = deadline;
  co_return co_await Run(attempt);
}

base::Task<absl::StatusOr<std::vector<Commit>>> Saver::Run(Attempt& attempt) {
  const std::string& request_id = attempt.command.request_id;
  attempt.commit_id = request_id.empty() ? base::NewUuidV7(clock_->WallNow()) : request_id;
  for (const SaveCommand& save : attempt.command.saves) {
    attempt.parts.push_back({.ref = save.ref, .expectation = save.expectation, .command = &save, .known = {}});
  }
  for (const Check& check : attempt.command.checks) {
    attempt.parts.push_back({.ref = check.ref, .expectation = check.expectation, .command = nullptr, .known = {}});
  }
  std::vector<AggregateLocks::Guard> guards;
  if (attempt.single()) {
    std::optional<AggregateLocks::Guard> free = locks_.TryAcquire(attempt.first_ref());
    if (free.has_value()) {
      guards.push_back(*std::move(free));
    } else {
      CO_ASSIGN_OR_RETURN(AggregateLocks::Guard guard, co_await locks_.Acquire(attempt.first_ref(), attempt.deadline));
      guards.push_back(std::move(guard));
    }
  } else {
    // Everybody takes them in the same order, so nobody waits in a circle.
    std::vector<domain::AggregateRef> refs;
    for (const Part& part : attempt.parts) refs.push_back(part.ref);
    std::sort(refs.begin(), refs.end());
    if (std::adjacent_find(refs.begin(), refs.end()) != refs.end()) {
      co_return domain::InvalidField("saves", "must name each aggregate once, together with the checks");
    }
    for (domain::AggregateRef& ref : refs) {
      CO_ASSIGN_OR_RETURN(AggregateLocks::Guard guard, co_await locks_.Acquire(std::move(ref), attempt.deadline));
      guards.push_back(std::move(guard));
    }
  }
  absl::StatusOr<std::vector<Commit>> commits = co_await SaveLocked(attempt);
  // Stored for certain, only what it returned cannot be told any more: a repeat would change nothing.
  const bool told = attempt.stored && IsRemoved(commits.status());
  if (!told && PromisesNotStored(commits.status())) {
    const bool torn = std::any_of(attempt.parts.begin(), attempt.parts.end(), [&attempt](const Part& part) {
      return part.known.head.torn_commit_id == attempt.commit_id;
    });
    if (attempt.stored) {
      commits = OutcomeUnknown(attempt, absl::StrCat("it was seen, then: ", commits.status().message()));
    } else if (torn) {
      commits = OutcomeUnknown(attempt, absl::StrCat("a part of it is stored, and the NATS server may complete it when "
                                                     "it starts again; ",
                                                     commits.status().message()));
    }
  }
  // Whatever went wrong, the next save looks at the stream again. After a conflict, this one just did.
  if (!commits.ok() && !absl::IsAborted(commits.status())) {
    for (const Part& part : attempt.parts) heads_.Erase(part.ref);
  }
  co_return commits;
}

bool Saver::Meets(const Part& part) {
  const Head& head = part.known.head;
  const bool tombstone = part.command != nullptr && part.command->tombstone;
  switch (part.expectation.kind) {
    case Expectation::Kind::kAny:
      return !head.deleted && (!tombstone || head.version > 0);
    case Expectation::Kind::kExact:
      // The exact version undeletes.
      return head.version == part.expectation.version && !(tombstone && (head.deleted || head.version == 0));
    case Expectation::Kind::kMustExist:
      return head.version > 0 && !head.deleted;
  }
  return false;
}

absl::Status Saver::Refusal(const Attempt& attempt) {
  std::vector<domain::FailedCheck> failed;
  for (const Part& part : attempt.parts) {
    if (Meets(part)) continue;
    const Head& head = part.known.head;
    const std::optional<uint64_t> expected = ExpectedVersion(part.expectation);
    if (!attempt.single()) {
      failed.push_back({.ref = part.ref, .expected = expected, .actual = head.version, .deleted = head.deleted});
      continue;
    }
    const bool exact_elsewhere = expected.value_or(0) != 0 && *expected != head.version;
    if (part.command->tombstone && !exact_elsewhere) return domain::AggregateNotFound(part.ref, head.deleted);
    if (head.deleted && !exact_elsewhere) return domain::AggregateDeleted(part.ref, head.version);
    return domain::VersionConflict(part.ref, expected, head.version);
  }
  return domain::ChecksFailed(failed);
}

base::Task<absl::StatusOr<std::vector<Commit>>> Saver::SaveLocked(Attempt& attempt) {
  if (attempt.single()) attempt.stream = storage_->KnownEvents(attempt.first_ref());
  if (attempt.stream == nullptr) CO_RETURN_IF_ERROR(co_await FindStream(attempt));
  if (!TakeKnownHeads(attempt)) CO_RETURN_IF_ERROR(co_await ReadMissingHeads(attempt));
  const bool all_exact = std::all_of(attempt.parts.begin(), attempt.parts.end(), [](const Part& part) {
    return part.expectation.kind == Expectation::Kind::kExact;
  });
  Backoff backoff;
  while (true) {
    if (MayBeStored(attempt)) {
      CO_ASSIGN_OR_RETURN(std::optional<std::vector<Commit>> earlier, co_await FindEarlier(attempt));
      if (earlier.has_value()) co_return *std::move(earlier);
    }
    if (!std::all_of(attempt.parts.begin(), attempt.parts.end(), Meets)) {
      // A cached head proves nothing, also not of the other parts: this very commit may be stored there already.
      const bool fresh =
          std::all_of(attempt.parts.begin(), attempt.parts.end(), [](const Part& part) { return part.fresh; });
      if (fresh) co_return Refusal(attempt);
      CO_RETURN_IF_ERROR(co_await RefreshHeads(attempt, /*only_stale=*/true));
      continue;
    }
    for (const Part& part : attempt.parts) {
      if (!part.known.head.foreign_tail) continue;
      co_return domain::ForeignMessage(part.ref, attempt.stream->name, part.known.head.last_sequence);
    }
    CO_ASSIGN_OR_RETURN(Prepared prepared, Prepare(attempt));
    const Settled settled = co_await PublishUntilSettled(attempt, prepared);
    if (settled.kind == Settled::Kind::kStored) co_return Finish(attempt, std::move(prepared), settled.last_sequence);
    if (settled.kind == Settled::Kind::kFailed) co_return settled.status;
    // Others moved a head, which PublishUntilSettled has read again: these events are not stored and never will be.
    if (all_exact) continue;  // Ends in a conflict, or finds an earlier copy.
    if (settled.was_unknown) {
      // The caller may have repeated this save elsewhere meanwhile.
      if (MayBeStored(attempt)) {
        CO_ASSIGN_OR_RETURN(std::optional<std::vector<Commit>> repeated, co_await FindEarlier(attempt));
        if (repeated.has_value()) co_return *std::move(repeated);
      }
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
  return domain::OutcomeUnknown(attempt.first_ref(), why, /*repeatable=*/!attempt.command.request_id.empty());
}

base::Task<absl::Status> Saver::FindStream(Attempt& attempt) {
  for (size_t i = 1; i < attempt.parts.size(); ++i) {
    if (storage_->SameEventStream(attempt.first_ref(), attempt.parts[i].ref)) continue;
    const size_t saves = attempt.command.saves.size();
    co_return domain::InvalidField(
        i < saves ? absl::StrCat("saves[", i, "].ref") : absl::StrCat("checks[", i - saves, "].ref"),
        "must be in the same stream as the first save, because a commit is atomic only inside one stream; "
        "repository.event_streams says how aggregate types share streams");
  }
  // A save that expects something to be there must not leave a new stream behind.
  const bool may_be_first = std::all_of(attempt.parts.begin(), attempt.parts.end(), [](const Part& part) {
    return MetByNothing(part.expectation, part.command != nullptr && part.command->tombstone);
  });
  if (may_be_first) {
    CO_ASSIGN_OR_RETURN(attempt.stream, co_await storage_->CreateEvents(attempt.first_ref(), attempt.deadline));
    co_return absl::OkStatus();
  }
  CO_ASSIGN_OR_RETURN(attempt.stream, co_await storage_->FindEvents(attempt.first_ref(), attempt.deadline));
  if (attempt.stream == nullptr) co_return Refusal(attempt);
  co_return absl::OkStatus();
}

bool Saver::TakeKnownHeads(Attempt& attempt) {
  bool all = true;
  for (Part& part : attempt.parts) {
    std::optional<CachedHead> cached = heads_.Get(part.ref);
    if (cached.has_value() && cached->head.stream() == attempt.stream) {
      part.known = {.head = cached->head.Unpack(), .window = std::move(cached->window)};
    } else if (ExpectedVersion(part.expectation) == 0) {
      // Most likely there is nothing, and the publish checks that.
      part.known.head.stream = attempt.stream;
    } else {
      all = false;
    }
  }
  return all;
}

base::Task<absl::Status> Saver::ReadMissingHeads(Attempt& attempt) {
  // The first part decides whether this very commit is stored, so it is read last: a commit is stored as a whole, and
  // whoever saw it at another part then sees it there.
  for (size_t i = attempt.parts.size(); i-- > 0;) {
    Part& part = attempt.parts[i];
    if (part.known.head.stream != nullptr) continue;
    CO_RETURN_IF_ERROR(co_await RefreshHead(attempt, part));
    part.fresh = true;
  }
  co_return absl::OkStatus();
}

base::Task<absl::Status> Saver::RefreshHeads(Attempt& attempt, bool only_stale) {
  // The first part last, and again where another one was read after it: see ReadMissingHeads.
  bool others = false;
  for (size_t i = attempt.parts.size(); i-- > 0;) {
    Part& part = attempt.parts[i];
    if (only_stale && part.fresh && !(i == 0 && others)) continue;
    CO_RETURN_IF_ERROR(co_await RefreshHead(attempt, part));
    part.fresh = true;
    others = true;
  }
  co_return absl::OkStatus();
}

base::Task<absl::Status> Saver::RefreshHead(const Attempt& attempt, Part& part) {
  const domain::AggregateRef& ref = part.ref;
  std::optional<CachedHead> before = heads_.Get(ref);
  // A publish that follows checks that there is nothing.
  const bool publish_checks = !attempt.sent && MetByNothing(part.expectation, false);
  CO_ASSIGN_OR_RETURN(
      Head head, co_await history_->ReadHead(ref, attempt.stream, publish_checks ? Absence::kAccept : Absence::kVerify,
                                             attempt.deadline));
  std::shared_ptr<CommitWindow> window;
  // What was known of earlier saves stays true, as long as it is the same history.
  if (before.has_value() && before->window != nullptr && before->head.stream() == attempt.stream &&
      before->window->last_version() <= head.version) {
    window = std::move(before->window);
    if (!attempt.command.request_id.empty() && part.expectation.kind != Expectation::Kind::kExact) {
      CO_RETURN_IF_ERROR(co_await search_.CatchUp(ref, head, *window, attempt.deadline));
    } else if (window->last_version() < head.version) {
      window = nullptr;
    }
  }
  part.known = KnownHead{.head = std::move(head), .window = std::move(window)};
  Remember(ref, part.known.head, part.known.window);
  co_return absl::OkStatus();
}

absl::StatusOr<Saver::Prepared> Saver::Prepare(const Attempt& attempt) const {
  Prepared prepared;
  prepared.unit = std::make_shared<CommitUnit>();
  base::WallTime recorded = clock_->WallNow();
  size_t messages = attempt.command.checks.size();
  for (const Part& part : attempt.parts) {
    // Recorded times never go down within an aggregate, whatever the clocks of the daemons say.
    recorded = std::max(recorded, part.known.head.recorded_time);
    if (part.command != nullptr) messages += part.command->events.size();
  }
  prepared.unit->messages.reserve(messages);
  const size_t group_size = attempt.single() ? 0 : messages;
  // First the checks, so that the commit ends with an event.
  for (const Part& part : attempt.parts) {
    prepared.unit->checks.push_back(
        {.filter = domain::EventFilter(part.ref), .last_sequence = part.known.head.last_sequence});
    if (part.command != nullptr) continue;
    domain::RecordedEvent carrier;
    carrier.commit_id = attempt.commit_id;
    carrier.recorded_time = recorded;
    carrier.group_place = static_cast<uint32_t>(prepared.unit->messages.size() + 1);
    carrier.group_size = static_cast<uint32_t>(group_size);
    prepared.unit->messages.push_back(jetstream::EncodeCheckCarrier(part.ref, carrier));
    jetstream::AddCheck(prepared.unit->checks.back(), prepared.unit->messages.back());
  }
  for (size_t i = 0; i < attempt.command.saves.size(); ++i) {
    const Part& part = attempt.parts[i];
    if (part.expectation.kind != Expectation::Kind::kExact) RETURN_IF_ERROR(CheckRequestId(attempt, recorded));
    RETURN_IF_ERROR(PrepareSave(attempt, part, recorded, group_size, prepared));
  }
  return prepared;
}

absl::Status Saver::PrepareSave(const Attempt& attempt, const Part& part, base::WallTime recorded, size_t group_size,
                                Prepared& prepared) const {
  const SaveCommand& command = *part.command;
  const Head& head = part.known.head;
  // The saves are the first of the attempt's parts.
  const jetstream::ExpectedLast& check = prepared.unit->checks[prepared.saves.size()];
  Prepared::Save save;
  save.first_message = prepared.unit->messages.size();
  save.labels.tags = command.tags.value_or(head.labels.tags);
  save.labels.metadata = command.metadata.value_or(head.labels.metadata);
  const size_t count = command.events.size();
  save.events.reserve(count);
  PlacePointers& pointers = save.pointers;
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
    event.group_place = group_size == 0 ? 0 : static_cast<uint32_t>(prepared.unit->messages.size() + 1);
    event.group_size = static_cast<uint32_t>(group_size);
    if (i > 0) pointers = jetstream::NextPointers(event.version - 1, {.in_batch = true, .number = i - 1}, pointers);
    const domain::AggregateLabels* labels = i + 1 == count ? &save.labels : nullptr;
    if (chain_) {
      event.prev_cid = i == 0 ? head.cid : save.events.back().event.cid;
      ipld::AddCids(event, labels != nullptr ? *labels : domain::AggregateLabels());
    }
    OutgoingMessage message = jetstream::EncodeEvent(event, pointers, i, labels);
    if (const size_t bytes = jetstream::HeaderBytes(message.headers); bytes > kMaxHeaderBytes) {
      return domain::TooLarge(
          {.name = absl::StrCat("events[", i, "].metadata"),
           .limit = kMaxHeaderBytes,
           .value = bytes,
           .config_key = ""},
          "the metadata of an event, with the aggregate's tags and metadata, must fit its encoded headers");
    }
    jetstream::AddCheck(check, message);
    prepared.unit->messages.push_back(std::move(message));
    event.payload = {};
    save.events.push_back({.event = std::move(event), .position = {}});
  }
  prepared.saves.push_back(std::move(save));
  return absl::OkStatus();
}

std::vector<Commit> Saver::Finish(Attempt& attempt, Prepared prepared, uint64_t last_sequence) {
  const uint64_t unit_first = last_sequence - prepared.unit->messages.size() + 1;
  std::vector<Commit> commits;
  for (size_t s = 0; s < prepared.saves.size(); ++s) {
    Prepared::Save& save = prepared.saves[s];
    Part& part = attempt.parts[s];
    const uint64_t first_sequence = unit_first + save.first_message;
    Commit commit;
    commit.commit_id = attempt.commit_id;
    commit.first_version = save.events.front().event.version;
    for (size_t i = 0; i < save.events.size(); ++i) {
      Event& event = save.events[i];
      event.event.sequence = first_sequence + i;
      event.position = PositionOf(*attempt.stream, first_sequence + i);
    }
    const domain::RecordedEvent& last = save.events.back().event;
    Head& head = commit.head;
    head.stream = attempt.stream;
    head.version = last.version;
    head.sequence = last.sequence;
    head.last_sequence = last.sequence;
    head.pointers = Resolve(save.pointers, first_sequence);
    head.commit_id = attempt.commit_id;
    head.recorded_time = last.recorded_time;
    head.cid = last.cid;
    head.labels = std::move(save.labels);
    head.deleted = last.type == domain::kDeletedType;
    commit.events = std::move(save.events);

    std::shared_ptr<CommitWindow> window = std::move(part.known.window);
    if (window == nullptr && part.expectation.kind != Expectation::Kind::kExact) {
      window = std::make_shared<CommitWindow>(CommitWindow::After(commit.first_version - 1));
    }
    if (window != nullptr) {
      if (window->last_version() + 1 != commit.first_version) {
        *window = CommitWindow::After(commit.first_version - 1);
      }
      window->Append({.id_hash = CommitWindow::Hash(attempt.commit_id),
                      .last_version = head.version,
                      .recorded_time = head.recorded_time});
    }
    Remember(part.ref, head, std::move(window));
    commits.push_back(std::move(commit));
  }
  return commits;
}

void Saver::NoteSave(const domain::AggregateRef& ref, const jetstream::Message& last) {
  // While a save of this daemon is under way, the event may be its own, and that save sets the head itself.
  if (locks_.IsHeld(ref)) return;
  const auto is_current = [sequence = last.sequence](const CachedHead& cached) {
    return cached.head.last_sequence() >= sequence;
  };
  if (heads_.Holds(ref, is_current)) return;
  std::optional<CachedHead> cached = HeadFromMessage(ref, last);
  if (cached.has_value()) {
    const size_t bytes = BytesOf(ref, *cached);
    heads_.PutUnless(ref, *std::move(cached), bytes, is_current);
  } else {
    heads_.EraseUnless(ref, is_current);
  }
}

std::optional<Saver::CachedHead> Saver::HeadFromMessage(const domain::AggregateRef& ref,
                                                        const jetstream::Message& last) const {
  // An index that is built anew reads all that there ever was.
  if (last.time + kRecent < clock_->WallNow()) return std::nullopt;
  StreamPtr stream = storage_->KnownEvents(ref);
  if (stream == nullptr) return std::nullopt;
  absl::StatusOr<jetstream::DecodedEvent> decoded = jetstream::DecodeEvent(last);
  if (!decoded.ok() || !decoded->event.ends_commit()) return std::nullopt;
  if (!ipld::HeadersMatch(decoded->event, decoded->labels)) return std::nullopt;
  // Of a commit of several aggregates only the end tells that all of it is there.
  if (decoded->event.group_place < decoded->event.group_size) return std::nullopt;
  const Head head = HeadOf(std::move(stream), *std::move(decoded), last.sequence);
  return CachedHead{.head = PackedHead(head), .window = nullptr};
}

size_t Saver::BytesOf(const domain::AggregateRef& ref, const CachedHead& cached) {
  constexpr size_t kOverhead = 80;  // Of the cache's entry, and of allocations.
  const size_t bytes = sizeof(ref) + ref.entity_id.size() + sizeof(cached) + cached.head.extra_bytes() + kOverhead;
  return cached.window == nullptr ? bytes : bytes + cached.window->bytes();
}

void Saver::Remember(const domain::AggregateRef& ref, const Head& head, std::shared_ptr<CommitWindow> window) {
  CachedHead cached{.head = PackedHead(head), .window = std::move(window)};
  const size_t bytes = BytesOf(ref, cached);
  heads_.Put(ref, std::move(cached), bytes);
}

}  // namespace persistd::repository
