// The completion-queue side of gRPC: the only file, with call.cc, that knows its tags and its order of operations.
//
// A Call is one object from the moment it waits for a caller until gRPC has nothing more to say about it; then it
// deletes itself. It waits as an accepted-event; once a caller is there it is kept by four parties, each of which
// lets go exactly once: the handler (until gRPC reports Finish as done), gRPC's notice that the call has ended, a write
// in flight and a read in flight. Operations may start on any thread, completions arrive on the thread that polls the
// queues.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "grpcpp/completion_queue.h"
#include "grpcpp/impl/service_type.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/status.h"
#include "server/base/clock.h"
#include "server/base/mutex.h"
#include "server/base/task.h"
#include "server/rpc/admission.h"
#include "server/rpc/call_context.h"
#include "server/rpc/call_stats.h"
#include "server/rpc/service.h"

namespace persistd::rpc {

// The running calls whose clients may go on sending, so that a shutdown can stop them. Thread-safe.
class RequestStreams {
 public:
  class Stream {
   public:
    virtual ~Stream() = default;
    // From now on no read waits. Returns the one that does, which the caller resumes.
    virtual PendingRead* StopReading() = 0;
  };

  // Add stops it at once after Stop; it must not be reading yet.
  void Add(Stream* stream);
  void Remove(Stream* stream);
  // Resumes handlers that wait for requests.
  void Stop();

 private:
  base::Mutex mutex_;
  absl::flat_hash_set<Stream*> streams_ GUARDED_BY(mutex_);
  bool stopped_ GUARDED_BY(mutex_) = false;
};

// What all calls of a server share.
struct CallHost {
  uint64_t max_request_bytes = 0;
  std::chrono::milliseconds default_deadline{};
  std::chrono::milliseconds default_stream_deadline{};
  Admission admission;
  RequestStreams request_streams{};
};

// Where gRPC reports what has happened.
struct CallQueues {
  grpc::ServerCompletionQueue* calls = nullptr;  // New calls, and everything of streams. A thread waits for it.
  // The ends of unary calls, which nobody waits for: it is emptied now and then. So an answer, which is mostly given on
  // another thread, wakes nobody but the client.
  grpc::ServerCompletionQueue* ends = nullptr;
};

// A service as gRPC knows it: methods that take and give bytes, and that are asked for one call at a time.
class GrpcService final : public grpc::Service {
 public:
  // service and host outlive this.
  GrpcService(const rpc::Service& service, CallHost* host);

  CallHost& host() const { return *host_; }
  size_t method_count() const { return methods_.size(); }
  const Method& method(size_t index) const { return *methods_[index]; }
  CallStats& stats(size_t index) { return stats_[index]; }
  // Waits for one call of a method; each call that comes is replaced by itself until the server is shut down.
  void Accept(size_t index, const CallQueues& queues);

  // What generated code uses.
  using grpc::Service::RequestAsyncBidiStreaming;
  using grpc::Service::RequestAsyncServerStreaming;
  using grpc::Service::RequestAsyncUnary;

 private:
  const std::vector<std::unique_ptr<Method>>& methods_;
  CallHost* const host_;
  std::vector<CallStats> stats_;  // Of each method.
};

class Call {
 public:
  // A pending operation; its address is gRPC's tag.
  struct Event {
    Call* call;
    void (Call::*on_completed)(bool ok);
    void Complete(bool ok) { (call->*on_completed)(ok); }
  };

  // Handles what has ended by now (CallQueues::ends). False: nothing had.
  static bool HandleEnds(grpc::CompletionQueue& ends);

 protected:
  Call(GrpcService* service, size_t index, const CallQueues& queues);
  virtual ~Call();

  // Calls the handler, and sends what it has written.
  virtual base::Task<absl::Status> Handle() = 0;
  // The last operation; completes as finished_.
  virtual void SendEnd(const grpc::Status& status) = 0;

  const Method& method() const { return service_->method(index_); }
  void Keep() { keepers_.fetch_add(1, std::memory_order_relaxed); }
  void LetGo();

  GrpcService* const service_;
  const size_t index_;
  const CallQueues queues_;
  grpc::ServerContext grpc_context_;
  CallContext context_;
  grpc::ByteBuffer request_;
  Event accepted_{this, &Call::OnAccepted};
  Event finished_{this, &Call::OnFinished};

 private:
  void OnAccepted(bool ok);
  void OnEnded(bool ok);
  void OnFinished(bool ok);
  absl::Status Admit();
  base::Task<void> Run();
  void Finish(const absl::Status& status);

  Event ended_{this, &Call::OnEnded};
  std::atomic<int> keepers_ = 0;
  base::SteadyTime began_;
  bool admitted_ = false;
};

}  // namespace persistd::rpc
