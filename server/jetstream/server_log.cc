#include "server/jetstream/server_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "server/base/unique_fd.h"

namespace persistd::jetstream {
namespace {

constexpr off_t kMaxTail = 2048;

off_t FileSize(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 ? info.st_size : 0;
}

}  // namespace

ServerLog::ServerLog(std::vector<std::string> paths) {
  for (std::string& path : paths) {
    const off_t size = FileSize(path);
    files_.emplace_back(std::move(path), size);
  }
}

off_t ServerLog::size() const {
  off_t total = 0;
  for (const auto& [path, ignored] : files_) total += FileSize(path);
  return total;
}

std::string ServerLog::Tail() const {
  std::string tail;
  for (const auto& [path, start] : files_) {
    const base::UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    const off_t size = FileSize(path);
    const off_t run_start = start <= size ? start : 0;  // Smaller than it was: rotated, all of it is from this run.
    const off_t from = std::max(run_start, size - kMaxTail);
    std::string text(static_cast<size_t>(size - from), '\0');
    const ssize_t count = fd.valid() ? pread(fd.get(), text.data(), text.size(), from) : 0;
    text.resize(count > 0 ? static_cast<size_t>(count) : 0);
    if (from > run_start) text.erase(0, text.find('\n') + 1);  // Begins inside a line.
    absl::StrAppend(&tail, absl::StripAsciiWhitespace(text), text.empty() ? "" : "\n");
  }
  return std::string(absl::StripAsciiWhitespace(tail));
}

}  // namespace persistd::jetstream
