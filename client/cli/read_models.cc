#include "client/cli/read_models.h"

#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "client/cli/input.h"

namespace persistd::cli {
namespace {

namespace pb = cim::persistence::v1;

// TYPE/ID
absl::StatusOr<pb::ReadModelKey> ParseKey(const std::string& text) {
  const size_t slash = text.find('/');
  if (slash == std::string::npos || slash == 0 || slash + 1 == text.size()) {
    return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is no TYPE/ID"));
  }
  pb::ReadModelKey key;
  key.set_type(text.substr(0, slash));
  key.set_id(text.substr(slash + 1));
  return key;
}

// What a save and a deletion have in common.
template <typename Message>
absl::Status SetGuards(const Arguments& arguments, Message& message) {
  const auto source = arguments.GetFilled("source");
  if (!source.ok()) return source.status();
  if (source->has_value()) message.mutable_source()->set_token(**source);
  const auto revision = arguments.GetNumber("expected-revision");
  if (!revision.ok()) return revision.status();
  if (revision->has_value()) message.set_expected_revision(**revision);
  return absl::OkStatus();
}

absl::Status SetTtl(const Arguments& arguments, pb::ReadModelWrite& write) {
  const auto text = arguments.Get("ttl");
  if (!text.has_value()) return absl::OkStatus();
  absl::Duration ttl;
  if (!absl::ParseDuration(*text, &ttl) || ttl < absl::Seconds(1) || ttl != absl::Trunc(ttl, absl::Seconds(1))) {
    return absl::InvalidArgumentError(
        absl::StrCat("--ttl needs whole seconds, like 90s, 5m or 24h, not \"", *text, "\""));
  }
  write.mutable_ttl()->set_seconds(absl::ToInt64Seconds(ttl));
  return absl::OkStatus();
}

absl::StatusOr<pb::SaveReadModelRequest> BuildSaving(const Arguments& arguments, pb::ReadModelKey key,
                                                     std::istream& in) {
  pb::SaveReadModelRequest request;
  pb::ReadModelWrite& write = *request.mutable_write();
  *write.mutable_key() = std::move(key);
  absl::StatusOr<std::optional<pb::Payload>> content = ReadContent(arguments, in);
  if (!content.ok()) return content.status();
  if (!content->has_value()) return absl::InvalidArgumentError("save needs --data or --file");
  *write.mutable_payload() = **std::move(content);
  const auto version = arguments.GetNumber("schema-version");
  if (!version.ok()) return version.status();
  if (version->value_or(0) > UINT32_MAX) return absl::InvalidArgumentError("--schema-version is too large");
  write.set_schema_version(static_cast<uint32_t>(version->value_or(0)));
  if (absl::Status status = SetGuards(arguments, write); !status.ok()) return status;
  if (absl::Status status = SetTtl(arguments, write); !status.ok()) return status;
  if (absl::Status status = SetRequestId(arguments, request); !status.ok()) return status;
  return request;
}

absl::StatusOr<pb::ListReadModelsRequest> BuildListing(const Arguments& arguments, const std::string& type) {
  pb::ListReadModelsRequest request;
  request.set_type(type);
  request.set_id_prefix(arguments.Get("prefix").value_or(""));
  request.set_id_pattern(arguments.Get("pattern").value_or(""));
  return request;
}

const Flags kWriting = {"source", "expected-revision", "request-id"};
const Flags kSaving = {"data", "file", "content-type", "ttl"};
const Flags kListing = {"prefix", "pattern", "limit"};

}  // namespace

const std::vector<FlagSpec>& ReadModelFlags() {
  static const std::vector<FlagSpec>& flags = *new std::vector<FlagSpec>{
      {"data"},       {"file"},   {"content-type"}, {"schema-version"}, {"source"}, {"ttl"}, {"expected-revision"},
      {"request-id"}, {"prefix"}, {"pattern"},      {"limit"}};
  return flags;
}

absl::StatusOr<std::variant<pb::SaveReadModelRequest, pb::DeleteReadModelRequest, pb::GetReadModelRequest,
                            pb::ListReadModelsRequest>>
BuildReadModel(const Arguments& arguments, std::istream& in) {
  if (arguments.positionals().size() != 2) {
    return absl::InvalidArgumentError("write save, get or delete, then TYPE/ID, or list, then TYPE");
  }
  const std::string& verb = arguments.positionals()[0];
  const std::string& target = arguments.positionals()[1];
  const bool writes = verb == "save" || verb == "delete";
  if (!writes && verb != "get" && verb != "list") {
    return absl::InvalidArgumentError("needs save, get, delete or list as its first word");
  }
  if (!writes) {
    if (absl::Status status = Refuse(arguments, verb, kWriting); !status.ok()) return status;
  }
  if (verb != "save") {
    if (absl::Status status = Refuse(arguments, verb, kSaving); !status.ok()) return status;
  }
  if (verb != "save" && verb != "get") {
    if (absl::Status status = Refuse(arguments, verb, {"schema-version"}); !status.ok()) return status;
  }
  if (verb == "list") return BuildListing(arguments, target);
  if (absl::Status status = Refuse(arguments, verb, kListing); !status.ok()) return status;
  absl::StatusOr<pb::ReadModelKey> key = ParseKey(target);
  if (!key.ok()) return key.status();
  if (verb == "save") return BuildSaving(arguments, *std::move(key), in);
  if (verb == "get") {
    pb::GetReadModelRequest request;
    *request.mutable_key() = *std::move(key);
    const auto version = arguments.GetNumber("schema-version");
    if (!version.ok()) return version.status();
    if (version->value_or(0) > UINT32_MAX) return absl::InvalidArgumentError("--schema-version is too large");
    request.set_schema_version(static_cast<uint32_t>(version->value_or(0)));
    return request;
  }
  pb::DeleteReadModelRequest request;
  *request.mutable_key() = *std::move(key);
  if (absl::Status status = SetGuards(arguments, request); !status.ok()) return status;
  if (absl::Status status = SetRequestId(arguments, request); !status.ok()) return status;
  return request;
}

}  // namespace persistd::cli
