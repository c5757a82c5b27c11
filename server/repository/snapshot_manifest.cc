#include "server/repository/snapshot_manifest.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/base/rfc3339.h"
#include "server/base/status_macros.h"
#include "server/domain/event.h"
#include "server/domain/subject.h"

namespace persistd::repository {
namespace {

using nlohmann::json;

constexpr uint64_t kFormat = 1;
constexpr uint64_t kTruncatedFormat = 2;  // So that nobody who does not know of `truncation` changes the list.

absl::StatusOr<ManifestEntry> ParseEntry(const json& object) {
  const auto text = [&object](const char* name) {
    const auto found = object.find(name);
    return found != object.end() && found->is_string() ? found->get<std::string>() : "";
  };
  const auto number = [&object](const char* name) {
    const auto found = object.find(name);
    return found != object.end() && found->is_number_unsigned() ? found->get<uint64_t>() : 0;
  };
  if (!object.is_object()) return absl::DataLossError("an entry is no JSON object");
  ManifestEntry entry;
  entry.version = number("version");
  const uint64_t schema = number("schema_version");
  entry.content_type = text("content_type");
  entry.size = number("size");
  entry.cid = text("cid");
  entry.commit_id = text("commit_id");
  const std::optional<base::WallTime> created = base::ParseRfc3339(text("created"));
  if (entry.version == 0 || schema == 0 || schema > domain::kMaxSchemaVersion || entry.cid.empty() ||
      entry.commit_id.empty() || !created.has_value()) {
    return absl::DataLossError(absl::StrCat("the entry of version ", entry.version, " is not complete"));
  }
  entry.schema_version = static_cast<uint32_t>(schema);
  entry.created = *created;
  return entry;
}

absl::StatusOr<Truncation> ParseTruncation(const json& object) {
  const auto number = [&object](const char* name) {
    const auto found = object.find(name);
    return found != object.end() && found->is_number_unsigned() ? found->get<uint64_t>() : 0;
  };
  const auto text = [&object](const char* name) {
    const auto found = object.find(name);
    return found != object.end() && found->is_string() ? found->get<std::string>() : "";
  };
  if (!object.is_object()) return absl::DataLossError("its truncation is no JSON object");
  Truncation truncation;
  truncation.base = number("base");
  truncation.commit_id = text("commit_id");
  truncation.base_sequence = number("base_sequence");
  truncation.first_kept = number("first_kept");
  truncation.first_sequence = number("first_sequence");
  truncation.removed_before = number("removed_before");
  const std::optional<base::WallTime> marked = base::ParseRfc3339(text("marked"));
  if (truncation.commit_id.empty() || truncation.removed_before == 0 || truncation.first_sequence == 0 ||
      truncation.first_kept < truncation.removed_before || truncation.base < truncation.first_kept ||
      truncation.base_sequence < truncation.first_sequence || !marked.has_value()) {
    return absl::DataLossError("its truncation is not complete");
  }
  truncation.marked = *marked;
  return truncation;
}

}  // namespace

const ManifestEntry* SnapshotManifest::Find(uint64_t version) const {
  const auto found = std::lower_bound(entries.begin(), entries.end(), version,
                                      [](const ManifestEntry& entry, uint64_t v) { return entry.version < v; });
  return found != entries.end() && found->version == version ? &*found : nullptr;
}

void SnapshotManifest::Set(ManifestEntry entry) {
  const auto at = std::lower_bound(entries.begin(), entries.end(), entry.version,
                                   [](const ManifestEntry& e, uint64_t v) { return e.version < v; });
  if (at != entries.end() && at->version == entry.version) {
    *at = std::move(entry);
  } else {
    entries.insert(at, std::move(entry));
  }
}

bool SnapshotManifest::Remove(uint64_t version) {
  return std::erase_if(entries, [version](const ManifestEntry& entry) { return entry.version == version; }) > 0;
}

std::string SnapshotManifest::ToJson() const {
  json list = json::array();
  for (const ManifestEntry& entry : entries) {
    list.push_back({{"version", entry.version},
                    {"schema_version", entry.schema_version},
                    {"content_type", entry.content_type},
                    {"size", entry.size},
                    {"cid", entry.cid},
                    {"commit_id", entry.commit_id},
                    {"created", base::FormatRfc3339(entry.created)}});
  }
  if (!truncation.has_value()) return json{{"format", kFormat}, {"snapshots", std::move(list)}}.dump();
  return json{{"format", kTruncatedFormat},
              {"snapshots", std::move(list)},
              {"truncation",
               {{"base", truncation->base},
                {"commit_id", truncation->commit_id},
                {"base_sequence", truncation->base_sequence},
                {"first_kept", truncation->first_kept},
                {"first_sequence", truncation->first_sequence},
                {"removed_before", truncation->removed_before},
                {"marked", base::FormatRfc3339(truncation->marked)}}}}
      .dump();
}

absl::StatusOr<SnapshotManifest> SnapshotManifest::Parse(const std::string& text) {
  const json parsed = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object() || !parsed.contains("snapshots") || !parsed["snapshots"].is_array()) {
    return absl::DataLossError("it is no list of snapshots");
  }
  const bool truncated = parsed.value("format", json()) == kTruncatedFormat;
  if (!truncated && parsed.value("format", json()) != kFormat) {
    return absl::DataLossError("its format is not one that this version can read");
  }
  SnapshotManifest manifest;
  if (truncated) {
    ASSIGN_OR_RETURN(manifest.truncation, ParseTruncation(parsed.value("truncation", json())));
  }
  for (const json& object : parsed["snapshots"]) {
    ASSIGN_OR_RETURN(ManifestEntry entry, ParseEntry(object));
    if (!manifest.entries.empty() && manifest.entries.back().version >= entry.version) {
      return absl::DataLossError("its versions do not ascend");
    }
    manifest.entries.push_back(std::move(entry));
  }
  return manifest;
}

std::string ManifestKey(const domain::AggregateRef& ref) {
  return absl::StrCat(ref.context, "/", ref.aggregate, ".", domain::EncodeEntity(ref.entity_id));
}

std::string SnapshotKey(const domain::AggregateRef& ref, uint64_t version) {
  return absl::StrCat(ManifestKey(ref), ".", version);
}

std::string SnapshotSubject(const domain::AggregateRef& ref, uint64_t version) {
  return absl::StrCat("cim.snapshots.", ref.aggregate, ".", domain::EncodeEntity(ref.entity_id), ".", version);
}

}  // namespace persistd::repository
