#include "server/repository/commit_window.h"

#include <functional>
#include <string>
#include <string_view>

namespace persistd::repository {

uint64_t CommitWindow::Hash(absl::string_view commit_id) {
  return std::hash<std::string_view>()(std::string_view(commit_id.data(), commit_id.size()));
}

CommitWindow CommitWindow::After(uint64_t version) {
  CommitWindow window;
  window.first_version_ = version + 1;
  window.last_version_ = version;
  return window;
}

void CommitWindow::Append(Commit commit) {
  last_version_ = commit.last_version;
  commits_.push_back(commit);
  by_hash_[commit.id_hash] = commit;
  const auto unneeded = [&](const Commit& old) {
    return commit.recorded_time - old.recorded_time > kAge && commit.last_version - old.last_version >= kKeptVersions;
  };
  while (commits_.size() > kMaxCommits || unneeded(commits_.front())) ForgetOldest();
}

void CommitWindow::ForgetOldest() {
  const Commit& oldest = commits_.front();
  const auto indexed = by_hash_.find(oldest.id_hash);
  if (indexed->second.last_version == oldest.last_version) by_hash_.erase(indexed);
  first_version_ = oldest.last_version + 1;
  commits_.pop_front();
}

void CommitWindow::Prepend(Commit commit, uint64_t first) {
  if (full()) return;
  first_version_ = first;
  commits_.push_front(commit);
  by_hash_.try_emplace(commit.id_hash, commit);
}

std::optional<uint64_t> CommitWindow::Find(uint64_t id_hash, base::WallTime since) const {
  const auto found = by_hash_.find(id_hash);
  if (found == by_hash_.end() || found->second.recorded_time < since) return std::nullopt;
  return found->second.last_version;
}

bool CommitWindow::CoversSince(base::WallTime since) const {
  // Recorded times never go down: one covered save before `since` means that all after it are covered.
  return first_version_ == 1 || (!commits_.empty() && commits_.front().recorded_time < since);
}

}  // namespace persistd::repository
