#include "server/repository/type_record.h"

#include <nlohmann/json.hpp>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace persistd::repository {
namespace {

using nlohmann::json;

constexpr int kFormat = 1;
constexpr int kMaxReplicas = 5;

absl::Status Wrong(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("no type record: ", what));
}

bool IsOneOf(const json& value, absl::string_view a, absl::string_view b) {
  return value.is_string() && (value == std::string(a) || value == std::string(b));
}

absl::StatusOr<jetstream::Placement> DecodePlacement(const json& value) {
  jetstream::Placement placement;
  if (!value.is_object()) return Wrong("placement is no object");
  for (const auto& [key, part] : value.items()) {
    if (key == "cluster" && part.is_string()) {
      placement.cluster = part.get<std::string>();
    } else if (key == "tags" && part.is_array()) {
      for (const json& tag : part) {
        if (!tag.is_string()) return Wrong("a tag is no text");
        placement.tags.push_back(tag.get<std::string>());
      }
    } else {
      return Wrong(absl::StrCat("placement.", key));
    }
  }
  return placement;
}

}  // namespace

std::string TypeKey(const TypeName& type) { return absl::StrCat(kTypeKeyPrefix, ".", type.first, ".", type.second); }

std::optional<TypeName> TypeOfKey(absl::string_view key) {
  const std::vector<std::string> parts = absl::StrSplit(key, '.');
  if (parts.size() != 3 || parts[0] != kTypeKeyPrefix || parts[1].empty() || parts[2].empty()) return std::nullopt;
  return TypeName(parts[1], parts[2]);
}

std::string EncodeTypeRecord(const jetstream::StreamSettings& settings) {
  json record = {{"format", kFormat}};
  if (settings.replicas) record["replicas"] = *settings.replicas;
  if (settings.storage) record["storage"] = *settings.storage;
  if (settings.compression) record["compression"] = *settings.compression;
  if (settings.max_bytes) record["max_bytes"] = *settings.max_bytes;
  if (settings.placement) {
    json placement = json::object();
    if (!settings.placement->cluster.empty()) placement["cluster"] = settings.placement->cluster;
    if (!settings.placement->tags.empty()) placement["tags"] = settings.placement->tags;
    record["placement"] = placement;
  }
  return record.dump();
}

absl::StatusOr<jetstream::StreamSettings> DecodeTypeRecord(const std::string& text) {
  const json record = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!record.is_object()) return Wrong("no JSON object");
  const json format = record.value("format", json());
  if (format != kFormat) return Wrong("its format is none of this version");
  jetstream::StreamSettings settings;
  for (const auto& [key, value] : record.items()) {
    if (key == "format") continue;
    if (key == "replicas" && value.is_number_unsigned() && value >= 1 && value <= kMaxReplicas) {
      settings.replicas = value.get<int>();
    } else if (key == "storage" && IsOneOf(value, "file", "memory")) {
      settings.storage = value.get<std::string>();
    } else if (key == "compression" && IsOneOf(value, "none", "s2")) {
      settings.compression = value.get<std::string>();
    } else if (key == "max_bytes" && value.is_number_unsigned()) {
      settings.max_bytes = value.get<uint64_t>();
    } else if (key == "placement") {
      absl::StatusOr<jetstream::Placement> placement = DecodePlacement(value);
      if (!placement.ok()) return placement.status();
      settings.placement = *std::move(placement);
    } else {
      // A setting that this version does not know may matter: better none than half of them.
      return Wrong(absl::StrCat("its ", key));
    }
  }
  return settings;
}

}  // namespace persistd::repository
