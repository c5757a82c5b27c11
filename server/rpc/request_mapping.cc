#include "server/rpc/request_mapping.h"

#include <optional>
#include <set>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
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

// Of one SaveAll.
constexpr int kMaxSaves = 100;
constexpr int kMaxChecks = 100;

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
    ASSIGN_OR_RETURN(result.event.payload, ToEventPayload(event.payload(), path.Child("payload"), limits));
  }
  if (result.has_event_id) {
    RETURN_IF_ERROR(CheckId(event.event_id(), path.Child("event_id")));
  } else {
    result.event.event_id = base::NewUuidV7(defaults.now);
  }
  ASSIGN_OR_RETURN(result.event.metadata, ToEventMetadata(event.metadata(), path.Child("metadata"), defaults));
  if (result.has_time) {
    ASSIGN_OR_RETURN(result.event.time, ToWallTime(event.time(), path.Child("time")));
  }
  return result;
}

absl::Status AddEvents(const pb::SaveRequest& request, const RequestLimits& limits, const SaveContext& defaults,
                       const FieldPath& root, repository::SaveCommand& command) {
  const FieldPath events = root.Child("events");
  if (request.events().empty()) return domain::InvalidField(events.ToString(), "must hold 1 to 1000 events");
  if (request.events_size() > domain::kMaxEventsPerSave) {
    return domain::TooLarge({.name = events.ToString(),
                             .limit = domain::kMaxEventsPerSave,
                             .value = static_cast<uint64_t>(request.events_size()),
                             .config_key = {}},
                            "save in several calls");
  }
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

// Of a save or a check.
template <typename Request>
absl::StatusOr<repository::Expectation> ToExpectation(const Request& request, const FieldPath& root) {
  using Kind = repository::Expectation::Kind;
  switch (request.expectation_case()) {
    case Request::kExpectedVersion:
      return repository::Expectation{.kind = Kind::kExact, .version = request.expected_version()};
    case Request::kMustExist:
      if (request.must_exist()) return repository::Expectation{.kind = Kind::kMustExist};
      return domain::InvalidField(root.Child("must_exist").ToString(),
                                  "must be true; leave it out to allow any version, or set expected_version to 0 "
                                  "where the aggregate must not exist");
    case Request::EXPECTATION_NOT_SET:
      break;
  }
  return repository::Expectation{};
}

// request: has a `state` and its schema version.
template <typename Request>
absl::StatusOr<std::optional<repository::NewState>> ToState(const Request& request, const RequestLimits& limits,
                                                            const FieldPath& root) {
  const FieldPath version = root.Child("state_schema_version");
  RETURN_IF_ERROR(CheckSchemaVersion(request.state_schema_version(), version));
  if (!request.has_state()) {
    if (request.state_schema_version() == 0) return std::nullopt;
    return domain::InvalidField(version.ToString(), "must be left out where there is no state");
  }
  const PayloadLimit limit{.bytes = limits.max_state_bytes,
                           .config_key = "limits.max_state_size",
                           .advice = "keep the state smaller, or split the aggregate"};
  ASSIGN_OR_RETURN(domain::Payload payload, ToPayload(request.state(), root.Child("state"), limit));
  return repository::NewState{.schema_version = SchemaVersionOr1(request.state_schema_version()),
                              .payload = std::move(payload)};
}

absl::Status AddOptions(const pb::SaveOptions& options, const FieldPath& path, repository::SaveCommand& command) {
  RETURN_IF_ERROR(CheckTags(options.tags(), path.Child("tags")));
  ASSIGN_OR_RETURN(domain::CustomMetadata metadata, ToCustom(options.metadata(), path.Child("metadata")));
  if (options.clear_tags() && !options.tags().empty()) {
    return domain::InvalidField(path.Child("clear_tags").ToString(),
                                "must be left out where options.tags gives new ones");
  }
  if (options.clear_metadata() && !metadata.empty()) {
    return domain::InvalidField(path.Child("clear_metadata").ToString(),
                                "must be left out where options.metadata gives new entries");
  }
  if (options.clear_tags() || !options.tags().empty()) {
    command.tags.emplace(options.tags().begin(), options.tags().end());
  }
  if (options.clear_metadata() || !metadata.empty()) command.metadata = std::move(metadata);
  command.create_snapshot = options.create_snapshot();
  return absl::OkStatus();
}

// Refuses an aggregate that is there twice, and what does not fit into one commit.
absl::Status CheckSaveAll(const repository::SaveAllCommand& command) {
  std::set<domain::AggregateRef> seen;
  for (size_t i = 0; i < command.saves.size(); ++i) {
    if (seen.insert(command.saves[i].ref).second) continue;
    return domain::InvalidField(absl::StrCat("saves[", i, "].ref"),
                                "is the aggregate of an earlier save; give its events in one");
  }
  for (size_t i = 0; i < command.checks.size(); ++i) {
    if (seen.insert(command.checks[i].ref).second) continue;
    return domain::InvalidField(absl::StrCat("checks[", i, "].ref"),
                                "is an aggregate of a save or of an earlier check; a save has an expectation itself");
  }
  size_t total = command.checks.size();
  for (const repository::SaveCommand& save : command.saves) total += save.events.size();
  if (total <= domain::kMaxEventsPerSave) return absl::OkStatus();
  return domain::TooLarge(
      {.name = "events and checks of one commit", .limit = domain::kMaxEventsPerSave, .value = total, .config_key = {}},
      "save in several calls");
}

absl::Status CheckCount(absl::string_view name, int count, int most) {
  if (count <= most) return absl::OkStatus();
  return domain::TooLarge({.name = std::string(name),
                           .limit = static_cast<uint64_t>(most),
                           .value = static_cast<uint64_t>(count),
                           .config_key = {}},
                          "save in several calls");
}

}  // namespace

