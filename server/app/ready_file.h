// Tells others that the daemon serves, and where: a file that holds host:port, there while it serves.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace persistd::app {

// Removes a file that another run has left behind, and finds out whether one can be written.
absl::Status PrepareReadyFile(const std::string& path);

// Replaces `path` at once: a reader sees the whole line or no file.
absl::Status WriteReadyFile(const std::string& path, const std::string& address);
void RemoveReadyFile(const std::string& path);

}  // namespace persistd::app
