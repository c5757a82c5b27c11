#include "server/rpc/call.h"

#include <string>
#include <utility>
#include <variant>

#include "grpcpp/impl/rpc_service_method.h"
#include "grpcpp/support/async_stream.h"
#include "grpcpp/support/async_unary_call.h"
#include "server/base/status_macros.h"
#include "server/rpc/grpc_status.h"
#include "server/rpc/outbox.h"

namespace persistd::rpc {
namespace {

using grpc::internal::RpcMethod;

class UnaryCall final : public Call {
 public:
  UnaryCall(GrpcService* service, size_t index, const CallQueues& queues)
      : Call(service, index, queues), responder_(&grpc_context_) {
    service->RequestAsyncUnary(static_cast<int>(index), &grpc_context_, &request_, &responder_, queues.ends,
                               queues.calls, &accepted_);
  }

 private:
  base::Task<absl::Status> Handle() override {
    return std::get<RawUnaryHandler>(method().handler)(context_, request_, response_);
  }
  void SendEnd(const grpc::Status& status) override {
    if (status.ok()) {
      responder_.Finish(response_, status, &finished_);
    } else {
      responder_.FinishWithError(status, &finished_);
    }
  }

  grpc::ServerAsyncResponseWriter<grpc::ByteBuffer> responder_;
  grpc::ByteBuffer response_;
};

// What the two kinds of calls with a stream of answers have in common.
class AnswerStreamCall : public Call, public RawWriter, private Outbox::Transport {
 protected:
  AnswerStreamCall(GrpcService* service, size_t index, const CallQueues& queues)
      : Call(service, index, queues), outbox_(this) {}

  bool StartWrite(PendingWrite& write) override { return outbox_.Add(write); }

  virtual base::Task<absl::Status> RunHandler() = 0;
  // Completes as written_.
  virtual void SendMessage(const grpc::ByteBuffer& message, grpc::WriteOptions options) = 0;

  Event written_{this, static_cast<void (Call::*)(bool)>(&AnswerStreamCall::OnWritten)};

 private:
  base::Task<absl::Status> Handle() override {
    absl::Status status = co_await RunHandler();
    co_await outbox_.Drain();
    co_return status;
  }

  void StartWrite(const grpc::ByteBuffer& message, bool more) override {
    Keep();
    grpc::WriteOptions options;
    // The first message takes the initial metadata along, whose write completes only when it is sent.
    const bool first = std::exchange(first_, false);
    if (more && !first) options.set_buffer_hint();
    SendMessage(message, options);
  }

  void OnWritten(bool ok) {
    outbox_.OnWritten(ok);  // The handler goes on in here, perhaps with the next write.
    LetGo();
  }

  Outbox outbox_;
  bool first_ = true;  // No message has been sent yet. Used by one write at a time.
};

class StreamCall final : public AnswerStreamCall {
 public:
  StreamCall(GrpcService* service, size_t index, const CallQueues& queues)
      : AnswerStreamCall(service, index, queues), stream_(&grpc_context_) {
    service->RequestAsyncServerStreaming(static_cast<int>(index), &grpc_context_, &request_, &stream_, queues.calls,
                                         queues.calls, &accepted_);
  }

 private:
  base::Task<absl::Status> RunHandler() override {
    return std::get<RawStreamHandler>(method().handler)(context_, request_, *this);
  }
  void SendMessage(const grpc::ByteBuffer& message, grpc::WriteOptions options) override {
    stream_.Write(message, options, &written_);
  }
  void SendEnd(const grpc::Status& status) override { stream_.Finish(status, &finished_); }

  grpc::ServerAsyncWriter<grpc::ByteBuffer> stream_;
};

class BidiCall final : public AnswerStreamCall, private RawReader, private RequestStreams::Stream {
 public:
  BidiCall(GrpcService* service, size_t index, const CallQueues& queues)
      : AnswerStreamCall(service, index, queues), stream_(&grpc_context_) {
    service->RequestAsyncBidiStreaming(static_cast<int>(index), &grpc_context_, &stream_, queues.calls, queues.calls,
                                       &accepted_);
  }

 private:
  base::Task<absl::Status> RunHandler() override {
    RequestStreams& streams = service_->host().request_streams;
    streams.Add(this);
    absl::Status status = co_await std::get<RawBidiHandler>(method().handler)(context_, *this, *this);
    streams.Remove(this);
    co_return status;
  }

  bool StartRead(PendingRead& read) override {
    // The read starts under the lock, so that a handler that is told to stop cannot have ended before.
    base::MutexLock lock(read_mutex_);
    if (stopped_) {
      read.outcome = PendingRead::Outcome::kShutdown;
      return false;
    }
    reading_ = &read;
    Keep();
    stream_.Read(&incoming_, &read_done_);
    return true;
  }
  uint64_t max_message_bytes() const override { return service_->host().max_request_bytes; }

  PendingRead* StopReading() override {
    base::MutexLock lock(read_mutex_);
    stopped_ = true;
    PendingRead* const read = std::exchange(reading_, nullptr);
    if (read != nullptr) read->outcome = PendingRead::Outcome::kShutdown;
    return read;
  }

  void OnRead(bool ok) {
    PendingRead* read = nullptr;
    {
      base::MutexLock lock(read_mutex_);
      read = std::exchange(reading_, nullptr);
    }
    if (read != nullptr) {  // Otherwise the handler was told to stop and has gone on.
      read->outcome = ok ? PendingRead::Outcome::kMessage : PendingRead::Outcome::kEnd;
      if (ok) read->message.Swap(&incoming_);
      read->waiting.resume();
    }
    LetGo();
  }

