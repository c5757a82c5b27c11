// JetStream's JSON API ($JS.API.…): requests, answers, and the errors inside answers.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/clock.h"
#include "server/base/task.h"
#include "server/jetstream/connection.h"

namespace persistd::jetstream {

// An error as the server reports it; `err_code` is its stable number (nats-server's errors.json).
struct ApiError {
  int64_t code = 0;
  int64_t err_code = 0;
  std::string description;

  std::string ToString() const;
};

inline constexpr int64_t kErrStreamNotFound = 10059;
inline constexpr int64_t kErrMessageNotFound = 10037;
inline constexpr int64_t kErrStreamNameInUse = 10058;
inline constexpr int64_t kErrSubjectOverlap = 10065;
inline constexpr int64_t kErrWrongLastSequence = 10071;
inline constexpr int64_t kErrWrongLastSequenceInFlight = 10164;

struct ApiAnswer {
  nlohmann::json body;
  std::optional<ApiError> error;
};

// DataLoss when `data` is no JSON object.
absl::StatusOr<ApiAnswer> ParseApiAnswer(const std::string& data);

// Fields of answers, tolerant of absence and of other types.
uint64_t UnsignedField(const nlohmann::json& object, const char* name);
std::string StringField(const nlohmann::json& object, const char* name);
bool BoolField(const nlohmann::json& object, const char* name);
const nlohmann::json& ObjectField(const nlohmann::json& object, const char* name);  // An empty object when absent.

// Sends `body` to `subject`. Errors are those of Connection::Request; an error of the server is in the answer.
base::Task<absl::StatusOr<ApiAnswer>> CallApi(Connection& connection, std::string subject, std::string body,
                                              base::SteadyTime deadline);

// What a caller sees when a read or an API call got no answer: `status` comes from Connection::Request.
absl::Status ReadError(const absl::Status& status, absl::string_view what);

}  // namespace persistd::jetstream
