// UUID version 7 (RFC 9562): a 48-bit millisecond timestamp, then random bits.
#pragma once

#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "server/base/clock.h"

namespace persistd::base {

// A fresh UUIDv7 in its canonical lower-case text form (36 bytes). Thread-safe.
std::string NewUuidV7(WallTime now);

// The time inside a canonical UUIDv7; nullopt when `text` is not one.
std::optional<WallTime> UuidV7Time(absl::string_view text);

}  // namespace persistd::base
