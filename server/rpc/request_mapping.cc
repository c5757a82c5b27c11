#include "server/rpc/request_mapping.h"

#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/string_view.h"
#include "server/base/status_macros.h"
#include "server/base/uuid.h"
#include "server/domain/errors.h"
#include "server/rpc/field_path.h"
#include "server/rpc/json_payload.h"
#include "server/rpc/request_validation.h"

namespace persistd::rpc {
namespace {

namespace pb = cim::persistence::v1;

constexpr char kJson[] = "application/json";
constexpr char kBytes[] = "application/octet-stream";

// The limit on one payload.
struct PayloadLimit {
  uint64_t bytes = 0;
  const char* config_key = nullptr;
  const char* advice = nullptr;
};

uint32_t SchemaVersionOr1(uint32_t version) { return version == 0 ? 1 : version; }

absl::StatusOr<domain::Payload> ToPayload(const pb::Payload& payload, const FieldPath& path,
                                          const PayloadLimit& limit) {
  RETURN_IF_ERROR(CheckContentType(payload.content_type(), path.Child("content_type")));
  domain::Payload result{.content_type = payload.content_type(), .data = {}};
  switch (payload.body_case()) {
    case pb::Payload::BODY_NOT_SET:
      return domain::InvalidField(path.ToString(), "must have `data` or `json`; leave it out where there is none");
    case pb::Payload::kData:
      result.data = payload.data();
      if (result.content_type.empty()) result.content_type = kBytes;
      break;
    case pb::Payload::kJson: {
      if (result.content_type.empty()) result.content_type = kJson;
      if (!IsJsonType(result.content_type)) {
        return domain::InvalidField(path.Child("content_type").ToString(),
                                    "must be application/json or end with +json where the content is `json`");
      }
      ASSIGN_OR_RETURN(result.data, StructToJson(payload.json(), path.Child("json")));
      break;
    }
  }
  if (result.data.size() <= limit.bytes) return result;
  return domain::TooLarge(
      {.name = path.ToString(), .limit = limit.bytes, .value = result.data.size(), .config_key = limit.config_key},
      limit.advice);
}

absl::StatusOr<domain::EventMetadata> ToEventMetadata(const pb::EventMetadata& metadata, const FieldPath& path,
                                                      const std::string& default_traceparent) {
  RETURN_IF_ERROR(CheckText(metadata.correlation_id(), path.Child("correlation_id")));
  RETURN_IF_ERROR(CheckText(metadata.causation_id(), path.Child("causation_id")));
  RETURN_IF_ERROR(CheckText(metadata.actor(), path.Child("actor")));
  if (!metadata.traceparent().empty() && !IsTraceparent(metadata.traceparent())) {
    return domain::InvalidField(path.Child("traceparent").ToString(),
                                "must be a W3C traceparent, such as "
                                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
  }
  ASSIGN_OR_RETURN(domain::CustomMetadata custom, ToCustom(metadata.custom(), path.Child("custom")));
  return domain::EventMetadata{
      .correlation_id = metadata.correlation_id(),
      .causation_id = metadata.causation_id(),
      .actor = metadata.actor(),
      .traceparent = metadata.traceparent().empty() ? default_traceparent : metadata.traceparent(),
      .custom = std::move(custom)};
}

// defaults: its traceparent is one, or empty.
absl::StatusOr<repository::SaveEvent> ToSaveEvent(const pb::NewEvent& event, const FieldPath& path,
                                                  const RequestLimits& limits, const SaveContext& defaults) {
  RETURN_IF_ERROR(CheckType(event.type(), path.Child("type")));
  RETURN_IF_ERROR(CheckSchemaVersion(event.schema_version(), path.Child("schema_version")));
  repository::SaveEvent result{.event = {.event_id = event.event_id(),
                                         .type = event.type(),
                                         .schema_version = SchemaVersionOr1(event.schema_version()),
                                         .payload = {},
                                         .metadata = {},
                                         .time = defaults.now},
                               .has_event_id = !event.event_id().empty(),
                               .has_time = event.has_time()};
  if (event.has_payload()) {
    const PayloadLimit limit{.bytes = limits.max_event_bytes,
                             .config_key = "limits.max_event_size",
                             .advice = "store large content elsewhere and refer to it"};
    ASSIGN_OR_RETURN(result.event.payload, ToPayload(event.payload(), path.Child("payload"), limit));
  }
  if (result.has_event_id) {
    RETURN_IF_ERROR(CheckId(event.event_id(), path.Child("event_id")));
  } else {
    result.event.event_id = base::NewUuidV7(defaults.now);
  }
  ASSIGN_OR_RETURN(result.event.metadata,
                   ToEventMetadata(event.metadata(), path.Child("metadata"), defaults.traceparent));
  if (result.has_time) {
    ASSIGN_OR_RETURN(result.event.time, ToWallTime(event.time(), path.Child("time")));
  }
  return result;
}

absl::Status AddEvents(const pb::SaveRequest& request, const RequestLimits& limits, SaveContext defaults,
                       repository::SaveCommand& command) {
  const FieldPath events("events");
  if (request.events().empty()) return domain::InvalidField("events", "must hold 1 to 1000 events");
  if (request.events_size() > domain::kMaxEventsPerSave) {
    return domain::TooLarge({.name = "events",
                             .limit = domain::kMaxEventsPerSave,
                             .value = static_cast<uint64_t>(request.events_size()),
                             .config_key = {}},
                            "save in several calls");
  }
  if (!IsTraceparent(defaults.traceparent)) defaults.traceparent.clear();
  absl::flat_hash_set<absl::string_view> ids;
  command.events.reserve(static_cast<size_t>(request.events_size()));
  for (int i = 0; i < request.events_size(); ++i) {
    const FieldPath path = events.At(i);
    const pb::NewEvent& event = request.events(i);
    ASSIGN_OR_RETURN(repository::SaveEvent parsed, ToSaveEvent(event, path, limits, defaults));
    if (parsed.has_event_id && !ids.insert(event.event_id()).second) {
      return domain::InvalidField(path.Child("event_id").ToString(), "is the id of an earlier event of this save");
    }
    command.events.push_back(std::move(parsed));
  }
  return absl::OkStatus();
}

absl::StatusOr<repository::Expectation> ToExpectation(const pb::SaveRequest& request) {
  using Kind = repository::Expectation::Kind;
  switch (request.expectation_case()) {
    case pb::SaveRequest::kExpectedVersion:
      return repository::Expectation{.kind = Kind::kExact, .version = request.expected_version()};
    case pb::SaveRequest::kMustExist:
      if (request.must_exist()) return repository::Expectation{.kind = Kind::kMustExist};
      return domain::InvalidField("must_exist",
                                  "must be true; leave it out to allow any version, or set expected_version to 0 "
                                  "where the aggregate must not exist");
    case pb::SaveRequest::EXPECTATION_NOT_SET:
      break;
  }
  return repository::Expectation{};
}

absl::Status AddState(const pb::SaveRequest& request, const RequestLimits& limits, repository::SaveCommand& command) {
  RETURN_IF_ERROR(CheckSchemaVersion(request.state_schema_version(), FieldPath("state_schema_version")));
  if (!request.has_state()) {
    if (request.state_schema_version() == 0) return absl::OkStatus();
    return domain::InvalidField("state_schema_version", "must be left out where there is no state");
  }
  const PayloadLimit limit{.bytes = limits.max_state_bytes,
                           .config_key = "limits.max_state_size",
                           .advice = "keep the state smaller, or split the aggregate"};
  ASSIGN_OR_RETURN(domain::Payload payload, ToPayload(request.state(), FieldPath("state"), limit));
  command.state = repository::NewState{.schema_version = SchemaVersionOr1(request.state_schema_version()),
                                       .payload = std::move(payload)};
  return absl::OkStatus();
}

absl::Status AddOptions(const pb::SaveOptions& options, repository::SaveCommand& command) {
  const FieldPath path("options");
  RETURN_IF_ERROR(CheckTags(options.tags(), path.Child("tags")));
  ASSIGN_OR_RETURN(domain::CustomMetadata metadata, ToCustom(options.metadata(), path.Child("metadata")));
  if (options.clear_tags() && !options.tags().empty()) {
    return domain::InvalidField("options.clear_tags", "must be left out where options.tags gives new ones");
  }
  if (options.clear_metadata() && !metadata.empty()) {
    return domain::InvalidField("options.clear_metadata", "must be left out where options.metadata gives new entries");
  }
  if (options.clear_tags() || !options.tags().empty()) {
    command.tags.emplace(options.tags().begin(), options.tags().end());
  }
  if (options.clear_metadata() || !metadata.empty()) command.metadata = std::move(metadata);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<repository::SaveCommand> ToSaveCommand(const pb::SaveRequest& request, const RequestLimits& limits,
                                                      const SaveContext& context) {
  repository::SaveCommand command;
  ASSIGN_OR_RETURN(command.ref, ToRef(request.ref()));
  ASSIGN_OR_RETURN(command.expectation, ToExpectation(request));
  RETURN_IF_ERROR(AddEvents(request, limits, context, command));
  RETURN_IF_ERROR(AddState(request, limits, command));
  RETURN_IF_ERROR(AddOptions(request.options(), command));
  if (!request.request_id().empty()) RETURN_IF_ERROR(CheckId(request.request_id(), FieldPath("request_id")));
  command.request_id = request.request_id();
  return command;
}

absl::StatusOr<repository::LoadCommand> ToLoadCommand(const pb::LoadRequest& request) {
  repository::LoadCommand query;
  ASSIGN_OR_RETURN(query.ref, ToRef(request.ref()));
  RETURN_IF_ERROR(CheckView(request.payload_view()));
  const FieldPath options("options");
  RETURN_IF_ERROR(CheckConsistency(request.options().consistency(), options.Child("consistency")));
  if (request.options().consistency() == pb::CONSISTENCY_CACHED) query.consistency = repository::Consistency::kCached;
  return query;
}

absl::StatusOr<repository::LoadCommand> ToLoadCommand(const pb::GetAtVersionRequest& request) {
  repository::LoadCommand query;
  ASSIGN_OR_RETURN(query.ref, ToRef(request.ref()));
  RETURN_IF_ERROR(CheckView(request.payload_view()));
  if (request.has_as_of()) {
    ASSIGN_OR_RETURN(query.at, ToWallTime(request.as_of(), FieldPath("as_of")));
    return query;
  }
  if (!request.has_version()) return domain::InvalidField("version", "must be set, or `as_of` instead of it");
  if (request.version() == 0) return domain::InvalidField("version", "must be at least 1");
  query.at = request.version();
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

}  // namespace persistd::rpc
