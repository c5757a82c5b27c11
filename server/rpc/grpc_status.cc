#include "server/rpc/grpc_status.h"

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "cim/persistence/v1/errors.pb.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "server/base/clock.h"
#include "server/base/logging.h"
#include "server/base/uuid.h"
#include "server/domain/errors.h"

namespace persistd::rpc {
namespace {

namespace pb = cim::persistence::v1;

// The message travels twice, percent-encoded and inside the details, and clients take at most 8 KiB of trailers. What
// is in the details grows by a third on its way.
constexpr size_t kMaxMessageBytes = 1024;
constexpr size_t kMaxDetailBytes = 2560;
constexpr size_t kMaxTextBytes = 512;  // Of the details.

std::string Shorten(absl::string_view message, size_t most) {
  if (message.size() <= most) return std::string(message);
  size_t end = most;
  while (end > 0 && (static_cast<unsigned char>(message[end]) & 0xC0) == 0x80) --end;  // Not inside a character.
  return absl::StrCat(message.substr(0, end), "...");
}

// Makes texts shorter that callers may have sent, and lists that their requests may have made long.
void Bound(google::protobuf::Message& message) {
  const google::protobuf::Reflection& reflection = *message.GetReflection();
  std::vector<const google::protobuf::FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  for (const google::protobuf::FieldDescriptor* field : fields) {
    if (field->is_repeated()) continue;
    if (field->cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_MESSAGE) {
      Bound(*reflection.MutableMessage(&message, field));
    } else if (field->type() == google::protobuf::FieldDescriptor::TYPE_STRING) {
      const std::string text = reflection.GetString(message, field);
      if (text.size() > kMaxTextBytes) reflection.SetString(&message, field, Shorten(text, kMaxTextBytes));
    }
  }
}

void Bound(pb::ErrorDetail& detail) {
  Bound(static_cast<google::protobuf::Message&>(detail));
  uint32_t omitted = 0;
  for (; detail.failed_checks_size() > 1 && detail.ByteSizeLong() > kMaxDetailBytes; ++omitted) {
    detail.mutable_failed_checks()->RemoveLast();
  }
  detail.set_failed_checks_omitted(omitted);
}

absl::Status Undetailed(const absl::Status& status) {
  const std::string id = base::NewUuidV7(base::Clock::System().WallNow());
  base::LogError("call failed without a reason", {{"id", id}, {"status", status}});
  return domain::Internal(absl::StrCat("internal error ", id, "; the daemon's log says more"));
}

}  // namespace

pb::Status ToWireStatus(const absl::Status& status) {
  pb::Status wire;
  // Both libraries number their codes alike.
  wire.set_code(status.raw_code());
  wire.set_message(Shorten(status.message(), kMaxMessageBytes));
  if (status.code() == absl::StatusCode::kCancelled) return wire;
  std::optional<pb::ErrorDetail> detail = domain::GetErrorDetail(status);
  if (!detail.has_value()) return ToWireStatus(Undetailed(status));
  Bound(*detail);
  google::protobuf::Any& any = *wire.add_details();
  any.set_type_url(std::string(domain::kErrorDetailUrl));
  any.set_value(detail->SerializeAsString());
  return wire;
}

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const pb::Status wire = ToWireStatus(status);
  const auto code = static_cast<grpc::StatusCode>(wire.code());
  if (wire.details().empty()) return {code, wire.message()};
  return {code, wire.message(), wire.SerializeAsString()};
}

}  // namespace persistd::rpc
