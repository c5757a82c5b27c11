// gRPC from one thread over one completion queue, messages as bytes: the cheapest client that gRPC 1.51 allows.
//
// For one thread. Nothing may be in flight when an object goes.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "google/protobuf/message.h"
#include "grpcpp/channel.h"
#include "grpcpp/completion_queue.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/support/byte_buffer.h"
#include "tests/bench/closed_loop.h"

namespace persistd::bench {

// With a connection of its own.
std::shared_ptr<grpc::Channel> NewChannel(const std::string& address);

grpc::ByteBuffer ToBytes(const google::protobuf::Message& message);
// Throws when they do not parse.
void FromBytes(const grpc::ByteBuffer& bytes, google::protobuf::Message& message);

// Unary calls of one method, many at once.
class UnaryCalls {
 public:
  // method: "/package.Service/Method".
  UnaryCalls(std::shared_ptr<grpc::Channel> channel, std::string method, uint32_t slots)
      : UnaryCalls(std::vector{std::move(channel)}, std::move(method), slots) {}
  UnaryCalls(std::vector<std::shared_ptr<grpc::Channel>> channels, std::string method, uint32_t slots);

  void Start(uint32_t slot, const grpc::ByteBuffer& request, size_t channel = 0);
  Done Wait();
  // Of the call that ended last in the slot.
  const grpc::ByteBuffer& response(uint32_t slot) const { return calls_[slot]->response; }
  const grpc::Status& status(uint32_t slot) const { return calls_[slot]->status; }

 private:
  struct Call {
    std::optional<grpc::ClientContext> context;
    std::unique_ptr<grpc::GenericClientAsyncResponseReader> reader;
    grpc::ByteBuffer response;
    grpc::Status status;
  };

  std::vector<std::unique_ptr<grpc::GenericStub>> stubs_;
  const std::string method_;
  grpc::CompletionQueue queue_;
  std::vector<std::unique_ptr<Call>> calls_;
};

// One call with a stream of requests and one of answers.
class BidiCall {
 public:
  // Throws when the call cannot be started.
  BidiCall(std::shared_ptr<grpc::Channel> channel, const std::string& method);
  ~BidiCall();  // Ends it.

  void Write(grpc::ByteBuffer message);
  // Blocks for the next answer; throws when the call ends, or none comes for a long time.
  grpc::ByteBuffer Read();

 private:
  enum Tag : intptr_t { kStart = 1, kRead, kWrite, kFinish };
  // Blocks; starts the next write when one has ended.
  Tag NextEvent(bool& ok);
  [[noreturn]] void Fail();

  grpc::GenericStub stub_;
  grpc::CompletionQueue queue_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call_;
  std::deque<grpc::ByteBuffer> waiting_;  // To be written after the one under way.
  bool writing_ = false;
  bool reading_ = false;
  grpc::ByteBuffer answer_;
};

// A call with one request and a stream of answers.
struct StreamedAnswers {
  uint64_t messages = 0;
  std::string failure = {};
};
StreamedAnswers ReadAll(const std::shared_ptr<grpc::Channel>& channel, const std::string& method,
                        const grpc::ByteBuffer& request);

}  // namespace persistd::bench
