// A gRPC service as this layer sees it: a name and handlers, which are coroutines over plain messages.
//
//   Service service("cim.persistence.v1.AggregateService");
//   service.AddUnary<pb::SaveRequest, pb::SaveResponse>("Save", std::bind_front(&AggregateService::Save, this));
//
// A handler starts on a thread of the server and must not block it; it may end on any thread. Request, response and
// context live until it has ended. Messages cross this file as bytes, so that a request that does not parse gets an
// error of ours, and so that the transport below needs no templates.
//
// The streams of a call are bounded: a handler that writes faster than its client reads waits, and a client that sends
// faster than the handler reads waits.
#pragma once

#include <coroutine>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/message.h"
#include "grpcpp/support/byte_buffer.h"
#include "server/base/status_macros.h"
#include "server/base/task.h"
#include "server/rpc/call_context.h"

namespace persistd::rpc {

class RawReader;
class RawWriter;

// A message of an answer on its way into the queue; lives in the frame of the coroutine that awaits it. True when it is
// in; false when the client is gone, for good.
struct PendingWrite {
  PendingWrite(RawWriter* to, grpc::ByteBuffer bytes) : writer(to) { message.Swap(&bytes); }
  bool await_ready() const noexcept { return false; }
  bool await_suspend(std::coroutine_handle<> handle);
  bool await_resume() const noexcept { return accepted; }

  RawWriter* const writer;
  grpc::ByteBuffer message;
  bool accepted = false;
  std::coroutine_handle<> waiting;
  PendingWrite* next = nullptr;  // Of those that wait.
};

// Sends the messages of one answer, in the order of the calls.
class RawWriter {
 public:
  virtual ~RawWriter() = default;
  // True when `write` must wait; then it is resumed later, on any thread. Thread-safe. No write may be waiting when the
  // handler ends; what is in the queue by then is sent before the call ends.
  virtual bool StartWrite(PendingWrite& write) = 0;
};

inline bool PendingWrite::await_suspend(std::coroutine_handle<> handle) {
  waiting = handle;
  return writer->StartWrite(*this);
}

// A message that is awaited from the client.
struct PendingRead {
  enum class Outcome { kMessage, kEnd, kShutdown };

  explicit PendingRead(RawReader* from) : reader(from) {}
  bool await_ready() const noexcept { return false; }
  bool await_suspend(std::coroutine_handle<> handle);
  PendingRead& await_resume() noexcept { return *this; }

  RawReader* const reader;
  Outcome outcome = Outcome::kEnd;
  grpc::ByteBuffer message;
  std::coroutine_handle<> waiting;
};

// Receives the messages of one stream of requests, one at a time; what is not read stays with the sender.
class RawReader {
 public:
  virtual ~RawReader() = default;
  // False when `read` is done at once; otherwise it is resumed later, on a thread of the server. kEnd: the client has
  // sent everything, or is gone. kShutdown: the server takes no more.
  virtual bool StartRead(PendingRead& read) = 0;
  virtual uint64_t max_message_bytes() const = 0;
};

inline bool PendingRead::await_suspend(std::coroutine_handle<> handle) {
  waiting = handle;
  return reader->StartRead(*this);
}

using RawUnaryHandler = std::function<base::Task<absl::Status>(const CallContext& context, grpc::ByteBuffer& request,
                                                               grpc::ByteBuffer& response)>;
using RawStreamHandler =
    std::function<base::Task<absl::Status>(const CallContext& context, grpc::ByteBuffer& request, RawWriter& writer)>;
using RawBidiHandler =
    std::function<base::Task<absl::Status>(const CallContext& context, RawReader& reader, RawWriter& writer)>;
using RawHandler = std::variant<RawUnaryHandler, RawStreamHandler, RawBidiHandler>;

absl::Status ParseMessage(grpc::ByteBuffer& bytes, google::protobuf::Message& message);
// TOO_LARGE over the limit.
absl::Status CheckRequestSize(uint64_t bytes, uint64_t limit);
// What StreamReader::Next says of a read.
absl::StatusOr<bool> ReceiveMessage(PendingRead& read, google::protobuf::Message& message);
// Messages are smaller than 2 GiB.
grpc::ByteBuffer SerializeMessage(const google::protobuf::Message& message);

// As RawWriter, for messages.
template <typename Response>
class StreamWriter {
 public:
  explicit StreamWriter(RawWriter* raw) : raw_(raw) {}
  PendingWrite Write(const Response& message) { return PendingWrite(raw_, SerializeMessage(message)); }

