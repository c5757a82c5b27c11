// When snapshots are taken after saves, by aggregate type. Plain values.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace persistd::repository {

// A snapshot is taken when any of these holds.
struct SnapshotPolicy {
  uint64_t every_events = 0;                // The version passes a multiple of this; 0: never.
  std::chrono::milliseconds max_age{0};     // The newest snapshot is older than this; 0: never.
  std::vector<std::string> after_events{};  // An event of one of these types was saved.
  size_t keep = 0;                          // How many are kept, the newest ones; 0: all.
  bool truncates = false;                   // The events before the oldest one that is kept are removed; keep is not 0.
};

// By context and aggregate.
using SnapshotPolicies = std::map<std::pair<std::string, std::string>, SnapshotPolicy>;

// Counts since the start.
struct SnapshotStats {
  uint64_t taken = 0;
  uint64_t failed = 0;
  uint64_t dropped = 0;  // Not taken, because too many were waiting.
  uint64_t damaged = 0;  // Passed over when loading.
  uint64_t removed_events = 0;  // That a snapshot stands for.
};

}  // namespace persistd::repository
