// Times as RFC 3339 texts in UTC, with as many fractional digits as needed (at most nine). Pure, thread-safe.
#pragma once

#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "server/base/clock.h"

namespace persistd::base {

// For example 2026-11-22T10:00:00.123456789Z.
std::string FormatRfc3339(WallTime time);

// Any offset is understood. nullopt for other texts and for times outside the years 1678 to 2262, which WallTime holds.
std::optional<WallTime> ParseRfc3339(absl::string_view text);

}  // namespace persistd::base
