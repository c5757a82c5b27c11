#include "server/repository/committer.h"

#include <algorithm>
#include <atomic>
#include <span>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/base/logging.h"
#include "server/domain/errors.h"

namespace persistd::repository {
namespace {

using jetstream::PublishOutcome;
using jetstream::StreamPtr;
using Kind = PublishOutcome::Kind;
using std::chrono::milliseconds;

// Fewer commits of one message than this are sent alone, side by side: the fixed cost of a batch is that of about as
// many publishes.
constexpr size_t kLeastWorthBatch = 6;
// A batch without an answer for so long does not hold up the others any more.
constexpr milliseconds kSlowBatch{1000};
// What a batch should take at most, because reads of the stream wait for it, and the size from which that makes batches
// smaller: below it a batch takes its fixed cost, so smaller ones would take more in all.
constexpr milliseconds kBatchTime{10};
constexpr size_t kLeastBatchMessages = 256;
// Waiting for a stream, in all.
constexpr size_t kMaxWaitingBytes = 256u << 20;

size_t BytesOf(const CommitUnit& unit) {
  size_t bytes = 0;
  for (const jetstream::OutgoingMessage& message : unit.messages) {
    bytes += message.subject.size() + jetstream::HeaderBytes(message.headers) + message.data.size();
  }
  return bytes;
}

PublishOutcome Outcome(Kind kind, absl::Status status) {
  PublishOutcome outcome;
  outcome.kind = kind;
  outcome.status = std::move(status);
  return outcome;
}

}  // namespace

// The commits of one stream. Thread-safe.
class Committer::Lane final : public base::Deferred, public std::enable_shared_from_this<Lane> {
 public:
  Lane(const Committer* owner, StreamPtr stream)
      : owner_(*owner),
        stream_(std::move(stream)),
        batch_messages_(std::min(kLeastBatchMessages, owner->options_.max_batch_messages)) {}

  // False: too much waits already.
  bool Add(SendingPtr sending) {
    base::MutexLock lock(mutex_);
    if (waiting_bytes_ + sending->bytes > kMaxWaitingBytes) return false;
    sending->waiting = true;
    waiting_bytes_ += sending->bytes;
    waiting_messages_ += sending->unit->messages.size();
    waiting_.push_back(std::move(sending));
    return true;
  }

  void TimeOut(const SendingPtr& sending) {
    bool waited;
    {
      base::MutexLock lock(mutex_);
      waited = sending->waiting;
      if (waited) {
        Leave(*sending);
        std::erase(waiting_, sending);
      }
    }
    sending->outcome.TrySet(
        waited
            ? Outcome(Kind::kNotStored, domain::Overloaded("other saves of this stream took all of this call's time"))
            : Outcome(Kind::kUnknown, absl::UnknownError("no answer from NATS in time")));
  }

  // Sends what may leave now.
  void RunDeferred() override {
    {
      base::MutexLock lock(mutex_);
      if (std::exchange(leaving_, true)) return;  // Whoever is at it goes on; also this thread, further up its stack.
    }
    while (true) {
      Batch batch;
      {
        base::MutexLock lock(mutex_);
        if (!MayLeave()) {
          leaving_ = false;
          return;
        }
        batch = Take();
      }
      base::Spawn(Send(shared_from_this(), std::move(batch)));
    }
  }

 private:
  void Leave(Sending& sending) REQUIRES(mutex_) {
    sending.waiting = false;
    waiting_bytes_ -= sending.bytes;
    waiting_messages_ -= sending.unit->messages.size();
  }

  bool MayLeave() REQUIRES(mutex_) {
    if (waiting_.empty()) return false;
    // A second batch goes out before the first is answered only when it is full: the server takes one after the other,
    // so what comes meanwhile had better share its fixed cost.
    if (in_flight_ > 0) {
      if (in_flight_ >= owner_.options_.max_inflight) return false;
      const base::SteadyTime slow = last_sent_ + kSlowBatch;
      if (waiting_messages_ >= batch_messages_ || owner_.clock_->SteadyNow() >= slow) return true;
      LookAgain(slow, &Lane::watched_);
      return false;
    }
    const base::SteadyTime until = waiting_.front()->since + owner_.options_.max_delay;
    if (owner_.options_.max_delay.count() == 0 || waiting_messages_ >= batch_messages_ ||
        owner_.clock_->SteadyNow() >= until) {
      return true;
    }
    LookAgain(until, &Lane::delayed_);
    return false;
  }

