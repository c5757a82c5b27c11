#include "server/jetstream/kv_watch.h"

#include <chrono>
#include <utility>

#include "server/base/logging.h"

namespace persistd::jetstream {
namespace {

constexpr std::chrono::milliseconds kPatience{5000};
constexpr std::chrono::milliseconds kRetryWait{250};

base::SteadyTime Now() { return base::Clock::System().SteadyNow(); }

}  // namespace

KvWatch::KvWatch(Kv* kv, Connection* connection, base::Executor* executor, KvWatcher* watcher)
    : kv_(kv),
      reader_(connection),
      executor_(executor),
      watcher_(watcher),
      tail_(Tail::Create({.stream = kv->stream(), .window = 64}, connection, executor, this)) {}

KvWatch::~KvWatch() { Stop(); }

void KvWatch::Start() {
  {
    base::MutexLock lock(mutex_);
    started_ = true;
  }
  tail_->Start();
}

void KvWatch::Stop() {
  {
    base::MutexLock lock(mutex_);
    if (!started_ || stopping_) return;
    stopping_ = true;
  }
  tail_->Stop();
  base::MutexLock lock(mutex_);
  while (working_) idle_changed_.Wait(mutex_);
}

bool KvWatch::stopping() const {
  base::MutexLock lock(mutex_);
  return stopping_;
}

std::optional<TailPosition> KvWatch::StartOf(const std::string&) { return TailPosition(); }

void KvWatch::OnMessage(const std::string&, Message message, uint64_t pending) {
  Enqueue({.kind = Item::Kind::kMessage, .message = std::move(message)});
  if (pending == 0) Enqueue({.kind = Item::Kind::kCaughtUp});
}

void KvWatch::OnReset(const std::string&, uint64_t) { Enqueue({.kind = Item::Kind::kReset}); }

void KvWatch::OnCaughtUp(const std::string&) { Enqueue({.kind = Item::Kind::kCaughtUp}); }

void KvWatch::OnGone(const std::string&) {
  Enqueue({.kind = Item::Kind::kReset});
  Enqueue({.kind = Item::Kind::kCaughtUp});
}

void KvWatch::Enqueue(Item item) {
  bool start;
  {
    base::MutexLock lock(mutex_);
    if (stopping_) return;
    queue_.push_back(std::move(item));
    start = !std::exchange(working_, true);
  }
  if (start) base::Spawn(Work());
}

base::Task<void> KvWatch::Work() {
  while (true) {
    Item item;
    {
      base::MutexLock lock(mutex_);
      if (stopping_ || queue_.empty()) {
        working_ = false;
        idle_changed_.NotifyAll();
        co_return;
      }
      item = std::move(queue_.front());
      queue_.pop_front();
    }
    switch (item.kind) {
      case Item::Kind::kMessage: {
        std::optional<KvEntry> entry = co_await Fetch(std::move(item.message));
        if (entry.has_value() && !stopping()) {
          gave_some_ = true;
          watcher_->OnEntry(*std::move(entry));
        }
        tail_->Done(1);
        break;
      }
      case Item::Kind::kReset:
        // Before anything was given there is nothing to take back.
        if (gave_some_ || caught_up_) watcher_->OnReset();
        gave_some_ = false;
        caught_up_ = false;
        break;
      case Item::Kind::kCaughtUp:
        if (!std::exchange(caught_up_, true)) watcher_->OnCaughtUp();
        break;
    }
  }
}

base::Task<absl::StatusOr<std::optional<Message>>> KvWatch::Read(uint64_t revision) {
  const base::SteadyTime deadline = Now() + kPatience;
  absl::StatusOr<std::optional<Message>> found =
      co_await reader_.Get(kv_->stream(), revision, ReadFrom::kAnyReplica, deadline);
  // The replica that answered may be behind.
  if (found.ok() && !found->has_value()) {
    found = co_await reader_.Get(kv_->stream(), revision, ReadFrom::kLeader, deadline);
  }
  co_return found;
}

base::Task<std::optional<KvEntry>> KvWatch::Fetch(Message message) {
  const uint64_t revision = message.sequence;
  std::optional<KvEntry> entry = kv_->EntryOf(std::move(message));
  // A deletion says all in its headers.
  if (!entry.has_value() || entry->operation == KvEntry::Operation::kDelete) co_return entry;
  while (!stopping()) {
    absl::StatusOr<std::optional<Message>> found = co_await Read(revision);
    if (found.ok()) {
      // Nothing: it was replaced meanwhile, or erased.
      if (!found->has_value()) co_return std::nullopt;
      co_return kv_->EntryOf(**std::move(found));
    }
    base::LogDebug("a watched value is not read yet", {{"stream", kv_->stream()}, {"error", found.status()}});
    co_await executor_->Sleep(Now() + kRetryWait);
  }
  co_return std::nullopt;
}

}  // namespace persistd::jetstream
