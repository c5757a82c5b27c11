// Loads the daemon's configuration: defaults, then a YAML file, then environment variables, then --set, where a later
// source outranks an earlier one. See config/README.md for how an operator writes each. Thread-safe; keeps nothing.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/config/config.h"

namespace persistd::config {

struct LoadOptions {
  std::string file = {};  // empty: none

  // "key.path=value", as --set takes it; of one key given twice the later counts. A list is written comma-separated, or
  // as YAML in brackets.
  std::vector<std::string> overrides = {};

  // Names that do not begin with PERSISTD_ are ignored. nats.embedded.port is PERSISTD_NATS__EMBEDDED__PORT.
  std::map<std::string, std::string> environment = {};
};

inline constexpr std::size_t kMaxFileBytes = 1024 * 1024;

// INVALID_ARGUMENT with one line for every problem found (in the order file, environment, --set, rules between keys; at
// most 100 lines), each as
//   FILE:LINE: key.path: what is wrong; allowed: ...
//   environment PERSISTD_KEY__PATH: what is wrong; allowed: ...
//   --set key.path: what is wrong; allowed: ...
// Messages never hold secrets.
absl::StatusOr<Config> LoadConfig(const LoadOptions& options);

// The process's variables that begin with PERSISTD_, out of what main's third parameter or `environ` points to.
std::map<std::string, std::string> PersistdVariables(const char* const* environment);

// The configuration as YAML with every key; secrets are shown as ***.
std::string Describe(const Config& config);

}  // namespace persistd::config
