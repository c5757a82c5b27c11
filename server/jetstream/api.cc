#include "server/jetstream/api.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/domain/errors.h"

namespace persistd::jetstream {

std::string ApiError::ToString() const { return absl::StrCat(description, " (", err_code, ")"); }

absl::StatusOr<ApiAnswer> ParseApiAnswer(const std::string& data) {
  ApiAnswer answer;
  answer.body = nlohmann::json::parse(data, nullptr, /*allow_exceptions=*/false);
  if (!answer.body.is_object()) return absl::DataLossError("NATS answered with something that is no JSON object");
  const auto error = answer.body.find("error");
  if (error != answer.body.end() && error->is_object()) {
    answer.error = ApiError{.code = static_cast<int64_t>(UnsignedField(*error, "code")),
                            .err_code = static_cast<int64_t>(UnsignedField(*error, "err_code")),
                            .description = StringField(*error, "description")};
  }
  return answer;
}

uint64_t UnsignedField(const nlohmann::json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_number_integer()) return 0;
  // JSON that was made here holds signed numbers, JSON that was parsed unsigned ones.
  if (found->is_number_unsigned()) return found->get<uint64_t>();
  const int64_t value = found->get<int64_t>();
  return value < 0 ? 0 : static_cast<uint64_t>(value);
}

std::string StringField(const nlohmann::json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

bool BoolField(const nlohmann::json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_boolean() && found->get<bool>();
}

const nlohmann::json& ObjectField(const nlohmann::json& object, const char* name) {
  static const nlohmann::json empty = nlohmann::json::object();
  const auto found = object.find(name);
  return found != object.end() && found->is_object() ? *found : empty;
}

base::Task<absl::StatusOr<ApiAnswer>> CallApi(Connection& connection, std::string subject, std::string body,
                                              base::SteadyTime deadline) {
  OutgoingMessage request;
  request.subject = std::move(subject);
  request.data = std::move(body);
  absl::StatusOr<Message> message = co_await connection.Request(request, deadline);
  if (!message.ok()) co_return message.status();
  co_return ParseApiAnswer(message->data);
}

absl::Status ReadError(const absl::Status& status, absl::string_view what) {
  if (domain::GetErrorDetail(status).has_value()) return status;
  return domain::NatsUnavailable(absl::StrCat(what, ": ", status.message()));
}

}  // namespace persistd::jetstream
