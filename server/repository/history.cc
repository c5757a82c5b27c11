#include "server/repository/history.h"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cim/persistence/v1/errors.pb.h"
#include "server/base/future.h"
#include "server/base/logging.h"
#include "server/base/status_macros.h"
#include "server/domain/errors.h"
#include "server/domain/subject.h"
#include "server/ipld/event_block.h"
#include "server/repository/event_reads.h"

namespace persistd::repository {
namespace {

using jetstream::DecodedEvent;
using jetstream::Message;
using jetstream::ReadFrom;
using jetstream::StreamPtr;

// Long histories are read in blocks that end at versions which skip pointers lead to.
constexpr uint64_t kBlock = jetstream::kSkipLevels[0];
constexpr size_t kMaxForeignRemembered = 10'000;  // Per stream.
// A history may stream for hours; one read of it may not.
constexpr std::chrono::seconds kReadTimeout{10};

base::SteadyTime ReadDeadline(base::SteadyTime deadline) {
  return std::min(deadline, base::Clock::System().SteadyNow() + kReadTimeout);
}

EventNode NodeOf(const DecodedEvent& decoded) {
  return {.version = decoded.event.version, .sequence = decoded.event.sequence, .pointers = decoded.pointers};
}

EventNode NodeOf(const Head& head) {
  return {.version = head.version, .sequence = head.sequence, .pointers = head.pointers};
}

// The pointer of `node` that leads closest to `version` without passing it.
jetstream::SkipPointer StepTowards(const EventNode& node, uint64_t version) {
  const std::vector<uint64_t>& back = node.pointers.back;
  const uint64_t distance = node.version - version;
  if (distance <= back.size()) return {.version = version, .sequence = back[distance - 1]};
  jetstream::SkipPointer best{.version = node.version - back.size(), .sequence = back.back()};
  for (const jetstream::SkipPointer& skip : node.pointers.skip) {
    if (skip.version >= version && skip.version < best.version) best = skip;
  }
  return best;
}

// CORRUPT_DATA when an event is not what its CIDs say.
absl::Status CheckContent(const jetstream::Stream& stream, const DecodedEvent& decoded) {
  const std::optional<ipld::Mismatch> mismatch = ipld::CheckCids(decoded.event, decoded.labels);
  if (!mismatch.has_value()) return absl::OkStatus();
  const bool payload = mismatch->part == ipld::Mismatch::Part::kPayload;
  return domain::CorruptData(
      stream.name, decoded.event.sequence,
      absl::StrCat(payload ? "the payload" : "the headers", " of version ", decoded.event.version, " of ",
                   domain::EncodeEntity(decoded.event.ref.entity_id), " do", payload ? "es" : "", " not match the CID"),
      {.expected = mismatch->expected, .actual = mismatch->actual});
}

// The event that must be in a message, whatever its CIDs say.
absl::StatusOr<DecodedEvent> Decode(const domain::AggregateRef& ref, const jetstream::Stream& stream, uint64_t version,
                                    Message message) {
  const uint64_t sequence = message.sequence;
  absl::StatusOr<DecodedEvent> decoded = jetstream::DecodeEvent(std::move(message));
  if (!decoded.ok()) return domain::CorruptData(stream.name, sequence, decoded.status().message());
  if (decoded->event.ref != ref || decoded->event.version != version) {
    return domain::CorruptData(
        stream.name, sequence,
        absl::StrCat("holds version ", decoded->event.version,
                     " of another history than the one that points to it for version ", version));
  }
  return decoded;
}

// The event that must be in a message.
absl::StatusOr<DecodedEvent> Accept(const domain::AggregateRef& ref, const jetstream::Stream& stream, uint64_t version,
                                    Message message) {
  ASSIGN_OR_RETURN(DecodedEvent decoded, Decode(ref, stream, version, std::move(message)));
  RETURN_IF_ERROR(CheckContent(stream, decoded));
  return decoded;
}

// Compares each event with its neighbour in a reading that goes forward or back.
class LinkCheck {
 public:
  explicit LinkCheck(const jetstream::Stream* stream) : stream_(*stream) {}

