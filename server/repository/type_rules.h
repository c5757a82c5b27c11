// What a declared aggregate type says about its states. A plain value.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "server/transform/runner.h"

namespace persistd::repository {

struct TypeRules {
  transform::ProgramPtr fold;         // nullptr: the daemon cannot compute states of this type.
  uint32_t state_schema_version = 1;  // Of the states that `fold` makes and starts from.
};

// By context and aggregate.
using TypeRulesMap = std::map<std::pair<std::string, std::string>, TypeRules>;

}  // namespace persistd::repository
