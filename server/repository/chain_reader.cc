#include "server/repository/chain_reader.h"

#include <algorithm>
#include <array>
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
constexpr int kAttempts = 3;   // Events may be saved while they are counted.
constexpr int kRemovals = 10;  // Or removed after a snapshot, some at a time, while they are read.

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
  explicit PointerCheck(const ipld::ChainRange& range) : first_(range.first), last_(range.last) {}

  // The first event of the range whose pointers lead elsewhere, as far as can be told.
  const std::optional<ipld::ChainBreak>& misplaced() const { return misplaced_; }
  // So do those of one after the range.
  bool misplaced_after_range() const { return after_range_; }

  // pointers_fit: as of a DisplacedEvent.
  void Add(const DecodedEvent& decoded, bool pointers_fit) {
    const domain::RecordedEvent& event = decoded.event;
    const bool after = event.version > last_;
    const bool wanted = event.version >= first_ && !(after ? after_range_ : misplaced_.has_value());
    std::string wrong;
    if (wanted) wrong = pointers_fit ? Compare(decoded) : "its pointers do not fit the place where it is stored";
    if (!wrong.empty() && after) after_range_ = true;
    if (!wrong.empty() && !after) {
      misplaced_ = ipld::ChainBreak{.version = event.version,
                                    .reason = ipld::BreakReason::kMisplaced,
                                    .detail = std::move(wrong),
                                    .sequence = event.sequence};
    }
    recent_[event.version % recent_.size()] = {.version = event.version, .sequence = event.sequence};
    if (event.version % jetstream::kSkipLevels[0] == 0) milestones_[event.version] = event.sequence;
  }

 private:
  // What is wrong; empty: nothing.
  std::string Compare(const DecodedEvent& decoded) const {
    uint64_t version = decoded.event.version;
    for (const uint64_t sequence : decoded.pointers.back) {
      --version;
      const jetstream::SkipPointer& known = recent_[version % recent_.size()];
      if (known.version == version && known.sequence != sequence) return Difference(version, sequence, known.sequence);
    }
    for (const jetstream::SkipPointer& skip : decoded.pointers.skip) {
      const auto known = milestones_.find(skip.version);
      if (known != milestones_.end() && known->second != skip.sequence) {
        return Difference(skip.version, skip.sequence, known->second);
      }
    }
    return "";
  }

  static std::string Difference(uint64_t version, uint64_t said, uint64_t known) {
    return absl::StrCat("it says that version ", version, " is at sequence ", said, " of the stream, but that is at ",
                        known);
  }

  const uint64_t first_;
  const uint64_t last_;
  std::optional<ipld::ChainBreak> misplaced_{};
  bool after_range_ = false;
  std::array<jetstream::SkipPointer, jetstream::kMaxBackPointers> recent_{};  // By version, the later one of two.
  std::map<uint64_t, uint64_t> milestones_{};  // Sequences by version: 16 bytes and a node for each 1024 events.
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

absl::Status ChainReader::Attempt::CheckKept() const {
  const bool from_removed = command.from_version > 0 && command.from_version < first_kept;
  const bool all_removed = command.from_version == 0 && command.to_version.value_or(first_kept) < first_kept;
  return from_removed || all_removed ? domain::HistoryRemoved(command.ref, first_kept) : absl::OkStatus();
}

absl::Status ChainReader::Attempt::CheckHead(uint64_t version) const {
  if (command.from_version > version) return domain::VersionNotFound(command.ref, command.from_version, version);
  return first_kept > std::max<uint64_t>(version, 1) ? domain::HistoryRemoved(command.ref, first_kept)
                                                     : absl::OkStatus();
}

// What reading by subject has come to.
struct ChainReader::Scan {
  explicit Scan(const ipld::ChainRange& range) : verifier(range), pointers(range) {}

  ipld::ChainVerifier verifier;
  PointerCheck pointers;
  uint64_t read = 0;        // Messages.
  uint64_t head = 0;        // The latest version that ends a save.
  bool unreadable = false;  // Some message is.
};

base::Task<absl::StatusOr<uint64_t>> ChainReader::Count(domain::AggregateRef ref, StreamPtr stream,
                                                        base::SteadyTime deadline) {
  using Counts = std::map<std::string, uint64_t>;
  CO_ASSIGN_OR_RETURN(const Counts counts, co_await storage_.all_streams().Subjects(
                                               stream->name, domain::EventFilter(ref), ReadDeadline(deadline)));
  uint64_t sum = 0;
  for (const auto& [subject, count] : counts) sum += count;
  co_return sum;
}

base::Task<absl::StatusOr<uint64_t>> ChainReader::FirstKept(const Attempt& attempt) {
  if (!attempt.stream->purgeable) co_return 1;
  const absl::StatusOr<uint64_t> first =
      co_await history_.FirstKept(attempt.command.ref, attempt.stream, attempt.deadline);
  if (!first.ok() && !IsCorrupt(first.status())) co_return first.status();
  co_return std::max<uint64_t>(first.value_or(1), 1);
}

