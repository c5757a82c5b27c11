#include "client/cli/requests.h"

#include <google/protobuf/util/time_util.h>

#include <optional>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/cli/input.h"
#include "client/cli/messages.h"
#include "client/cpp/request_id.h"
#include "client/cpp/requests.h"

namespace persistd::cli {
namespace {

namespace pb = cim::persistence::v1;

// TYPE[@SCHEMA_VERSION][=JSON|=@FILE]
absl::StatusOr<pb::NewEvent> ParseEvent(const std::string& text) {
  pb::NewEvent event;
  const size_t equals = text.find('=');
  std::string type = text.substr(0, equals);
  if (const size_t at = type.find('@'); at != std::string::npos) {
    const auto version =
        ParseNumber(absl::StrCat("--event ", type, ": the schema version"), type.substr(at + 1), UINT32_MAX);
    if (!version.ok()) return version.status();
    event.set_schema_version(static_cast<uint32_t>(*version));
    type.resize(at);
  }
  if (type.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("--event \"", text, "\" names no type; write --event TYPE='JSON'"));
  }
  event.set_type(type);
  if (equals != std::string::npos) {
    absl::StatusOr<pb::Payload> payload = ParsePayload(absl::StrCat("--event ", type), text.substr(equals + 1));
    if (!payload.ok()) return payload.status();
    *event.mutable_payload() = *std::move(payload);
  }
  return event;
}

absl::StatusOr<pb::AggregateRef> OnlyRef(const Arguments& arguments) {
  if (arguments.positionals().size() != 1) {
    return absl::InvalidArgumentError("name one aggregate, as CONTEXT/AGGREGATE/ENTITY");
  }
  return ParseRef(arguments.positionals().front());
}

absl::Status SetExpectation(const Arguments& arguments, pb::SaveRequest& request) {
  const auto version = arguments.GetNumber("expected-version");
  if (!version.ok()) return version.status();
  const bool any = arguments.Has("any"), must_exist = arguments.Has("must-exist");
  if (version->has_value() + any + must_exist > 1) {
    return absl::InvalidArgumentError("give only one of --expected-version, --must-exist and --any");
  }
  if (any) request.clear_expectation();
  if (must_exist) request.set_must_exist(true);
  if (version->has_value()) request.set_expected_version(**version);
  return absl::OkStatus();
}

absl::Status AddEvents(const Arguments& arguments, pb::SaveRequest& request) {
  for (const std::string& text : arguments.All("event")) {
    absl::StatusOr<pb::NewEvent> event = ParseEvent(text);
    if (!event.ok()) return event.status();
    *request.add_events() = *std::move(event);
  }
  // Who and why holds for the save as a whole, so also for the events that come from a file.
  for (pb::NewEvent& event : *request.mutable_events()) {
    if (const auto actor = arguments.Get("actor")) event.mutable_metadata()->set_actor(*actor);
    if (const auto id = arguments.Get("correlation-id")) event.mutable_metadata()->set_correlation_id(*id);
    if (const auto id = arguments.Get("causation-id")) event.mutable_metadata()->set_causation_id(*id);
  }
  if (request.events().empty()) {
    return absl::InvalidArgumentError("there is nothing to save; give --event TYPE='JSON' or --file FILE");
  }
  return absl::OkStatus();
}

// request: has a state and its schema version.
template <typename Request>
absl::Status SetState(const Arguments& arguments, Request& request) {
  if (const auto text = arguments.Get("state")) {
    absl::StatusOr<pb::Payload> state = ParsePayload("--state", *text);
    if (!state.ok()) return state.status();
    *request.mutable_state() = *std::move(state);
  }
  if (const auto text = arguments.Get("state-schema-version")) {
    const auto version = ParseNumber("--state-schema-version", *text, UINT32_MAX);
    if (!version.ok()) return version.status();
    request.set_state_schema_version(static_cast<uint32_t>(*version));
  }
  return absl::OkStatus();
}

absl::Status SetOptions(const Arguments& arguments, pb::SaveRequest& request) {
  for (const std::string& tag : arguments.All("tag")) request.mutable_options()->add_tags(tag);
  for (const std::string& entry : arguments.All("metadata")) {
    const size_t equals = entry.find('=');
    if (equals == std::string::npos) {
      return absl::InvalidArgumentError(absl::StrCat("--metadata needs KEY=VALUE, not \"", entry, "\""));
    }
    (*request.mutable_options()->mutable_metadata())[entry.substr(0, equals)] = entry.substr(equals + 1);
  }
  if (arguments.Has("clear-tags")) request.mutable_options()->set_clear_tags(true);
  if (arguments.Has("clear-metadata")) request.mutable_options()->set_clear_metadata(true);
  if (arguments.Has("snapshot")) request.mutable_options()->set_create_snapshot(true);
  return absl::OkStatus();
}

}  // namespace

