#include "server/config/units.h"

#include <chrono>
#include <cstdint>
#include <limits>
#include <string>

#include "server/config/config.h"
#include "tests/testing/catch.h"
#include "tests/testing/properties.h"

namespace persistd::config {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

TEST_CASE("Durations are read in every unit", "[config]") {
  REQUIRE(ParseDuration("250ms").value() == 250ms);
  REQUIRE(ParseDuration("10s").value() == 10s);
  REQUIRE(ParseDuration("2m").value() == 2min);
  REQUIRE(ParseDuration("1h").value() == 1h);
  REQUIRE(ParseDuration("0").value() == 0ms);
  REQUIRE(ParseDuration("0h").value() == 0ms);
}

TEST_CASE("Sizes are read in every unit", "[config]") {
  REQUIRE(ParseSize("100B").value() == 100);
  REQUIRE(ParseSize("512KiB").value() == 512 * 1024);
  REQUIRE(ParseSize("64MiB").value() == 64 * kMiB);
  REQUIRE(ParseSize("1GiB").value() == kGiB);
  REQUIRE(ParseSize("2TiB").value() == 2 * kTiB);
  REQUIRE(ParseSize("0").value() == 0);
}

TEST_CASE("A duration or size that is not exactly a number and a unit is refused", "[config]") {
  for (const char* text :
       {"", "s", "10", "-1s", "+1s", " 1s", "1s ", "1 s", "1.5s", "1m30s", "1S", "1sec", "0x10s", "ms10"}) {
    INFO(text);
    REQUIRE(ParseDuration(text).status().code() == absl::StatusCode::kInvalidArgument);
  }
  for (const char* text : {"", "MiB", "64", "-1B", "1.5GiB", "64MB", "64mib", "64M", "1 KiB", "1KiB2"}) {
    INFO(text);
    REQUIRE(ParseSize(text).status().code() == absl::StatusCode::kInvalidArgument);
  }
}

TEST_CASE("The message about a duration or size says how to write it", "[config]") {
  REQUIRE(ParseDuration("10").status().message() ==
          "\"10\" has no unit; write a whole number and ms, s, m or h, such as 250ms");
  REQUIRE(ParseDuration("12 apples").status().message() ==
          "\"12 apples\" is not a duration; write a whole number and ms, s, m or h, such as 250ms");
  REQUIRE(ParseSize("64MB").status().message() ==
          "\"64MB\" is not a size; write a whole number and B, KiB, MiB, GiB or TiB, such as 64MiB");
}

TEST_CASE("A duration or size that does not fit its type is too large", "[config]") {
  REQUIRE(ParseDuration("9223372036854775807ms").value().count() == std::numeric_limits<std::int64_t>::max());
  REQUIRE(ParseDuration("9223372036854775808ms").status().message() == "\"9223372036854775808ms\" is too large");
  REQUIRE(ParseDuration("9223372036854775807h").status().message() == "\"9223372036854775807h\" is too large");
  REQUIRE(ParseSize("18446744073709551615B").value() == std::numeric_limits<std::uint64_t>::max());
  REQUIRE(ParseSize("18446744073709551616B").status().message() == "\"18446744073709551616B\" is too large");
  REQUIRE(ParseSize("16777216TiB").status().message() == "\"16777216TiB\" is too large");
}

TEST_CASE("Formatting takes the largest unit that divides the value", "[config]") {
  REQUIRE(FormatDuration(0ms) == "0s");
  REQUIRE(FormatDuration(90s) == "90s");
  REQUIRE(FormatDuration(120s) == "2m");
  REQUIRE(FormatDuration(1500ms) == "1500ms");
  REQUIRE(FormatSize(0) == "0");
  REQUIRE(FormatSize(1023) == "1023B");
  REQUIRE(FormatSize(1536 * kKiB) == "1536KiB");
}

TEST_CASE("What is formatted reads back as the same value", "[config]") {
  testing::CheckProperty([](std::uint32_t number) {
    for (const std::int64_t factor : {1, 1000, 60'000, 3'600'000}) {
      const milliseconds duration{static_cast<std::int64_t>(number) * factor};
      RC_ASSERT(ParseDuration(FormatDuration(duration)).value() == duration);
    }
  });
  testing::CheckProperty([](std::uint64_t number, std::uint16_t small) {
    RC_ASSERT(ParseSize(FormatSize(number)).value() == number);
    for (const std::uint64_t factor : {kKiB, kMiB, kGiB, kTiB}) {
      RC_ASSERT(ParseSize(FormatSize(small * factor)).value() == small * factor);
    }
  });
}

TEST_CASE("Any text is either refused or means what it says", "[config]") {
  testing::CheckProperty([](const std::string& text) {
    const auto duration = ParseDuration(text);
    if (duration.ok()) RC_ASSERT(ParseDuration(FormatDuration(*duration)).value() == *duration);
    const auto size = ParseSize(text);
    if (size.ok()) RC_ASSERT(ParseSize(FormatSize(*size)).value() == *size);
  });
}

}  // namespace
}  // namespace persistd::config
