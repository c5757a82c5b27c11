#include "server/jetstream/stream_scan.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/future.h"
#include "server/base/mutex.h"
#include "server/base/rfc3339.h"
#include "server/base/status_macros.h"
#include "server/jetstream/api.h"
#include "server/jetstream/reader.h"
#include "server/jetstream/tail.h"

namespace persistd::jetstream {
namespace {

constexpr std::chrono::seconds kApiPatience{10};
constexpr std::chrono::milliseconds kStep{250};

base::SteadyTime Now() { return base::Clock::System().SteadyNow(); }

// Takes the messages of the tail to the thread of the scan.
class Inbox final : public TailSink {
 public:
  std::optional<TailPosition> StartOf(const std::string&) override { return TailPosition{}; }

  void OnMessage(const std::string&, Message message, uint64_t pending) override {
    base::MutexLock lock(mutex_);
    messages_.push_back(std::move(message));
    if (pending == 0) caught_up_ = true;
    changed_.NotifyAll();
  }

  void OnReset(const std::string&, uint64_t) override {
    base::MutexLock lock(mutex_);
    if (std::exchange(begun_, true)) Fail("it became another stream while it was read");
  }

  void OnCaughtUp(const std::string&) override {
    base::MutexLock lock(mutex_);
    caught_up_ = true;
    changed_.NotifyAll();
  }

  void OnGone(const std::string&) override {
    base::MutexLock lock(mutex_);
    Fail("it was removed while it was read");
  }

  struct Taken {
    std::deque<Message> messages{};
    bool caught_up = false;
    absl::Status failed{};
  };
  // What has come; waits a moment when nothing has.
  Taken Take() {
    const base::SteadyTime until = Now() + kStep;
    base::MutexLock lock(mutex_);
    while (messages_.empty() && failed_.ok() && Now() < until) {
      if (caught_up_ && !std::exchange(told_, true)) break;
      changed_.WaitUntil(mutex_, until);
    }
    return {.messages = std::exchange(messages_, {}), .caught_up = caught_up_, .failed = failed_};
  }

 private:
  void Fail(absl::string_view why) REQUIRES(mutex_) {
    failed_ = absl::AbortedError(why);
    changed_.NotifyAll();
  }

  base::Mutex mutex_;
  base::CondVar changed_;
  std::deque<Message> messages_ GUARDED_BY(mutex_);
  bool begun_ GUARDED_BY(mutex_) = false;
  bool caught_up_ GUARDED_BY(mutex_) = false;
  bool told_ GUARDED_BY(mutex_) = false;
  absl::Status failed_ GUARDED_BY(mutex_);
};

class Scan {
 public:
  Scan(const ScanOptions& options, Connection* connection, base::Executor* executor, const ScanVisitor& visit)
      : options_(options), connection_(connection), executor_(executor), visit_(visit) {}

  absl::Status Run() {
    ASSIGN_OR_RETURN(before_, Look());
    if (before_.messages == 0) return absl::OkStatus();
    const auto inbox = std::make_shared<Inbox>();
    const std::shared_ptr<Tail> tail = Tail::Create(
        {.stream = options_.stream, .window = options_.window, .keep = inbox}, connection_, executor_, inbox.get());
    tail->Start();
    const absl::Status read = ReadAll(*inbox, *tail);
    tail->Stop();
    RETURN_IF_ERROR(read);
    if (stopped_) return absl::OkStatus();
    return CheckCount();
  }

 private:
  absl::StatusOr<StreamState> Look() const {
    ASSIGN_OR_RETURN(const std::optional<StreamState> state,
                     LookAtStream(options_.stream, connection_, Now() + kApiPatience));
    if (!state.has_value()) return absl::NotFoundError("there is no such stream");
    return *state;
  }