 private:
  RawWriter* const raw_;
};

// As RawReader, for messages.
template <typename Request>
class StreamReader {
 public:
  explicit StreamReader(RawReader* raw) : raw_(raw) {}

  struct Pending : PendingRead {
    Pending(StreamReader* from, Request* to) : PendingRead(from->raw_), stream(from), into(to) {}
    absl::StatusOr<bool> await_resume() {
      stream->last_bytes_ = message.Length();
      return ReceiveMessage(*this, *into);
    }
    StreamReader* const stream;
    Request* const into;
  };
  // The next request, whose memory is used again; false: there are no more. TOO_LARGE: `into` holds it all the same, so
  // that an answer can name it, and the stream goes on. After any other error read no more and end with it.
  Pending Next(Request& into) { return Pending(this, &into); }
  // The size of the request that was read last.
  uint64_t last_bytes() const { return last_bytes_; }

 private:
  RawReader* const raw_;
  uint64_t last_bytes_ = 0;
};

template <typename Request, typename Response>
using UnaryHandler =
    std::function<base::Task<absl::Status>(const CallContext& context, const Request& request, Response& response)>;
template <typename Request, typename Response>
using StreamHandler = std::function<base::Task<absl::Status>(const CallContext& context, const Request& request,
                                                             StreamWriter<Response>& writer)>;
template <typename Request, typename Response>
using BidiHandler = std::function<base::Task<absl::Status>(const CallContext& context, StreamReader<Request>& reader,
                                                           StreamWriter<Response>& writer)>;

struct MethodOptions {
  // Answered however many calls run and also during shutdown: only for handlers that end at once.
  bool always_admitted = false;
};

struct Method {
  std::string path;  // /package.Service/Method
  RawHandler handler;
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
    CheckMethod({method, Request::descriptor(), Response::descriptor(), /*client_streaming=*/false,
                 /*server_streaming=*/false});
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
    CheckMethod(
        {method, Request::descriptor(), Response::descriptor(), /*client_streaming=*/false, /*server_streaming=*/true});
    RawStreamHandler raw = [handler = std::move(handler)](const CallContext& context, grpc::ByteBuffer& in,
                                                          RawWriter& raw_writer) -> base::Task<absl::Status> {
      Request request;
      CO_RETURN_IF_ERROR(ParseMessage(in, request));
      StreamWriter<Response> writer(&raw_writer);
      co_return co_await handler(context, request, writer);
    };
    Add(method, std::move(raw), options);
  }

  template <typename Request, typename Response>
  void AddBidiStreaming(absl::string_view method, BidiHandler<Request, Response> handler, MethodOptions options = {}) {
    CheckMethod({method, Request::descriptor(), Response::descriptor(), /*client_streaming=*/true,
                 /*server_streaming=*/true});
    RawBidiHandler raw = [handler = std::move(handler)](const CallContext& context, RawReader& raw_reader,
                                                        RawWriter& raw_writer) -> base::Task<absl::Status> {
      StreamReader<Request> reader(&raw_reader);
      StreamWriter<Response> writer(&raw_writer);
      co_return co_await handler(context, reader, writer);
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
    bool client_streaming;
    bool server_streaming;
  };
  void CheckMethod(const Signature& signature) const;
  void Add(absl::string_view method, RawHandler handler, MethodOptions options);

  std::string name_;
  std::vector<std::unique_ptr<Method>> methods_;
};

}  // namespace persistd::rpc
