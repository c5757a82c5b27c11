#include "server/repository/chain_reader.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cim/persistence/v1/errors.pb.h"
#include "server/base/status_macros.h"
#include "server/domain/errors.h"
#include "server/domain/subject.h"
#include "server/jetstream/event_codec.h"
#include "server/jetstream/pointers.h"

namespace persistd::repository {
namespace {

using jetstream::DecodedEvent;
using jetstream::DisplacedEvent;
using jetstream::Message;
using jetstream::ReadFrom;
using jetstream::StreamPtr;

// A long history may take hours; one read of it may not. By subject NATS may have to search far.
constexpr std::chrono::seconds kReadTimeout{60};
constexpr uint64_t kMessagesPerRead = 256;
constexpr size_t kBytesPerRead = 1u << 20;
constexpr uint64_t kEventsPerProgress = 256;
constexpr int kAttempts = 3;  // Events may be removed, or saved, while they are read.

base::SteadyTime ReadDeadline(base::SteadyTime deadline) {
  return std::min(deadline, base::Clock::System().SteadyNow() + kReadTimeout);
}

bool IsCorrupt(const absl::Status& status) {
  return domain::HasReason(status, cim::persistence::v1::ERROR_REASON_CORRUPT_DATA);
}

absl::Status Stopped() { return absl::CancelledError("nobody waits for the result"); }

// Reads all messages of a filter in the order of the stream, a batch at a time.
class SubjectScan {
 public:
  SubjectScan(jetstream::Reader* reader, StreamPtr stream, std::string filter)
      : reader_(*reader),
        stream_(std::move(stream)),
        filter_(std::move(filter)),
        from_(Storage::StrongRead(*stream_)) {}

  // Empty: there are no more.
  base::Task<absl::StatusOr<std::vector<Message>>> Next(base::SteadyTime deadline) {
    std::vector<Message> messages;
    if (from_ == ReadFrom::kAnyReplica) {
      absl::StatusOr<std::vector<Message>> answers = co_await reader_.StartNext(
          stream_->name, filter_, sequence_, kMessagesPerRead, kBytesPerRead, ReadDeadline(deadline));
      CO_ASSIGN_OR_RETURN(messages, reader_.FinishRange(std::move(answers), stream_->name));
      const bool mirror = std::any_of(messages.begin(), messages.end(), [this](const Message& message) {
        return jetstream::IsFromMirror(message, stream_->name);
      });
      if (mirror) messages.clear();
    }
    if (messages.empty()) {
      // A replica or a mirror may be behind, and several messages at once only they give.
      CO_ASSIGN_OR_RETURN(
          std::optional<Message> next,
          co_await reader_.Next(stream_->name, filter_, sequence_, ReadFrom::kLeader, ReadDeadline(deadline)));
      if (next.has_value()) messages.push_back(*std::move(next));
    }
    if (!messages.empty()) sequence_ = messages.back().sequence + 1;
    co_return messages;
  }

 private:
  jetstream::Reader& reader_;
  const StreamPtr stream_;
  const std::string filter_;
  const ReadFrom from_;
  uint64_t sequence_ = 1;
};

// Whether the pointers of events lead to the events before them. Knows where the versions are that pointers may name.
class PointerCheck {
 public:
  // The first event whose pointers lead elsewhere, as far as can be told.
  const std::optional<ipld::ChainBreak>& misplaced() const { return misplaced_; }

  void Add(const DisplacedEvent& displaced) {
    const domain::RecordedEvent& event = displaced.decoded.event;
    if (!misplaced_.has_value()) {
      if (!displaced.pointers_fit) {
        Note(event, "its pointers do not fit the place where it is stored");
      } else {
        Compare(event, displaced.decoded.pointers);
      }
    }
    recent_[event.version] = event.sequence;
    if (recent_.size() > jetstream::kMaxBackPointers) recent_.erase(recent_.begin());
    if (event.version % jetstream::kSkipLevels[0] == 0) milestones_[event.version] = event.sequence;
  }