base::Task<absl::StatusOr<Verification>> ChainReader::Verify(VerifyCommand command, VerifyProgressSink progress,
                                                             base::SteadyTime deadline) {
  CO_ASSIGN_OR_RETURN(StreamPtr stream, co_await storage_.FindEvents(command.ref, deadline));
  if (stream == nullptr) co_return domain::AggregateNotFound(command.ref);
  Attempt attempt{
      .command = std::move(command), .progress = std::move(progress), .stream = stream, .deadline = deadline};
  CO_ASSIGN_OR_RETURN(attempt.first_kept, co_await FirstKept(attempt));
  std::optional<ipld::ChainResult> result;
  for (int i = 1;; ++i) {
    CO_RETURN_IF_ERROR(attempt.CheckKept());
    absl::Status odd;
    absl::StatusOr<std::optional<ipld::ChainResult>> quick = co_await VerifyByPointers(attempt, odd);
    const bool removed = IsRemoved(quick.status()) && attempt.command.from_version == 0;
    if (!quick.ok() && !removed) co_return quick.status();
    if (quick.ok()) {
      result = *std::move(quick);
      if (result.has_value()) break;
      CO_ASSIGN_OR_RETURN(result, co_await VerifyBySubject(attempt, odd));
      if (!result->first_break.has_value()) break;
    }
    // What is missing may have been removed after a snapshot since it was asked how much of the history was.
    const uint64_t before = attempt.first_kept;
    CO_ASSIGN_OR_RETURN(attempt.first_kept, co_await FirstKept(attempt));
    if (quick.ok() && attempt.first_kept == before) break;
    if (i == kRemovals) {
      co_return domain::NatsUnavailable(absl::StrCat("events of ", domain::EncodeEntity(attempt.command.ref.entity_id),
                                                     " were removed after a snapshot while they were verified"));
    }
  }
  if (result->first_break.has_value() && result->first_break->reason == ipld::BreakReason::kTailCut &&
      attempt.Range().begins_later) {
    co_return domain::HistoryRemoved(
        attempt.command.ref, attempt.first_kept,
        "no event that is kept has the expected_head_cid, nor has the last one of those: it is of an earlier event, or "
        "the end was cut off");
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
  CO_RETURN_IF_ERROR(attempt.CheckHead(head.version));
  const ipld::ChainRange chain_range = attempt.Range();
  const uint64_t end = std::min(chain_range.last, head.version);
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
  PointerCheck pointers(chain_range);
  uint64_t told = 0;
  const DecodedVisitor visit = [&](DecodedEvent decoded) -> base::Task<absl::StatusOr<bool>> {
    verifier.Add(decoded.event, decoded.labels);
    pointers.Add(decoded, /*pointers_fit=*/true);
    if (verifier.suspicious() || pointers.misplaced().has_value()) co_return false;
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
  if (verifier.suspicious() || pointers.misplaced().has_value()) co_return none;
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
  Scan scan(attempt.Range());
  SubjectScan messages(&storage_.reader(), stream, filter);
  for (bool more = true; more && !scan.verifier.concluded();) {
    CO_ASSIGN_OR_RETURN(std::vector<Message> batch, co_await messages.Next(attempt.deadline));
    if (batch.empty()) {
      co_return domain::NatsUnavailable(absl::StrCat("stream ", stream->name, " ends before sequence ", last->sequence,
                                                     ", where it had a message when its verification began"));
    }
    more = batch.back().sequence < last->sequence;
    for (Message& message : batch) {
      if (message.sequence > last->sequence || scan.verifier.concluded()) break;
      CO_RETURN_IF_ERROR(co_await Take(attempt, std::move(message), scan));
    }
    const VerifyProgress so_far{.verified = std::min(scan.read, total), .total = total};
    const bool wanted = co_await attempt.progress(so_far);
    if (!wanted) co_return Stopped();
  }
  // What cannot be read may be what is asked for; then that is what is wrong.
  if (!scan.verifier.concluded() && !scan.unreadable) CO_RETURN_IF_ERROR(attempt.CheckHead(scan.head));
  ipld::ChainResult result = scan.verifier.Finish();
  if (!result.first_break.has_value()) result.first_break = scan.pointers.misplaced();
  if (result.first_break.has_value()) co_return result;
  // Nothing is wrong with any message of the range, but reads failed: to say that all is well would not be true, unless
  // they failed at what comes after it.
  const bool after_range = scan.verifier.wrong_after_range() || scan.pointers.misplaced_after_range();
  if (!odd.ok() && !after_range) co_return odd;
  co_return result;
}

base::Task<absl::Status> ChainReader::Take(const Attempt& attempt, Message message, Scan& scan) {
  const uint64_t sequence = message.sequence;
  ++scan.read;
  if (!jetstream::IsOurs(message)) {
    history_.NoteForeign(*attempt.stream, message);
    co_return absl::OkStatus();
  }
  const absl::StatusOr<DisplacedEvent> displaced = jetstream::DecodeDisplacedEvent(std::move(message));
  if (!displaced.ok()) {
    scan.unreadable = true;
    scan.verifier.AddUnreadable(sequence, displaced.status().message());
    co_return absl::OkStatus();
  }
  const domain::RecordedEvent& event = displaced->decoded.event;
  bool group_complete = true;
  if (event.group_place < event.group_size) {
    CO_ASSIGN_OR_RETURN(group_complete, co_await history_.GroupIsComplete(attempt.stream, event, attempt.deadline));
  }
  if (event.ends_commit() && group_complete) scan.head = std::max(scan.head, event.version);
  scan.verifier.Add(event, displaced->decoded.labels, group_complete);
  scan.pointers.Add(displaced->decoded, displaced->pointers_fit);
  co_return absl::OkStatus();
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
