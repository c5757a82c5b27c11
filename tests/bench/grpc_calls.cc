#include "tests/bench/grpc_calls.h"

#include <chrono>
#include <stdexcept>

#include "absl/strings/str_cat.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/support/channel_arguments.h"
#include "grpcpp/support/proto_buffer_reader.h"

namespace persistd::bench {
namespace {

constexpr std::chrono::seconds kPatience{60};

std::string Text(const grpc::Status& status) {
  return absl::StrCat("gRPC code ", static_cast<int>(status.error_code()), ": ", status.error_message());
}

void* TagOf(intptr_t number) { return reinterpret_cast<void*>(number); }

// Blocks for the next event of `queue`.
intptr_t NextOf(grpc::CompletionQueue& queue, bool& ok) {
  void* tag = nullptr;
  const auto deadline = std::chrono::system_clock::now() + kPatience;
  if (queue.AsyncNext(&tag, &ok, deadline) != grpc::CompletionQueue::GOT_EVENT) {
    throw std::runtime_error("no gRPC call ended for a minute");
  }
  return reinterpret_cast<intptr_t>(tag);
}

void Drain(grpc::CompletionQueue& queue) {
  queue.Shutdown();
  void* tag = nullptr;
  bool ok = false;
  while (queue.Next(&tag, &ok)) {
  }
}

}  // namespace

std::shared_ptr<grpc::Channel> NewChannel(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetMaxReceiveMessageSize(-1);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

grpc::ByteBuffer ToBytes(const google::protobuf::Message& message) {
  grpc::Slice slice(message.ByteSizeLong());
  message.SerializeWithCachedSizesToArray(const_cast<uint8_t*>(slice.begin()));
  return grpc::ByteBuffer(&slice, 1);
}

void FromBytes(const grpc::ByteBuffer& bytes, google::protobuf::Message& message) {
  grpc::ByteBuffer copy(bytes);
  grpc::ProtoBufferReader reader(&copy);
  if (!message.ParseFromZeroCopyStream(&reader)) throw std::runtime_error("an answer that does not parse");
}

UnaryCalls::UnaryCalls(std::vector<std::shared_ptr<grpc::Channel>> channels, std::string method, uint32_t slots)
    : method_(std::move(method)) {
  for (std::shared_ptr<grpc::Channel>& channel : channels) {
    stubs_.push_back(std::make_unique<grpc::GenericStub>(std::move(channel)));
  }
  for (uint32_t i = 0; i < slots; ++i) calls_.push_back(std::make_unique<Call>());
}

void UnaryCalls::Start(uint32_t slot, const grpc::ByteBuffer& request, size_t channel) {
  Call& call = *calls_[slot];
  call.reader = nullptr;
  call.context.emplace();
  call.reader = stubs_[channel]->PrepareUnaryCall(&*call.context, method_, request, &queue_);
  call.reader->StartCall();
  call.reader->Finish(&call.response, &call.status, TagOf(slot));
}

Done UnaryCalls::Wait() {
  bool ok = false;
  Done done{.slot = static_cast<uint32_t>(NextOf(queue_, ok))};
  const grpc::Status& status = calls_[done.slot]->status;
  if (!status.ok()) done.failure = Text(status);
  return done;
}

BidiCall::BidiCall(std::shared_ptr<grpc::Channel> channel, const std::string& method) : stub_(std::move(channel)) {
  call_ = stub_.PrepareCall(&context_, method, &queue_);
  call_->StartCall(TagOf(kStart));
  bool ok = false;
  if (NextEvent(ok) != kStart || !ok) Fail();
}

BidiCall::~BidiCall() {
  context_.TryCancel();
  Drain(queue_);
}

void BidiCall::Write(grpc::ByteBuffer message) {
  if (writing_) {
    waiting_.push_back(std::move(message));
    return;
  }
  writing_ = true;
  call_->Write(message, TagOf(kWrite));
}

BidiCall::Tag BidiCall::NextEvent(bool& ok) {
  const Tag tag = static_cast<Tag>(NextOf(queue_, ok));
  if (tag == kWrite) {
    if (!ok) Fail();
    writing_ = !waiting_.empty();
    if (writing_) {
      call_->Write(waiting_.front(), TagOf(kWrite));
      waiting_.pop_front();
    }
  }
  return tag;
}

grpc::ByteBuffer BidiCall::Read() {
  if (!reading_) call_->Read(&answer_, TagOf(kRead));
  reading_ = true;
  bool ok = false;
  while (NextEvent(ok) != kRead) {
  }
  reading_ = false;
  if (!ok) Fail();
  // The next read is under way while the caller looks at this one.
  grpc::ByteBuffer answer;
  answer.Swap(&answer_);
  call_->Read(&answer_, TagOf(kRead));
  reading_ = true;
  return answer;
}

void BidiCall::Fail() {
  grpc::Status status;
  call_->Finish(&status, TagOf(kFinish));
  bool ok = false;
  while (NextOf(queue_, ok) != kFinish) {
  }
  throw std::runtime_error("the stream ended: " + Text(status));
}

StreamedAnswers ReadAll(const std::shared_ptr<grpc::Channel>& channel, const std::string& method,
                        const grpc::ByteBuffer& request) {
  grpc::GenericStub stub(channel);
  grpc::CompletionQueue queue;
  grpc::ClientContext context;
  const auto call = stub.PrepareCall(&context, method, &queue);
  bool ok = false;
  call->StartCall(TagOf(1));
  NextOf(queue, ok);
  if (ok) {
    call->WriteLast(request, grpc::WriteOptions(), TagOf(1));
    NextOf(queue, ok);
  }
  StreamedAnswers answers;
  while (ok) {
    grpc::ByteBuffer answer;
    call->Read(&answer, TagOf(1));
    NextOf(queue, ok);
    if (ok) ++answers.messages;
  }
  grpc::Status status;
  call->Finish(&status, TagOf(1));
  NextOf(queue, ok);
  if (!status.ok()) answers.failure = Text(status);
  Drain(queue);
  return answers;
}

}  // namespace persistd::bench
