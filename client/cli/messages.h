// Messages of the API as JSON: protobuf's JSON mapping, lowerCamelCase names, as grpcurl prints it. One thing is added:
// a payload of JSON appears as that JSON itself, under `json`, with every digit and every member as it is stored; a
// payload of anything else appears as base64 under `data`. The same goes for input. Thread-safe.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cim/persistence/v1/admin.pb.h"
#include "cim/persistence/v1/aggregates.pb.h"
#include "cim/persistence/v1/chains.pb.h"
#include "cim/persistence/v1/read_models.pb.h"

namespace persistd::cli {

// A SaveRequest from JSON. `json` of a payload may be any JSON value and is sent byte for byte, as `data`.
// INVALID_ARGUMENT, in words for the user, when it is none.
absl::StatusOr<cim::persistence::v1::SaveRequest> SaveRequestFromJson(absl::string_view json);

// The same for several.
absl::StatusOr<cim::persistence::v1::SaveAllRequest> SaveAllRequestFromJson(absl::string_view json);

// Compact JSON, on one line. Fails only where the daemon sent what JSON cannot hold, such as a time in the year 10000.
absl::StatusOr<std::string> ToJson(const cim::persistence::v1::SaveResponse& response);
absl::StatusOr<std::string> ToJson(const cim::persistence::v1::LoadResponse& response);
absl::StatusOr<std::string> ToJson(const cim::persistence::v1::RecordedEvent& event);
absl::StatusOr<std::string> ToJson(const cim::persistence::v1::GetServerInfoResponse& response);
absl::StatusOr<std::string> ToJson(const cim::persistence::v1::SaveAllResponse& response);
absl::StatusOr<std::string> ToJson(const cim::persistence::v1::DeleteAggregateResponse& response);
absl::StatusOr<std::string> ToJson(const cim::persistence::v1::Snapshot& snapshot);
absl::StatusOr<std::string> ToJson(const cim::persistence::v1::AggregateMetadata& metadata);
absl::StatusOr<std::string> ToJson(const cim::persistence::v1::AppendToChainResponse& response);
absl::StatusOr<std::string> ToJson(const cim::persistence::v1::GetChainResponse& entry);
absl::StatusOr<std::string> ToJson(const cim::persistence::v1::PutBlockResponse& response);
absl::StatusOr<std::string> ToJson(const cim::persistence::v1::ChainVerification& verification);
absl::StatusOr<std::string> ToJson(const cim::persistence::v1::SaveReadModelResponse& response);
absl::StatusOr<std::string> ToJson(const cim::persistence::v1::DeleteReadModelResponse& response);
absl::StatusOr<std::string> ToJson(const cim::persistence::v1::ReadModel& model);
absl::StatusOr<std::string> ToJson(const cim::persistence::v1::CreateAggregateTypeResponse& response);
absl::StatusOr<std::string> ToJson(const cim::persistence::v1::ListAggregateTypesResponse& response);
absl::StatusOr<std::string> ToJson(const cim::persistence::v1::DescribeAggregateTypeResponse& response);

}  // namespace persistd::cli
