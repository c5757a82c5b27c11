// A minimal HTTP GET from 127.0.0.1, for monitoring pages.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace persistd::testing {

// The body of http://127.0.0.1:`port``path`, at most 16 MiB. UNAVAILABLE when nobody answers within two seconds,
// UNKNOWN with the status line when the answer is not 200.
absl::StatusOr<std::string> HttpGet(int port, const std::string& path);

}  // namespace persistd::testing
