#include "server/base/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/base/clock.h"
#include "server/base/status_macros.h"

namespace persistd::base {
namespace {

constexpr auto kPollInterval = std::chrono::milliseconds(20);

// What the holder wrote into the file; it may just be writing it.
std::string Holder(int fd) {
  char text[32];
  const ssize_t size = pread(fd, text, sizeof(text), 0);
  const absl::string_view pid = absl::StripAsciiWhitespace({text, size > 0 ? static_cast<size_t>(size) : 0});
  return pid.empty() ? "another process" : absl::StrCat("process ", pid);
}

}  // namespace

absl::StatusOr<FileLock> FileLock::Acquire(const std::string& path, std::chrono::milliseconds patience) {
  UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.valid()) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open the lock file ", path));
  const SteadyTime deadline = std::chrono::steady_clock::now() + patience;
  while (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR) {
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot lock ", path));
    }
    if (std::chrono::steady_clock::now() >= deadline) {
      return absl::FailedPreconditionError(absl::StrCat(path, " is locked by ", Holder(fd.get())));
    }
    // The kernel offers no wait for a lock with a time limit.
    std::this_thread::sleep_for(kPollInterval);
  }
  FileLock lock(path, std::move(fd));
  RETURN_IF_ERROR(lock.SetHolder(getpid()));
  return lock;
}

absl::Status FileLock::SetHolder(pid_t pid) {
  const std::string text = absl::StrCat(pid, "\n");
  if (pwrite(fd(), text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()) ||
      ftruncate(fd(), static_cast<off_t>(text.size())) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", path_));
  }
  return absl::OkStatus();
}

}  // namespace persistd::base
