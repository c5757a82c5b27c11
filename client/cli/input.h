// What is read from files, and payloads as they are typed. All errors are INVALID_ARGUMENT, in words for the user.
// Thread-safe.
#pragma once

#include <istream>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cim/persistence/v1/types.pb.h"
#include "client/cli/arguments.h"
#include "client/cpp/request_id.h"

namespace persistd::cli {

// The bytes of a file; `-`: of `in`.
absl::StatusOr<std::string> ReadInput(const std::string& file, std::istream& in);

// JSON given to the flag `what`, as text or as @FILE.
absl::StatusOr<cim::persistence::v1::Payload> ParsePayload(absl::string_view what, std::string value);

// Says which of the flags a word does not take, if one is given.
using Flags = std::vector<const char*>;
absl::Status Refuse(const Arguments& arguments, const std::string& verb, const Flags& flags);

// The payload that --data (JSON), or --file and --content-type, give; nullopt: none of them is there. `in` is read for
// `--file -`.
absl::StatusOr<std::optional<cim::persistence::v1::Payload>> ReadContent(const Arguments& arguments, std::istream& in);

// Sets the request_id: that of --request-id, or else the one that is there, or else a fresh one.
template <typename Request>
absl::Status SetRequestId(const Arguments& arguments, Request& request) {
  // A script whose variable is not set would save twice when it repeats.
  const auto id = arguments.GetFilled("request-id");
  if (!id.ok()) return id.status();
  if (id->has_value()) request.set_request_id(**id);
  if (request.request_id().empty()) request.set_request_id(client::NewRequestId());
  return absl::OkStatus();
}

}  // namespace persistd::cli