  // At that time, unless `pending` says that a timer for this does already.
  void LookAgain(base::SteadyTime at, bool Lane::*pending) REQUIRES(mutex_) {
    if (std::exchange(this->*pending, true)) return;
    owner_.executor_->RunAt(at, [self = shared_from_this(), pending] {
      {
        base::MutexLock lock(self->mutex_);
        (*self).*pending = false;
      }
      self->RunDeferred();
    });
  }

  Batch Take() REQUIRES(mutex_) {
    Batch batch;
    size_t messages = 0;
    size_t bytes = 0;
    while (!waiting_.empty()) {
      const SendingPtr& next = waiting_.front();
      const size_t more = next->unit->messages.size();
      if (!batch.empty() &&
          (messages + more > batch_messages_ || bytes + next->bytes > owner_.options_.max_batch_bytes)) {
        break;
      }
      messages += more;
      bytes += next->bytes;
      Leave(*next);
      batch.push_back(next);
      waiting_.pop_front();
    }
    ++in_flight_;
    last_sent_ = owner_.clock_->SteadyNow();
    return batch;
  }

  // Arguments, not captures: `self` keeps the lane.
  static base::Task<void> Send(std::shared_ptr<Lane> self, Batch batch) {
    size_t messages = 0;
    for (const SendingPtr& sending : batch) messages += sending->unit->messages.size();
    const base::SteadyTime sent = self->owner_.clock_->SteadyNow();
    if (messages == batch.size() && messages < kLeastWorthBatch) {
      co_await self->SendSideBySide(std::move(batch));
      co_return;
    }
    std::optional<PublishOutcome> outcome = co_await self->Publish(batch);
    self->Adapt(messages, self->owner_.clock_->SteadyNow() - sent);
    if (outcome->kind == Kind::kStored) {
      // What waits leaves before those who are done go on: NATS has nothing to do meanwhile.
      self->Done();
      Share(batch, *std::move(outcome));
      co_return;
    }
    co_await self->Settle(std::move(batch), *std::move(outcome));
    self->Done();
  }

  base::Task<void> SendSideBySide(Batch batch) {
    if (batch.size() == 1) {
      PublishOutcome outcome = co_await Publish(batch);
      Done();
      batch.front()->outcome.TrySet(std::move(outcome));
      co_return;
    }
    auto left = std::make_shared<std::atomic<size_t>>(batch.size());
    for (SendingPtr& sending : batch) {
      base::Spawn(SendOneOfSeveral(shared_from_this(), std::move(sending), left));
    }
  }

  static base::Task<void> SendOneOfSeveral(std::shared_ptr<Lane> self, SendingPtr sending,
                                           std::shared_ptr<std::atomic<size_t>> left) {
    Batch one;
    one.push_back(sending);
    PublishOutcome outcome = co_await self->Publish(one);
    if (left->fetch_sub(1) == 1) self->Done();
    sending->outcome.TrySet(std::move(outcome));
  }

  void Done() {
    {
      base::MutexLock lock(mutex_);
      --in_flight_;
    }
    base::Burst::AtEnd(shared_from_this());
    base::Burst::Now();
  }

  void Adapt(size_t messages, base::SteadyTime::duration took) {
    base::MutexLock lock(mutex_);
    if (took > kBatchTime && messages * 2 >= batch_messages_) {
      batch_messages_ = std::max(kLeastBatchMessages, batch_messages_ * 4 / 5);
    } else if (took < kBatchTime * 3 / 4 && messages * 5 >= batch_messages_ * 4) {
      batch_messages_ = batch_messages_ * 5 / 4;
    }
    batch_messages_ = std::min(batch_messages_, owner_.options_.max_batch_messages);
  }

  base::Task<PublishOutcome> Publish(const Batch& batch) {
    std::vector<const jetstream::OutgoingMessage*> messages;
    const base::SteadyTime now = owner_.clock_->SteadyNow();
    base::SteadyTime deadline = base::SteadyTime::min();
    for (const SendingPtr& sending : batch) {
      deadline = std::max(deadline, std::min(sending->deadline, now + sending->patience));
      for (const jetstream::OutgoingMessage& message : sending->unit->messages) messages.push_back(&message);
    }
    const size_t count = messages.size();
    PublishOutcome outcome = co_await owner_.publisher_->Publish(stream_->name, std::move(messages), deadline);
    const bool doubtful = outcome.kind == Kind::kStored && count > 1 && stream_->replicas == 1;
    if (doubtful && owner_.options_.doubt_batches() && !co_await IsWhole(count, outcome.last_sequence, deadline)) {
      co_return Outcome(Kind::kUnknown,
                        absl::UnknownError("NATS did not store the whole of a batch that it acknowledged"));
    }
    co_return outcome;
  }

