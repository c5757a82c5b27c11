// Where Bazel put the files that a test declared as `data`.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace persistd::testing {

// The path of a runfile, named by repository and path: "persistd/server/persistd", "tools/nats-server". Works under
// `bazel test` (TEST_SRCDIR) and for a test program that is started by hand. NOT_FOUND when it does not exist.
absl::StatusOr<std::string> Runfile(const std::string& name);

}  // namespace persistd::testing
