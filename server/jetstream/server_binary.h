// Finds the nats-server program that the embedded server runs. No state; thread-safe; runs `nats-server --version`.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace persistd::jetstream {

struct ServerBinary {
  std::string path;
  std::string version;  // "2.15.1"
};

// The program at `path`, which must be of a version that CheckServerVersion accepts. When `path` is empty: the first
// acceptable nats-server in PATH, beside this program, or in .tools/nats-server of a folder above this program or above
// the working directory (where deploy/setup puts it). Errors name every place that was tried and what was wrong there.
absl::StatusOr<ServerBinary> FindServerBinary(const std::string& path);

}  // namespace persistd::jetstream
