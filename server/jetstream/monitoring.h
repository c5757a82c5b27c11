// What only a NATS server's monitoring port tells: whether JetStream calls fsync before it acknowledges. Thread-safe.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace persistd::jetstream {

// When an acknowledged write has reached the disk.
enum class FsyncMode { kUnknown, kAlways, kInterval };

// Asks the monitoring port at `url`, such as http://127.0.0.1:8222. Blocks for a few seconds at most. Unavailable when
// nobody answers there, FailedPrecondition when that server has no JetStream.
absl::StatusOr<FsyncMode> AskFsyncMode(absl::string_view url);

// The weakest mode of several servers, all asked; the error of the first that does not tell.
absl::StatusOr<FsyncMode> AskFsyncModes(const std::vector<std::string>& urls);

// What memory the servers use together, in bytes, as their /varz says; those that do not answer count nothing.
uint64_t AskMemory(const std::vector<std::string>& urls);

// What memory a process has resident, in bytes; 0 when it does not run.
uint64_t MemoryOfProcess(pid_t pid);

}  // namespace persistd::jetstream
