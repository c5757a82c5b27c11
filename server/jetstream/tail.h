// Reads every message of a stream in its order: first what is there, then what comes. No gap, no duplicate.
//
// Messages come without their bodies (a consumer with headers_only). The tail survives lost connections and consumers,
// and changes of leader: it goes on after the last message that it gave away, and checks that this message still is the
// one it was. When it is not, or the stream is another one of the same name, the sink is told to begin anew.
//
// Flow control: a pull consumer without acknowledgements, asked for half a window at a time at most, and only while the
// sink has no more than half a window in hand. The first message after a quiet time comes at once, those of a busy
// stream every 20 ms. Unlike a push consumer, nothing comes that was not asked for, so memory is
// bounded without the server having to notice that we are slow; nothing is acknowledged, so the server keeps no state
// for it, and in memory only.
//
// Thread-safe. The sink is called where the answers of the connection are handled, one call at a time for each stream,
// until the connection is stopped.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "server/base/clock.h"
#include "server/base/executor.h"
#include "server/base/future.h"
#include "server/base/mutex.h"
#include "server/base/task.h"
#include "server/jetstream/connection.h"
#include "server/jetstream/message.h"
#include "server/jetstream/reply_token.h"

namespace persistd::jetstream {

// Tells a message from any other that could be at its place.
uint64_t Fingerprint(const Message& message);

// How far a stream was read.
struct TailPosition {
  uint64_t incarnation = 0;  // Of the stream (jetstream::Stream); 0: none was read.
  uint64_t sequence = 0;     // Of the last message read; 0: none.
  uint64_t fingerprint = 0;  // Of that message.

  bool operator==(const TailPosition&) const = default;
};

// What takes the messages of the streams that are read. Must not block.
class TailSink {
 public:
  virtual ~TailSink() = default;

  // Where to begin with this stream; nullopt: with what comes from now on. Called again after Tail::BeginAgain.
  virtual std::optional<TailPosition> StartOf(const std::string& stream) = 0;
  // message: sequence, time and headers, no body. pending: how many more there were when the server sent it. To be
  // answered by Tail::Done, at any time.
  virtual void OnMessage(const std::string& stream, Message message, uint64_t pending) = 0;
  // What was read of this stream is void; its messages come from the beginning. Also called before the first message
  // of a stream of which nothing was read.
  virtual void OnReset(const std::string& stream, uint64_t incarnation) = 0;
  // All that was in the stream was read. Called once for each time the tail got hold of the stream, unless a message
  // with pending 0 says so.
  virtual void OnCaughtUp(const std::string& stream) = 0;
  // There is no such stream any more. It may come back, as the same one or as another.
  virtual void OnGone(const std::string& stream) = 0;
};

class Tail : public std::enable_shared_from_this<Tail> {
 public:
  struct Options {
    std::string stream;
    uint64_t window = 1024;  // Messages on their way and in the sink's hands, at most.
    std::chrono::milliseconds heartbeat{5000};
    std::shared_ptr<void> keep{};  // Kept as long as the sink may be called: for one that ends before the connection.
  };

  // The three must outlive the connection's Stop.
  static std::shared_ptr<Tail> Create(Options options, Connection* connection, base::Executor* executor,
                                      TailSink* sink);

  void Start();
  // Ends it; the sink gets no more than the call that is running. Blocks until its coroutine has ended; not on the
  // thread of the connection or the executor.
  void Stop();

  // The sink has dealt with so many messages.
  void Done(uint64_t count);
  // Asks the sink once more where to begin, and goes on from there.
  void BeginAgain();

  const std::string& stream() const { return options_.stream; }
  // Messages that are known to be in the stream and were not given to the sink yet.
  uint64_t pending() const;

 private:
  Tail(Options options, Connection* connection, base::Executor* executor, TailSink* sink);

  base::Task<void> Run(std::shared_ptr<Tail> keeps_alive);
  base::Task<absl::Status> Establish();
  base::Task<absl::Status> CreateConsumer(uint64_t start);
  void Reset(uint64_t incarnation);
  void OnMessage(uint64_t generation, Message message);
  void OnStatus(const std::string& status, const Message& message);
  void TakeDelivery(Message message, const Delivery& delivery);
  void PullIfRoom();
  void Rest(uint64_t generation);
  void Watch(uint64_t generation);
  void Break(absl::Status why);
  bool stopping() const;

  const Options options_;
  Connection* const connection_;
  base::Executor* const executor_;
  TailSink* const sink_;
  const std::string unique_;  // Part of its consumers' names.

  mutable base::Mutex mutex_;
  base::CondVar ended_changed_;
  bool stopping_ GUARDED_BY(mutex_) = false;
  bool ended_ GUARDED_BY(mutex_) = false;
  bool begun_ GUARDED_BY(mutex_) = false;  // position_ was asked from the sink.
  bool gone_ GUARDED_BY(mutex_) = false;
  TailPosition position_ GUARDED_BY(mutex_);
  // Of the consumer in use.
  uint64_t generation_ GUARDED_BY(mutex_) = 0;  // Counts them; what belongs to an older one is ignored.
  bool broken_ GUARDED_BY(mutex_) = true;
  base::Promise<absl::Status> broken_promise_ GUARDED_BY(mutex_);
  uint64_t channel_ GUARDED_BY(mutex_) = 0;
  std::string consumer_ GUARDED_BY(mutex_);
  uint64_t consumer_sequence_ GUARDED_BY(mutex_) = 0;  // Of its last message.
  uint64_t asked_ GUARDED_BY(mutex_) = 0;              // Of the pull under way: messages that have not come yet.
  bool resting_ GUARDED_BY(mutex_) = false;            // Rest will pull.
  uint64_t undone_ GUARDED_BY(mutex_) = 0;             // In the sink's hands.
  uint64_t pending_ GUARDED_BY(mutex_) = 0;
  base::SteadyTime heard_ GUARDED_BY(mutex_);
};

}  // namespace persistd::jetstream
