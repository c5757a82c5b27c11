#include <utility>

#include "server/base/status_macros.h"
#include "server/domain/errors.h"
#include "server/domain/subject.h"
#include "server/rpc/field_path.h"
#include "server/rpc/request_mapping.h"
#include "server/rpc/request_validation.h"

namespace persistd::rpc {
namespace {

namespace pb = cim::persistence::v1;

constexpr size_t kMaxFilterBytes = 4096;

// request: has `version` or `as_of`, or neither.
template <typename Request>
absl::Status AddPointInTime(const Request& request, const FieldPath& root, repository::LoadCommand& query) {
  if (request.has_as_of()) {
    ASSIGN_OR_RETURN(query.at, ToWallTime(request.as_of(), root.Child("as_of")));
  } else if (request.has_version()) {
    if (request.version() == 0) return domain::InvalidField(root.Child("version").ToString(), "must be at least 1");
    query.at = request.version();
  }
  return absl::OkStatus();
}

absl::Status AddConsistency(const pb::LoadOptions& options, const FieldPath& root, repository::LoadCommand& query) {
  const FieldPath path = root.Child("consistency");
  RETURN_IF_ERROR(CheckConsistency(options.consistency(), path));
  if (options.consistency() != pb::CONSISTENCY_UNSPECIFIED && options.at_case() != pb::LoadOptions::AT_NOT_SET) {
    return domain::InvalidField(path.ToString(),
                                "must be left out with `version` or `as_of`: the past does not change");
  }
  if (options.consistency() == pb::CONSISTENCY_AT_LEAST) {
    query.consistency = repository::Consistency::kAtLeast;
    ASSIGN_OR_RETURN(query.at_least, ToPosition(options.at_least(), root.Child("at_least")));
    return absl::OkStatus();
  }
  if (options.has_at_least()) {
    return domain::InvalidField(root.Child("at_least").ToString(),
                                "must be left out unless the consistency is CONSISTENCY_AT_LEAST");
  }
  if (options.consistency() == pb::CONSISTENCY_CACHED) query.consistency = repository::Consistency::kCached;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<repository::LoadCommand> ToLoadCommand(const pb::LoadRequest& request) {
  repository::LoadCommand query;
  ASSIGN_OR_RETURN(query.ref, ToRef(request.ref()));
  RETURN_IF_ERROR(CheckView(request.payload_view()));
  RETURN_IF_ERROR(AddPointInTime(request.options(), FieldPath("options"), query));
  RETURN_IF_ERROR(AddConsistency(request.options(), FieldPath("options"), query));
  if (request.options().has_include_events()) query.include_events = request.options().include_events();
  if (request.options().has_use_snapshot()) query.use_snapshot = request.options().use_snapshot();
  return query;
}

absl::StatusOr<repository::LoadCommand> ToLoadCommand(const pb::GetAtVersionRequest& request) {
  repository::LoadCommand query;
  ASSIGN_OR_RETURN(query.ref, ToRef(request.ref()));
  RETURN_IF_ERROR(CheckView(request.payload_view()));
  if (request.at_case() == pb::GetAtVersionRequest::AT_NOT_SET) {
    return domain::InvalidField("version", "must be set, or `as_of` instead of it");
  }
  RETURN_IF_ERROR(AddPointInTime(request, FieldPath(), query));
  return query;
}

absl::StatusOr<repository::HistoryQuery> ToHistoryQuery(const pb::GetHistoryRequest& request) {
  repository::HistoryQuery query;
  ASSIGN_OR_RETURN(query.ref, ToRef(request.ref()));
  RETURN_IF_ERROR(CheckView(request.payload_view()));
  if (request.has_to_version()) {
    if (request.to_version() < request.from_version()) {
      return domain::InvalidField("to_version", "must not be less than from_version");
    }
    query.to_version = request.to_version();
  }
  if (request.event_types_size() > kMaxEventTypes) {
    return domain::TooLarge({.name = "event_types",
                             .limit = kMaxEventTypes,
                             .value = static_cast<uint64_t>(request.event_types_size()),
                             .config_key = {}},
                            "name fewer types, or none for all");
  }
  const FieldPath types("event_types");
  for (int i = 0; i < request.event_types_size(); ++i) {
    RETURN_IF_ERROR(CheckTypeFilter(request.event_types(i), types.At(i)));
  }
  query.types.assign(request.event_types().begin(), request.event_types().end());
  query.from_version = request.from_version();
  query.reverse = request.reverse();
  return query;
}

absl::StatusOr<index::ListQuery> ToListQuery(const pb::ListAggregatesRequest& request) {
  index::ListQuery query;
  if (!request.context().empty()) RETURN_IF_ERROR(domain::ValidateToken(request.context(), "context"));
  if (!request.aggregate().empty()) RETURN_IF_ERROR(domain::ValidateToken(request.aggregate(), "aggregate"));
  RETURN_IF_ERROR(CheckTags(request.tags(), FieldPath("tags")));
  if (request.filter().size() > kMaxFilterBytes) {
    return domain::TooLarge(
        {.name = "filter", .limit = kMaxFilterBytes, .value = request.filter().size(), .config_key = {}},
        "ask for less at once");
  }
  if (request.page_size() < 0) return domain::InvalidField("page_size", "must not be negative");
  if (request.has_at_least()) {
    ASSIGN_OR_RETURN(query.at_least, ToPosition(request.at_least(), FieldPath("at_least")));
  }
  query.context = request.context();
  query.aggregate = request.aggregate();
  query.tags.assign(request.tags().begin(), request.tags().end());
  query.filter = request.filter();
  query.order_by = request.order_by();
  query.page_size = request.page_size();
  query.page_token = request.page_token();
  query.show_deleted = request.show_deleted();
  return query;
}

}  // namespace persistd::rpc