  // True when a batch of `count` messages begins where it must if all of it was stored.
  base::Task<bool> IsWhole(size_t count, uint64_t last_sequence, base::SteadyTime deadline) {
    const absl::StatusOr<std::optional<jetstream::Message>> first =
        co_await owner_.reader_->Get(stream_->name, last_sequence - count + 1, jetstream::ReadFrom::kLeader, deadline);
    if (!first.ok() || !first->has_value()) co_return false;
    const std::string* number = (*first)->headers.Find("Nats-Batch-Sequence");
    const bool whole = number != nullptr && *number == "1";
    if (!whole) base::LogError("batch not whole", {{"stream", stream_->name}, {"last_sequence", last_sequence}});
    co_return whole;
  }

  // Tells each commit its part of the outcome of all.
  static void Share(const Batch& batch, PublishOutcome outcome) {
    uint64_t sequence = outcome.last_sequence;
    for (const SendingPtr& sending : batch) sequence -= sending->unit->messages.size();
    for (const SendingPtr& sending : batch) {
      PublishOutcome part = outcome;
      if (outcome.kind == Kind::kStored) {
        sequence += sending->unit->messages.size();
        part.last_sequence = sequence;
      }
      sending->outcome.TrySet(std::move(part));
    }
  }

  // A batch that was not stored: those that are to blame are told so, the others are sent again.
  base::Task<void> Settle(Batch batch, PublishOutcome outcome) {
    for (bool first = true;; first = false) {
      const bool blames = outcome.kind == Kind::kConflict || outcome.kind == Kind::kRefused;
      if (batch.size() == 1 || !blames) {
        Share(batch, std::move(outcome));
        co_return;
      }
      const size_t before = batch.size();
      if (outcome.kind == Kind::kConflict)
        co_await TakeOutStale(batch, first ? outcome.conflicting_sequence : 0, outcome);
      if (batch.empty()) co_return;
      if (batch.size() == before) break;
      outcome = co_await Publish(batch);
    }
    // Nobody can be named: half of them at a time.
    const auto middle = batch.begin() + static_cast<std::ptrdiff_t>(batch.size() / 2);
    Batch second(middle, batch.end());
    batch.erase(middle, batch.end());
    PublishOutcome half = co_await Publish(batch);
    co_await Settle(std::move(batch), std::move(half));
    half = co_await Publish(second);
    co_await Settle(std::move(second), std::move(half));
  }

  // Takes out of `batch`, and tells, those whose check fails. named: the sequence of the message that one of them did
  // not expect; 0: not known, then all are looked at.
  base::Task<void> TakeOutStale(Batch& batch, uint64_t named, PublishOutcome outcome) {
    const base::SteadyTime deadline = owner_.clock_->SteadyNow() + std::chrono::seconds(2);
    std::vector<bool> stale(batch.size(), false);
    if (named > 0) {
      absl::StatusOr<std::optional<jetstream::Message>> message =
          co_await owner_.reader_->Get(stream_->name, named, StrongRead(*stream_), deadline);
      if (message.ok() && message->has_value()) {
        for (size_t i = 0; i < batch.size(); ++i) stale[i] = Watches(*batch[i]->unit, (*message)->subject);
      }
    }
    if (std::find(stale.begin(), stale.end(), true) == stale.end()) co_await FindStale(batch, stale, deadline);
    Batch rest;
    Batch taken;
    for (size_t i = 0; i < batch.size(); ++i) (stale[i] ? taken : rest).push_back(std::move(batch[i]));
    batch = std::move(rest);
    for (const SendingPtr& sending : taken) sending->outcome.TrySet(outcome);
  }

  // True when a check of the unit is about `subject`.
  static bool Watches(const CommitUnit& unit, absl::string_view subject) {
    return std::any_of(unit.checks.begin(), unit.checks.end(), [subject](const jetstream::ExpectedLast& check) {
      absl::string_view filter = check.filter;
      return absl::ConsumeSuffix(&filter, ">") ? absl::StartsWith(subject, filter) : subject == filter;
    });
  }

