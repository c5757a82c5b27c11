// Whether an address can be listened on, and if not why, in the system's words; gRPC itself tells only its own log.
// Thread-safe.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace persistd::rpc {

// address: HOST:PORT. Binds it for a moment. FAILED_PRECONDITION with the address and the reason when that fails.
absl::Status CheckCanListen(const std::string& address);

}  // namespace persistd::rpc
