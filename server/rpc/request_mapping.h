// Requests as the repository takes them. Every bound that the .proto files name is checked here: what these functions
// return is valid, what they refuse is refused with the path of the field. Pure but for fresh ids; thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <variant>

#include "absl/status/statusor.h"
#include "cim/persistence/v1/aggregates.pb.h"
#include "server/base/clock.h"
#include "server/domain/aggregate_ref.h"
#include "server/domain/event.h"
#include "server/index/aggregate_list.h"
#include "server/repository/repository.h"
#include "server/rpc/field_path.h"

namespace persistd::rpc {

struct RequestLimits {
  uint64_t max_event_bytes = 512u << 10;  // limits.max_event_size
  uint64_t max_state_bytes = 512u << 10;  // limits.max_state_size
};

// What is known of a save beside its request.
struct SaveContext {
  base::WallTime now;
  std::string traceparent;  // From the call's metadata; ignored when it is not one.
};

// Parts of requests.
absl::StatusOr<domain::Payload> ToEventPayload(const cim::persistence::v1::Payload& payload, const FieldPath& path,
                                               const RequestLimits& limits);
absl::StatusOr<domain::EventMetadata> ToEventMetadata(const cim::persistence::v1::EventMetadata& metadata,
                                                      const FieldPath& path, const SaveContext& context);
absl::StatusOr<std::string> ToRequestId(const std::string& id);

// path: of the request inside another one.
absl::StatusOr<repository::SaveCommand> ToSaveCommand(const cim::persistence::v1::SaveRequest& request,
                                                      const RequestLimits& limits, const SaveContext& context,
                                                      const FieldPath& path = FieldPath());
absl::StatusOr<repository::SaveAllCommand> ToSaveAllCommand(const cim::persistence::v1::SaveAllRequest& request,
                                                            const RequestLimits& limits, const SaveContext& context);
// A save of the tombstone.
absl::StatusOr<repository::SaveCommand> ToSaveCommand(const cim::persistence::v1::DeleteAggregateRequest& request,
                                                      const SaveContext& context);
absl::StatusOr<repository::SnapshotCommand> ToSnapshotCommand(
    const cim::persistence::v1::CreateSnapshotRequest& request, const RequestLimits& limits);

absl::StatusOr<repository::LoadCommand> ToLoadCommand(const cim::persistence::v1::LoadRequest& request);
absl::StatusOr<repository::LoadCommand> ToLoadCommand(const cim::persistence::v1::GetAtVersionRequest& request);

absl::StatusOr<repository::HistoryQuery> ToHistoryQuery(const cim::persistence::v1::GetHistoryRequest& request);

// What only the index can judge (the filter, the order, the page token) it judges itself.
absl::StatusOr<index::ListQuery> ToListQuery(const cim::persistence::v1::ListAggregatesRequest& request);

}  // namespace persistd::rpc
