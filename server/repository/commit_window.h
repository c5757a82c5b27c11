// The recent saves of one aggregate, so that a repeated save with "any version" is recognised without reading the
// stream each time. A plain value; complete for the versions first_version..last_version.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <unordered_map>

#include "absl/strings/string_view.h"
#include "server/base/clock.h"

namespace persistd::repository {

class CommitWindow {
 public:
  static constexpr size_t kMaxCommits = 65'536;
  // Commits older than this, counted from the last one, are forgotten, but for those of the last kKeptVersions.
  static constexpr std::chrono::minutes kAge{15};
  static constexpr uint64_t kKeptVersions = 1000;

  struct Commit {
    uint64_t id_hash = 0;
    uint64_t last_version = 0;
    base::WallTime recorded_time;
  };

  static uint64_t Hash(absl::string_view commit_id);

  // Covers no version, but is ready to be continued after `version`.
  static CommitWindow After(uint64_t version);

  // Versions covered: first_version() to last_version(); empty when the former is greater.
  uint64_t first_version() const { return first_version_; }
  uint64_t last_version() const { return last_version_; }

  // The save that made versions last_version()+1..commit.last_version.
  void Append(Commit commit);
  // The save that made versions first..first_version()-1. Ignored when the window is full.
  void Prepend(Commit commit, uint64_t first);

  // The last version of a covered save with this id (by its hash: verify it), looking only at those recorded at or
  // after `since`.
  std::optional<uint64_t> Find(uint64_t id_hash, base::WallTime since) const;
  // True when every save recorded at or after `since` is covered.
  bool CoversSince(base::WallTime since) const;
  bool full() const { return commits_.size() >= kMaxCommits; }
  size_t bytes() const { return sizeof(*this) + commits_.size() * (sizeof(Commit) + kIndexBytes); }

 private:
  static constexpr size_t kIndexBytes = 48;  // Of an entry of by_hash_, about.

  void ForgetOldest();

  uint64_t first_version_ = 1;
  uint64_t last_version_ = 0;
  std::deque<Commit> commits_;                    // Ascending versions.
  std::unordered_map<uint64_t, Commit> by_hash_;  // The latest of each hash.
};

}  // namespace persistd::repository
