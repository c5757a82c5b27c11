// Which snapshots there are of an aggregate: one small JSON document, kept under the aggregate's key in the snapshot
// bucket. server/jetstream/README.md documents it. Plain values and pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/domain/aggregate_ref.h"
#include "server/repository/truncation.h"

namespace persistd::repository {

struct ManifestEntry {
  uint64_t version = 0;
  uint32_t schema_version = 1;
  std::string content_type;
  uint64_t size = 0;
  std::string cid;        // Raw CID of the whole content.
  std::string commit_id;  // Of the save that made this version.
  base::WallTime created;

  bool operator==(const ManifestEntry&) const = default;
};

struct SnapshotManifest {
  // More would make a manifest too large to be read for every load.
  static constexpr size_t kMaxEntries = 1000;

  std::vector<ManifestEntry> entries;  // By version, each once.
  std::optional<Truncation> truncation{};

  // nullptr: none.
  const ManifestEntry* Find(uint64_t version) const;
  // Adds it, or replaces that of the same version.
  void Set(ManifestEntry entry);
  // False: there was none.
  bool Remove(uint64_t version);

  std::string ToJson() const;
  // DataLoss (without details of where) when `text` is no manifest.
  static absl::StatusOr<SnapshotManifest> Parse(const std::string& text);

  bool operator==(const SnapshotManifest&) const = default;
};

// The keys in the snapshot bucket: {context}/{aggregate}.{entity} and {context}/{aggregate}.{entity}.{version}.
std::string ManifestKey(const domain::AggregateRef& ref);
std::string SnapshotKey(const domain::AggregateRef& ref, uint64_t version);
// cim.snapshots.{aggregate}.{entity}.{version}: where a new snapshot is announced.
std::string SnapshotSubject(const domain::AggregateRef& ref, uint64_t version);

}  // namespace persistd::repository
