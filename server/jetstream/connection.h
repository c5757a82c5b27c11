// A connection to NATS that makes itself again when it is lost, and the requests under way on it.
//
// Every new connection first passes the gate (the probe of the server's version and features); until then, and while
// there is none, requests fail at once with NATS_UNAVAILABLE or STORAGE_UNSUITABLE. Nothing is buffered over a loss, so
// an answer that is missing is either "not sent" or "unknown", never "sent later".
//
// One own thread connects and moves the bytes; answers come, and the coroutines that wait for them run, on a thread of
// nats.c. Requests leave at the end of the calling thread's burst (base/burst.h). Thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/base/executor.h"
#include "server/base/future.h"
#include "server/base/mutex.h"
#include "server/jetstream/message.h"
#include "server/jetstream/raw_connection.h"

namespace persistd::jetstream {

class Connection {
 public:
  // Looks at a fresh connection on which nothing was sent yet. Not OK refuses it; another one is tried later.
  using Gate = std::function<absl::Status(RawConnection& connection)>;

  // `executor` keeps the deadlines and must outlive the connection.
  Connection(ConnectOptions options, Gate gate, base::Executor* executor);
  ~Connection();  // Stops.

  // Before Start: where to connect, when that is known only after construction.
  void UseServer(ConnectOptions options) { options_ = std::move(options); }
  // Before Start: called after status() has changed. Must not block.
  void OnChange(std::function<void()> on_change) { on_change_ = std::move(on_change); }

  void Start();
  // Closes the connection for good, which fails all requests under way, now and later. Does not wait for that.
  void Close();
  // Close, and wait until nothing runs any more.
  void Stop();

  // Sends a request; the future is set with its first answer. Unavailable: not delivered. Unknown: it may have been
  // delivered, now or later (no answer by the deadline, or the connection was lost). OutOfRange, InvalidArgument: it
  // cannot be sent, see RawConnection::CheckSendable.
  base::Future<absl::StatusOr<Message>> Request(const OutgoingMessage& message, base::SteadyTime deadline);

  // The same for messages that belong together: several are sent as one atomic batch, of which the answer tells. All in
  // order over one TCP connection. batch_id: of several; fresh for each attempt, since the server may still hold the
  // start of an earlier one.
  base::Future<absl::StatusOr<Message>> RequestBatch(std::span<const OutgoingMessage* const> messages,
                                                     std::string_view batch_id, base::SteadyTime deadline);

  // Sends a message that nobody answers. OK says no more than that it was handed to a connection.
  absl::Status Tell(const OutgoingMessage& message);

  // A number whose answers are many: to each Send with it, and from each consumer that DeliveryName named.
  //
  // on_message gets them all, in the order of their arrival, and on_lost is called once when the connection is lost,
  // after which the channel does not exist any more. Both run where answers come in and must not block. A request
  // that nobody listens to brings a message with the header `Status: 503`. Fails when there is no connection.
  struct Channel {
    std::function<void(Message message)> on_message;
    std::function<void()> on_lost;
  };
  absl::StatusOr<uint64_t> OpenChannel(Channel channel);
  // Errors are those of Request, and Unavailable when the channel does not exist any more.
  absl::Status Send(const OutgoingMessage& message, uint64_t channel);
  // Neither function is called any more, but for a call that is running.
  void CloseChannel(uint64_t channel);

  // Keeps the deadlines.
  base::Executor& executor() const { return *executor_; }
  // True once Close was called: no further attempt can succeed.
  bool closed() const;
  // OK while connected; otherwise why not, as an error for callers.
  absl::Status status() const;
  // Of the current or last connection.
  std::string server_url() const;
  // How often a connection was made.
  uint64_t connects() const;

 private:
  struct Pending {
    base::Promise<absl::StatusOr<Message>> promise;
    base::Executor::TimerId timer;
  };

  void Run();
  void TakeAnswer(Reply reply);
  void FailPending(const absl::Status& status);
  void TimeOut(uint64_t token);
  void SetDown(absl::Status why);
  bool WaitBeforeReconnect();

  ConnectOptions options_;           // Constant after Start.
  std::function<void()> on_change_;  // Constant after Start.
  const Gate gate_;
  base::Executor* const executor_;

  mutable base::Mutex mutex_;
  base::CondVar stop_changed_;
  bool stopping_ GUARDED_BY(mutex_) = false;
  absl::Status status_ GUARDED_BY(mutex_);
  std::shared_ptr<RawConnection> open_ GUARDED_BY(mutex_);     // Before or after the gate; what Stop closes.
  std::shared_ptr<RawConnection> current_ GUARDED_BY(mutex_);  // nullptr while there is none that passed the gate.
  std::string server_url_ GUARDED_BY(mutex_);
  uint64_t connects_ GUARDED_BY(mutex_) = 0;
  uint64_t next_token_ GUARDED_BY(mutex_) = 1;
  std::unordered_map<uint64_t, Pending> pending_ GUARDED_BY(mutex_);
  std::unordered_map<uint64_t, std::shared_ptr<const Channel>> channels_ GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace persistd::jetstream
