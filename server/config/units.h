// Durations and sizes as the configuration writes them: a whole number and a unit, `250ms`, `10s`, `2m`, `1h`, and
// `100B`, `512KiB`, `64MiB`, `1GiB`, `2TiB`. Only 0 needs no unit. Signs, fractions, spaces and sums are refused.
// Pure functions.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace persistd::config {

// INVALID_ARGUMENT says what is wrong with `text`.
absl::StatusOr<std::chrono::milliseconds> ParseDuration(absl::string_view text);
absl::StatusOr<std::uint64_t> ParseSize(absl::string_view text);

// The shortest text that reads back as the same value: the largest unit that divides it. `duration` is not negative.
std::string FormatDuration(std::chrono::milliseconds duration);
std::string FormatSize(std::uint64_t bytes);

}  // namespace persistd::config
