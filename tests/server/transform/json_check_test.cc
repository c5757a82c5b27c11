#include "server/transform/json_check.h"

#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/testing/catch.h"
#include "tests/testing/properties.h"

namespace persistd::transform {
namespace {

TEST_CASE("Numbers that jq keeps pass", "[json_check]") {
  for (const char* text : {"0",
                           "-0",
                           "-0.0",
                           "1",
                           "-1",
                           "9007199254740992",
                           "-9007199254740992",
                           "0.1",
                           "1.10",
                           "1e3",
                           "1E+3",
                           "12.5e-1",
                           "0.000001",
                           "1e-7",
                           "3.141592653589793",
                           "0e999999999999999999999",
                           "2.2250738585072014e-308",
                           "9007199254740992.0",
                           "0.30000000000000004",
                           "100e-2"}) {
    INFO(text);
    CHECK(CheckJson(text) == absl::OkStatus());
  }
}

TEST_CASE("Numbers that jq would change are refused by name", "[json_check]") {
  for (const char* text :
       {"9007199254740993", "-9007199254740993", "-9223372036854775808", "18446744073709551615", "18446744073709551616",
        "123456789012345678901234567890", "1e400", "-1e400", "1e16", "9.1e15", "1e-400",
        "0.1000000000000000055511151231257827", "0.12345678901234567890", "3.14159265358979311599796346854"}) {
    INFO(text);
    const absl::Status status = CheckJson(text);
    REQUIRE_FALSE(status.ok());
    CHECK(absl::StrContains(status.message(), std::string("the number ") + text));
    CHECK_FALSE(CheckJson(std::string("{\"a\":[1,") + text + "]}").ok());
  }
}

TEST_CASE("What is no JSON is refused with the place", "[json_check]") {
  for (const std::string text : {"", " ", "{", "[1,]", "nan", "NaN", "1 2", "{\"a\":1}x", "'a'", "\"\\ud800\"",
                                 "\"\xC3\"", "\"\xED\xA0\x80\"", "01", "+1", ".5", "tru", "\"\n\""}) {
    INFO(text);
    const absl::Status status = CheckJson(text);
    REQUIRE_FALSE(status.ok());
    CHECK(absl::StrContains(status.message(), "is no JSON: it breaks off at byte "));
  }
}

TEST_CASE("JSON may be nested as deep as jq can read, not deeper", "[json_check]") {
  CHECK(CheckJson(std::string(kMaxJsonDepth, '[') + std::string(kMaxJsonDepth, ']')).ok());
  CHECK_FALSE(CheckJson(std::string(kMaxJsonDepth + 1, '[') + std::string(kMaxJsonDepth + 1, ']')).ok());
  CHECK_FALSE(CheckJson(std::string(1'000'000, '[')).ok());
}

TEST_CASE("A number passes exactly when its double has its value", "[json_check][property]") {
  testing::CheckProperty([] {
    const auto bits = *rc::gen::arbitrary<int64_t>();
    const double value =
        static_cast<double>(bits % 9'007'199'254'740'992) / static_cast<double>(*rc::gen::inRange(1, 1'000'000));
    // nlohmann writes the shortest text that is read back as the same double.
    const std::string shortest = nlohmann::json(value).dump();
    RC_ASSERT(CheckJson(shortest).ok());
    // A further digit, not a zero, behind a fraction of 17 digits changes the value, but not the double.
    if (shortest.find_first_of(".") != std::string::npos && shortest.find('e') == std::string::npos &&
        shortest.size() > 18) {
      RC_ASSERT(!CheckJson(shortest + "00001").ok());
    }
  });
}

}  // namespace
}  // namespace persistd::transform
