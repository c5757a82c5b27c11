// The gate of a new connection: is this a NATS server that persistd may write to?
//
// Checks the API level, the version, and by a small stream in memory that an atomic batch with several optimistic
// checks is stored whole or not at all. Servers that fail are refused by name, because they would silently store half a
// save.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/jetstream/raw_connection.h"

namespace persistd::jetstream {

struct ServerFacts {
  std::string version;
  std::string name;
  uint32_t api_level = 0;
};

// Blocks for a few milliseconds, at most some seconds. Errors are for callers: STORAGE_UNSUITABLE or NATS_UNAVAILABLE.
absl::StatusOr<ServerFacts> ProbeServer(RawConnection& connection);

}  // namespace persistd::jetstream
