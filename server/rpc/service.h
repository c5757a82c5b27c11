// A gRPC service as this layer sees it: a name and handlers, which are coroutines over plain messages.
//
//   Service service("cim.persistence.v1.AggregateService");
//   service.AddUnary<pb::SaveRequest, pb::SaveResponse>("Save", std::bind_front(&AggregateService::Save, this));
//
// A handler starts on a thread of the server and must not block it; it may end on any thread. Request, response and
// context live until it has ended. Messages cross this file as bytes, so that a request that does not parse gets an
// error of ours, and so that the transport below needs no templates.
//
// Calls with a stream of requests will be a further kind of handler, with a reader beside the writer.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/message.h"
#include "grpcpp/support/byte_buffer.h"
#include "server/base/future.h"
#include "server/base/status_macros.h"
#include "server/base/task.h"
#include "server/rpc/call_context.h"

namespace persistd::rpc {

// Sends the messages of one answer.
class RawWriter {
 public:
  virtual ~RawWriter() = default;
  // True when the transport wants the next message; false when the client is gone, for good. Await it before the next
  // Write and before the handler ends.
  virtual base::Future<bool> Write(const grpc::ByteBuffer& message) = 0;
};

using RawUnaryHandler = std::function<base::Task<absl::Status>(const CallContext& context, grpc::ByteBuffer& request,
                                                               grpc::ByteBuffer& response)>;
using RawStreamHandler =
    std::function<base::Task<absl::Status>(const CallContext& context, grpc::ByteBuffer& request, RawWriter& writer)>;

absl::Status ParseMessage(grpc::ByteBuffer& bytes, google::protobuf::Message& message);
// Messages are smaller than 2 GiB.
grpc::ByteBuffer SerializeMessage(const google::protobuf::Message& message);

// As RawWriter, for messages.
template <typename Response>
class StreamWriter {
 public:
  explicit StreamWriter(RawWriter* raw) : raw_(raw) {}
  base::Future<bool> Write(const Response& message) { return raw_->Write(SerializeMessage(message)); }

 private:
  RawWriter* const raw_;
};

template <typename Request, typename Response>
using UnaryHandler =
    std::function<base::Task<absl::Status>(const CallContext& context, const Request& request, Response& response)>;
template <typename Request, typename Response>
using StreamHandler = std::function<base::Task<absl::Status>(const CallContext& context, const Request& request,
                                                             StreamWriter<Response>& writer)>;

struct MethodOptions {
  // Answered however many calls run and also during shutdown: only for handlers that end at once.
  bool always_admitted = false;
};

struct Method {
  std::string path;  // /package.Service/Method
  std::variant<RawUnaryHandler, RawStreamHandler> handler;
  MethodOptions options;
};

// Movable. What its handlers call must outlive the server that it is given to.
class Service {
 public:
  // name: with the package, as the .proto file says.
  explicit Service(std::string name) : name_(std::move(name)) {}

  // `method` must be one of the .proto file's, with these messages and this kind; the program ends when it is not.
  template <typename Request, typename Response>
  void AddUnary(absl::string_view method, UnaryHandler<Request, Response> handler, MethodOptions options = {}) {
    CheckMethod({method, Request::descriptor(), Response::descriptor(), /*server_streaming=*/false});
    RawUnaryHandler raw = [handler = std::move(handler)](const CallContext& context, grpc::ByteBuffer& in,
                                                         grpc::ByteBuffer& out) -> base::Task<absl::Status> {
      Request request;
      CO_RETURN_IF_ERROR(ParseMessage(in, request));
      Response response;
      CO_RETURN_IF_ERROR(co_await handler(context, request, response));
      out = SerializeMessage(response);
      co_return absl::OkStatus();
    };
    Add(method, std::move(raw), options);
  }

  template <typename Request, typename Response>
  void AddServerStreaming(absl::string_view method, StreamHandler<Request, Response> handler,
                          MethodOptions options = {}) {
    CheckMethod({method, Request::descriptor(), Response::descriptor(), /*server_streaming=*/true});
    RawStreamHandler raw = [handler = std::move(handler)](const CallContext& context, grpc::ByteBuffer& in,
                                                          RawWriter& raw_writer) -> base::Task<absl::Status> {
      Request request;
      CO_RETURN_IF_ERROR(ParseMessage(in, request));
      StreamWriter<Response> writer(&raw_writer);
      co_return co_await handler(context, request, writer);
    };
    Add(method, std::move(raw), options);
  }

  const std::string& name() const { return name_; }
  // Their addresses do not change when the service is moved.
  const std::vector<std::unique_ptr<Method>>& methods() const { return methods_; }

 private:
  struct Signature {
    absl::string_view method;
    const google::protobuf::Descriptor* request;
    const google::protobuf::Descriptor* response;
    bool server_streaming;
  };
  void CheckMethod(const Signature& signature) const;
  void Add(absl::string_view method, std::variant<RawUnaryHandler, RawStreamHandler> handler, MethodOptions options);

  std::string name_;
  std::vector<std::unique_ptr<Method>> methods_;
};

}  // namespace persistd::rpc
