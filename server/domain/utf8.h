// What a text is. Pure, thread-safe.
#pragma once

#include "absl/strings/string_view.h"

namespace persistd::domain {

// True for well-formed UTF-8 without surrogates and overlong forms.
bool IsUtf8(absl::string_view text);

}  // namespace persistd::domain
