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
  while (commits_.size() > kMaxCommits) {
    first_version_ = commits_.front().last_version + 1;
    commits_.pop_front();
  }
}

void CommitWindow::Prepend(Commit commit, uint64_t first) {
  if (full()) return;
  first_version_ = first;
  commits_.push_front(commit);
}

std::optional<uint64_t> CommitWindow::Find(uint64_t id_hash, base::WallTime since) const {
  for (auto commit = commits_.rbegin(); commit != commits_.rend() && commit->recorded_time >= since; ++commit) {
    if (commit->id_hash == id_hash) return commit->last_version;
  }
  return std::nullopt;
}

bool CommitWindow::CoversSince(base::WallTime since) const {
  // Recorded times never go down: one covered save before `since` means that all after it are covered.
  return first_version_ == 1 || (!commits_.empty() && commits_.front().recorded_time < since);
}

}  // namespace persistd::repository