  void SendMessage(const grpc::ByteBuffer& message, grpc::WriteOptions options) override {
    stream_.Write(message, options, &written_);
  }
  void SendEnd(const grpc::Status& status) override { stream_.Finish(status, &finished_); }

  grpc::ServerAsyncReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer> stream_;
  Event read_done_{this, static_cast<void (Call::*)(bool)>(&BidiCall::OnRead)};
  grpc::ByteBuffer incoming_;  // Of the read in flight.
  base::Mutex read_mutex_;
  PendingRead* reading_ GUARDED_BY(read_mutex_) = nullptr;
  bool stopped_ GUARDED_BY(read_mutex_) = false;
};

RpcMethod::RpcType KindOf(const Method& method) {
  if (std::holds_alternative<RawUnaryHandler>(method.handler)) return RpcMethod::NORMAL_RPC;
  if (std::holds_alternative<RawStreamHandler>(method.handler)) return RpcMethod::SERVER_STREAMING;
  return RpcMethod::BIDI_STREAMING;
}

}  // namespace

void RequestStreams::Add(Stream* stream) {
  base::MutexLock lock(mutex_);
  streams_.insert(stream);
  if (stopped_) stream->StopReading();
}

void RequestStreams::Remove(Stream* stream) {
  base::MutexLock lock(mutex_);
  streams_.erase(stream);
}

void RequestStreams::Stop() {
  std::vector<PendingRead*> reads;
  {
    base::MutexLock lock(mutex_);
    stopped_ = true;
    for (Stream* stream : streams_) {
      PendingRead* const read = stream->StopReading();
      if (read != nullptr) reads.push_back(read);
    }
  }
  // Each belongs to a handler that waits for it, and so is still there.
  for (PendingRead* read : reads) read->waiting.resume();
}

GrpcService::GrpcService(const rpc::Service& service, CallHost* host)
    : methods_(service.methods()), host_(host), stats_(methods_.size()) {
  for (size_t index = 0; index < methods_.size(); ++index) {
    const Method& of = *methods_[index];
    AddMethod(new grpc::internal::RpcServiceMethod(of.path.c_str(), KindOf(of), nullptr));
    MarkMethodRaw(static_cast<int>(index));
  }
}

void GrpcService::Accept(size_t index, const CallQueues& queues) {
  // The object owns itself from here on.
  switch (KindOf(method(index))) {
    case RpcMethod::NORMAL_RPC:
      new UnaryCall(this, index, queues);
      break;
    case RpcMethod::SERVER_STREAMING:
      new StreamCall(this, index, queues);
      break;
    default:
      new BidiCall(this, index, queues);
      break;
  }
}

Call::Call(GrpcService* service, size_t index, const CallQueues& queues)
    : service_(service), index_(index), queues_(queues) {
  service_->host().admission.ObjectMade();
  grpc_context_.AsyncNotifyWhenDone(&ended_);
}

Call::~Call() {
  if (admitted_) service_->host().admission.Leave();
  service_->host().admission.ObjectGone();
}

void Call::OnAccepted(bool ok) {
  if (!ok) {  // The server is shut down; of a call that never came no other event follows.
    delete this;
    return;
  }
  // Before this call can end: so there is a successor, or a server that knows of this object, at every moment.
  service_->Accept(index_, queues_);
  keepers_.store(2, std::memory_order_relaxed);  // The handler and ended_.
  service_->stats(index_).Begin();
  began_ = std::chrono::steady_clock::now();
  const CallHost& host = service_->host();
  const bool unary = std::holds_alternative<RawUnaryHandler>(method().handler);
  context_.Begin(&grpc_context_, began_ + (unary ? host.default_deadline : host.default_stream_deadline));
  base::Spawn(Run());
}

bool Call::HandleEnds(grpc::CompletionQueue& ends) {
  void* tag = nullptr;
  bool ok = false;
  bool any = false;
  while (ends.AsyncNext(&tag, &ok, gpr_inf_past(GPR_CLOCK_MONOTONIC)) == grpc::CompletionQueue::GOT_EVENT) {
    static_cast<Event*>(tag)->Complete(ok);
    any = true;
  }
  return any;
}

void Call::OnEnded(bool /*ok*/) {
  if (grpc_context_.IsCancelled()) context_.Cancel();
  LetGo();
}

void Call::OnFinished(bool /*ok*/) { LetGo(); }

absl::Status Call::Admit() {
  CallHost& host = service_->host();
  if (!method().options.always_admitted) {
    absl::Status entered = host.admission.Enter();
    if (!entered.ok() && HandleEnds(*queues_.ends)) entered = host.admission.Enter();
    RETURN_IF_ERROR(entered);
    admitted_ = true;
  }
  return CheckRequestSize(request_.Length(), host.max_request_bytes);
}

base::Task<void> Call::Run() {
  absl::Status status = Admit();
  if (status.ok()) status = co_await Handle();
  Finish(status);  // This object may be gone afterwards.
}

void Call::Finish(const absl::Status& status) {
  context_.End();
  const grpc::Status end = ToGrpcStatus(status);
  // Before the client knows, so that it finds its own call counted.
  service_->stats(index_).End(static_cast<absl::StatusCode>(end.error_code()),
                              std::chrono::steady_clock::now() - began_);
  SendEnd(end);
}

void Call::LetGo() {
  if (keepers_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
}

}  // namespace persistd::rpc
