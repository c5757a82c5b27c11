// The one place where a status of ours becomes what clients get. Pure but for logging; thread-safe.
#pragma once

#include "absl/status/status.h"
#include "cim/persistence/v1/errors.pb.h"
#include "grpcpp/support/status.h"

namespace persistd::rpc {

// An error of domain/errors.h keeps its code and message and carries its ErrorDetail, packed in a
// cim.persistence.v1.Status, in the trailer `grpc-status-details-bin`. CANCELLED needs no detail. Any other status
// without detail is a defect of ours: it is logged under an id, and the caller gets INTERNAL with that id.
grpc::Status ToGrpcStatus(const absl::Status& status);

// The same for an error inside an answer of a stream. Not OK.
cim::persistence::v1::Status ToWireStatus(const absl::Status& status);

}  // namespace persistd::rpc
