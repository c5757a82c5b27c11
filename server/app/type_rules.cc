#include "server/app/type_rules.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/config/files.h"

namespace persistd::app {
namespace {

constexpr size_t kMaxProgramBytes = 64 * 1024;

bool HasFold(const config::AggregateType& type) { return !type.fold.empty() || !type.fold_file.empty(); }

}  // namespace

bool HasPrograms(const config::Config& config) {
  const std::vector<config::AggregateType>& types = config.repository.aggregates;
  return std::any_of(types.begin(), types.end(), HasFold);
}

transform::Runner::Options RunnerOptionsOf(const config::Config& config) {
  transform::Runner::Options options;
  options.workers = config.transform.workers;
  options.time_limit = config.transform.time_limit;
  options.memory_bytes = config.transform.max_memory;
  options.max_state_bytes = config.limits.max_load_size;
  return options;
}

absl::StatusOr<repository::TypeRulesMap> CompileTypeRules(const config::Repository& config, transform::Runner& runner) {
  repository::TypeRulesMap rules;
  for (const config::AggregateType& type : config.aggregates) {
    if (!HasFold(type)) continue;
    std::string source = type.fold;
    std::string where = absl::StrCat("repository.aggregates: fold of ", type.context, ".", type.aggregate);
    if (!type.fold_file.empty()) {
      where = absl::StrCat(where, ": ", type.fold_file);
      const absl::StatusOr<std::string> content = config::ReadSmallFile(type.fold_file, kMaxProgramBytes);
      if (!content.ok()) return absl::InvalidArgumentError(absl::StrCat(where, ": ", content.status().message()));
      source = *content;
    }
    absl::StatusOr<transform::ProgramPtr> program = runner.Compile(std::move(source));
    if (!program.ok())
      return absl::Status(program.status().code(), absl::StrCat(where, ": ", program.status().message()));
    rules[{type.context, type.aggregate}] = {.fold = *std::move(program),
                                             .state_schema_version = type.state_schema_version.value_or(1)};
  }
  return rules;
}

}  // namespace persistd::app