  base::Task<void> FindStale(const Batch& batch, std::vector<bool>& stale, base::SteadyTime deadline) {
    struct Asked {
      size_t index;
      uint64_t expected;
      base::Future<absl::StatusOr<jetstream::Message>> answer;
    };
    const jetstream::ReadFrom from = StrongRead(*stream_);
    std::vector<Asked> asked;
    for (size_t i = 0; i < batch.size(); ++i) {
      for (const jetstream::ExpectedLast& check : batch[i]->unit->checks) {
        asked.push_back({.index = i,
                         .expected = check.last_sequence,
                         .answer = owner_.reader_->StartLast(stream_->name, check.filter, from, deadline)});
      }
    }
    for (Asked& ask : asked) {
      absl::StatusOr<jetstream::Message> answer = co_await ask.answer;
      absl::StatusOr<std::optional<jetstream::Message>> last =
          owner_.reader_->FinishLast(std::move(answer), stream_->name, from);
      if (!last.ok()) continue;
      const uint64_t sequence = last->has_value() ? (*last)->sequence : 0;
      if (sequence != ask.expected) stale[ask.index] = true;
    }
  }

  const Committer& owner_;
  const StreamPtr stream_;
  base::Mutex mutex_;
  std::deque<SendingPtr> waiting_ GUARDED_BY(mutex_);
  size_t waiting_bytes_ GUARDED_BY(mutex_) = 0;
  size_t waiting_messages_ GUARDED_BY(mutex_) = 0;
  int in_flight_ GUARDED_BY(mutex_) = 0;  // Batches, or few commits sent side by side.
  size_t batch_messages_ GUARDED_BY(mutex_);  // How many a batch may hold now.
  bool leaving_ GUARDED_BY(mutex_) = false;   // Somebody is in RunDeferred.
  base::SteadyTime last_sent_ GUARDED_BY(mutex_);
  bool delayed_ GUARDED_BY(mutex_) = false;  // A timer will look again whether the first has waited enough,
  bool watched_ GUARDED_BY(mutex_) = false;  // and one whether a batch takes too long.
};

Committer::Committer(CommitOptions options, jetstream::Publisher* publisher, jetstream::Reader* reader,
                     base::Executor* executor, const base::Clock* clock)
    : options_(std::move(options)), publisher_(publisher), reader_(reader), executor_(executor), clock_(clock) {}

Committer::~Committer() = default;

std::shared_ptr<Committer::Lane> Committer::LaneOf(const StreamPtr& stream) {
  base::MutexLock lock(mutex_);
  std::shared_ptr<Lane>& lane = lanes_[absl::StrCat(stream->name, " ", stream->incarnation, " ", stream->replicas)];
  if (lane == nullptr) lane = std::make_shared<Lane>(this, stream);
  return lane;
}

base::Task<PublishOutcome> Committer::Commit(StreamPtr stream, std::shared_ptr<CommitUnit> unit, milliseconds patience,
                                             base::SteadyTime deadline) {
  if (unit->messages.size() == 1 && !options_.group_single(*stream)) {
    std::vector<const jetstream::OutgoingMessage*> messages = {&unit->messages.front()};
    const base::SteadyTime until = std::min(deadline, clock_->SteadyNow() + patience);
    co_return co_await publisher_->Publish(stream->name, std::move(messages), until);
  }
  auto sending = std::make_shared<Sending>();
  sending->bytes = BytesOf(*unit);
  sending->unit = std::move(unit);
  sending->patience = patience;
  sending->deadline = deadline;
  sending->since = clock_->SteadyNow();
  const std::shared_ptr<Lane> lane = LaneOf(stream);
  base::Future<PublishOutcome> outcome = sending->outcome.future();
  if (!lane->Add(sending)) {
    co_return Outcome(Kind::kNotStored, domain::Overloaded("too many bytes wait to be saved"));
  }
  const base::Executor::TimerId timer = executor_->RunAt(deadline, [lane, sending] { lane->TimeOut(sending); });
  base::Burst::AtEnd(lane);
  PublishOutcome result = co_await outcome;
  executor_->Cancel(timer);
  co_return result;
}

}  // namespace persistd::repository
