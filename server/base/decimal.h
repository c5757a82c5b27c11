// Whole numbers as texts that have exactly one spelling, for formats that are stored. Pure, thread-safe.
#pragma once

#include <cstdint>
#include <optional>

#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"

namespace persistd::base {

// nullopt unless `text` is what absl::StrCat writes for a uint64_t: absl::SimpleAtoi alone also takes signs, spaces and
// leading zeros.
inline std::optional<uint64_t> ParseDecimal(absl::string_view text) {
  if (text.empty() || (text[0] == '0' && text.size() > 1)) return std::nullopt;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
  }
  uint64_t number = 0;
  if (!absl::SimpleAtoi(text, &number)) return std::nullopt;
  return number;
}

}  // namespace persistd::base
