#include "server/rpc/grpc_status.h"

#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "cim/persistence/v1/errors.pb.h"
#include "server/base/clock.h"
#include "server/base/logging.h"
#include "server/base/uuid.h"
#include "server/domain/errors.h"

namespace persistd::rpc {
namespace {

namespace pb = cim::persistence::v1;

// The message travels twice, percent-encoded and inside the details, and clients take at most 8 KiB of trailers.
constexpr size_t kMaxMessageBytes = 1024;

std::string Shorten(absl::string_view message) {
  if (message.size() <= kMaxMessageBytes) return std::string(message);
  size_t end = kMaxMessageBytes;
  while (end > 0 && (static_cast<unsigned char>(message[end]) & 0xC0) == 0x80) --end;  // Not inside a character.
  return absl::StrCat(message.substr(0, end), "...");
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
  wire.set_message(Shorten(status.message()));
  if (status.code() == absl::StatusCode::kCancelled) return wire;
  const std::optional<pb::ErrorDetail> detail = domain::GetErrorDetail(status);
  if (!detail.has_value()) return ToWireStatus(Undetailed(status));
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
