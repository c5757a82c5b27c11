// Explains a failed call to the person who typed it.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace persistd::cli {

// Several lines, each ended: what failed (`what`, for example "save sales/order/42"), the code, reason and message, the
// facts that came with the error, and what to do. `request_id` is that of a save, else empty.
std::string ErrorText(absl::string_view what, const absl::Status& status, absl::string_view request_id);

}  // namespace persistd::cli
