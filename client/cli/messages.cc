#include "client/cli/messages.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/cli/json_text.h"

namespace persistd::cli {
namespace {

namespace pb = cim::persistence::v1;

bool IsJson(absl::string_view content_type) {
  const std::string media_type =
      absl::AsciiStrToLower(absl::StripAsciiWhitespace(content_type.substr(0, content_type.find(';'))));
  return media_type == "application/json" || absl::EndsWith(media_type, "+json");
}

// What is inside the quotes of a JSON string that needs no escapes, such as base64 and most content types.
absl::string_view Unquote(absl::string_view json) {
  return json.size() < 2 ? absl::string_view() : json.substr(1, json.size() - 2);
}

// {"contentType":"application/json","data":"<base64>"} -> {"contentType":"application/json","json":<the JSON>}
std::string ShowJson(absl::string_view payload) {
  absl::string_view content_type, data;
  for (const JsonMember& member : JsonMembers(payload)) {
    if (member.name == "contentType") content_type = member.value;
    if (member.name == "data") data = Unquote(member.value);
  }
  std::string body;
  if (!IsJson(Unquote(content_type)) || !absl::Base64Unescape(data, &body) || !ValidateJson(body).ok()) {
    return std::string(payload);
  }
  return absl::StrCat(R"({"contentType":)", content_type, R"(,"json":)", CompactJson(body), "}");
}

// The way back. With both `json` and `data` the payload stays as it is, for protobuf to refuse it.
std::string HideJson(absl::string_view payload) {
  absl::string_view json;
  std::string others;
  bool has_content_type = false;
  for (const JsonMember& member : JsonMembers(payload)) {
    if (member.name == "data") return std::string(payload);
    if (member.name == "json" && member.value != "null") {
      json = member.value;
      continue;
    }
    has_content_type = has_content_type || member.name == "contentType" || member.name == "content_type";
    absl::StrAppend(&others, member.raw_name, ":", member.value, ",");
  }
  if (json.empty()) return std::string(payload);
  if (!has_content_type) absl::StrAppend(&others, R"("contentType":"application/json",)");
  return absl::StrCat("{", others, R"("data":")", absl::Base64Escape(json), R"("})");
}

// `holder` with its member `payload` as `rewrite` makes it.
std::string MapPayload(absl::string_view holder, std::string (*rewrite)(absl::string_view)) {
  return MapJsonObject(holder, [rewrite](const JsonMember& member) {
    return member.name == "payload" ? rewrite(member.value) : std::string(member.value);
  });
}

std::string ShowPayload(absl::string_view holder) { return MapPayload(holder, ShowJson); }
std::string HidePayload(absl::string_view holder) { return MapPayload(holder, HideJson); }

// protobuf escapes < and > for the sake of web pages, which makes subjects unreadable and unfit for copying.
std::string UnescapeAngles(absl::string_view json) {
  std::string text;
  text.reserve(json.size());
  while (!json.empty()) {
    const bool escape = json[0] == '\\';
    if (escape && (absl::StartsWith(json, "\\u003c") || absl::StartsWith(json, "\\u003e"))) {
      text.push_back(json[5] == 'c' ? '<' : '>');
      json.remove_prefix(6);
      continue;
    }
    // Another escape is copied with what it escapes: in \\u003c nothing but the backslash is escaped.
    const absl::string_view piece = json.substr(0, escape ? 2 : 1);
    absl::StrAppend(&text, piece);
    json.remove_prefix(piece.size());
  }
  return text;
}

absl::StatusOr<std::string> Print(const google::protobuf::Message& message) {
  std::string json;
  const auto status = google::protobuf::util::MessageToJsonString(message, &json);
  if (!status.ok()) {
    return absl::DataLossError(absl::StrCat("the answer cannot be shown as JSON: ", std::string(status.message())));
  }
  return UnescapeAngles(json);
}

// The JSON of a SaveRequest with its payloads as bytes.
std::string HidePayloads(absl::string_view json) {
  return MapJsonObject(json, [](const JsonMember& member) {
    if (member.name == "events") return MapJsonArray(member.value, HidePayload);
    return member.name == "state" ? HideJson(member.value) : std::string(member.value);
  });
}

bool HoldsStruct(const pb::SaveRequest& request) {
  const auto holds_struct = [](const pb::NewEvent& event) { return event.payload().has_json(); };
  return std::any_of(request.events().begin(), request.events().end(), holds_struct) || request.state().has_json();
}

}  // namespace

absl::StatusOr<pb::SaveRequest> SaveRequestFromJson(absl::string_view json) {
  if (absl::Status status = ValidateJson(json); !status.ok()) return status;
  pb::SaveRequest request;
  const auto status = google::protobuf::util::JsonStringToMessage(HidePayloads(json), &request);
  if (!status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("it is not a SaveRequest: ", std::string(status.message())));
  }
  // protobuf also takes one event for a list of one. Its `json` would come through here, with numbers as doubles.
  if (HoldsStruct(request)) return absl::InvalidArgumentError("it is not a SaveRequest: events must be a list");
  return request;
}

