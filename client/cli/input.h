// What is read from files, and payloads as they are typed. All errors are INVALID_ARGUMENT, in words for the user.
// Thread-safe.
#pragma once

#include <istream>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cim/persistence/v1/types.pb.h"

namespace persistd::cli {

// The bytes of a file; `-`: of `in`.
absl::StatusOr<std::string> ReadInput(const std::string& file, std::istream& in);

// JSON given to the flag `what`, as text or as @FILE.
absl::StatusOr<cim::persistence::v1::Payload> ParsePayload(absl::string_view what, std::string value);

}  // namespace persistd::cli
