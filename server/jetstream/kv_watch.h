// Follows a bucket: first the values that there are, then every change. Over lost connections and buckets that come and
// go; what a watcher then has is void and comes anew, or goes on where it was.
//
// Values are fetched one after the other, so a value that is replaced meanwhile may be left out: its successor comes.
// What Kv::Erase removes is not seen. Thread-safe.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "server/base/executor.h"
#include "server/base/mutex.h"
#include "server/base/task.h"
#include "server/jetstream/connection.h"
#include "server/jetstream/kv.h"
#include "server/jetstream/reader.h"
#include "server/jetstream/tail.h"

namespace persistd::jetstream {

// Called one at a time, on changing threads. Must not block.
class KvWatcher {
 public:
  virtual ~KvWatcher() = default;

  // A value or a deletion; later ones of a key come later.
  virtual void OnEntry(KvEntry entry) = 0;
  // All that was there was given. Once at the beginning, and once after each OnReset.
  virtual void OnCaughtUp() = 0;
  // What was given so far is void: the bucket is gone, or is another one. Not called before the first entry.
  virtual void OnReset() = 0;
};

class KvWatch final : public TailSink {
 public:
  // All must outlive the connection's Stop.
  KvWatch(Kv* kv, Connection* connection, base::Executor* executor, KvWatcher* watcher);
  ~KvWatch() override;  // Stops.

  void Start();
  // The watcher gets no more. Blocks; not on the thread of the connection or the executor, which must still run.
  void Stop();

  // Of TailSink.
  std::optional<TailPosition> StartOf(const std::string& stream) override;
  void OnMessage(const std::string& stream, Message message, uint64_t pending) override;
  void OnReset(const std::string& stream, uint64_t incarnation) override;
  void OnCaughtUp(const std::string& stream) override;
  void OnGone(const std::string& stream) override;

 private:
  struct Item {
    enum class Kind { kMessage, kReset, kCaughtUp };
    Kind kind = Kind::kMessage;
    Message message{};
  };

  void Enqueue(Item item);
  base::Task<void> Work();
  // nullopt: it is not there any more, or the watch was stopped.
  base::Task<std::optional<KvEntry>> Fetch(Message message);
  base::Task<absl::StatusOr<std::optional<Message>>> Read(uint64_t revision);
  bool stopping() const;

  Kv* const kv_;
  Reader reader_;
  base::Executor* const executor_;
  KvWatcher* const watcher_;
  const std::shared_ptr<Tail> tail_;

  mutable base::Mutex mutex_;
  base::CondVar idle_changed_;
  std::deque<Item> queue_ GUARDED_BY(mutex_);
  bool started_ GUARDED_BY(mutex_) = false;
  bool stopping_ GUARDED_BY(mutex_) = false;
  bool working_ GUARDED_BY(mutex_) = false;
  // Of the coroutine that works the queue off, which is one at a time.
  bool caught_up_ = false;
  bool gave_some_ = false;
};

}  // namespace persistd::jetstream
