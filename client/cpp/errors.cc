#include "client/cpp/errors.h"

#include <string>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"

namespace persistd::client {
namespace {

namespace pb = cim::persistence::v1;

constexpr absl::string_view kErrorDetailUrl = "type.googleapis.com/cim.persistence.v1.ErrorDetail";

void TakeDetail(const pb::Status& details, absl::Status& status) {
  for (const google::protobuf::Any& any : details.details()) {
    if (any.type_url() == kErrorDetailUrl) {
      status.SetPayload(kErrorDetailUrl, absl::Cord(any.value()));
      break;
    }
  }
}

}  // namespace

std::optional<pb::ErrorDetail> GetErrorDetail(const absl::Status& status) {
  const auto payload = status.GetPayload(kErrorDetailUrl);
  pb::ErrorDetail detail;
  if (!payload.has_value() || !detail.ParseFromString(std::string(*payload))) return std::nullopt;
  return detail;
}

bool MayHaveBeenStored(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kUnknown:
      break;
    default:
      return false;
  }
  const std::optional<pb::ErrorDetail> detail = GetErrorDetail(status);
  if (!detail.has_value()) return true;
  // The other reasons with these codes promise that nothing was stored.
  return detail->reason() != pb::ERROR_REASON_NATS_UNAVAILABLE && detail->reason() != pb::ERROR_REASON_SHUTTING_DOWN;
}

absl::Status FromGrpcStatus(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  // gRPC and absl number their codes alike.
  absl::Status result(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  pb::Status details;
  if (details.ParseFromString(status.error_details())) TakeDetail(details, result);
  return result;
}

absl::Status FromWireStatus(const pb::Status& status) {
  absl::Status result(static_cast<absl::StatusCode>(status.code()), status.message());
  TakeDetail(status, result);
  return result;
}

absl::Status Annotate(const absl::Status& status, absl::string_view note) {
  absl::Status result(status.code(), absl::StrCat(status.message(), " (", note, ")"));
  status.ForEachPayload(
      [&result](absl::string_view url, const absl::Cord& payload) { result.SetPayload(url, payload); });
  return result;
}

}  // namespace persistd::client
