#include "server/rpc/service.h"

#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "google/protobuf/descriptor.h"
#include "grpcpp/support/proto_buffer_reader.h"
#include "grpcpp/support/proto_buffer_writer.h"
#include "server/base/logging.h"
#include "server/domain/errors.h"

namespace persistd::rpc {
namespace {

constexpr int kBlockBytes = 1 << 20;  // What one slice of a serialised message holds at most.

[[noreturn]] void Die(absl::string_view what, absl::string_view name) {
  base::LogError("defect in a service definition", {{"what", what}, {"name", name}});
  std::abort();
}

}  // namespace

absl::Status ParseMessage(grpc::ByteBuffer& bytes, google::protobuf::Message& message) {
  grpc::ProtoBufferReader reader(&bytes);
  if (reader.status().ok() && message.ParseFromZeroCopyStream(&reader)) return absl::OkStatus();
  return domain::InvalidField("request",
                              absl::StrCat("does not parse as ", message.GetDescriptor()->full_name(),
                                           "; texts must be valid UTF-8, and nesting at most 100 messages deep"));
}

absl::Status CheckRequestSize(uint64_t bytes, uint64_t limit) {
  if (bytes <= limit) return absl::OkStatus();
  return domain::TooLarge({.name = "request", .limit = limit, .value = bytes, .config_key = "limits.max_request_size"},
                          "send less at once");
}

absl::StatusOr<bool> ReceiveMessage(PendingRead& read, google::protobuf::Message& message) {
  switch (read.outcome) {
    case PendingRead::Outcome::kEnd:
      return false;
    case PendingRead::Outcome::kShutdown:
      return domain::ShuttingDown();
    case PendingRead::Outcome::kMessage:
      break;
  }
  const uint64_t bytes = read.message.Length();
  RETURN_IF_ERROR(ParseMessage(read.message, message));
  RETURN_IF_ERROR(CheckRequestSize(bytes, read.reader->max_message_bytes()));
  return true;
}

grpc::ByteBuffer SerializeMessage(const google::protobuf::Message& message) {
  grpc::ByteBuffer bytes;
  {
    grpc::ProtoBufferWriter writer(&bytes, kBlockBytes, static_cast<int>(message.ByteSizeLong()));
    if (!message.SerializeToZeroCopyStream(&writer)) {
      Die("a message cannot be serialised", message.GetDescriptor()->full_name());
    }
  }
  return bytes;
}

void Service::CheckMethod(const Signature& signature) const {
  const google::protobuf::ServiceDescriptor* service =
      google::protobuf::DescriptorPool::generated_pool()->FindServiceByName(name_);
  if (service == nullptr) Die("no .proto file has this service", name_);
  const std::string full_name = absl::StrCat(name_, ".", signature.method);
  const google::protobuf::MethodDescriptor* method = service->FindMethodByName(std::string(signature.method));
  if (method == nullptr) Die("the service has no such method", full_name);
  if (method->client_streaming() != signature.client_streaming ||
      method->server_streaming() != signature.server_streaming) {
    Die("the method is of another kind", full_name);
  }
  if (method->input_type() != signature.request || method->output_type() != signature.response) {
    Die("the method has other messages", full_name);
  }
}

void Service::Add(absl::string_view method, RawHandler handler, MethodOptions options) {
  std::string path = absl::StrCat("/", name_, "/", method);
  for (const auto& other : methods_) {
    if (other->path == path) Die("the method has a handler already", path);
  }
  methods_.push_back(std::make_unique<Method>(Method{std::move(path), std::move(handler), options}));
}

}  // namespace persistd::rpc
