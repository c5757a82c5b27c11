#include "server/domain/subject.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "server/base/status_macros.h"
#include "server/domain/errors.h"
#include "server/domain/event.h"
#include "server/domain/utf8.h"

namespace persistd::domain {
namespace {

constexpr absl::string_view kEventPrefix = "cim.events";
constexpr absl::string_view kStatePrefix = "cim.aggregates";
constexpr absl::string_view kChainPrefix = "cim.chains.";
constexpr absl::string_view kCheckEnd = "._check";

bool IsTokenByte(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

// `reserved`: whether a leading `_` is allowed.
bool IsToken(absl::string_view token, bool reserved) {
  if (token.empty() || token.size() > kMaxTokenBytes) return false;
  if (!reserved && token.front() == '_') return false;
  for (const char c : token) {
    if (!IsTokenByte(c)) return false;
  }
  return true;
}

int UpperHexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::string EntityPrefix(absl::string_view prefix, const AggregateRef& ref) {
  return absl::StrCat(prefix, ".", ref.context, ".", ref.aggregate, ".", EncodeEntity(ref.entity_id));
}

std::string ChainSubject(const AggregateRef& ref) { return absl::StrCat(kChainPrefix, EncodeEntity(ref.entity_id)); }

// `v1` to `v999999`, without leading zeros.
std::optional<uint32_t> ParseSchemaVersion(absl::string_view token) {
  if (token.size() < 2 || token.size() > 7 || token[0] != 'v' || token[1] == '0') return std::nullopt;
  uint32_t version = 0;
  for (const char c : token.substr(1)) {
    if (c < '0' || c > '9') return std::nullopt;
    version = version * 10 + static_cast<uint32_t>(c - '0');
  }
  return version;
}

std::optional<AggregateRef> ParseRef(const std::vector<absl::string_view>& tokens) {
  if (!IsToken(tokens[2], false) || !IsToken(tokens[3], false)) return std::nullopt;
  std::optional<std::string> entity = DecodeEntity(tokens[4]);
  if (!entity.has_value()) return std::nullopt;
  return AggregateRef{
      .context = std::string(tokens[2]), .aggregate = std::string(tokens[3]), .entity_id = *std::move(entity)};
}

}  // namespace

absl::Status ValidateToken(absl::string_view token, absl::string_view field) {
  if (IsToken(token, false)) return absl::OkStatus();
  return InvalidField(field, token.empty()
                                 ? "must not be empty"
                                 : "must be 1 to 64 characters of A-Z, a-z, 0-9, '_' and '-', not starting with '_'");
}

absl::Status ValidateRef(const AggregateRef& ref, absl::string_view prefix) {
  RETURN_IF_ERROR(ValidateToken(ref.context, absl::StrCat(prefix, "context")));
  RETURN_IF_ERROR(ValidateToken(ref.aggregate, absl::StrCat(prefix, "aggregate")));
  return ValidateEntityId(ref.entity_id, absl::StrCat(prefix, "entity_id"));
}

absl::Status ValidateEntityId(absl::string_view id, absl::string_view field) {
  if (id.empty()) return InvalidField(field, "must not be empty");
  if (id.size() > kMaxEntityBytes) {
    return InvalidField(field, absl::StrCat("must be at most 128 bytes, has ", id.size()));
  }
  return IsUtf8(id) ? absl::OkStatus() : InvalidField(field, "must be valid UTF-8");
}

AggregateRef ChainRef(std::string name) {
  return {.context = kChainContext, .aggregate = kChainAggregate, .entity_id = std::move(name)};
}

std::string EncodeEntity(absl::string_view entity_id) {
  constexpr char kHex[] = "0123456789ABCDEF";
  if (std::all_of(entity_id.begin(), entity_id.end(), IsTokenByte)) return std::string(entity_id);
  std::string token;
  token.reserve(entity_id.size());
  for (const char c : entity_id) {
    if (IsTokenByte(c)) {
      token += c;
    } else {
      token += '=';
      token += kHex[static_cast<unsigned char>(c) >> 4];
      token += kHex[static_cast<unsigned char>(c) & 15];
    }
  }
  return token;
}

std::optional<std::string> DecodeEntity(absl::string_view token) {
  std::string entity_id;
  entity_id.reserve(token.size());
  for (size_t i = 0; i < token.size(); ++i) {
    if (IsTokenByte(token[i])) {
      entity_id += token[i];
      continue;
    }
    if (token[i] != '=' || i + 2 >= token.size()) return std::nullopt;
    const int high = UpperHexValue(token[i + 1]);
    const int low = UpperHexValue(token[i + 2]);
    if (high < 0 || low < 0) return std::nullopt;
    const char byte = static_cast<char>(high << 4 | low);
    if (IsTokenByte(byte)) return std::nullopt;  // Would have a second spelling.
    entity_id += byte;
    i += 2;
  }
  if (entity_id.empty() || entity_id.size() > kMaxEntityBytes || !IsUtf8(entity_id)) return std::nullopt;
  return entity_id;
}

std::string EventSubject(const AggregateRef& ref, absl::string_view type, uint32_t schema_version) {
  if (IsChain(ref)) return ChainSubject(ref);
  return absl::StrCat(EntityPrefix(kEventPrefix, ref), ".", type, ".v", schema_version);
}

std::string EventFilter(const AggregateRef& ref) {
  return IsChain(ref) ? ChainSubject(ref) : absl::StrCat(EntityPrefix(kEventPrefix, ref), ".>");
}

std::string CheckSubject(const AggregateRef& ref) {
  return absl::StrCat(kEventPrefix, ".", ref.context, ".", ref.aggregate, kCheckEnd);
}

bool IsCheckSubject(absl::string_view subject) {
  return absl::StartsWith(subject, kEventPrefix) && absl::EndsWith(subject, kCheckEnd);
}

std::string StateSubject(const AggregateRef& ref, uint32_t schema_version) {
  return absl::StrCat(EntityPrefix(kStatePrefix, ref), ".state.v", schema_version);
}

std::string StateFilter(const AggregateRef& ref) { return absl::StrCat(EntityPrefix(kStatePrefix, ref), ".state.>"); }

std::optional<ParsedEventSubject> ParseEventSubject(absl::string_view subject) {
  if (absl::ConsumePrefix(&subject, kChainPrefix)) {
    std::optional<std::string> name = DecodeEntity(subject);
    if (!name.has_value()) return std::nullopt;
    return ParsedEventSubject{.ref = ChainRef(*std::move(name)), .type = kChainEntryType, .schema_version = 1};
  }
  const std::vector<absl::string_view> tokens = absl::StrSplit(subject, '.');
  if (tokens.size() != 7 || tokens[0] != "cim" || tokens[1] != "events") return std::nullopt;
  std::optional<AggregateRef> ref = ParseRef(tokens);
  const std::optional<uint32_t> schema_version = ParseSchemaVersion(tokens[6]);
  if (!ref.has_value() || !schema_version.has_value() || !IsToken(tokens[5], true)) return std::nullopt;
  return ParsedEventSubject{.ref = *std::move(ref), .type = std::string(tokens[5]), .schema_version = *schema_version};
}

std::optional<ParsedStateSubject> ParseStateSubject(absl::string_view subject) {
  const std::vector<absl::string_view> tokens = absl::StrSplit(subject, '.');
  if (tokens.size() != 7 || tokens[0] != "cim" || tokens[1] != "aggregates" || tokens[5] != "state") {
    return std::nullopt;
  }
  std::optional<AggregateRef> ref = ParseRef(tokens);
  const std::optional<uint32_t> schema_version = ParseSchemaVersion(tokens[6]);
  if (!ref.has_value() || !schema_version.has_value()) return std::nullopt;
  return ParsedStateSubject{.ref = *std::move(ref), .schema_version = *schema_version};
}

}  // namespace persistd::domain