  absl::Status ReadAll(Inbox& inbox, Tail& tail) {
    base::SteadyTime progress = Now();
    while (true) {
      if (options_.cancelled && options_.cancelled()) return absl::CancelledError("cancelled");
      Inbox::Taken taken = inbox.Take();
      RETURN_IF_ERROR(taken.failed);
      const uint64_t count = taken.messages.size();
      for (Message& message : taken.messages) {
        position_ = message.sequence;
        if (position_ <= before_.last_sequence) ++visited_;
        ASSIGN_OR_RETURN(const ScanStep step, visit_(std::move(message)));
        stopped_ = step == ScanStep::kStop;
        if (stopped_) return absl::OkStatus();
      }
      if (position_ >= before_.last_sequence) return absl::OkStatus();
      if (count > 0) {
        tail.Done(count);
        progress = Now();
        continue;
      }
      if (taken.caught_up) {
        ASSIGN_OR_RETURN(const bool all, IsAll());
        if (all) return absl::OkStatus();
      }
      if (Now() - progress > options_.patience) {
        return absl::UnavailableError(absl::StrCat("no messages come after ", position_));
      }
    }
  }

  // Whether the leader has nothing between what was read and the end. Messages at the end may have been removed since.
  absl::StatusOr<bool> IsAll() {
    Reader reader(connection_);
    ASSIGN_OR_RETURN(
        const std::optional<Message> next,
        base::BlockOn(reader.Next(options_.stream, ">", position_ + 1, ReadFrom::kLeader, Now() + kApiPatience)));
    return !next.has_value() || next->sequence > before_.last_sequence;
  }

  // Of the messages that there are now, at most as many as were published since came after last_sequence. All others
  // were there all the time, so they were visited.
  absl::Status CheckCount() const {
    ASSIGN_OR_RETURN(const StreamState after, Look());
    if (after.incarnation != before_.incarnation) return absl::AbortedError("it became another stream");
    const uint64_t published = after.last_sequence - before_.last_sequence;
    if (visited_ == before_.messages) return absl::OkStatus();
    const bool complete = visited_ + published >= after.messages;
    if (complete && before_.replicas > 1) {
      return absl::AbortedError(absl::StrCat("of ", before_.messages, " messages ", visited_, " were read: whether the ",
                                             "stream has changed meanwhile, or a replica is behind or has lost some, ",
                                             "cannot be told"));
    }
    if (complete) return absl::OkStatus();
    return absl::DataLossError(absl::StrCat("only ", visited_, " messages were read of ", after.messages,
                                            ": a replica does not have them all"));
  }

  const ScanOptions& options_;
  Connection* const connection_;
  base::Executor* const executor_;
  const ScanVisitor& visit_;
  StreamState before_;
  uint64_t position_ = 0;
  uint64_t visited_ = 0;
  bool stopped_ = false;
};

// Of a read it does not matter whether NATS got it.
absl::Status Unanswered(const absl::Status& status) {
  return absl::IsUnknown(status) ? absl::UnavailableError(status.message()) : status;
}

}  // namespace

absl::StatusOr<std::optional<StreamState>> LookAtStream(const std::string& stream, Connection* connection,
                                                        base::SteadyTime deadline) {
  const absl::StatusOr<ApiAnswer> asked =
      base::BlockOn(CallApi(*connection, absl::StrCat("$JS.API.STREAM.INFO.", stream), "", deadline));
  if (!asked.ok()) return Unanswered(asked.status());
  const ApiAnswer& info = *asked;
  if (info.error.has_value()) {
    if (info.error->err_code == kErrStreamNotFound) return std::optional<StreamState>();
    return absl::UnavailableError(info.error->ToString());
  }
  const std::optional<base::WallTime> created = base::ParseRfc3339(StringField(info.body, "created"));
  const std::optional<base::WallTime> now = base::ParseRfc3339(StringField(info.body, "ts"));
  if (!created.has_value() || !now.has_value()) return absl::UnavailableError("NATS does not tell the time");
  const nlohmann::json& state = ObjectField(info.body, "state");
  StreamState found;
  found.incarnation = static_cast<uint64_t>(created->time_since_epoch().count());
  found.messages = UnsignedField(state, "messages");
  found.last_sequence = UnsignedField(state, "last_seq");
  found.replicas = static_cast<int>(UnsignedField(ObjectField(info.body, "config"), "num_replicas"));
  found.now = *now;
  return std::optional<StreamState>(found);
}

absl::Status ScanStream(const ScanOptions& options, Connection* connection, base::Executor* executor,
                        const ScanVisitor& visit) {
  const absl::Status status = Scan(options, connection, executor, visit).Run();
  if (status.ok()) return status;
  return Unanswered(
      absl::Status(status.code(), absl::StrCat("reading stream ", options.stream, ": ", status.message())));
}

}  // namespace persistd::jetstream
