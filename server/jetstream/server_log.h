// Reads what an embedded nats-server has logged since one of its starts: is it making progress, and why did it end?
#pragma once

#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

namespace persistd::jetstream {

// Not thread-safe.
class ServerLog {
 public:
  // The files that the server appends to. What they hold now is from earlier runs and is left out.
  explicit ServerLog(std::vector<std::string> paths);

  // Bytes in all files now. Changes whenever the server logs, also when it has just rotated a file.
  off_t size() const;
  // The last lines of this run, at most about 2 KiB of each file.
  std::string Tail() const;

 private:
  std::vector<std::pair<std::string, off_t>> files_;  // Path, size when this run started.
};

}  // namespace persistd::jetstream
