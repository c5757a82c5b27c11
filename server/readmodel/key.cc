#include "server/readmodel/key.h"

#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "server/base/status_macros.h"
#include "server/domain/errors.h"
#include "server/domain/subject.h"
#include "server/domain/utf8.h"

namespace persistd::readmodel {
namespace {

std::string EncodeId(absl::string_view id) {
  return absl::StrJoin(absl::StrSplit(id, '.'), ".", [](std::string* out, absl::string_view token) {
    absl::StrAppend(out, domain::EncodeEntity(token));
  });
}

std::optional<std::string> DecodeId(absl::string_view encoded) {
  std::vector<std::string> tokens;
  for (const absl::string_view token : absl::StrSplit(encoded, '.')) {
    std::optional<std::string> decoded = domain::DecodeEntity(token);
    // A dot within a token would have been one between two.
    if (!decoded.has_value() || absl::StrContains(*decoded, ".")) return std::nullopt;
    tokens.push_back(*std::move(decoded));
  }
  return absl::StrJoin(tokens, ".");
}

absl::Status ValidateId(absl::string_view id, absl::string_view field) {
  if (id.empty() || id.size() > kMaxIdBytes || !domain::IsUtf8(id)) {
    return domain::InvalidField(field, absl::StrCat("must be 1 to ", kMaxIdBytes, " bytes of UTF-8"));
  }
  const std::vector<absl::string_view> tokens = absl::StrSplit(id, '.');
  if (tokens.size() > kMaxIdTokens) {
    return domain::InvalidField(field, absl::StrCat("must have at most ", kMaxIdTokens, " tokens between dots"));
  }
  for (const absl::string_view token : tokens) {
    // So long is what DecodeEntity takes.
    if (token.empty() || token.size() > domain::kMaxEntityBytes) {
      return domain::InvalidField(
          field, absl::StrCat("each token between dots must have 1 to ", domain::kMaxEntityBytes, " bytes"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ValidateKey(const domain::ReadModelKey& key, absl::string_view prefix) {
  RETURN_IF_ERROR(domain::ValidateToken(key.type, absl::StrCat(prefix, "type")));
  return ValidateId(key.id, absl::StrCat(prefix, "id"));
}

std::string BucketKey(const domain::ReadModelKey& key, absl::string_view generation) {
  return absl::StrCat(key.type, ".", generation, ".", EncodeId(key.id));
}

std::optional<domain::ReadModelKey> ParseBucketKey(absl::string_view key, absl::string_view generation) {
  const std::vector<absl::string_view> parts = absl::StrSplit(key, absl::MaxSplits('.', 2));
  if (parts.size() != 3 || parts[1] != generation) return std::nullopt;
  std::optional<std::string> id = DecodeId(parts[2]);
  if (!id.has_value()) return std::nullopt;
  domain::ReadModelKey parsed{.type = std::string(parts[0]), .id = *std::move(id)};
  if (!ValidateKey(parsed).ok()) return std::nullopt;
  return parsed;
}

absl::StatusOr<std::string> BucketPattern(absl::string_view type, absl::string_view generation,
                                          absl::string_view id_pattern, absl::string_view field) {
  const std::string all = absl::StrCat(type, ".", generation, ".");
  if (id_pattern.empty()) return absl::StrCat(all, ">");
  RETURN_IF_ERROR(ValidateId(id_pattern, field));
  std::vector<std::string> tokens;
  for (const absl::string_view token : absl::StrSplit(id_pattern, '.')) {
    if (!tokens.empty() && tokens.back() == ">") {
      return domain::InvalidField(field, "`>` stands for all tokens that follow: it must be the last one");
    }
    const bool wildcard = token == "*" || token == ">";
    if (!wildcard && (absl::StrContains(token, "*") || absl::StrContains(token, ">"))) {
      return domain::InvalidField(field, "`*` and `>` must be tokens of their own, between dots");
    }
    tokens.push_back(wildcard ? std::string(token) : domain::EncodeEntity(token));
  }
  return absl::StrCat(all, absl::StrJoin(tokens, "."));
}

std::string BucketPrefix(absl::string_view type, absl::string_view generation, absl::string_view id_prefix) {
  return absl::StrCat(type, ".", generation, ".", EncodeId(id_prefix));
}

std::string ChangeSubject(const domain::ReadModelKey& key, absl::string_view operation) {
  return absl::StrCat("cim.readmodels.", key.type, ".", EncodeId(key.id), ".", operation);
}

}  // namespace persistd::readmodel
