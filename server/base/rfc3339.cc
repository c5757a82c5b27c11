#include "server/base/rfc3339.h"

#include <chrono>
#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/time/time.h"

namespace persistd::base {

std::string FormatRfc3339(WallTime time) {
  return absl::FormatTime("%Y-%m-%d%ET%H:%M:%E*SZ", absl::FromUnixNanos(time.time_since_epoch().count()),
                          absl::UTCTimeZone());
}

std::optional<WallTime> ParseRfc3339(absl::string_view text) {
  // absl::ParseTime skips spaces around the text.
  if (text.empty() || absl::ascii_isspace(static_cast<unsigned char>(text.front())) ||
      absl::ascii_isspace(static_cast<unsigned char>(text.back()))) {
    return std::nullopt;
  }
  absl::Time time;
  std::string error;
  if (!absl::ParseTime(absl::RFC3339_full, text, &time, &error)) return std::nullopt;
  const absl::Duration since_epoch = time - absl::UnixEpoch();
  if (since_epoch > absl::Nanoseconds(INT64_MAX) || since_epoch < absl::Nanoseconds(INT64_MIN)) return std::nullopt;
  return WallTime(std::chrono::nanoseconds(absl::ToUnixNanos(time)));
}

}  // namespace persistd::base
