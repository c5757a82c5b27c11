// What this build of the daemon calls itself.
#pragma once

namespace persistd::app {

inline constexpr char kVersion[] = "0.1.0";

}  // namespace persistd::app
