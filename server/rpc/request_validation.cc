#include "server/rpc/request_validation.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/base/status_macros.h"
#include "server/domain/errors.h"
#include "server/domain/subject.h"
#include "server/domain/utf8.h"

namespace persistd::rpc {
namespace {

namespace pb = cim::persistence::v1;

// The whole years of what 64 bits of nanoseconds hold; the last second is of 2262-04-11.
constexpr int64_t kMinSeconds = -9'214'560'000;  // 1678-01-01T00:00:00Z
constexpr int64_t kMaxSeconds = 9'223'372'035;
constexpr int32_t kMaxNanos = 999'999'999;

constexpr size_t kTraceparentBytes = 55;      // Of version 00; later ones append to it.
constexpr size_t kMaxTraceparentBytes = 256;  // Ours: W3C sets none for later versions.

template <typename... Parts>
absl::Status Invalid(const FieldPath& path, const Parts&... description) {
  return domain::InvalidField(path.ToString(), absl::StrCat(description...));
}

bool IsPrintable(char c) { return c >= 0x20 && c <= 0x7E; }

bool IsLowerHex(absl::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool AllZero(absl::string_view text) { return text.find_first_not_of('0') == absl::string_view::npos; }

}  // namespace

absl::StatusOr<domain::AggregateRef> ToRef(const pb::AggregateRef& ref, const FieldPath& path) {
  domain::AggregateRef result{.context = ref.context(), .aggregate = ref.aggregate(), .entity_id = ref.entity_id()};
  RETURN_IF_ERROR(domain::ValidateRef(result, absl::StrCat(path.ToString(), ".")));
  return result;
}

absl::StatusOr<domain::Position> ToPosition(const pb::Position& position, const FieldPath& path) {
  std::optional<domain::Position> parsed = domain::Position::Parse(position.token());
  if (parsed.has_value() && !parsed->streams().empty()) return *std::move(parsed);
  return Invalid(path.Child("token"), "must be the token of a position that persistd returned");
}

absl::Status CheckType(absl::string_view type, const FieldPath& path) {
  if (domain::ValidateToken(type, {}).ok()) return absl::OkStatus();
  return domain::ValidateToken(type, path.ToString());
}

absl::Status CheckTypeFilter(absl::string_view type, const FieldPath& path) {
  return CheckType(absl::StripPrefix(type, "_"), path);
}

absl::Status CheckSchemaVersion(uint32_t version, const FieldPath& path) {
  if (version <= domain::kMaxSchemaVersion) return absl::OkStatus();
  return Invalid(path, "must be 1 to ", domain::kMaxSchemaVersion, ", or 0 for 1; is ", version);
}

absl::Status CheckId(absl::string_view id, const FieldPath& path) {
  const bool allowed = std::all_of(id.begin(), id.end(), [](char c) { return IsPrintable(c) && c != ' '; });
  if (allowed && !id.empty() && id.size() <= domain::kMaxIdBytes) return absl::OkStatus();
  return Invalid(path, "must be 1 to ", domain::kMaxIdBytes, " printable ASCII characters without spaces");
}

absl::Status CheckText(absl::string_view text, const FieldPath& path) {
  if (text.size() > domain::kMaxMetadataValueBytes) {
    return Invalid(path, "must be at most ", domain::kMaxMetadataValueBytes, " bytes, has ", text.size());
  }
  return domain::IsUtf8(text) ? absl::OkStatus() : Invalid(path, "must be valid UTF-8");
}

absl::Status CheckContentType(absl::string_view content_type, const FieldPath& path) {
  if (content_type.size() > domain::kMaxContentTypeBytes ||
      !std::all_of(content_type.begin(), content_type.end(), IsPrintable)) {
    return Invalid(path, "must be at most ", domain::kMaxContentTypeBytes, " printable ASCII characters");
  }
  if (!content_type.empty() && (content_type.front() == ' ' || content_type.back() == ' ')) {
    return Invalid(path, "must not begin or end with a blank");
  }
  return absl::OkStatus();
}

absl::StatusOr<base::WallTime> ToWallTime(const google::protobuf::Timestamp& time, const FieldPath& path) {
  if (time.nanos() < 0 || time.nanos() > kMaxNanos) {
    return Invalid(path.Child("nanos"), "must be 0 to ", kMaxNanos, ", is ", time.nanos());
  }
  if (time.seconds() < kMinSeconds || time.seconds() > kMaxSeconds) {
    return Invalid(path, "must be within the years 1678 to 2262 (until 2262-04-11)");
  }
  return base::WallTime(std::chrono::seconds(time.seconds()) + std::chrono::nanoseconds(time.nanos()));
}

absl::StatusOr<domain::CustomMetadata> ToCustom(const google::protobuf::Map<std::string, std::string>& custom,
                                                const FieldPath& path) {
  if (custom.size() > domain::kMaxCustomEntries) {
    return Invalid(path, "must have at most ", domain::kMaxCustomEntries, " entries, has ", custom.size());
  }
  size_t bytes = 0;
  domain::CustomMetadata result;
  for (const auto& [key, value] : custom) {
    if (key.empty()) return Invalid(path, "keys must not be empty");
    if (!domain::IsUtf8(key) || !domain::IsUtf8(value)) return Invalid(path, "keys and values must be valid UTF-8");
    bytes += key.size() + value.size();
    result.emplace(key, value);
  }
  if (bytes > domain::kMaxCustomBytes) {
    return Invalid(path, "keys and values together must be at most ", domain::kMaxCustomBytes, " bytes, are ", bytes);
  }
  return result;
}

absl::Status CheckTags(const google::protobuf::RepeatedPtrField<std::string>& tags, const FieldPath& path) {
  if (static_cast<size_t>(tags.size()) > domain::kMaxTags) {
    return Invalid(path, "must be at most ", domain::kMaxTags, " tags, are ", tags.size());
  }
  absl::flat_hash_set<absl::string_view> seen;
  for (int i = 0; i < tags.size(); ++i) {
    const absl::string_view tag = tags[i];
    if (tag.empty()) return Invalid(path.At(i), "must not be empty");
    if (tag.size() > domain::kMaxTagBytes) {
      return Invalid(path.At(i), "must be at most ", domain::kMaxTagBytes, " bytes, has ", tag.size());
    }
    if (!domain::IsUtf8(tag)) return Invalid(path.At(i), "must be valid UTF-8");
    if (!seen.insert(tag).second) return Invalid(path.At(i), "is there twice");
  }
  return absl::OkStatus();
}

absl::Status CheckView(pb::PayloadView view) {
  if (pb::PayloadView_IsValid(view)) return absl::OkStatus();
  return domain::InvalidField("payload_view", "must be PAYLOAD_VIEW_DATA or PAYLOAD_VIEW_JSON");
}

absl::Status CheckConsistency(pb::Consistency consistency, const FieldPath& path) {
  if (pb::Consistency_IsValid(consistency)) return absl::OkStatus();
  return Invalid(path, "must be CONSISTENCY_STRONG, CONSISTENCY_CACHED or CONSISTENCY_AT_LEAST");
}

bool IsTraceparent(absl::string_view text) {
  if (text.size() < kTraceparentBytes || text.size() > kMaxTraceparentBytes) return false;
  if (text[2] != '-' || text[35] != '-' || text[52] != '-') return false;
  const absl::string_view version = text.substr(0, 2);
  const absl::string_view trace_id = text.substr(3, 32);
  const absl::string_view parent_id = text.substr(36, 16);
  if (!IsLowerHex(version) || !IsLowerHex(trace_id) || !IsLowerHex(parent_id) || !IsLowerHex(text.substr(53, 2))) {
    return false;
  }
  if (version == "ff" || AllZero(trace_id) || AllZero(parent_id)) return false;
  const absl::string_view rest = text.substr(kTraceparentBytes);
  if (rest.empty()) return true;
  return version != "00" && rest[0] == '-' && std::all_of(rest.begin(), rest.end(), IsPrintable);
}

}  // namespace persistd::rpc
