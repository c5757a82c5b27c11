// A lock file: at most one holder of a path on this machine, for as long as it lives.
//
// The lock (flock) belongs to the open descriptor: it ends when every process that has the descriptor has closed it or
// died, however it died. A child that inherits fd() (Process::Options::inherited_fds) holds the lock too.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/base/unique_fd.h"

namespace persistd::base {

// Movable. Not thread-safe.
class FileLock {
 public:
  // Takes the lock, creating the file (mode 0600) when it is missing; waits up to `patience` while another holds it.
  // FAILED_PRECONDITION, with the path and the holder's process id, when it stays held.
  static absl::StatusOr<FileLock> Acquire(const std::string& path, std::chrono::milliseconds patience);

  int fd() const { return fd_.get(); }
  // Names the process that others see as the holder; after Acquire() it is this one.
  absl::Status SetHolder(pid_t pid);

 private:
  FileLock(std::string path, UniqueFd fd) : path_(std::move(path)), fd_(std::move(fd)) {}

  std::string path_;
  UniqueFd fd_;
};

}  // namespace persistd::base
