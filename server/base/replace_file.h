// Writes small files that others read at any moment.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace persistd::base {

// Whoever reads `path` finds what was there before, or `text`: it is written to `path`.new first. After a power cut it
// may be either, or empty. Unavailable with the reason.
absl::Status ReplaceFile(const std::string& path, const std::string& text);

}  // namespace persistd::base