const std::vector<FlagSpec>& SaveFlags() {
  static const std::vector<FlagSpec>& flags = *new std::vector<FlagSpec>{
      {"file"},
      {"event", FlagSpec::kRepeated},
      {"expected-version"},
      {"must-exist", FlagSpec::kSwitch},
      {"any", FlagSpec::kSwitch},
      {"state"},
      {"state-schema-version"},
      {"tag", FlagSpec::kRepeated},
      {"metadata", FlagSpec::kRepeated},
      {"clear-tags", FlagSpec::kSwitch},
      {"clear-metadata", FlagSpec::kSwitch},
      {"snapshot", FlagSpec::kSwitch},
      {"actor"},
      {"correlation-id"},
      {"causation-id"},
      {"request-id"},
  };
  return flags;
}

const std::vector<FlagSpec>& LoadFlags() {
  static const std::vector<FlagSpec>& flags = *new std::vector<FlagSpec>{
      {"version"},
      {"as-of"},
      {"at-least"},
      {"cached", FlagSpec::kSwitch},
      {"events", FlagSpec::kSwitch},
      {"no-events", FlagSpec::kSwitch},
      {"no-snapshot", FlagSpec::kSwitch},
  };
  return flags;
}

const std::vector<FlagSpec>& SaveAllFlags() {
  static const std::vector<FlagSpec>& flags = *new std::vector<FlagSpec>{{"file"}, {"request-id"}};
  return flags;
}

const std::vector<FlagSpec>& DeleteFlags() {
  static const std::vector<FlagSpec>& flags =
      *new std::vector<FlagSpec>{{"expected-version"}, {"actor"}, {"correlation-id"}, {"causation-id"}, {"request-id"}};
  return flags;
}

const std::vector<FlagSpec>& SnapshotFlags() {
  static const std::vector<FlagSpec>& flags =
      *new std::vector<FlagSpec>{{"version"}, {"state"}, {"state-schema-version"}};
  return flags;
}

const std::vector<FlagSpec>& ListFlags() {
  static const std::vector<FlagSpec>& flags =
      *new std::vector<FlagSpec>{{"context"}, {"aggregate"}, {"tag", FlagSpec::kRepeated},  {"filter"}, {"order-by"},
                                 {"limit"},   {"at-least"},  {"deleted", FlagSpec::kSwitch}};
  return flags;
}

const std::vector<FlagSpec>& HistoryFlags() {
  static const std::vector<FlagSpec>& flags = *new std::vector<FlagSpec>{
      {"from"}, {"to"}, {"reverse", FlagSpec::kSwitch}, {"type", FlagSpec::kRepeated}, {"limit"}};
  return flags;
}

absl::StatusOr<pb::AggregateRef> ParseRef(absl::string_view text) {
  const size_t first = text.find('/');
  const size_t second = first == absl::string_view::npos ? first : text.find('/', first + 1);
  if (first == 0 || second == absl::string_view::npos || second == first + 1 || second + 1 == text.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" is not an aggregate; write CONTEXT/AGGREGATE/ENTITY, like sales/order/42"));
  }
  return client::Ref(std::string(text.substr(0, first)), std::string(text.substr(first + 1, second - first - 1)),
                     std::string(text.substr(second + 1)));
}

