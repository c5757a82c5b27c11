#include "server/rpc/call.h"

#include <string>
#include <utility>
#include <variant>

#include "grpcpp/impl/rpc_service_method.h"
#include "grpcpp/support/async_stream.h"
#include "grpcpp/support/async_unary_call.h"
#include "server/domain/errors.h"
#include "server/rpc/grpc_status.h"

namespace persistd::rpc {
namespace {

using grpc::internal::RpcMethod;

class UnaryCall final : public Call {
 public:
  UnaryCall(GrpcService* service, size_t index, grpc::ServerCompletionQueue* queue)
      : Call(service, index, queue), responder_(&grpc_context_) {
    service->RequestAsyncUnary(static_cast<int>(index), &grpc_context_, &request_, &responder_, queue, queue,
                               &accepted_);
  }

  // Only streams are written to.
  base::Future<bool> Write(const grpc::ByteBuffer&) override { std::abort(); }

 private:
  base::Task<absl::Status> Handle() override {
    return std::get<RawUnaryHandler>(method().handler)(context_, request_, response_);
  }
  void SendEnd(const absl::Status& status) override {
    if (status.ok()) {
      responder_.Finish(response_, grpc::Status::OK, &finished_);
    } else {
      responder_.FinishWithError(ToGrpcStatus(status), &finished_);
    }
  }

  grpc::ServerAsyncResponseWriter<grpc::ByteBuffer> responder_;
  grpc::ByteBuffer response_;
};

class StreamCall final : public Call {
 public:
  StreamCall(GrpcService* service, size_t index, grpc::ServerCompletionQueue* queue)
      : Call(service, index, queue), stream_(&grpc_context_) {
    service->RequestAsyncServerStreaming(static_cast<int>(index), &grpc_context_, &request_, &stream_, queue, queue,
                                         &accepted_);
  }

  base::Future<bool> Write(const grpc::ByteBuffer& message) override {
    const base::Promise<bool>& promise = writing_.emplace();
    base::Future<bool> future = promise.future();
    Keep();
    stream_.Write(message, &written_);
    return future;
  }

 private:
  base::Task<absl::Status> Handle() override {
    return std::get<RawStreamHandler>(method().handler)(context_, request_, *this);
  }
  void SendEnd(const absl::Status& status) override { stream_.Finish(ToGrpcStatus(status), &finished_); }

  void OnWritten(bool ok) {
    const base::Promise<bool> promise = *std::exchange(writing_, std::nullopt);
    promise.TrySet(ok);  // The handler goes on in here, perhaps with the next write.
    LetGo();
  }

  grpc::ServerAsyncWriter<grpc::ByteBuffer> stream_;
  Event written_{this, static_cast<void (Call::*)(bool)>(&StreamCall::OnWritten)};
  std::optional<base::Promise<bool>> writing_;  // Of the write in flight.
};

}  // namespace

GrpcService::GrpcService(const rpc::Service& service, CallHost* host) : methods_(service.methods()), host_(host) {
  for (size_t index = 0; index < methods_.size(); ++index) {
    const bool unary = std::holds_alternative<RawUnaryHandler>(methods_[index]->handler);
    AddMethod(new grpc::internal::RpcServiceMethod(
        methods_[index]->path.c_str(), unary ? RpcMethod::NORMAL_RPC : RpcMethod::SERVER_STREAMING, nullptr));
    MarkMethodRaw(static_cast<int>(index));
  }
}

void GrpcService::Accept(size_t index, grpc::ServerCompletionQueue* queue) {
  // The object owns itself from here on.
  if (std::holds_alternative<RawUnaryHandler>(method(index).handler)) {
    new UnaryCall(this, index, queue);
  } else {
    new StreamCall(this, index, queue);
  }
}

Call::Call(GrpcService* service, size_t index, grpc::ServerCompletionQueue* queue)
    : service_(service), index_(index), queue_(queue) {
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
  service_->Accept(index_, queue_);
  keepers_.store(2, std::memory_order_relaxed);  // The handler and ended_.
  const CallHost& host = service_->host();
  const bool unary = std::holds_alternative<RawUnaryHandler>(method().handler);
  context_.Begin(&grpc_context_,
                 std::chrono::steady_clock::now() + (unary ? host.default_deadline : host.default_stream_deadline));
  base::Spawn(Run());
}

void Call::OnEnded(bool /*ok*/) {
  if (grpc_context_.IsCancelled()) context_.Cancel();
  LetGo();
}

void Call::OnFinished(bool /*ok*/) { LetGo(); }

absl::Status Call::Admit() {
  CallHost& host = service_->host();
  if (!method().options.always_admitted) {
    RETURN_IF_ERROR(host.admission.Enter());
    admitted_ = true;
  }
  if (request_.Length() <= host.max_request_bytes) return absl::OkStatus();
  return domain::TooLarge({.name = "request",
                           .limit = host.max_request_bytes,
                           .value = request_.Length(),
                           .config_key = "limits.max_request_size"},
                          "send less at once");
}

base::Task<void> Call::Run() {
  absl::Status status = Admit();
  if (status.ok()) status = co_await Handle();
  Finish(status);  // This object may be gone afterwards.
}

void Call::Finish(const absl::Status& status) {
  context_.End();
  SendEnd(status);
}

void Call::LetGo() {
  if (keepers_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
}

}  // namespace persistd::rpc
