// Errors of persistd as absl::Status. The machine-readable part of an error, the ErrorDetail of errors.proto, travels
// as a payload of the status. All functions are thread-safe.
#pragma once

#include <optional>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "cim/persistence/v1/errors.pb.h"
#include "grpcpp/support/status.h"

namespace persistd::client {

// What the daemon said about the error; nullopt when it did not come from a daemon (no connection, no time left).
std::optional<cim::persistence::v1::ErrorDetail> GetErrorDetail(const absl::Status& status);

// True when a Save that failed with `status` may be stored all the same, now or a little later. Repeat it with the same
// request_id: it is stored at most once.
bool MayHaveBeenStored(const absl::Status& status);

// The status of a finished call, with the ErrorDetail of its `grpc-status-details-bin` trailer as payload.
absl::Status FromGrpcStatus(const grpc::Status& status);

// The status of a single answer of a stream. Not OK.
absl::Status FromWireStatus(const cim::persistence::v1::Status& status);

// `status` with `note` added to its message; code and payloads stay.
absl::Status Annotate(const absl::Status& status, absl::string_view note);

}  // namespace persistd::client
