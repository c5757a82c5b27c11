#include "server/repository/loader.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cim/persistence/v1/errors.pb.h"
#include "server/base/logging.h"
#include "server/base/rfc3339.h"
#include "server/base/status_macros.h"
#include "server/domain/errors.h"
#include "server/domain/subject.h"
#include "server/repository/event_fold.h"
#include "server/repository/retry.h"

namespace persistd::repository {
namespace {

using jetstream::Message;
using jetstream::StreamPtr;

// A state may be newer than the head that was read beside it; then the head is read again.
constexpr int kMaxHeadReads = 3;
// A fold reads and runs fewer events than this as quickly as it finds a snapshot.
constexpr uint64_t kEventsWorthSnapshot = 32;
constexpr size_t kEventOverheadBytes = 256;  // Of an event in an answer, beside what it holds.
constexpr size_t kEntryOverheadBytes = 16;   // Of an entry of its metadata.

// About what an event takes in an answer, and in memory.
size_t BytesOf(const domain::RecordedEvent& event) {
  const domain::EventMetadata& metadata = event.metadata;
  size_t bytes = kEventOverheadBytes + event.payload.data.size() + event.payload.content_type.size() +
                 event.ref.entity_id.size() * 2 + event.event_id.size() + event.commit_id.size() +
                 metadata.correlation_id.size() + metadata.causation_id.size() + metadata.actor.size() +
                 metadata.traceparent.size();
  for (const auto& [key, value] : metadata.custom) bytes += key.size() + value.size() + kEntryOverheadBytes;
  return bytes;
}

size_t BytesOf(const LoadResult& result) {
  size_t bytes = 1024;
  if (result.state.has_value()) bytes += result.state->payload.data.size();
  for (const Event& event : result.events) bytes += BytesOf(event.event) + kEventOverheadBytes;
  return bytes;
}

Event EventOf(const jetstream::Stream& stream, domain::RecordedEvent event) {
  Event loaded;
  loaded.position = PositionOf(stream, event.sequence);
  loaded.event = std::move(event);
  return loaded;
}

// How large an answer becomes.
class AnswerSize {
 public:
  AnswerSize(const LoadResult& result, size_t limit)
      : limit_(limit), bytes_(result.state.has_value() ? result.state->payload.data.size() : 0) {}

  // False: it would be too large with this event.
  bool Add(const domain::RecordedEvent& event) {
    bytes_ += BytesOf(event);
    return bytes_ <= limit_;
  }
  // had: so many of the events have room.
  absl::Status Check(uint64_t first, uint64_t last, size_t had) const {
    if (bytes_ <= limit_) return absl::OkStatus();
    const uint64_t events = last - first + 1;
    return domain::TooLarge({.name = "events", .limit = limit_, .value = bytes_, .config_key = "limits.max_load_size"},
                            absl::StrCat("the answer would hold ", events - had, " more of ", events,
                                         " events; read them with GetHistory, or save a state now and then"));
  }

