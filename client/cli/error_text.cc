#include "client/cli/error_text.h"

#include <google/protobuf/util/time_util.h>

#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "client/cpp/errors.h"

namespace persistd::cli {
namespace {

namespace pb = cim::persistence::v1;

std::string Facts(const pb::ErrorDetail& detail) {
  std::string text;
  if (detail.has_field_violation()) {
    const auto& violation = detail.field_violation();
    absl::StrAppend(&text, "  field: ", violation.field(), ": ", violation.description(), "\n");
  }
  if (detail.has_version_conflict()) {
    const auto& conflict = detail.version_conflict();
    if (conflict.has_expected_version()) {
      absl::StrAppend(&text, "  expected version: ", conflict.expected_version(), "\n");
    }
    absl::StrAppend(&text, "  actual version: ", conflict.actual_version(), "\n");
  }
  if (detail.has_limit()) {
    const auto& limit = detail.limit();
    absl::StrAppend(&text, "  limit: ", limit.name(), " is ", limit.value(), ", at most ", limit.limit());
    if (!limit.config_key().empty()) absl::StrAppend(&text, " (set by ", limit.config_key(), ")");
    text += "\n";
  }
  if (detail.has_data_loss()) {
    const auto& loss = detail.data_loss();
    absl::StrAppend(&text, "  where: stream ", loss.stream(), ", sequence ", loss.sequence(), ": ", loss.description(),
                    "\n");
    if (!loss.expected_cid().empty()) absl::StrAppend(&text, "  expected cid: ", loss.expected_cid(), "\n");
    if (!loss.actual_cid().empty()) absl::StrAppend(&text, "  actual cid: ", loss.actual_cid(), "\n");
  }
  if (detail.has_revision_conflict()) {
    const auto& conflict = detail.revision_conflict();
    absl::StrAppend(&text, "  expected revision: ", conflict.expected_revision(), "\n");
    absl::StrAppend(&text, "  actual revision: ", conflict.actual_revision(), "\n");
  }
  if (detail.deleted() && !detail.has_read_model()) text += "  deleted: yes, its history can still be read\n";
  if (detail.has_retry_delay()) {
    absl::StrAppend(&text, "  retry after: ", google::protobuf::util::TimeUtil::ToString(detail.retry_delay()), "\n");
  }
  return text;
}

// What the person can do; empty where the message says it all.
std::string Advice(const absl::Status& status, const std::optional<pb::ErrorDetail>& detail) {
  switch (detail.has_value() ? detail->reason() : pb::ERROR_REASON_UNSPECIFIED) {
    case pb::ERROR_REASON_REQUEST_ID_REUSED:
      return "use a new --request-id for a new save, or none";
    case pb::ERROR_REASON_VERSION_CONFLICT:
      return "somebody else saved it first: load it again, decide again, and save with its version now";
    case pb::ERROR_REASON_REVISION_CONFLICT:
      return "somebody else wrote it first: read it again, decide again, and write with its revision now";
    case pb::ERROR_REASON_TOO_LARGE:
      return "send less at once, or raise the limit in the daemon's configuration";
    case pb::ERROR_REASON_STORAGE_FULL:
      return "an operator must make room; nothing was stored";
    case pb::ERROR_REASON_OVERLOADED:
      return "try again a little later; nothing was stored";
    case pb::ERROR_REASON_FOREIGN_MESSAGE:
      return "an operator must find who else publishes on this aggregate's subject, stop it, and restore the stream";
    case pb::ERROR_REASON_TYPE_NOT_DECLARED:
      return "declare the aggregate type in the daemon's configuration, or allow repository.auto_create";
    case pb::ERROR_REASON_STORAGE_UNSUITABLE:
      return "an operator must do what the message says";
    case pb::ERROR_REASON_NATS_UNAVAILABLE:
    case pb::ERROR_REASON_SHUTTING_DOWN:
      return "try again when NATS and the daemon are back";
    case pb::ERROR_REASON_CORRUPT_DATA:
      return "an operator must restore the data from a backup";
    case pb::ERROR_REASON_INTERNAL:
      return "this is a defect: report it with the daemon's log";
    default:
      break;
  }
  if (absl::IsUnavailable(status)) return "check that the daemon runs and that --address is right";
  if (absl::IsDeadlineExceeded(status)) return "allow more time with --timeout";
  return "";
}

}  // namespace

std::string ErrorText(absl::string_view what, const absl::Status& status, absl::string_view request_id) {
  const std::optional<pb::ErrorDetail> detail = client::GetErrorDetail(status);
  std::string text = absl::StrCat("persistctl: ", what, " failed\n  ", absl::StatusCodeToString(status.code()));
  if (detail.has_value()) {
    const std::string reason = pb::ErrorReason_Name(detail->reason());
    absl::StrAppend(&text, " (", absl::StripPrefix(reason, "ERROR_REASON_"), ")");
  }
  absl::StrAppend(&text, ": ", status.message(), "\n");
  if (detail.has_value()) text += Facts(*detail);
  if (!request_id.empty() && client::MayHaveBeenStored(status)) {
    absl::StrAppend(&text, "  outcome: unknown, the save may be stored now or a little later\n",
                    "  advice: repeat the same command with --request-id ", request_id,
                    "; it is stored at most once\n");
  } else if (const std::string advice = Advice(status, detail); !advice.empty()) {
    absl::StrAppend(&text, "  advice: ", advice, "\n");
  }
  return text;
}

}  // namespace persistd::cli