 private:
  void Compare(const domain::RecordedEvent& event, const jetstream::Pointers& pointers) {
    uint64_t version = event.version;
    for (const uint64_t sequence : pointers.back) CompareOne(event, --version, sequence, recent_);
    for (const jetstream::SkipPointer& skip : pointers.skip) {
      CompareOne(event, skip.version, skip.sequence, milestones_);
    }
  }

  void CompareOne(const domain::RecordedEvent& event, uint64_t version, uint64_t sequence,
                  const std::map<uint64_t, uint64_t>& known) {
    const auto found = known.find(version);
    if (found == known.end() || found->second == sequence || misplaced_.has_value()) return;
    Note(event, absl::StrCat("it says that version ", version, " is at sequence ", sequence,
                             " of the stream, but that is at ", found->second));
  }

  void Note(const domain::RecordedEvent& event, std::string detail) {
    misplaced_ = ipld::ChainBreak{.version = event.version,
                                  .reason = ipld::BreakReason::kMisplaced,
                                  .detail = std::move(detail),
                                  .sequence = event.sequence};
  }

  std::optional<ipld::ChainBreak> misplaced_{};
  std::map<uint64_t, uint64_t> recent_{};      // Sequences by version.
  std::map<uint64_t, uint64_t> milestones_{};  // 16 bytes and a node for each 1024 events.
};

}  // namespace

ipld::ChainRange ChainReader::Attempt::Range() const {
  ipld::ChainRange range;
  range.first = command.from_version + 1;
  if (command.from_version == 0 && first_kept > 1) {
    range.first = first_kept;
    range.begins_later = true;
  }
  range.last = command.to_version.value_or(range.last);
  range.expected_head_cid = command.expected_head_cid;
  range.expected_previous_cid = command.expected_previous_cid;
  return range;
}

base::Task<absl::StatusOr<uint64_t>> ChainReader::Count(domain::AggregateRef ref, StreamPtr stream,
                                                        base::SteadyTime deadline) {
  using Counts = std::map<std::string, uint64_t>;
  CO_ASSIGN_OR_RETURN(const Counts counts, co_await storage_.all_streams().Subjects(
                                               stream->name, domain::EventFilter(ref), ReadDeadline(deadline)));
  uint64_t sum = 0;
  for (const auto& [subject, count] : counts) sum += count;
  co_return sum;
}

base::Task<absl::StatusOr<Verification>> ChainReader::Verify(VerifyCommand command, VerifyProgressSink progress,
                                                             base::SteadyTime deadline) {
  CO_ASSIGN_OR_RETURN(StreamPtr stream, co_await storage_.FindEvents(command.ref, deadline));
  if (stream == nullptr) co_return domain::AggregateNotFound(command.ref);
  Attempt attempt{
      .command = std::move(command), .progress = std::move(progress), .stream = stream, .deadline = deadline};
  std::optional<ipld::ChainResult> result;
  for (int i = 1; !result.has_value(); ++i) {
    if (stream->purgeable) {
      const absl::StatusOr<uint64_t> first = co_await history_.FirstKept(attempt.command.ref, stream, deadline);
      if (!first.ok() && !IsCorrupt(first.status())) co_return first.status();
      attempt.first_kept = std::max<uint64_t>(first.value_or(1), 1);
    }
    absl::Status odd;
    absl::StatusOr<std::optional<ipld::ChainResult>> quick = co_await VerifyByPointers(attempt, odd);
    if (IsRemoved(quick.status()) && attempt.command.from_version == 0 && i < kAttempts) continue;
    if (!quick.ok()) co_return quick.status();
    result = *std::move(quick);
    if (!result.has_value()) {
      CO_ASSIGN_OR_RETURN(result, co_await VerifyBySubject(attempt, odd));
    }
  }
  Verification verification;
  const uint64_t noticed = result->first_break.has_value() ? result->first_break->sequence : 0;
  if (noticed > 0) verification.position = PositionOf(*stream, noticed);
  verification.chain = *std::move(result);
  co_return verification;
}

base::Task<absl::StatusOr<std::optional<ipld::ChainResult>>> ChainReader::VerifyByPointers(Attempt attempt,
                                                                                           absl::Status& odd) {
  const domain::AggregateRef& ref = attempt.command.ref;
  const std::optional<ipld::ChainResult> none;
  const uint64_t from = attempt.command.from_version;
  Head head;
  for (int i = 1;; ++i) {
    absl::StatusOr<Head> read = co_await history_.ReadHead(ref, attempt.stream, Absence::kVerify, attempt.deadline);
    if (IsCorrupt(read.status())) {
      odd = read.status();
      co_return none;
    }
    if (!read.ok()) co_return read.status();
    head = *std::move(read);
    CO_ASSIGN_OR_RETURN(const uint64_t messages, co_await Count(ref, attempt.stream, attempt.deadline));
    const bool undisturbed = head.version > 0 && head.sequence == head.last_sequence && !head.foreign_tail;
    const uint64_t expected = head.version + 1 - attempt.first_kept;
    if (undisturbed && messages == expected) break;
    // More may have been saved since the head was read; that it goes on and on is no reason to wait.
    if (!undisturbed || messages < expected || i == kAttempts) co_return none;
  }
  if (from > head.version) co_return domain::VersionNotFound(ref, from, head.version);
  if (from > 0 && from < attempt.first_kept) co_return domain::HistoryRemoved(ref, attempt.first_kept);
  const ipld::ChainRange chain_range = attempt.Range();
  const uint64_t end = std::min(chain_range.last, head.version);
  if (chain_range.begins_later && chain_range.first > end) co_return domain::HistoryRemoved(ref, attempt.first_kept);
  struct History::Range range {
    .first = from == 0 ? chain_range.first : from, .last = end
  };
  // The next event tells whether the last one was replaced, and the rest of its save whether that is whole.
  if (range.last < head.version) {
    const EventNode node{.version = head.version, .sequence = head.sequence, .pointers = head.pointers};
    const absl::StatusOr<DecodedEvent> last =
        co_await history_.EventAt(ref, attempt.stream, node, range.last, attempt.deadline);
    if (IsCorrupt(last.status())) {
      odd = last.status();
      co_return none;
    }
    if (!last.ok()) co_return last.status();
    const uint64_t rest = last->event.commit_size - last->event.commit_index - 1;
    range.last = std::min(head.version, range.last + std::max<uint64_t>(rest, 1));
  }
  const uint64_t total = end + 1 - std::min(chain_range.first, end + 1);
  ipld::ChainVerifier verifier(chain_range);
  uint64_t told = 0;
  const DecodedVisitor visit = [&](DecodedEvent decoded) -> base::Task<absl::StatusOr<bool>> {
    verifier.Add(decoded.event, decoded.labels);
    if (verifier.suspicious()) co_return false;
    if (verifier.seen() >= told + kEventsPerProgress) {
      told = verifier.seen();
      const VerifyProgress so_far{.verified = told, .total = total};
      const bool more = co_await attempt.progress(so_far);
      if (!more) co_return Stopped();
    }
    co_return true;
  };
  const absl::Status status = co_await history_.VisitStored(ref, head, range, visit, attempt.deadline);
  if (IsCorrupt(status)) {
    odd = status;
    co_return none;
  }
  if (!status.ok()) co_return status;
  if (verifier.suspicious()) co_return none;
  co_return verifier.Finish();
}

base::Task<absl::StatusOr<ipld::ChainResult>> ChainReader::VerifyBySubject(Attempt attempt, absl::Status odd) {
  const domain::AggregateRef& ref = attempt.command.ref;
  const StreamPtr& stream = attempt.stream;
  const std::string filter = domain::EventFilter(ref);
  CO_ASSIGN_OR_RETURN(
      const std::optional<Message> last,
      co_await storage_.reader().Last(stream->name, filter, ReadFrom::kLeader, ReadDeadline(attempt.deadline)));
  if (!last.has_value()) co_return domain::AggregateNotFound(ref);
  CO_ASSIGN_OR_RETURN(const uint64_t total, co_await Count(ref, stream, attempt.deadline));
  const ipld::ChainRange range = attempt.Range();
  ipld::ChainVerifier verifier(range);
  PointerCheck pointers;
  SubjectScan scan(&storage_.reader(), stream, filter);
  uint64_t read = 0;
  for (bool more = true; more;) {
    CO_ASSIGN_OR_RETURN(std::vector<Message> messages, co_await scan.Next(attempt.deadline));
    more = !messages.empty() && messages.back().sequence < last->sequence;
    for (Message& message : messages) {
      const uint64_t sequence = message.sequence;
      if (sequence > last->sequence) break;
      ++read;
      if (!jetstream::IsOurs(message)) {
        history_.NoteForeign(*stream, message);
        continue;
      }
      absl::StatusOr<DisplacedEvent> displaced = jetstream::DecodeDisplacedEvent(std::move(message));
      if (!displaced.ok()) {
        verifier.AddUnreadable(sequence, displaced.status().message());
        continue;
      }
      const domain::RecordedEvent& event = displaced->decoded.event;
      bool group_complete = true;
      if (event.group_place < event.group_size) {
        CO_ASSIGN_OR_RETURN(group_complete, co_await history_.GroupIsComplete(stream, event, attempt.deadline));
      }
      verifier.Add(event, displaced->decoded.labels, group_complete);
      pointers.Add(*displaced);
    }
    const VerifyProgress so_far{.verified = std::min(read, total), .total = total};
    const bool wanted = co_await attempt.progress(so_far);
    if (!wanted) co_return Stopped();
  }
  ipld::ChainResult result = verifier.Finish();
  if (result.first_break.has_value()) co_return result;
  const std::optional<ipld::ChainBreak>& misplaced = pointers.misplaced();
  if (misplaced.has_value() && misplaced->version >= range.first && misplaced->version <= range.last) {
    result.first_break = misplaced;
    co_return result;
  }
  // Nothing is wrong with any message, but reads failed: to say that all is well would not be true.
  if (!odd.ok() && !misplaced.has_value()) co_return odd;
  co_return result;
}

base::Task<absl::Status> ChainReader::Read(domain::AggregateRef ref, uint64_t first, uint64_t last, ChainSink sink,
                                           base::SteadyTime deadline) {
  CO_ASSIGN_OR_RETURN(StreamPtr stream, co_await storage_.FindEvents(ref, deadline));
  if (stream == nullptr) co_return domain::AggregateNotFound(ref);
  CO_ASSIGN_OR_RETURN(Head head, co_await history_.ReadHead(ref, stream, Absence::kVerify, deadline));
  if (last > head.version) co_return domain::VersionNotFound(ref, last, head.version);
  ipld::ChainVerifier verifier({.first = first, .last = last, .begins_later = first > 1});
  const DecodedVisitor visit = [&](DecodedEvent decoded) -> base::Task<absl::StatusOr<bool>> {
    verifier.Add(decoded.event, decoded.labels);
    if (verifier.suspicious()) {
      const std::optional<ipld::ChainBreak> first_break = verifier.Finish().first_break;
      domain::CidPair cids;
      if (first_break.has_value()) cids = {.expected = first_break->expected, .actual = first_break->actual};
      co_return domain::CorruptData(
          stream->name, decoded.event.sequence,
          absl::StrCat("version ", decoded.event.version, " does not match its CID or the event before"), cids);
    }
    ChainedEvent chained{.event = std::move(decoded.event), .labels = std::move(decoded.labels)};
    co_return co_await sink(std::move(chained));
  };
  const struct History::Range range { .first = first, .last = last };
  co_return co_await history_.VisitStored(std::move(ref), std::move(head), range, visit, deadline);
}

}  // namespace persistd::repository