  absl::Status Next(const domain::RecordedEvent& event) {
    Link link{.version = event.version, .sequence = event.sequence, .cid = event.cid, .prev_cid = event.prev_cid};
    const Link last = std::exchange(last_, link);
    if (last.version + 1 == link.version) return Compare(last, link);
    if (link.version + 1 == last.version) return Compare(link, last);
    return absl::OkStatus();
  }

 private:
  struct Link {
    uint64_t version = 0;
    uint64_t sequence = 0;
    std::string cid{};
    std::string prev_cid{};
  };

  absl::Status Compare(const Link& event, const Link& next) const {
    // Before the first one there is nothing.
    if (event.version == 0 || next.cid.empty() || next.prev_cid == event.cid) return absl::OkStatus();
    return domain::CorruptData(
        stream_.name, event.sequence,
        absl::StrCat("holds another version ", event.version, " than the one that the next event continues"),
        {.expected = next.prev_cid, .actual = event.cid});
  }

  const jetstream::Stream& stream_;
  Link last_{};
};

}  // namespace

bool IsRemoved(const absl::Status& status) {
  return domain::HasReason(status, cim::persistence::v1::ERROR_REASON_HISTORY_REMOVED);
}

Head HeadOf(StreamPtr stream, DecodedEvent last, uint64_t last_sequence) {
  Head head;
  head.stream = std::move(stream);
  head.version = last.event.version;
  head.last_sequence = last_sequence;
  head.sequence = last.event.sequence;
  head.pointers = std::move(last.pointers);
  head.commit_id = std::move(last.event.commit_id);
  head.recorded_time = last.event.recorded_time;
  head.cid = std::move(last.event.cid);
  head.labels = std::move(last.labels);
  head.deleted = last.event.type == domain::kDeletedType;
  return head;
}

base::Task<absl::StatusOr<Head>> History::ReadHead(domain::AggregateRef ref, StreamPtr stream, Absence absence,
                                                   base::SteadyTime deadline) {
  const ReadFrom from = Storage::StrongRead(*stream);
  absl::StatusOr<Message> answer =
      co_await storage_->reader().StartLast(stream->name, domain::EventFilter(ref), from, ReadDeadline(deadline));
  absl::StatusOr<std::optional<Message>> last = storage_->reader().FinishLast(std::move(answer), stream->name, from);
  if (!last.ok()) {
    storage_->Forget(*stream);
    co_return last.status();
  }
  co_return co_await HeadFrom(std::move(ref), std::move(stream), *std::move(last), absence, deadline);
}

base::Task<absl::StatusOr<Head>> History::HeadFrom(domain::AggregateRef ref, StreamPtr stream,
                                                   std::optional<Message> last, Absence absence,
                                                   base::SteadyTime deadline) {
  // A mirror may be behind, and does not say that it is one when it has nothing.
  const bool doubtful = Storage::StrongRead(*stream) == ReadFrom::kAnyReplica &&
                        (last.has_value() ? jetstream::IsFromMirror(*last, stream->name) : absence == Absence::kVerify);
  if (doubtful) {
    CO_ASSIGN_OR_RETURN(last, co_await storage_->reader().Last(stream->name, domain::EventFilter(ref),
                                                               ReadFrom::kLeader, ReadDeadline(deadline)));
  }
  if (!last.has_value()) {
    Head none;
    none.stream = stream;
    co_return none;
  }
  const uint64_t last_sequence = last->sequence;
  if (!jetstream::IsOurs(*last)) {
    NoteForeign(*stream, *last);
    co_return co_await HeadBeforeForeignTail(std::move(ref), std::move(stream), last_sequence, deadline);
  }
  absl::StatusOr<DecodedEvent> decoded = jetstream::DecodeEvent(*std::move(last));
  if (!decoded.ok()) co_return domain::CorruptData(stream->name, last_sequence, decoded.status().message());
  CO_RETURN_IF_ERROR(CheckContent(*stream, *decoded));
  bool complete_save = decoded->event.ends_commit();
  if (complete_save && decoded->event.group_place < decoded->event.group_size) {
    CO_ASSIGN_OR_RETURN(complete_save, co_await GroupIsComplete(stream, decoded->event, deadline));
  }
  if (complete_save) co_return HeadOf(std::move(stream), *std::move(decoded), last_sequence);
  // A torn save: the last complete one ends just before its first event.
  const uint64_t torn = decoded->event.commit_index + 1;
  if (decoded->event.version < torn) {
    co_return domain::CorruptData(stream->name, last_sequence, "an event's place in its save contradicts its version");
  }
  if (decoded->event.version == torn) {
    Head none;
    none.stream = stream;
    none.last_sequence = last_sequence;
    none.torn_commit_id = std::move(decoded->event.commit_id);
    co_return none;
  }
  const uint64_t complete = decoded->event.version - torn;
  CO_ASSIGN_OR_RETURN(DecodedEvent before, co_await EventAt(ref, stream, NodeOf(*decoded), complete, deadline));
  if (!before.event.ends_commit()) {
    co_return domain::CorruptData(stream->name, before.event.sequence, "a save that others continue is incomplete");
  }
  Head head = HeadOf(std::move(stream), std::move(before), last_sequence);
  head.torn_commit_id = std::move(decoded->event.commit_id);
  co_return head;
}

base::Task<absl::StatusOr<bool>> History::GroupIsComplete(StreamPtr stream, const domain::RecordedEvent& event,
                                                          base::SteadyTime deadline) {
  const uint64_t end = event.sequence + (event.group_size - event.group_place);
  CO_ASSIGN_OR_RETURN(std::optional<Message> last,
                      co_await storage_->reader().Get(stream->name, end, ReadFrom::kLeader, ReadDeadline(deadline)));
  if (!last.has_value() || !jetstream::IsOurs(*last)) co_return false;
  absl::StatusOr<jetstream::DisplacedEvent> displaced = jetstream::DecodeDisplacedEvent(*std::move(last));
  // Whatever else is there: it is not the end of this commit.
  if (!displaced.ok()) co_return false;
  const domain::RecordedEvent& end_event = displaced->decoded.event;
  co_return end_event.commit_id == event.commit_id&& end_event.group_place == event.group_size&& end_event.group_size ==
      event.group_size;
}

void History::NoteForeign(const jetstream::Stream& stream, const Message& message) {
  {
    base::MutexLock lock(mutex_);
    std::set<uint64_t>& known = foreign_[stream.name];
    // Whoever floods a stream with them is noticed anyway.
    if (known.size() >= kMaxForeignRemembered || !known.insert(message.sequence).second) return;
  }
  base::LogWarn("foreign message",
                {{"stream", stream.name}, {"sequence", message.sequence}, {"subject", message.subject}});
}

std::map<std::string, uint64_t> History::foreign_messages() const {
  base::MutexLock lock(mutex_);
  std::map<std::string, uint64_t> counts;
  for (const auto& [stream, sequences] : foreign_) counts[stream] = sequences.size();
  return counts;
}

base::Task<absl::StatusOr<Head>> History::HeadBeforeForeignTail(domain::AggregateRef ref, StreamPtr stream,
                                                                uint64_t foreign_sequence, base::SteadyTime deadline) {
  // Without pointers from its end the history can only be searched from its start. Slow, but nobody should be here.
  const std::string filter = domain::EventFilter(ref);
  std::optional<Message> last;
  for (uint64_t sequence = 1; sequence < foreign_sequence;) {
    CO_ASSIGN_OR_RETURN(
        std::optional<Message> next,
        co_await storage_->reader().Next(stream->name, filter, sequence, ReadFrom::kLeader, ReadDeadline(deadline)));
    if (!next.has_value() || next->sequence >= foreign_sequence) break;
    sequence = next->sequence + 1;
    if (jetstream::IsOurs(*next)) last = std::move(next);
  }
  CO_ASSIGN_OR_RETURN(
      Head head, co_await HeadFrom(std::move(ref), std::move(stream), std::move(last), Absence::kAccept, deadline));
  head.last_sequence = foreign_sequence;
  head.torn_commit_id.clear();  // nats-server completes a batch only at the end of its stream.
  head.foreign_tail = true;
  co_return head;
}

base::Task<absl::StatusOr<DecodedEvent>> History::Fetch(domain::AggregateRef ref, StreamPtr stream, uint64_t version,
                                                        uint64_t sequence, base::SteadyTime deadline) {
  CO_ASSIGN_OR_RETURN(Message message,
                      co_await FetchMessage(ref, stream, version, sequence, ReadFrom::kAnyReplica, deadline));
  co_return Accept(ref, *stream, version, std::move(message));
}

base::Task<absl::StatusOr<Message>> History::FetchMessage(domain::AggregateRef ref, StreamPtr stream, uint64_t version,
                                                          uint64_t sequence, ReadFrom from, base::SteadyTime deadline) {
  jetstream::Reader& reader = storage_->reader();
  std::optional<Message> message;
  if (from == ReadFrom::kAnyReplica) {
    CO_ASSIGN_OR_RETURN(message, co_await reader.Get(stream->name, sequence, from, ReadDeadline(deadline)));
  }
  if (!message.has_value()) {
    // Perhaps on a replica or mirror that is behind.
    CO_ASSIGN_OR_RETURN(message,
                        co_await reader.Get(stream->name, sequence, ReadFrom::kLeader, ReadDeadline(deadline)));
  }
  if (!message.has_value()) {
    co_return co_await WhyMissing(std::move(ref), std::move(stream), version, sequence, deadline);
  }
  co_return *std::move(message);
}

base::Task<absl::StatusOr<std::optional<Truncation>>> History::TruncationOf(domain::AggregateRef ref, StreamPtr stream,
                                                                            base::SteadyTime deadline) {
  std::optional<Truncation> none;
  if (truncations_ == nullptr) co_return none;
  CO_ASSIGN_OR_RETURN(std::optional<Truncation> truncation, co_await truncations_->TruncationOf(ref, deadline));
  // The snapshot that stands for what was removed must be of this history: then its event is in the stream. A later
  // truncation may have removed that event, too, since the list was read: then the list is another one now.
  uint64_t looked_at = 0;
  while (truncation.has_value() && truncation->base_sequence > looked_at) {
    looked_at = truncation->base_sequence;
    CO_ASSIGN_OR_RETURN(
        std::optional<Message> event,
        co_await storage_->reader().Get(stream->name, looked_at, ReadFrom::kLeader, ReadDeadline(deadline)));
    if (event.has_value()) {
      // Its CIDs are for who reads it: also where it was altered, what came before it was removed.
      const absl::StatusOr<DecodedEvent> decoded = Decode(ref, *stream, truncation->base, *std::move(event));
      co_return decoded.ok() && decoded->event.commit_id == truncation->commit_id ? truncation : none;
    }
    CO_ASSIGN_OR_RETURN(truncation, co_await truncations_->TruncationOf(ref, deadline));
  }
  co_return none;
}

base::Task<absl::Status> History::WhyMissing(domain::AggregateRef ref, StreamPtr stream, uint64_t version,
                                             uint64_t sequence, base::SteadyTime deadline) {
  const std::string name = stream->name;
  CO_ASSIGN_OR_RETURN(const std::optional<Truncation> truncation,
                      co_await TruncationOf(ref, std::move(stream), deadline));
  if (truncation.has_value() && version < truncation->first_kept) {
    co_return domain::HistoryRemoved(ref, truncation->first_kept);
  }
  co_return domain::CorruptData(name, sequence, "an event is missing");
}

base::Task<absl::StatusOr<uint64_t>> History::FirstKept(domain::AggregateRef ref, StreamPtr stream,
                                                        base::SteadyTime deadline) {
  CO_ASSIGN_OR_RETURN(const std::optional<Truncation> truncation, co_await TruncationOf(ref, stream, deadline));
  if (!truncation.has_value()) co_return 0;
  jetstream::Reader& reader = storage_->reader();
  CO_ASSIGN_OR_RETURN(
      const std::optional<Message> oldest,
      co_await reader.Next(stream->name, domain::EventFilter(ref), 1, ReadFrom::kLeader, ReadDeadline(deadline)));
  if (!oldest.has_value() || oldest->sequence >= truncation->first_sequence) co_return truncation->first_kept;
  // Something before it is there: it is about to be removed, or its removal was broken off. Of that, what follows
  // without a gap is shown: when nats-server is killed some of what it has removed comes back.
  CO_ASSIGN_OR_RETURN(std::optional<Message> message, co_await reader.Get(stream->name, truncation->first_sequence,
                                                                          ReadFrom::kLeader, ReadDeadline(deadline)));
  if (!message.has_value()) co_return truncation->first_kept;
  absl::StatusOr<DecodedEvent> kept = Decode(ref, *stream, truncation->first_kept, *std::move(message));
  // Whoever reads it is told.
  if (!kept.ok()) co_return truncation->first_kept;
  Head head = HeadOf(stream, *std::move(kept), truncation->first_sequence);
  uint64_t first = truncation->first_kept;
  const DecodedVisitor note = [&first](DecodedEvent decoded) -> base::Task<absl::StatusOr<bool>> {
    if (decoded.event.commit_index == 0) first = decoded.event.version;
    co_return true;
  };
  // About as many as the truncator announces at a time.
  const Range before{.first = truncation->removed_before, .last = truncation->first_kept - 1, .reverse = true};
  // A mirror, or a replica that is behind, may still have what is gone; and CIDs are for who reads the events.
  const absl::Status status = co_await VisitStored(std::move(ref), std::move(head), before, note, deadline);
  if (!status.ok() && !IsRemoved(status)) co_return status;
  co_return first;
}

base::Task<absl::StatusOr<DecodedEvent>> History::EventAt(domain::AggregateRef ref, StreamPtr stream, EventNode from,
                                                          uint64_t version, base::SteadyTime deadline) {
  if (from.version == version) {
    co_return co_await Fetch(std::move(ref), std::move(stream), version, from.sequence, deadline);
  }
  if (version == 0 || version > from.version) {
    co_return domain::Internal(absl::StrCat("asked for version ", version, " of ", from.version));
  }
  while (true) {
    const jetstream::SkipPointer step = StepTowards(from, version);
    CO_ASSIGN_OR_RETURN(DecodedEvent decoded, co_await Fetch(ref, stream, step.version, step.sequence, deadline));
    if (step.version == version) co_return decoded;
    from = NodeOf(decoded);
  }
}

base::Task<absl::StatusOr<std::vector<uint64_t>>> History::Sequences(domain::AggregateRef ref, StreamPtr stream,
                                                                     EventNode top, uint64_t first,
                                                                     base::SteadyTime deadline) {
  std::vector<uint64_t> descending = {top.sequence};
  while (true) {
    const uint64_t wanted = top.version - first;
    const std::vector<uint64_t>& back = top.pointers.back;
    const size_t take = std::min<size_t>(wanted, back.size());
    descending.insert(descending.end(), back.begin(), back.begin() + static_cast<std::ptrdiff_t>(take));
    if (take == wanted) break;
    const uint64_t next = top.version - take;
    CO_ASSIGN_OR_RETURN(DecodedEvent decoded, co_await Fetch(ref, stream, next, back.back(), deadline));
    top = NodeOf(decoded);
  }
  std::reverse(descending.begin(), descending.end());
  co_return descending;
}

base::Task<absl::StatusOr<bool>> History::IsContiguous(domain::AggregateRef ref, StreamPtr stream, const EventNode& top,
                                                       uint64_t first, base::SteadyTime deadline) {
  const std::vector<uint64_t>& back = top.pointers.back;
  const uint64_t distance = top.version - first;
  if (back.empty() || distance <= back.size() || top.sequence - back.back() != back.size() ||
      top.sequence <= distance) {
    co_return false;
  }
  // Sequences rise with versions, so if the first one is as far before the last one as its version, all are.
  jetstream::Reader& reader = storage_->reader();
  const uint64_t guess = top.sequence - distance;
  absl::StatusOr<Message> answer = co_await reader.StartGet(stream->name, guess, ReadDeadline(deadline));
  CO_ASSIGN_OR_RETURN(std::optional<Message> message, reader.FinishGet(std::move(answer), stream->name));
  // Whatever else is there is not ours to judge.
  co_return message.has_value() && jetstream::IsOurs(*message) && Accept(ref, *stream, first, *std::move(message)).ok();
}

base::Task<absl::StatusOr<bool>> History::VisitSequences(domain::AggregateRef ref, StreamPtr stream,
                                                         uint64_t first_version, std::vector<uint64_t> sequences,
                                                         bool reverse, const Reading& reading,
                                                         base::SteadyTime deadline) {
  const ReadFrom from = reading.from_stream_itself ? Storage::StrongRead(*stream) : ReadFrom::kAnyReplica;
  EventReads reads(&storage_->reader(), stream->name, std::move(sequences), reverse, from);
  while (true) {
    reads.StartMore(ReadDeadline(deadline));
    CO_ASSIGN_OR_RETURN(std::optional<EventReads::Part> part, co_await reads.NextPart());
    if (!part.has_value()) co_return true;
    for (EventReads::Item& item : part->items) {
      const uint64_t version = first_version + item.index;
      const bool elsewhere = reading.from_stream_itself && item.message.has_value() &&
                             jetstream::IsFromMirror(*item.message, stream->name);
      if (!item.message.has_value() || elsewhere) {
        const ReadFrom again = reading.from_stream_itself ? ReadFrom::kLeader : ReadFrom::kAnyReplica;
        CO_ASSIGN_OR_RETURN(item.message, co_await FetchMessage(ref, stream, version, item.sequence, again, deadline));
      }
      CO_ASSIGN_OR_RETURN(DecodedEvent decoded, Decode(ref, *stream, version, *std::move(item.message)));
      CO_ASSIGN_OR_RETURN(const bool more, co_await reading.visitor(std::move(decoded)));
      if (!more) co_return false;
    }
  }
}

base::Task<absl::Status> History::Visit(domain::AggregateRef ref, Head head, Range range, EventVisitor visitor,
                                        base::SteadyTime deadline) {
  const StreamPtr stream = head.stream;
  LinkCheck links(stream.get());
  std::optional<domain::RecordedEvent> held;  // Going forward: until the next one continues it.
  Reading reading;
  reading.visitor = [&](DecodedEvent decoded) -> base::Task<absl::StatusOr<bool>> {
    CO_RETURN_IF_ERROR(CheckContent(*stream, decoded));
    if (const absl::Status linked = links.Next(decoded.event); !linked.ok()) {
      held.reset();
      co_return linked;
    }
    if (range.reverse) co_return co_await visitor(std::move(decoded.event));
    std::optional<domain::RecordedEvent> before = std::exchange(held, std::move(decoded.event));
    if (!before.has_value()) co_return true;
    const bool more = co_await visitor(*std::move(before));
    if (!more) held.reset();
    co_return more;
  };
  absl::Status status = co_await VisitBlocks(std::move(ref), std::move(head), range, std::move(reading), deadline);
  if (held.has_value()) co_await visitor(*std::move(held));
  co_return status;
}

base::Task<absl::Status> History::VisitStored(domain::AggregateRef ref, Head head, Range range, DecodedVisitor visitor,
                                              base::SteadyTime deadline) {
  Reading reading{.visitor = std::move(visitor), .from_stream_itself = true};
  co_return co_await VisitBlocks(std::move(ref), std::move(head), range, std::move(reading), deadline);
}

base::Task<absl::Status> History::VisitBlocks(domain::AggregateRef ref, Head head, Range range, Reading reading,
                                              base::SteadyTime deadline) {
  if (range.first == 0 || range.first > range.last) co_return absl::OkStatus();
  const StreamPtr stream = head.stream;
  // The last events of the blocks, newest first: one get for each 1024 events. Going back, each block is visited when
  // its last event is found; going forward, only when that of the first one is.
  std::vector<EventNode> tops;
  EventNode node = NodeOf(head);
  for (uint64_t top = range.last; top >= range.first; top = (top - 1) / kBlock * kBlock) {
    if (node.version != top) {
      CO_ASSIGN_OR_RETURN(DecodedEvent decoded, co_await EventAt(ref, stream, std::move(node), top, deadline));
      node = NodeOf(decoded);
    }
    if (range.reverse) {
      CO_ASSIGN_OR_RETURN(const bool more, co_await VisitBlock(ref, stream, node, range, reading, deadline));
      if (!more) co_return absl::OkStatus();
    } else {
      // The pointers are read again when the block's turn comes: a block is 16 bytes here, however long the history.
      tops.push_back({.version = node.version, .sequence = node.sequence, .pointers = {}});
    }
    if (top <= kBlock) break;
  }
  for (auto top = tops.rbegin(); top != tops.rend(); ++top) {
    if (top->version == head.version) {
      top->pointers = head.pointers;
    } else {
      CO_ASSIGN_OR_RETURN(DecodedEvent decoded, co_await Fetch(ref, stream, top->version, top->sequence, deadline));
      top->pointers = std::move(decoded.pointers);
    }
    CO_ASSIGN_OR_RETURN(const bool more, co_await VisitBlock(ref, stream, *top, range, reading, deadline));
    if (!more) break;
  }
  co_return absl::OkStatus();
}

base::Task<absl::StatusOr<uint64_t>> History::VisitKept(domain::AggregateRef ref, Head head, Range range,
                                                        EventVisitor visitor, base::SteadyTime deadline) {
  // Blocks are read before what is in them is visited, so that even a removed event that nobody wants may be met.
  uint64_t visited = 0;
  const EventVisitor count = [&visited, &visitor](domain::RecordedEvent event) -> base::Task<bool> {
    visited = event.version;
    co_return co_await visitor(std::move(event));
  };
  if (head.stream->purgeable && range.first == 1 && !range.reverse) {
    // The first event alone would not tell: it may have come back without those after it.
    CO_ASSIGN_OR_RETURN(const uint64_t first, co_await FirstKept(ref, head.stream, deadline));
    if (first > range.last) co_return domain::HistoryRemoved(ref, first);
    range.first = std::max(range.first, first);
  }
  constexpr int kAttempts = 5;  // More is removed while it is read.
  for (int attempt = 1;; ++attempt) {
    const absl::Status status = co_await Visit(ref, head, range, count, deadline);
    if (status.ok()) co_return range.first;
    const bool broken_off = visited > 0 && !range.reverse;  // Its beginning was there.
    if (!IsRemoved(status) || broken_off || attempt == kAttempts) co_return status;
    CO_ASSIGN_OR_RETURN(const uint64_t first, co_await FirstKept(ref, head.stream, deadline));
    if (first <= range.first) co_return status;
    range.first = first;
    if (visited > 0) range.last = visited - 1;
    if (range.first > range.last) {
      if (visited > 0) co_return range.first;
      co_return status;
    }
  }
}

base::Task<absl::StatusOr<bool>> History::VisitBlock(domain::AggregateRef ref, StreamPtr stream, EventNode top,
                                                     Range range, const Reading& reading, base::SteadyTime deadline) {
  const uint64_t first = std::max(range.first, (top.version - 1) / kBlock * kBlock + 1);
  std::vector<uint64_t> sequences;
  CO_ASSIGN_OR_RETURN(const bool contiguous, co_await IsContiguous(ref, stream, top, first, deadline));
  if (contiguous) {
    sequences.resize(top.version - first + 1);
    std::iota(sequences.begin(), sequences.end(), top.sequence - (top.version - first));
  } else {
    CO_ASSIGN_OR_RETURN(sequences, co_await Sequences(ref, stream, std::move(top), first, deadline));
  }
  co_return co_await VisitSequences(ref, stream, first, std::move(sequences), range.reverse, reading, deadline);
}

base::Task<absl::StatusOr<uint64_t>> History::VersionAsOf(domain::AggregateRef ref, Head head, base::WallTime as_of,
                                                          base::SteadyTime deadline) {
  if (head.version == 0 || head.recorded_time <= as_of) co_return head.version;
  // Recorded times never go down within an aggregate, so halving works. `after` is recorded later than as_of.
  uint64_t not_after = 0;
  absl::Status removed;  // Why the event of not_after cannot be read; then it may be recorded later, too.
  EventNode after = NodeOf(head);
  while (after.version - not_after > 1) {
    const uint64_t middle = not_after + (after.version - not_after) / 2;
    absl::StatusOr<DecodedEvent> decoded = co_await EventAt(ref, head.stream, after, middle, deadline);
    if (IsRemoved(decoded.status())) {
      // All before the first one that is kept are gone with it.
      const uint64_t first = domain::GetErrorDetail(decoded.status())->history_removed().first_version();
      not_after = std::max(middle, std::min(first, after.version) - 1);
      removed = decoded.status();
      continue;
    }
    if (!decoded.ok()) co_return decoded.status();
    if (decoded->event.recorded_time <= as_of) {
      not_after = middle;
      removed = absl::OkStatus();
    } else {
      after = NodeOf(*decoded);
    }
  }
  if (!removed.ok()) co_return removed;
  co_return not_after;
}

}  // namespace persistd::repository