absl::StatusOr<domain::Payload> ToEventPayload(const pb::Payload& payload, const FieldPath& path,
                                               const RequestLimits& limits) {
  const PayloadLimit limit{.bytes = limits.max_event_bytes,
                           .config_key = "limits.max_event_size",
                           .advice = "store large content elsewhere and refer to it"};
  return ToPayload(payload, path, limit);
}

absl::StatusOr<domain::EventMetadata> ToEventMetadata(const pb::EventMetadata& metadata, const FieldPath& path,
                                                      const SaveContext& context) {
  RETURN_IF_ERROR(CheckText(metadata.correlation_id(), path.Child("correlation_id")));
  RETURN_IF_ERROR(CheckText(metadata.causation_id(), path.Child("causation_id")));
  RETURN_IF_ERROR(CheckText(metadata.actor(), path.Child("actor")));
  if (!metadata.traceparent().empty() && !IsTraceparent(metadata.traceparent())) {
    return domain::InvalidField(path.Child("traceparent").ToString(),
                                "must be a W3C traceparent, such as "
                                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
  }
  ASSIGN_OR_RETURN(domain::CustomMetadata custom, ToCustom(metadata.custom(), path.Child("custom")));
  const bool inherits = metadata.traceparent().empty() && IsTraceparent(context.traceparent);
  return domain::EventMetadata{.correlation_id = metadata.correlation_id(),
                               .causation_id = metadata.causation_id(),
                               .actor = metadata.actor(),
                               .traceparent = inherits ? context.traceparent : metadata.traceparent(),
                               .custom = std::move(custom)};
}

absl::StatusOr<std::string> ToRequestId(const std::string& id) {
  if (!id.empty()) RETURN_IF_ERROR(CheckId(id, FieldPath("request_id")));
  return id;
}

absl::StatusOr<repository::SaveCommand> ToSaveCommand(const pb::SaveRequest& request, const RequestLimits& limits,
                                                      const SaveContext& context, const FieldPath& path) {
  repository::SaveCommand command;
  ASSIGN_OR_RETURN(command.ref, ToRef(request.ref(), path.Child("ref")));
  ASSIGN_OR_RETURN(command.expectation, ToExpectation(request, path));
  RETURN_IF_ERROR(AddEvents(request, limits, context, path, command));
  ASSIGN_OR_RETURN(command.state, ToState(request, limits, path));
  RETURN_IF_ERROR(AddOptions(request.options(), path.Child("options"), command));
  ASSIGN_OR_RETURN(command.request_id, ToRequestId(request.request_id()));
  return command;
}

absl::StatusOr<repository::SaveAllCommand> ToSaveAllCommand(const pb::SaveAllRequest& request,
                                                            const RequestLimits& limits, const SaveContext& context) {
  if (request.saves().empty()) return domain::InvalidField("saves", "must hold 1 to 100 saves");
  RETURN_IF_ERROR(CheckCount("saves", request.saves_size(), kMaxSaves));
  RETURN_IF_ERROR(CheckCount("checks", request.checks_size(), kMaxChecks));
  repository::SaveAllCommand command;
  const FieldPath saves("saves");
  for (int i = 0; i < request.saves_size(); ++i) {
    const FieldPath path = saves.At(i);
    if (!request.saves(i).request_id().empty()) {
      return domain::InvalidField(path.Child("request_id").ToString(),
                                  "must be left out; request_id beside `saves` names the whole commit");
    }
    ASSIGN_OR_RETURN(repository::SaveCommand save, ToSaveCommand(request.saves(i), limits, context, path));
    command.saves.push_back(std::move(save));
  }
  const FieldPath checks("checks");
  for (int i = 0; i < request.checks_size(); ++i) {
    const FieldPath path = checks.At(i);
    repository::Check check;
    ASSIGN_OR_RETURN(check.ref, ToRef(request.checks(i).ref(), path.Child("ref")));
    ASSIGN_OR_RETURN(check.expectation, ToExpectation(request.checks(i), path));
    if (check.expectation.kind == repository::Expectation::Kind::kAny) {
      return domain::InvalidField(path.Child("expected_version").ToString(), "must be set, or `must_exist`");
    }
    command.checks.push_back(std::move(check));
  }
  RETURN_IF_ERROR(CheckSaveAll(command));
  ASSIGN_OR_RETURN(command.request_id, ToRequestId(request.request_id()));
  return command;
}

absl::StatusOr<repository::SaveCommand> ToSaveCommand(const pb::DeleteAggregateRequest& request,
                                                      const SaveContext& context) {
  using Kind = repository::Expectation::Kind;
  repository::SaveCommand command;
  command.tombstone = true;
  ASSIGN_OR_RETURN(command.ref, ToRef(request.ref()));
  command.expectation.kind = Kind::kMustExist;
  if (request.has_expected_version()) {
    if (request.expected_version() == 0) {
      return domain::InvalidField("expected_version", "must be at least 1: only what exists can be deleted");
    }
    command.expectation = {.kind = Kind::kExact, .version = request.expected_version()};
  }
  repository::SaveEvent tombstone;
  tombstone.event.event_id = base::NewUuidV7(context.now);
  tombstone.event.type = std::string(domain::kDeletedType);
  tombstone.event.time = context.now;
  ASSIGN_OR_RETURN(tombstone.event.metadata, ToEventMetadata(request.metadata(), FieldPath("metadata"), context));
  command.events.push_back(std::move(tombstone));
  ASSIGN_OR_RETURN(command.request_id, ToRequestId(request.request_id()));
  return command;
}

absl::StatusOr<repository::SnapshotCommand> ToSnapshotCommand(const pb::CreateSnapshotRequest& request,
                                                              const RequestLimits& limits) {
  repository::SnapshotCommand command;
  ASSIGN_OR_RETURN(command.ref, ToRef(request.ref()));
  command.version = request.version();
  ASSIGN_OR_RETURN(command.state, ToState(request, limits, FieldPath()));
  return command;
}

}  // namespace persistd::rpc
