// The grammar of filters; see filter.h. Pure.
#pragma once

#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/filter/filter.h"

namespace persistd::filter {

// nullopt: there is nothing but spaces.
absl::StatusOr<std::optional<Node>> ParseFilter(absl::string_view text, const std::vector<Field>& fields);

}  // namespace persistd::filter
