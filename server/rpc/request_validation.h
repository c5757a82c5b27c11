// Checks of single fields of requests. Each error is domain::InvalidField (or TooLarge) and names the path of the field
// and what is allowed. Pure, thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cim/persistence/v1/aggregates.pb.h"
#include "cim/persistence/v1/types.pb.h"
#include "google/protobuf/map.h"
#include "google/protobuf/repeated_field.h"
#include "google/protobuf/timestamp.pb.h"
#include "server/base/clock.h"
#include "server/domain/aggregate_ref.h"
#include "server/domain/event.h"
#include "server/domain/position.h"
#include "server/rpc/field_path.h"

namespace persistd::rpc {

// What one request may name in GetHistoryRequest.event_types.
inline constexpr int kMaxEventTypes = 100;

absl::StatusOr<domain::AggregateRef> ToRef(const cim::persistence::v1::AggregateRef& ref,
                                           const FieldPath& path = FieldPath("ref"));
// One that a save returned, not empty.
absl::StatusOr<domain::Position> ToPosition(const cim::persistence::v1::Position& position, const FieldPath& path);

// An event type that callers may give.
absl::Status CheckType(absl::string_view type, const FieldPath& path);
// The same, or a reserved one: what a filter may name.
absl::Status CheckTypeFilter(absl::string_view type, const FieldPath& path);
absl::Status CheckSchemaVersion(uint32_t version, const FieldPath& path);
// 1 to 128 printable ASCII characters without spaces.
absl::Status CheckId(absl::string_view id, const FieldPath& path);
// At most 256 bytes of UTF-8; may be empty.
absl::Status CheckText(absl::string_view text, const FieldPath& path);
absl::Status CheckContentType(absl::string_view content_type, const FieldPath& path);
absl::StatusOr<base::WallTime> ToWallTime(const google::protobuf::Timestamp& time, const FieldPath& path);
absl::StatusOr<domain::CustomMetadata> ToCustom(const google::protobuf::Map<std::string, std::string>& custom,
                                                const FieldPath& path);
absl::Status CheckTags(const google::protobuf::RepeatedPtrField<std::string>& tags, const FieldPath& path);
absl::Status CheckView(cim::persistence::v1::PayloadView view);
absl::Status CheckConsistency(cim::persistence::v1::Consistency consistency, const FieldPath& path);

// True for a W3C trace context header: version, trace id, parent id, flags, and what later versions append.
bool IsTraceparent(absl::string_view text);

}  // namespace persistd::rpc