absl::StatusOr<pb::SaveRequest> BuildSave(const Arguments& arguments, std::istream& in) {
  pb::SaveRequest request;
  const std::optional<std::string> file = arguments.Get("file");
  if (file.has_value()) {
    absl::StatusOr<std::string> json = ReadInput(*file, in);
    if (!json.ok()) return json.status();
    absl::StatusOr<pb::SaveRequest> from_file = SaveRequestFromJson(*json);
    if (!from_file.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("--file ", *file, ": ", from_file.status().message()));
    }
    request = *std::move(from_file);
  }
  // What is typed goes before what the file says.
  if (!request.has_ref() || !arguments.positionals().empty()) {
    absl::StatusOr<pb::AggregateRef> ref = OnlyRef(arguments);
    if (!ref.ok()) return ref.status();
    *request.mutable_ref() = *std::move(ref);
  }
  for (const auto set : {SetExpectation, AddEvents, SetState<pb::SaveRequest>, SetOptions}) {
    if (absl::Status status = set(arguments, request); !status.ok()) return status;
  }
  if (absl::Status status = SetRequestId(arguments, request); !status.ok()) return status;
  return request;
}

absl::StatusOr<pb::LoadRequest> BuildLoad(const Arguments& arguments) {
  pb::LoadRequest request;
  const auto ref = OnlyRef(arguments);
  if (!ref.ok()) return ref.status();
  *request.mutable_ref() = *ref;
  const auto version = arguments.GetNumber("version");
  if (!version.ok()) return version.status();
  const auto as_of = arguments.Get("as-of"), at_least = arguments.Get("at-least");
  const bool cached = arguments.Has("cached");
  if (version->has_value() + as_of.has_value() + at_least.has_value() + cached > 1) {
    return absl::InvalidArgumentError("give only one of --version, --as-of, --at-least and --cached");
  }
  if (arguments.Has("events") && arguments.Has("no-events")) {
    return absl::InvalidArgumentError("give only one of --events and --no-events");
  }
  pb::LoadOptions& options = *request.mutable_options();
  if (cached) options.set_consistency(pb::CONSISTENCY_CACHED);
  if (version->has_value()) options.set_version(**version);
  if (as_of.has_value() && !google::protobuf::util::TimeUtil::FromString(*as_of, options.mutable_as_of())) {
    return absl::InvalidArgumentError(
        absl::StrCat("--as-of needs a time like 2024-05-01T12:30:00Z, not \"", *as_of, "\""));
  }
  if (at_least.has_value()) {
    options.set_consistency(pb::CONSISTENCY_AT_LEAST);
    options.mutable_at_least()->set_token(*at_least);
  }
  if (arguments.Has("events")) options.set_include_events(true);
  if (arguments.Has("no-events")) options.set_include_events(false);
  if (arguments.Has("no-snapshot")) options.set_use_snapshot(false);
  return request;
}

absl::StatusOr<pb::SaveAllRequest> BuildSaveAll(const Arguments& arguments, std::istream& in) {
  const auto file = arguments.Get("file");
  if (!file.has_value() || !arguments.positionals().empty()) {
    return absl::InvalidArgumentError("give --file FILE and nothing else; FILE holds a SaveAllRequest as JSON");
  }
  const absl::StatusOr<std::string> json = ReadInput(*file, in);
  if (!json.ok()) return json.status();
  absl::StatusOr<pb::SaveAllRequest> request = SaveAllRequestFromJson(*json);
  if (!request.ok())
    return absl::InvalidArgumentError(absl::StrCat("--file ", *file, ": ", request.status().message()));
  if (absl::Status status = SetRequestId(arguments, *request); !status.ok()) return status;
  return request;
}

