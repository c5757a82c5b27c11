// The one place that knows where Catch2 lives: Debian 12 packages version 2, newer systems version 3.
#pragma once

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
#endif

#include <string>

namespace persistd::testing {

// Matches a text that contains `part`. Version 3 gave this matcher a new name and the old name a new meaning.
inline auto ContainsText(const std::string& part) {
#if CATCH_VERSION_MAJOR >= 3
  return Catch::Matchers::ContainsSubstring(part);
#else
  return Catch::Matchers::Contains(part);
#endif
}

}  // namespace persistd::testing
