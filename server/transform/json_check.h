// Whether a JSON text can pass through jq unharmed. Pure.
//
// libjq 1.6 keeps every number as a double, replaces what is not Unicode, and nests at most 256 deep. So a text is
// refused when it is no JSON (RFC 8259, UTF-8), when a number in it is greater than 2^53 in magnitude or has more
// digits than a double tells apart, or when it is nested deeper.
#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace persistd::transform {

inline constexpr double kMaxExactNumber = 9'007'199'254'740'992.0;  // 2^53
inline constexpr int kMaxJsonDepth = 256;

// OK, or INVALID_ARGUMENT with what is wrong: where the text breaks off, or which number.
absl::Status CheckJson(absl::string_view text);

}  // namespace persistd::transform
