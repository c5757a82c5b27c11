// Messages on their way to the transport: a bounded queue, of which one message at a time is being written.
//
// Many coroutines may write to it. While more messages wait, the transport is told so, and sends several in one packet;
// the first write after a pause waits for the end of the thread's burst (base/burst.h), so that it knows of the others.
// Thread-safe.
#pragma once

#include <coroutine>
#include <cstddef>
#include <deque>
#include <memory>

#include "grpcpp/support/byte_buffer.h"
#include "server/base/burst.h"
#include "server/base/mutex.h"
#include "server/rpc/service.h"

namespace persistd::rpc {

class Outbox {
 public:
  // Whoever writes waits while the queue holds so much.
  static constexpr size_t kMaxMessages = 64;
  static constexpr size_t kMaxBytes = 256u << 10;

  class Transport {
   public:
    virtual ~Transport() = default;
    // Starts to write; OnWritten must follow. more: another operation on the stream follows at once, so this one need
    // not be sent by itself.
    virtual void StartWrite(const grpc::ByteBuffer& message, bool more) = 0;
  };

  // The transport must outlive it.
  explicit Outbox(Transport* transport);

  // True when `write` must wait: it is resumed later.
  bool Add(PendingWrite& write);
  // A write has ended; not ok: the client is gone, nothing more is written.
  void OnWritten(bool ok);

  // Await it once, when nobody writes any more: completes when nothing is left to write.
  struct Drained {
    Outbox* outbox;
    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<> handle) { return outbox->StartDrain(handle); }
    void await_resume() const noexcept {}
  };
  Drained Drain() { return Drained{this}; }

 private:
  struct Starter final : base::Deferred {
    explicit Starter(Outbox* of) : outbox(of) {}
    void RunDeferred() override { outbox->OnBurstEnd(); }
    Outbox* const outbox;
  };

  // A message to be written now, if there is one, and whether more follow.
  struct Next {
    bool there = false;
    bool more = false;
    grpc::ByteBuffer message;
  };

  bool HasRoom() const REQUIRES(mutex_) { return queue_.size() < kMaxMessages && queued_bytes_ < kMaxBytes; }
  bool Idle() const REQUIRES(mutex_) { return queue_.empty() && !writing_ && !starting_; }
  void Push(grpc::ByteBuffer& message) REQUIRES(mutex_);
  void TakeNext(Next& next) REQUIRES(mutex_);
  void Break() REQUIRES(mutex_);
  // The writes that need not wait any longer, linked by `next`.
  PendingWrite* TakeAdmitted() REQUIRES(mutex_);
  std::coroutine_handle<> TakeDrained() REQUIRES(mutex_);
  bool StartDrain(std::coroutine_handle<> handle);
  void OnBurstEnd();

  Transport* const transport_;
  const std::shared_ptr<Starter> starter_;
  base::Mutex mutex_;
  std::deque<grpc::ByteBuffer> queue_ GUARDED_BY(mutex_);
  size_t queued_bytes_ GUARDED_BY(mutex_) = 0;
  PendingWrite* first_waiting_ GUARDED_BY(mutex_) = nullptr;
  PendingWrite* last_waiting_ GUARDED_BY(mutex_) = nullptr;
  bool starting_ GUARDED_BY(mutex_) = false;  // A burst will call OnBurstEnd.
  bool writing_ GUARDED_BY(mutex_) = false;
  bool ending_ GUARDED_BY(mutex_) = false;
  bool broken_ GUARDED_BY(mutex_) = false;
  std::coroutine_handle<> drained_ GUARDED_BY(mutex_);
};

}  // namespace persistd::rpc
