#include "server/rpc/read_model_mapping.h"

#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "server/base/clock.h"
#include "server/base/status_macros.h"
#include "server/base/uuid.h"
#include "server/domain/errors.h"
#include "server/domain/subject.h"
#include "server/domain/utf8.h"
#include "server/readmodel/key.h"
#include "server/rpc/request_validation.h"
#include "server/rpc/response_mapping.h"

namespace persistd::rpc {
namespace {

namespace pb = cim::persistence::v1;
using nlohmann::json;

constexpr int kMaxWrites = 1000;
constexpr int kMaxKeys = 1000;
constexpr int kDefaultPage = 100;
constexpr int kLargestPage = 1000;
constexpr int64_t kMaxTtlSeconds = int64_t{10} * 366 * 24 * 3600;
constexpr size_t kMaxTokenBytes = 4096;

absl::StatusOr<std::string> IdOrFresh(const std::string& id) {
  ASSIGN_OR_RETURN(std::string given, ToRequestId(id));
  return given.empty() ? base::NewUuidV7(base::Clock::System().WallNow()) : given;
}

absl::StatusOr<std::chrono::seconds> ToTtl(const google::protobuf::Duration& ttl, const FieldPath& path) {
  if (ttl.nanos() == 0 && ttl.seconds() >= 1 && ttl.seconds() <= kMaxTtlSeconds) {
    return std::chrono::seconds(ttl.seconds());
  }
  return domain::InvalidField(path.ToString(), absl::StrCat("must be whole seconds, 1 to ", kMaxTtlSeconds));
}

absl::StatusOr<readmodel::Write> ToWrite(const pb::ReadModelWrite& request, const FieldPath& path,
                                         const RequestLimits& limits) {
  readmodel::Write write;
  ASSIGN_OR_RETURN(write.key, ToKey(request.key(), path.Child("key")));
  switch (request.operation_case()) {
    case pb::ReadModelWrite::kPayload: {
      ASSIGN_OR_RETURN(write.payload, ToEventPayload(request.payload(), path.Child("payload"), limits));
      break;
    }
    case pb::ReadModelWrite::kDelete:
      if (request.delete_()) break;
      [[fallthrough]];
    default:
      return domain::InvalidField(path.Child("payload").ToString(), "must be set, or `delete` instead of it");
  }
  RETURN_IF_ERROR(CheckSchemaVersion(request.schema_version(), path.Child("schema_version")));
  if (request.schema_version() != 0) write.schema_version = request.schema_version();
  write.source_field = path.Child("source").ToString();
  if (request.has_source()) {
    ASSIGN_OR_RETURN(write.source, ToPosition(request.source(), path.Child("source")));
  }
  if (request.has_expected_revision()) write.expected_revision = request.expected_revision();
  if (request.has_ttl()) {
    if (!write.payload.has_value()) {
      return domain::InvalidField(path.Child("ttl").ToString(), "is of documents that are written, not deleted");
    }
    ASSIGN_OR_RETURN(write.ttl, ToTtl(request.ttl(), path.Child("ttl")));
  }
  return write;
}

// What a page token is bound to, before the place.
json BoundTo(const pb::ListReadModelsRequest& request) {
  return json::array({request.type(), request.id_prefix(), request.id_pattern()});
}

}  // namespace

absl::StatusOr<domain::ReadModelKey> ToKey(const pb::ReadModelKey& key, const FieldPath& path) {
  domain::ReadModelKey result{.type = key.type(), .id = key.id()};
  RETURN_IF_ERROR(readmodel::ValidateKey(result, path.ToString() + "."));
  return result;
}

absl::StatusOr<readmodel::WriteCommand> ToWriteCommand(const pb::SaveReadModelRequest& request,
                                                       const RequestLimits& limits) {
  readmodel::WriteCommand command;
  ASSIGN_OR_RETURN(command.request_id, IdOrFresh(request.request_id()));
  ASSIGN_OR_RETURN(readmodel::Write write, ToWrite(request.write(), FieldPath("write"), limits));
  command.writes.push_back(std::move(write));
  return command;
}

absl::StatusOr<readmodel::WriteCommand> ToWriteCommand(const pb::SaveReadModelsRequest& request,
                                                       const RequestLimits& limits) {
  readmodel::WriteCommand command;
  ASSIGN_OR_RETURN(command.request_id, IdOrFresh(request.request_id()));
  if (request.writes_size() < 1 || request.writes_size() > kMaxWrites) {
    return domain::InvalidField("writes", absl::StrCat("must be 1 to ", kMaxWrites));
  }
  const FieldPath path("writes");
  std::set<domain::ReadModelKey> keys;
  for (int i = 0; i < request.writes_size(); ++i) {
    ASSIGN_OR_RETURN(readmodel::Write write, ToWrite(request.writes(i), path.At(i), limits));
    if (!keys.insert(write.key).second) {
      return domain::InvalidField(path.At(i).Child("key").ToString(), "is there twice");
    }
    command.writes.push_back(std::move(write));
  }
  return command;
}

absl::StatusOr<readmodel::WriteCommand> ToWriteCommand(const pb::DeleteReadModelRequest& request) {
  readmodel::WriteCommand command;
  ASSIGN_OR_RETURN(command.request_id, IdOrFresh(request.request_id()));
  readmodel::Write write;
  ASSIGN_OR_RETURN(write.key, ToKey(request.key(), FieldPath("key")));
  if (request.has_source()) {
    ASSIGN_OR_RETURN(write.source, ToPosition(request.source(), FieldPath("source")));
  }
  if (request.has_expected_revision()) write.expected_revision = request.expected_revision();
  command.writes.push_back(std::move(write));
  return command;
}

absl::StatusOr<std::vector<domain::ReadModelKey>> ToKeys(const pb::BatchGetReadModelsRequest& request) {
  if (request.keys_size() < 1 || request.keys_size() > kMaxKeys) {
    return domain::InvalidField("keys", absl::StrCat("must be 1 to ", kMaxKeys));
  }
  RETURN_IF_ERROR(CheckView(request.payload_view()));
  const FieldPath path("keys");
  std::vector<domain::ReadModelKey> keys;
  for (int i = 0; i < request.keys_size(); ++i) {
    ASSIGN_OR_RETURN(domain::ReadModelKey key, ToKey(request.keys(i), path.At(i)));
    keys.push_back(std::move(key));
  }
  return keys;
}

absl::StatusOr<readmodel::ListQuery> ToListQuery(const pb::ListReadModelsRequest& request) {
  readmodel::ListQuery query;
  RETURN_IF_ERROR(domain::ValidateToken(request.type(), "type"));
  RETURN_IF_ERROR(CheckView(request.payload_view()));
  query.type = request.type();
  if (request.id_prefix().size() > readmodel::kMaxIdBytes || !domain::IsUtf8(request.id_prefix())) {
    return domain::InvalidField("id_prefix",
                                absl::StrCat("must be at most ", readmodel::kMaxIdBytes, " bytes of UTF-8"));
  }
  query.id_prefix = request.id_prefix();
  query.id_pattern = request.id_pattern();
  if (request.page_size() < 0) return domain::InvalidField("page_size", "must not be negative");
  query.page_size =
      static_cast<size_t>(request.page_size() == 0 ? kDefaultPage : std::min(request.page_size(), kLargestPage));
  if (request.page_token().empty()) return query;
  std::string text;
  json token;
  if (request.page_token().size() <= kMaxTokenBytes && absl::WebSafeBase64Unescape(request.page_token(), &text)) {
    token = json::parse(text, nullptr, /*allow_exceptions=*/false);
  }
  if (!token.is_array() || token.size() != 2 || token[0] != BoundTo(request) || !token[1].is_string()) {
    return domain::InvalidField("page_token", "is not from a page of the same list: the other fields must be the same");
  }
  query.after = token[1].get<std::string>();
  return query;
}

void ToProto(const domain::ReadModelKey& key, pb::ReadModelKey& message) {
  message.set_type(key.type);
  message.set_id(key.id);
}

void ToProto(const readmodel::Written& written, pb::SaveReadModelResponse& message) {
  message.set_outcome(written.superseded ? pb::WRITE_OUTCOME_SUPERSEDED : pb::WRITE_OUTCOME_WRITTEN);
  message.set_revision(written.revision);
  message.set_deduplicated(written.deduplicated);
}

void ToProto(const readmodel::Written& written, pb::DeleteReadModelResponse& message) {
  message.set_outcome(written.superseded ? pb::WRITE_OUTCOME_SUPERSEDED : pb::WRITE_OUTCOME_WRITTEN);
  message.set_revision(written.revision);
  message.set_existed(written.existed && !written.superseded);
}

void ToProto(readmodel::ReadModel model, pb::PayloadView view, pb::ReadModel& message) {
  ToProto(model.key, *message.mutable_key());
  ToProto(std::move(model.payload), view, *message.mutable_payload());
  message.set_schema_version(model.schema_version);
  if (!model.source.streams().empty()) message.mutable_source()->set_token(model.source.ToToken());
  message.set_revision(model.revision);
  ToProto(model.updated, *message.mutable_update_time());
  if (model.expires.has_value()) ToProto(*model.expires, *message.mutable_expire_time());
}

void ToProto(readmodel::ListPage page, const pb::ListReadModelsRequest& request, pb::ListReadModelsResponse& message) {
  for (readmodel::ReadModel& model : page.read_models) {
    ToProto(std::move(model), request.payload_view(), *message.add_read_models());
  }
  if (page.next.empty()) return;
  const json token = json::array({BoundTo(request), page.next});
  message.set_next_page_token(absl::WebSafeBase64Escape(token.dump()));
}

}  // namespace persistd::rpc
