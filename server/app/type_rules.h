// The programs of the configuration, compiled.
#pragma once

#include "absl/status/statusor.h"
#include "server/config/config.h"
#include "server/repository/type_rules.h"
#include "server/transform/runner.h"

namespace persistd::app {

bool HasPrograms(const config::Config& config);
transform::Runner::Options RunnerOptionsOf(const config::Config& config);

// INVALID_ARGUMENT: a file cannot be read, or a program does not compile; the message names the type or the file, and
// the line.
absl::StatusOr<repository::TypeRulesMap> CompileTypeRules(const config::Repository& config, transform::Runner& runner);

}  // namespace persistd::app