absl::StatusOr<pb::DeleteAggregateRequest> BuildDelete(const Arguments& arguments) {
  pb::DeleteAggregateRequest request;
  const auto ref = OnlyRef(arguments);
  if (!ref.ok()) return ref.status();
  *request.mutable_ref() = *ref;
  const auto version = arguments.GetNumber("expected-version");
  if (!version.ok()) return version.status();
  if (version->has_value()) request.set_expected_version(**version);
  if (const auto actor = arguments.Get("actor")) request.mutable_metadata()->set_actor(*actor);
  if (const auto id = arguments.Get("correlation-id")) request.mutable_metadata()->set_correlation_id(*id);
  if (const auto id = arguments.Get("causation-id")) request.mutable_metadata()->set_causation_id(*id);
  if (absl::Status status = SetRequestId(arguments, request); !status.ok()) return status;
  return request;
}

absl::StatusOr<std::variant<pb::CreateSnapshotRequest, pb::ListSnapshotsRequest, pb::DeleteSnapshotRequest>>
BuildSnapshot(const Arguments& arguments) {
  if (arguments.positionals().size() != 2) {
    return absl::InvalidArgumentError("write create, list or delete, then CONTEXT/AGGREGATE/ENTITY");
  }
  const std::string& action = arguments.positionals()[0];
  const auto ref = ParseRef(arguments.positionals()[1]);
  if (!ref.ok()) return ref.status();
  const auto version = arguments.GetNumber("version");
  if (!version.ok()) return version.status();
  if (action != "create" && (arguments.Has("state") || arguments.Has("state-schema-version"))) {
    return absl::InvalidArgumentError("--state and --state-schema-version are for create");
  }
  if (action == "create") {
    pb::CreateSnapshotRequest request;
    *request.mutable_ref() = *ref;
    request.set_version(version->value_or(0));
    if (absl::Status status = SetState(arguments, request); !status.ok()) return status;
    return request;
  }
  if (action == "list") {
    if (version->has_value()) return absl::InvalidArgumentError("--version is for create and delete");
    pb::ListSnapshotsRequest request;
    *request.mutable_ref() = *ref;
    return request;
  }
  if (action != "delete") {
    return absl::InvalidArgumentError(absl::StrCat("\"", action, "\" is none of create, list and delete"));
  }
  if (!version->has_value()) return absl::InvalidArgumentError("say which snapshot with --version N");
  pb::DeleteSnapshotRequest request;
  *request.mutable_ref() = *ref;
  request.set_version(**version);
  return request;
}

absl::StatusOr<pb::ListAggregatesRequest> BuildList(const Arguments& arguments) {
  if (!arguments.positionals().empty()) return absl::InvalidArgumentError("it takes only flags");
  pb::ListAggregatesRequest request;
  request.set_context(arguments.Get("context").value_or(""));
  request.set_aggregate(arguments.Get("aggregate").value_or(""));
  request.set_filter(arguments.Get("filter").value_or(""));
  request.set_order_by(arguments.Get("order-by").value_or(""));
  request.set_show_deleted(arguments.Has("deleted"));
  for (const std::string& tag : arguments.All("tag")) request.add_tags(tag);
  if (const auto at_least = arguments.Get("at-least")) request.mutable_at_least()->set_token(*at_least);
  return request;
}

absl::StatusOr<pb::GetHistoryRequest> BuildHistory(const Arguments& arguments) {
  const auto ref = OnlyRef(arguments);
  if (!ref.ok()) return ref.status();
  const auto from = arguments.GetNumber("from");
  if (!from.ok()) return from.status();
  const auto to = arguments.GetNumber("to");
  if (!to.ok()) return to.status();
  pb::GetHistoryRequest request;
  *request.mutable_ref() = *ref;
  request.set_from_version(from->value_or(0));
  if (to->has_value()) request.set_to_version(**to);
  request.set_reverse(arguments.Has("reverse"));
  for (const std::string& type : arguments.All("type")) request.add_event_types(type);
  return request;
}

}  // namespace persistd::cli
