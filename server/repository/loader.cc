#include "server/repository/loader.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/logging.h"
#include "server/base/rfc3339.h"
#include "server/base/status_macros.h"
#include "server/domain/errors.h"
#include "server/domain/subject.h"

namespace persistd::repository {
namespace {

using jetstream::Message;
using jetstream::StreamPtr;

// A state may be newer than the head that was read beside it; then the head is read again.
constexpr int kMaxHeadReads = 3;
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

}  // namespace

domain::Position PositionOf(const jetstream::Stream& stream, uint64_t sequence) {
  return domain::Position({.stream = stream.name, .incarnation = stream.incarnation, .sequence = sequence});
}

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

base::Task<absl::StatusOr<bool>> Loader::BelongsTo(const Head& head, const domain::StateRecord& state,
                                                   base::SteadyTime deadline) {
  if (state.version == head.version) co_return state.commit_id == head.commit_id;
  EventNode from{.version = head.version, .sequence = head.sequence, .pointers = head.pointers};
  CO_ASSIGN_OR_RETURN(jetstream::DecodedEvent decoded,
                      co_await history_.EventAt(state.ref, head.stream, std::move(from), state.version, deadline));
  co_return decoded.event.commit_id == state.commit_id&& decoded.event.ends_commit();
}

base::Task<absl::StatusOr<Loader::HeadAndState>> Loader::ReadHeadAndState(domain::AggregateRef ref,
                                                                          base::SteadyTime deadline) {
  CO_ASSIGN_OR_RETURN(StreamPtr events, co_await storage_.FindEvents(ref, deadline));
  if (events == nullptr) co_return domain::AggregateNotFound(ref);
  CO_ASSIGN_OR_RETURN(StreamPtr states, co_await storage_.FindState(ref, deadline));
  jetstream::Reader& reader = storage_.reader();
  // Both at once: head and state are two messages of two streams.
  const jetstream::ReadFrom from = Storage::StrongRead(*events);
  auto last_event = reader.StartLast(events->name, domain::EventFilter(ref), from, deadline);
  HeadAndState read;
  if (states != nullptr) {
    auto last_state =
        reader.StartLast(states->name, domain::StateFilter(ref), jetstream::ReadFrom::kAnyReplica, deadline);
    absl::StatusOr<Message> answer = co_await last_state;
    absl::StatusOr<std::optional<Message>> message =
        reader.FinishLast(std::move(answer), states->name, jetstream::ReadFrom::kAnyReplica);
    if (!message.ok()) {
      storage_.Forget(*states);
      co_return message.status();
    }
    CO_ASSIGN_OR_RETURN(read.state, states_.Decode(*states, *std::move(message)));
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
  if (read.head.version == 0) co_return domain::AggregateNotFound(ref);
  if (read.state.has_value()) {
    bool belongs = read.state->version <= read.head.version;
    if (belongs) {
      CO_ASSIGN_OR_RETURN(belongs, co_await BelongsTo(read.head, *read.state, deadline));
    }
    if (!belongs) {
      base::LogWarn("state ignored: its events are not in the history (lost in a power cut?)",
                    {{"stream", states->name}, {"sequence", read.state->sequence}, {"version", read.state->version}});
      read.state.reset();
    }
  }
  co_return read;
}

base::Task<absl::Status> Loader::AppendEvents(const Head& head, uint64_t first, uint64_t last, LoadResult& result,
                                              base::SteadyTime deadline) {
  size_t bytes = result.state.has_value() ? result.state->payload.data.size() : 0;
  uint64_t missing = 0;
  const EventVisitor append = [&](domain::RecordedEvent event) -> base::Task<bool> {
    bytes += BytesOf(event);
    if (bytes > options_.max_load_bytes) {
      missing = last - event.version + 1;
      co_return false;
    }
    Event loaded;
    loaded.position = PositionOf(*head.stream, event.sequence);
    loaded.event = std::move(event);
    result.events.push_back(std::move(loaded));
    co_return true;
  };
  const struct History::Range range { .first = first, .last = last, .reverse = false };
  CO_RETURN_IF_ERROR(co_await history_.Visit(result.info.ref, head, range, append, deadline));
  if (missing > 0) {
    co_return domain::TooLarge(
        {.name = "events", .limit = options_.max_load_bytes, .value = bytes, .config_key = "limits.max_load_size"},
        absl::StrCat("the answer would hold ", missing, " more of ", last - first + 1,
                     " events; read them with GetHistory, or save a state now and then"));
  }
  co_return absl::OkStatus();
}

base::Task<absl::StatusOr<LoadResult>> Loader::StrongLoad(domain::AggregateRef ref, base::SteadyTime deadline) {
  CO_ASSIGN_OR_RETURN(HeadAndState read, co_await ReadHeadAndState(ref, deadline));
  LoadResult result;
  result.info = InfoOf(ref, read.head);
  uint64_t first = 1;
  if (read.state.has_value()) {
    first = read.state->version + 1;
    result.info.state_schema_version = read.state->schema_version;
    result.info.state_cid = read.state->cid;
    result.state = std::move(read.state);
  }
  CO_RETURN_IF_ERROR(co_await AppendEvents(read.head, first, read.head.version, result, deadline));
  co_return result;
}

base::Task<absl::StatusOr<LoadResult>> Loader::Load(LoadCommand command, base::SteadyTime deadline) {
  if (const auto* version = std::get_if<uint64_t>(&command.at)) {
    return LoadVersion(std::move(command.ref), *version, deadline);
  }
  if (const auto* as_of = std::get_if<base::WallTime>(&command.at)) {
    return LoadAsOf(std::move(command.ref), *as_of, deadline);
  }
  return LoadNow(std::move(command.ref), command.consistency, deadline);
}

base::Task<absl::StatusOr<LoadResult>> Loader::LoadNow(domain::AggregateRef ref, Consistency consistency,
                                                       base::SteadyTime deadline) {
  if (consistency == Consistency::kCached) {
    std::optional<CachedLoad> cached = loads_.Get(ref);
    if (cached.has_value() && clock_->SteadyNow() - cached->loaded_at <= options_.cache_ttl) {
      co_return std::move(cached->result);
    }
  }
  const base::SteadyTime loaded_at = clock_->SteadyNow();
  absl::StatusOr<LoadResult> result = co_await StrongLoad(ref, deadline);
  if (result.ok()) loads_.Put(ref, CachedLoad{.result = *result, .loaded_at = loaded_at}, BytesOf(*result));
  co_return result;
}

base::Task<absl::StatusOr<LoadResult>> Loader::LoadVersion(domain::AggregateRef ref, uint64_t version,
                                                           base::SteadyTime deadline) {
  CO_ASSIGN_OR_RETURN(Head head, co_await ExistingHead(ref, deadline));
  if (version > head.version) co_return domain::VersionNotFound(ref, version, head.version);
  co_return co_await ReplayTo(std::move(ref), std::move(head), version, deadline);
}

base::Task<absl::StatusOr<LoadResult>> Loader::LoadAsOf(domain::AggregateRef ref, base::WallTime as_of,
                                                        base::SteadyTime deadline) {
  CO_ASSIGN_OR_RETURN(Head head, co_await ExistingHead(ref, deadline));
  CO_ASSIGN_OR_RETURN(const uint64_t version, co_await history_.VersionAsOf(ref, head, as_of, deadline));
  if (version == 0) co_return domain::NothingRecordedBy(ref, base::FormatRfc3339(as_of), head.version);
  co_return co_await ReplayTo(std::move(ref), std::move(head), version, deadline);
}

base::Task<absl::StatusOr<LoadResult>> Loader::ReplayTo(domain::AggregateRef ref, Head head, uint64_t version,
                                                        base::SteadyTime deadline) {
  LoadResult result;
  result.info.ref = ref;
  CO_RETURN_IF_ERROR(co_await AppendEvents(head, 1, version, result, deadline));
  // Tags and metadata are those of the last save up to there, which carries them in its last event.
  EventNode from{.version = head.version, .sequence = head.sequence, .pointers = head.pointers};
  const domain::RecordedEvent& last = result.events.back().event;
  const uint64_t commit_first = last.version - last.commit_index;
  const uint64_t labelled = last.ends_commit() ? last.version : commit_first - 1;
  Head then;
  then.stream = head.stream;
  then.version = version;
  then.sequence = last.sequence;
  then.recorded_time = last.recorded_time;
  then.cid = last.cid;
  if (labelled > 0) {
    CO_ASSIGN_OR_RETURN(jetstream::DecodedEvent decoded,
                        co_await history_.EventAt(ref, head.stream, std::move(from), labelled, deadline));
    then.labels = std::move(decoded.labels);
  }
  result.info = InfoOf(ref, then);
  co_return result;
}

base::Task<absl::StatusOr<AggregateInfo>> Loader::Info(domain::AggregateRef ref, base::SteadyTime deadline) {
  CO_ASSIGN_OR_RETURN(const HeadAndState read, co_await ReadHeadAndState(ref, deadline));
  AggregateInfo info = InfoOf(ref, read.head);
  if (read.state.has_value()) {
    info.state_schema_version = read.state->schema_version;
    info.state_cid = read.state->cid;
  }
  co_return info;
}

}  // namespace persistd::repository