 private:
  const size_t limit_;
  size_t bytes_;
};

// Where a position is in the stream. INVALID_FIELD when it is not one of that stream.
absl::StatusOr<uint64_t> SequenceIn(const domain::Position& position, const std::string& stream, uint64_t incarnation) {
  for (const domain::StreamPosition& place : position.streams()) {
    if (place.stream != stream) continue;
    if (place.incarnation == incarnation) return place.sequence;
    return domain::InvalidField(
        "options.at_least",
        absl::StrCat("is of an earlier stream ", stream, ", which was removed and made again since; load without it"));
  }
  return domain::InvalidField("options.at_least", absl::StrCat("is no position of the stream ", stream,
                                                               ", which holds this aggregate; give one that a save of "
                                                               "this aggregate returned"));
}

absl::StatusOr<uint64_t> SequenceIn(const domain::Position& position, const jetstream::Stream& stream) {
  return SequenceIn(position, stream.name, stream.incarnation);
}

// Whether `head` goes on from what was once the last message of its aggregate.
bool Continues(const Head& head, uint64_t version, uint64_t sequence) {
  const uint64_t distance = head.version - version;
  return head.version > version && distance <= head.pointers.back.size() &&
         head.pointers.back[distance - 1] == sequence;
}

}  // namespace

AggregateInfo InfoOf(const domain::AggregateRef& ref, const Head& head) {
  AggregateInfo info;
  info.ref = ref;
  info.version = head.version;
  info.last_modified = head.recorded_time;
  info.head_cid = head.cid;
  info.tags = head.labels.tags;
  info.metadata = head.labels.metadata;
  info.deleted = head.deleted;
  info.position = PositionOf(*head.stream, head.sequence);
  return info;
}

base::Task<absl::StatusOr<Head>> Loader::ExistingHead(domain::AggregateRef ref, base::SteadyTime deadline) {
  CO_ASSIGN_OR_RETURN(StreamPtr stream, co_await storage_.FindEvents(ref, deadline));
  if (stream == nullptr) co_return domain::AggregateNotFound(ref);
  CO_ASSIGN_OR_RETURN(Head head, co_await history_.ReadHead(ref, std::move(stream), Absence::kVerify, deadline));
  if (head.version == 0) co_return domain::AggregateNotFound(ref);
  co_return head;
}

base::Task<absl::StatusOr<bool>> Loader::BelongsTo(const Head& head, const domain::StateRecord& state, bool ends,
                                                   base::SteadyTime deadline) {
  if (state.version > head.version) co_return false;
  if (state.version == head.version) co_return state.commit_id == head.commit_id;
  EventNode from{.version = head.version, .sequence = head.sequence, .pointers = head.pointers};
  const absl::StatusOr<jetstream::DecodedEvent> decoded =
      co_await history_.EventAt(state.ref, head.stream, std::move(from), state.version, deadline);
  // It is older than what is kept: the events after it are not all there.
  if (IsRemoved(decoded.status())) co_return false;
  if (!decoded.ok()) co_return decoded.status();
  co_return decoded->event.commit_id == state.commit_id && (!ends || decoded->event.ends_commit());
}

base::Task<absl::StatusOr<std::optional<domain::StateRecord>>> Loader::ReadState(
    base::Future<absl::StatusOr<Message>> answer, StreamPtr stream) {
  absl::StatusOr<Message> came = co_await answer;
  absl::StatusOr<std::optional<Message>> message =
      storage_.reader().FinishLast(std::move(came), stream->name, jetstream::ReadFrom::kAnyReplica);
  if (!message.ok()) {
    storage_.Forget(*stream);
    co_return message.status();
  }
  co_return states_.Decode(*stream, *std::move(message));
}

base::Task<absl::Status> Loader::DropForeignState(HeadAndState& read, base::SteadyTime deadline) {
  if (!read.state.has_value()) co_return absl::OkStatus();
  CO_ASSIGN_OR_RETURN(const bool belongs, co_await BelongsTo(read.head, *read.state, /*ends=*/true, deadline));
  if (!belongs) {
    if (read.head.stream->purgeable) {
      // Nothing unusual: a snapshot stands for it.
      base::LogDebug("state ignored: its event is not in the history",
                     {{"stream", read.head.stream->name}, {"version", read.state->version}});
    } else {
      base::LogWarn("state ignored: its events are not in the history (lost in a power cut?)",
                    {{"stream", read.head.stream->name},
                     {"state_sequence", read.state->sequence},
                     {"version", read.state->version}});
    }
    read.state.reset();
  }
  co_return absl::OkStatus();
}

base::Task<absl::StatusOr<Loader::HeadAndState>> Loader::ReadHeadAndState(domain::AggregateRef ref, bool stateless,
                                                                          base::SteadyTime deadline) {
  HeadAndState read;
  CO_ASSIGN_OR_RETURN(StreamPtr events, co_await storage_.FindEvents(ref, deadline));
  if (events == nullptr) co_return read;
  StreamPtr states;
  if (!stateless) {
    CO_ASSIGN_OR_RETURN(states, co_await storage_.FindState(ref, deadline));
  }
  jetstream::Reader& reader = storage_.reader();
  // Both at once: head and state are two messages of two streams.
  const jetstream::ReadFrom from = Storage::StrongRead(*events);
  auto last_event = reader.StartLast(events->name, domain::EventFilter(ref), from, deadline);
  if (states != nullptr) {
    auto last_state =
        reader.StartLast(states->name, domain::StateFilter(ref), jetstream::ReadFrom::kAnyReplica, deadline);
    CO_ASSIGN_OR_RETURN(read.state, co_await ReadState(std::move(last_state), states));
  }
  absl::StatusOr<Message> answer = co_await last_event;
  absl::StatusOr<std::optional<Message>> message = reader.FinishLast(std::move(answer), events->name, from);
  if (!message.ok()) {
    storage_.Forget(*events);
    co_return message.status();
  }
  CO_ASSIGN_OR_RETURN(read.head,
                      co_await history_.HeadFrom(ref, events, *std::move(message), Absence::kVerify, deadline));
  // A state is written after its events, so one ahead of the head was written while these two were read.
  for (int reads = 1; reads < kMaxHeadReads && read.state.has_value() && read.state->version > read.head.version;
       ++reads) {
    CO_ASSIGN_OR_RETURN(read.head, co_await history_.ReadHead(ref, events, Absence::kVerify, deadline));
  }
  CO_RETURN_IF_ERROR(co_await DropForeignState(read, deadline));
  co_return read;
}

base::Task<absl::StatusOr<std::optional<Head>>> Loader::HeadOfReplica(domain::AggregateRef ref, StreamPtr stream,
                                                                      uint64_t at_least, base::SteadyTime deadline) {
  constexpr jetstream::ReadFrom kFrom = jetstream::ReadFrom::kAnyReplica;
  auto last = storage_.reader().StartLast(stream->name, domain::EventFilter(ref), kFrom, deadline);
  absl::StatusOr<Message> answer = co_await last;
  CO_ASSIGN_OR_RETURN(std::optional<Message> message,
                      storage_.reader().FinishLast(std::move(answer), stream->name, kFrom));
  if (!message.has_value() || message->sequence < at_least) co_return std::optional<Head>();
  CO_ASSIGN_OR_RETURN(Head head, co_await history_.HeadFrom(std::move(ref), std::move(stream), std::move(message),
                                                            Absence::kAccept, deadline));
  co_return std::optional<Head>(std::move(head));
}

base::Task<absl::StatusOr<Loader::HeadAndState>> Loader::ReadReached(domain::AggregateRef ref, bool stateless,
                                                                     domain::Position at_least,
                                                                     base::SteadyTime deadline) {
  Backoff backoff;
  while (true) {
    CO_ASSIGN_OR_RETURN(StreamPtr events, co_await storage_.FindEvents(ref, deadline));
    if (events != nullptr) {
      CO_ASSIGN_OR_RETURN(const uint64_t sequence, SequenceIn(at_least, *events));
      if (Storage::StrongRead(*events) == jetstream::ReadFrom::kLeader) {
        // A replica is asked first, which spares the leader; it may be behind.
        HeadAndState read;
        CO_ASSIGN_OR_RETURN(std::optional<Head> head, co_await HeadOfReplica(ref, events, sequence, deadline));
        if (head.has_value() && head->version > 0) {
          read.head = *std::move(head);
          StreamPtr states;
          if (!stateless) {
            CO_ASSIGN_OR_RETURN(states, co_await storage_.FindState(ref, deadline));
          }
          if (states != nullptr) {
            auto last_state = storage_.reader().StartLast(states->name, domain::StateFilter(ref),
                                                          jetstream::ReadFrom::kAnyReplica, deadline);
            CO_ASSIGN_OR_RETURN(read.state, co_await ReadState(std::move(last_state), states));
          }
          // One that is newer than the head is of no use here; a strong read sorts it out.
          if (!read.state.has_value() || read.state->version <= read.head.version) {
            CO_RETURN_IF_ERROR(co_await DropForeignState(read, deadline));
            co_return read;
          }
        }
      }
      CO_ASSIGN_OR_RETURN(HeadAndState read, co_await ReadHeadAndState(ref, stateless, deadline));
      if (read.head.last_sequence >= sequence) co_return read;
      // A save of another aggregate, perhaps. If the stream has it, a read that begins now has seen it.
      CO_ASSIGN_OR_RETURN(
          const std::optional<Message> there,
          co_await storage_.reader().Get(events->name, sequence, jetstream::ReadFrom::kLeader, deadline));
      if (there.has_value()) co_return co_await ReadHeadAndState(ref, stateless, deadline);
      if (events->purgeable) {
        // It may have been removed after a snapshot; then the stream has gone beyond it.
        CO_ASSIGN_OR_RETURN(const std::optional<jetstream::StreamFacts> facts,
                            co_await storage_.all_streams().Look(events->name, deadline));
        if (facts.has_value() && facts->last_sequence >= sequence) {
          co_return co_await ReadHeadAndState(ref, stateless, deadline);
        }
      }
    }
    const base::SteadyTime next = backoff.Next();
    if (next >= deadline) co_return domain::PositionNotReached(ref, at_least.ToToken());
    co_await executor_->Sleep(next);
  }
}

base::Task<absl::StatusOr<Head>> Loader::HeadAt(domain::AggregateRef ref, Head head, uint64_t version,
                                                base::SteadyTime deadline) {
  if (version == head.version) co_return head;
  EventNode from{.version = head.version, .sequence = head.sequence, .pointers = std::move(head.pointers)};
  CO_ASSIGN_OR_RETURN(jetstream::DecodedEvent decoded,
                      co_await history_.EventAt(ref, head.stream, std::move(from), version, deadline));
  Head then;
  then.stream = head.stream;
  then.version = version;
  then.sequence = decoded.event.sequence;
  then.last_sequence = then.sequence;
  then.pointers = std::move(decoded.pointers);
  then.commit_id = std::move(decoded.event.commit_id);
  then.recorded_time = decoded.event.recorded_time;
  then.cid = std::move(decoded.event.cid);
  then.deleted = decoded.event.type == domain::kDeletedType;
  if (decoded.event.ends_commit()) {
    then.labels = std::move(decoded.labels);
    co_return then;
  }
  // Tags and metadata are those of the last save up to there, which carries them in its last event.
  const uint64_t labelled = version - decoded.event.commit_index - 1;
  if (labelled > 0) {
    EventNode here{.version = version, .sequence = then.sequence, .pointers = then.pointers};
    CO_ASSIGN_OR_RETURN(jetstream::DecodedEvent last,
                        co_await history_.EventAt(ref, head.stream, std::move(here), labelled, deadline));
    then.labels = std::move(last.labels);
  }
  co_return then;
}

base::Task<absl::Status> Loader::AppendEvents(const Head& head, uint64_t first, LoadResult& result,
                                              base::SteadyTime deadline) {
  AnswerSize size(result, options_.max_load_bytes);
  const EventVisitor append = [&](domain::RecordedEvent event) -> base::Task<bool> {
    if (!size.Add(event)) co_return false;
    result.events.push_back(EventOf(*head.stream, std::move(event)));
    co_return true;
  };
  const struct History::Range range { .first = first, .last = head.version, .reverse = false };
  CO_RETURN_IF_ERROR(co_await history_.Visit(result.info.ref, head, range, append, deadline));
  co_return size.Check(first, head.version, result.events.size());
}

base::Task<absl::Status> Loader::Fold(const Head& head, const Plan& plan, LoadResult& result,
                                      base::SteadyTime deadline) {
  const uint64_t first = result.state.has_value() ? result.state->version + 1 : 1;
  EventFold fold(options_.transforms, plan.rules, result.info.ref);
  if (result.state.has_value()) CO_RETURN_IF_ERROR(fold.StartFrom(*result.state));
  AnswerSize size(result, options_.max_load_bytes);
  absl::Status failed;
  const EventVisitor add = [&](domain::RecordedEvent event) -> base::Task<bool> {
    failed = co_await fold.Add(event, deadline);
    if (!failed.ok()) co_return false;
    if (!plan.events) co_return true;
    if (!size.Add(event)) co_return false;
    result.events.push_back(EventOf(*head.stream, std::move(event)));
    co_return true;
  };
  const struct History::Range range { .first = first, .last = head.version, .reverse = false };
  CO_RETURN_IF_ERROR(co_await history_.Visit(result.info.ref, head, range, add, deadline));
  CO_RETURN_IF_ERROR(failed);
  CO_RETURN_IF_ERROR(size.Check(first, head.version, result.events.size()));
  domain::StateRecord state;
  CO_ASSIGN_OR_RETURN(state.payload, co_await fold.Finish(deadline));
  state.ref = result.info.ref;
  state.version = head.version;
  state.schema_version = plan.rules.state_schema_version;
  state.commit_id = head.commit_id;
  state.recorded_time = head.recorded_time;
  result.state = std::move(state);
  result.folded = true;
  co_return absl::OkStatus();
}

base::Task<absl::StatusOr<std::optional<domain::StateRecord>>> Loader::CloserSnapshot(
    domain::AggregateRef ref, const Head& head, const std::optional<domain::StateRecord>& state, const Plan& plan,
    base::SteadyTime deadline) {
  const uint64_t from = state.has_value() ? state->version : 0;
  // Where events may have been removed there is most likely nothing else to start from.
  const bool needed = from == 0 && head.stream->purgeable;
  const uint64_t worth = plan.folds && !needed ? kEventsWorthSnapshot : 1;
  std::optional<domain::StateRecord> none;
  if (options_.snapshots == nullptr || !plan.base || head.version - from < worth) co_return none;
  absl::StatusOr<std::optional<domain::StateRecord>> read =
      co_await options_.snapshots->Latest(ref, head.version, deadline);
  if (!read.ok()) {
    // It only saves time.
    base::LogWarn("snapshot not read", {{"error", read.status()}});
    co_return none;
  }
  std::optional<domain::StateRecord>& snapshot = *read;
  if (!snapshot.has_value() || snapshot->version <= from) co_return none;
  if (!Continuable(*snapshot, plan)) co_return none;
  CO_ASSIGN_OR_RETURN(const bool belongs, co_await BelongsTo(head, *snapshot, /*ends=*/false, deadline));
  if (!belongs) {
    base::LogWarn("snapshot ignored: its events are not in the history",
                  {{"stream", head.stream->name}, {"version", snapshot->version}});
    co_return none;
  }
  co_return std::move(snapshot);
}

bool Loader::Continuable(const domain::StateRecord& snapshot, const Plan& plan) {
  return !plan.folds || (snapshot.schema_version == plan.rules.state_schema_version && IsJsonState(snapshot.payload));
}

base::Task<absl::StatusOr<std::optional<domain::StateRecord>>> Loader::NeededSnapshot(
    domain::AggregateRef ref, const Head& head, uint64_t at_most, const Plan& plan, base::SteadyTime deadline) {
  std::optional<domain::StateRecord> none;
  if (options_.snapshots == nullptr) co_return none;
  while (at_most > 0) {
    CO_ASSIGN_OR_RETURN(std::optional<domain::StateRecord> snapshot,
                        co_await options_.snapshots->Needed(ref, at_most, deadline));
    if (!snapshot.has_value()) co_return none;
    if (Continuable(*snapshot, plan)) {
      CO_ASSIGN_OR_RETURN(const bool belongs, co_await BelongsTo(head, *snapshot, /*ends=*/false, deadline));
      if (belongs) co_return std::move(snapshot);
    }
    base::LogWarn(
        "snapshot passed over: it is of another history or schema version",
        {{"stream", head.stream->name}, {"version", snapshot->version}, {"schema_version", snapshot->schema_version}});
    at_most = snapshot->version - 1;
  }
  co_return none;
}

base::Task<absl::Status> Loader::Complete(const Head& head, const Plan& plan, LoadResult& result,
                                          base::SteadyTime deadline) {
  const uint64_t first = result.state.has_value() ? result.state->version + 1 : 1;
  if (first > head.version) co_return absl::OkStatus();
  if (plan.folds) {
    CO_RETURN_IF_ERROR(co_await Fold(head, plan, result, deadline));
    result.info.state_schema_version = result.state->schema_version;
  } else if (plan.events) {
    CO_RETURN_IF_ERROR(co_await AppendEvents(head, first, result, deadline));
  } else if (first == 1 && head.stream->purgeable) {
    // The answer would say that there is no state. That is true only where the events are there to say it.
    EventNode from{.version = head.version, .sequence = head.sequence, .pointers = head.pointers};
    CO_RETURN_IF_ERROR(
        (co_await history_.EventAt(result.info.ref, head.stream, std::move(from), 1, deadline)).status());
  }
  co_return absl::OkStatus();
}

base::Task<absl::StatusOr<LoadResult>> Loader::Build(domain::AggregateRef ref, Head head,
                                                     std::optional<domain::StateRecord> state, Plan plan,
                                                     base::SteadyTime deadline) {
  LoadResult result;
  result.info = InfoOf(ref, head);
  if (state.has_value()) {
    result.info.state_schema_version = state->schema_version;
    result.info.state_cid = state->cid;
    // A fold starts only from states as it makes them.
    if (!plan.base || (plan.folds && state->schema_version != plan.rules.state_schema_version)) state.reset();
  }
  CO_ASSIGN_OR_RETURN(std::optional<domain::StateRecord> snapshot,
                      co_await CloserSnapshot(ref, head, state, plan, deadline));
  if (snapshot.has_value()) {
    result.snapshot_version = snapshot->version;
    state = std::move(snapshot);
  } else if (state.has_value()) {
    CO_ASSIGN_OR_RETURN(const StreamPtr states, co_await storage_.FindState(ref, deadline));
    if (states != nullptr) CO_RETURN_IF_ERROR(co_await states_.Fill(*state, *states, deadline));
  }
  result.state = std::move(state);
  absl::Status completed = co_await Complete(head, plan, result, deadline);
  uint64_t at_most = head.version;
  while (!completed.ok()) {
    // Events that it needs are not kept: then a snapshot stands for them. Or the fold refuses the one that it began
    // with: then an older one may do.
    const bool refused = head.stream->purgeable && result.snapshot_version > 0 &&
                         domain::HasReason(completed, cim::persistence::v1::ERROR_REASON_TRANSFORM_FAILED);
    if (!plan.base || (!IsRemoved(completed) && !refused)) co_return completed;
    CO_ASSIGN_OR_RETURN(snapshot, co_await NeededSnapshot(ref, head, at_most, plan, deadline));
    if (!snapshot.has_value()) break;
    at_most = snapshot->version - 1;
    result.events.clear();
    result.snapshot_version = snapshot->version;
    result.state = std::move(snapshot);
    completed = co_await Complete(head, plan, result, deadline);
  }
  if (IsRemoved(completed)) {
    const uint64_t kept = domain::GetErrorDetail(completed)->history_removed().first_version();
    co_return domain::HistoryRemoved(
        ref, kept,
        absl::StrCat(
            "no snapshot of version ", head.version, " or before can be used: it is older than what is kept, or ",
            "those that there are are damaged or of another state_schema_version (the daemon's log says which)"));
  }
  if (!completed.ok()) co_return completed;
  co_return result;
}

Loader::Plan Loader::PlanFor(const LoadCommand& command) const {
  Plan plan;
  const auto rules = options_.rules.find({command.ref.context, command.ref.aggregate});
  if (rules != options_.rules.end()) plan.rules = rules->second;
  plan.folds = plan.rules.fold != nullptr;
  plan.events = command.include_events.value_or(!plan.folds);
  plan.base = command.use_snapshot;
  plan.keeps = plan.base && (plan.folds || plan.events);
  if (plan.folds && plan.events) plan.keeps = false;
  return plan;
}

base::Task<absl::StatusOr<LoadResult>> Loader::Load(LoadCommand command, base::SteadyTime deadline) {
  const bool now = std::holds_alternative<std::monostate>(command.at);
  return now ? LoadNow(std::move(command), deadline) : LoadThen(std::move(command), deadline);
}

std::optional<Loader::CachedLoad> Loader::FromCache(const LoadCommand& command, const Plan& plan) {
  // Without events an answer is one with them, less these.
  const bool usable = plan.base && !(plan.folds && plan.events);
  return usable ? loads_.Get(command.ref) : std::nullopt;
}

void Loader::Keep(const Plan& plan, const Head& head, const LoadResult& result, base::SteadyTime loaded_at) {
  if (!plan.keeps) return;
  CachedLoad load;
  load.result = std::make_shared<const LoadResult>(result);
  load.incarnation = head.stream->incarnation;
  load.sequence = head.last_sequence;
  load.commit_id = head.commit_id;
  load.loaded_at = loaded_at;
  loads_.Put(result.info.ref, std::move(load), BytesOf(result));
}

base::Task<absl::StatusOr<LoadResult>> Loader::LoadNow(LoadCommand command, base::SteadyTime deadline) {
  const Plan plan = PlanFor(command);
  const base::SteadyTime loaded_at = clock_->SteadyNow();
  const bool reach = command.consistency == Consistency::kAtLeast;
  const std::optional<CachedLoad> cached = FromCache(command, plan);
  const auto answer = [&plan](const CachedLoad& load) {
    LoadResult result = *load.result;
    if (!plan.events) result.events.clear();
    return result;
  };
  if (cached.has_value() && loaded_at - cached->loaded_at <= options_.cache_ttl) {
    if (command.consistency == Consistency::kCached) co_return answer(*cached);
    if (reach) {
      const auto& known = cached->result->info.position.streams();
      CO_ASSIGN_OR_RETURN(const uint64_t wanted,
                          SequenceIn(command.at_least, known.front().stream, cached->incarnation));
      if (wanted <= cached->sequence) co_return answer(*cached);
    }
  }
  // A cached state of the head's version needs no other one: then the head alone is read.
  const bool current = cached.has_value() && cached->result->state.has_value() &&
                       cached->result->state->version == cached->result->info.version;
  HeadAndState read;
  if (reach) {
    absl::StatusOr<HeadAndState> reached = co_await ReadReached(command.ref, current, command.at_least, deadline);
    // A read that the deadline ended says no more than that.
    if (absl::IsUnavailable(reached.status()) && clock_->SteadyNow() >= deadline && storage_.writes().status().ok()) {
      co_return domain::PositionNotReached(command.ref, command.at_least.ToToken());
    }
    CO_ASSIGN_OR_RETURN(read, std::move(reached));
  } else {
    CO_ASSIGN_OR_RETURN(read, co_await ReadHeadAndState(command.ref, current, deadline));
  }
  const Head& head = read.head;
  if (head.version == 0 || head.deleted) {
    loads_.Erase(command.ref);
    co_return domain::AggregateNotFound(command.ref, head.deleted);
  }
  if (cached.has_value() && head.stream->incarnation == cached->incarnation) {
    const std::optional<domain::StateRecord>& known = cached->result->state;
    const bool same_head = head.last_sequence == cached->sequence && head.commit_id == cached->commit_id;
    const bool same_state = current || (known.has_value() == read.state.has_value() &&
                                        (!known.has_value() || known->sequence == read.state->sequence));
    if (same_head && same_state) {
      CachedLoad confirmed = *cached;
      confirmed.loaded_at = loaded_at;
      loads_.Put(command.ref, std::move(confirmed), BytesOf(*cached->result));
      co_return answer(*cached);
    }
    // What came since is folded onto it.
    if (current && plan.folds && Continues(head, cached->result->info.version, cached->sequence)) read.state = known;
  }
  if (current && !read.state.has_value()) {
    CO_ASSIGN_OR_RETURN(read, co_await ReadHeadAndState(command.ref, /*stateless=*/false, deadline));
    if (read.head.version == 0 || read.head.deleted) {
      co_return domain::AggregateNotFound(command.ref, read.head.deleted);
    }
  }
  absl::StatusOr<LoadResult> built = co_await Build(command.ref, read.head, std::move(read.state), plan, deadline);
  // Perhaps the aggregate has moved on so far meanwhile that what this head needs is removed.
  for (int reads = 1; reads < kMaxHeadReads && plan.base && IsRemoved(built.status()); ++reads) {
    const uint64_t version = read.head.version;
    CO_ASSIGN_OR_RETURN(read, co_await ReadHeadAndState(command.ref, /*stateless=*/false, deadline));
    if (read.head.version == 0 || read.head.deleted) {
      co_return domain::AggregateNotFound(command.ref, read.head.deleted);
    }
    if (read.head.version == version) break;
    built = co_await Build(command.ref, read.head, std::move(read.state), plan, deadline);
  }
  CO_ASSIGN_OR_RETURN(LoadResult result, std::move(built));
  Keep(plan, read.head, result, loaded_at);
  if (!plan.events) result.events.clear();
  co_return result;
}

base::Task<absl::StatusOr<LoadResult>> Loader::LoadThen(LoadCommand command, base::SteadyTime deadline) {
  const Plan plan = PlanFor(command);
  // A stored state is a shortcut for a fold. Without one the answer is the events, whatever was saved since.
  const bool stateless = !plan.folds || !plan.base;
  CO_ASSIGN_OR_RETURN(HeadAndState read, co_await ReadHeadAndState(command.ref, stateless, deadline));
  const uint64_t last = read.head.version;
  if (last == 0) co_return domain::AggregateNotFound(command.ref);
  uint64_t version = 0;
  if (const auto* as_of = std::get_if<base::WallTime>(&command.at)) {
    CO_ASSIGN_OR_RETURN(version, co_await history_.VersionAsOf(command.ref, read.head, *as_of, deadline));
    if (version == 0) co_return domain::NothingRecordedBy(command.ref, base::FormatRfc3339(*as_of), last);
  } else {
    version = std::get<uint64_t>(command.at);
    if (version > last) co_return domain::VersionNotFound(command.ref, version, last);
  }
  CO_ASSIGN_OR_RETURN(Head then, co_await HeadAt(command.ref, std::move(read.head), version, deadline));
  if (then.deleted) co_return domain::AggregateNotFound(command.ref, /*deleted=*/true);
  if (read.state.has_value() && read.state->version > version) read.state.reset();
  co_return co_await Build(std::move(command.ref), std::move(then), std::move(read.state), plan, deadline);
}

base::Task<absl::StatusOr<AggregateInfo>> Loader::Info(domain::AggregateRef ref, base::SteadyTime deadline) {
  CO_ASSIGN_OR_RETURN(const HeadAndState read, co_await ReadHeadAndState(ref, /*stateless=*/false, deadline));
  if (read.head.version == 0 || read.head.deleted) co_return domain::AggregateNotFound(ref, read.head.deleted);
  AggregateInfo info = InfoOf(ref, read.head);
  if (read.state.has_value()) {
    info.state_schema_version = read.state->schema_version;
    info.state_cid = read.state->cid;
  }
  co_return info;
}

}  // namespace persistd::repository
