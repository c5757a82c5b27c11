// Between AdminService's messages and aggregate types. Pure, thread-safe.
#pragma once

#include "absl/status/statusor.h"
#include "cim/persistence/v1/admin.pb.h"
#include "server/jetstream/streams.h"
#include "server/repository/types.h"

namespace persistd::rpc {

// Errors name the field.
absl::StatusOr<repository::TypeName> ToTypeName(const std::string& context, const std::string& aggregate);
absl::StatusOr<jetstream::StreamSettings> ToSettings(const cim::persistence::v1::StreamSettings& settings);
absl::StatusOr<repository::AggregateTypes::ListQuery> ToListQuery(
    const cim::persistence::v1::ListAggregateTypesRequest& request);

void ToProto(const jetstream::StreamSettings& settings, cim::persistence::v1::StreamSettings& message);
// All but foreign_messages and problem.
void ToProto(const jetstream::StreamFacts& facts, cim::persistence::v1::StreamInfo& message);
void ToProto(const repository::TypeInfo& info, cim::persistence::v1::AggregateType& message);
void ToProto(const repository::TypeDescription& description,
             cim::persistence::v1::DescribeAggregateTypeResponse& message);

}  // namespace persistd::rpc