absl::StatusOr<pb::SaveAllRequest> SaveAllRequestFromJson(absl::string_view json) {
  if (absl::Status status = ValidateJson(json); !status.ok()) return status;
  const std::string prepared = MapJsonObject(json, [](const JsonMember& member) {
    return member.name == "saves" ? MapJsonArray(member.value, HidePayloads) : std::string(member.value);
  });
  pb::SaveAllRequest request;
  const auto status = google::protobuf::util::JsonStringToMessage(prepared, &request);
  if (!status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("it is not a SaveAllRequest: ", std::string(status.message())));
  }
  if (std::any_of(request.saves().begin(), request.saves().end(), HoldsStruct)) {
    return absl::InvalidArgumentError("it is not a SaveAllRequest: saves and events must be lists");
  }
  return request;
}

absl::StatusOr<std::string> ToJson(const pb::SaveResponse& response) { return Print(response); }

absl::StatusOr<std::string> ToJson(const pb::LoadResponse& response) {
  const absl::StatusOr<std::string> json = Print(response);
  if (!json.ok()) return json;
  return MapJsonObject(*json, [](const JsonMember& member) {
    if (member.name == "events") return MapJsonArray(member.value, ShowPayload);
    return member.name == "state" ? ShowPayload(member.value) : std::string(member.value);
  });
}

absl::StatusOr<std::string> ToJson(const pb::RecordedEvent& event) {
  const absl::StatusOr<std::string> json = Print(event);
  if (!json.ok()) return json;
  return ShowPayload(*json);
}

absl::StatusOr<std::string> ToJson(const pb::GetServerInfoResponse& response) { return Print(response); }

absl::StatusOr<std::string> ToJson(const pb::SaveAllResponse& response) { return Print(response); }

absl::StatusOr<std::string> ToJson(const pb::DeleteAggregateResponse& response) { return Print(response); }

absl::StatusOr<std::string> ToJson(const pb::Snapshot& snapshot) { return Print(snapshot); }

absl::StatusOr<std::string> ToJson(const pb::AggregateMetadata& metadata) { return Print(metadata); }

absl::StatusOr<std::string> ToJson(const pb::AppendToChainResponse& response) { return Print(response); }

absl::StatusOr<std::string> ToJson(const pb::GetChainResponse& entry) {
  const absl::StatusOr<std::string> json = Print(entry);
  if (!json.ok()) return json;
  return MapJsonObject(*json, [](const JsonMember& member) {
    return member.name == "content" ? ShowJson(member.value) : std::string(member.value);
  });
}

absl::StatusOr<std::string> ToJson(const pb::PutBlockResponse& response) { return Print(response); }

absl::StatusOr<std::string> ToJson(const pb::ChainVerification& verification) { return Print(verification); }

absl::StatusOr<std::string> ToJson(const pb::SaveReadModelResponse& response) { return Print(response); }

absl::StatusOr<std::string> ToJson(const pb::DeleteReadModelResponse& response) { return Print(response); }

absl::StatusOr<std::string> ToJson(const pb::ReadModel& model) {
  const absl::StatusOr<std::string> json = Print(model);
  if (!json.ok()) return json;
  return ShowPayload(*json);
}

absl::StatusOr<std::string> ToJson(const pb::CreateAggregateTypeResponse& response) { return Print(response); }

absl::StatusOr<std::string> ToJson(const pb::ListAggregateTypesResponse& response) { return Print(response); }

absl::StatusOr<std::string> ToJson(const pb::DescribeAggregateTypeResponse& response) { return Print(response); }

}  // namespace persistd::cli
