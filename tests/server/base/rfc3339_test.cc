#include "server/base/rfc3339.h"

#include <chrono>
#include <limits>
#include <string>

#include "absl/time/time.h"
#include "tests/testing/catch.h"
#include "tests/testing/properties.h"

namespace persistd::base {
namespace {

WallTime At(int64_t nanos) { return WallTime(std::chrono::nanoseconds(nanos)); }

TEST_CASE("Times are written as RFC 3339 in UTC with as many digits as they need", "[base]") {
  CHECK(FormatRfc3339(At(0)) == "1970-01-01T00:00:00Z");
  CHECK(FormatRfc3339(At(1'795'341'600'123'456'789)) == "2026-11-22T10:00:00.123456789Z");
  CHECK(FormatRfc3339(At(1'795'341'600'100'000'000)) == "2026-11-22T10:00:00.1Z");
  CHECK(FormatRfc3339(At(1)) == "1970-01-01T00:00:00.000000001Z");
  CHECK(FormatRfc3339(At(-1)) == "1969-12-31T23:59:59.999999999Z");
  CHECK(FormatRfc3339(At(std::numeric_limits<int64_t>::max())) == "2262-04-11T23:47:16.854775807Z");
  CHECK(FormatRfc3339(At(std::numeric_limits<int64_t>::min())) == "1677-09-21T00:12:43.145224192Z");
}

TEST_CASE("Every time survives its text", "[base]") {
  // Small numbers and whole seconds; then all there are.
  persistd::testing::CheckProperty([](int64_t nanos, int32_t seconds) {
    RC_ASSERT(ParseRfc3339(FormatRfc3339(At(nanos))) == At(nanos));
    RC_ASSERT(ParseRfc3339(FormatRfc3339(At(seconds * int64_t{1'000'000'000}))) ==
              At(seconds * int64_t{1'000'000'000}));
  });
  persistd::testing::CheckProperty([] {
    const auto nanos =
        *rc::gen::inRange<int64_t>(std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max());
    RC_ASSERT(ParseRfc3339(FormatRfc3339(At(nanos))) == At(nanos));
  });
  for (const int64_t nanos : {std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min()}) {
    CHECK(ParseRfc3339(FormatRfc3339(At(nanos))) == At(nanos));
  }
}

TEST_CASE("The quick way reads and writes what the library does", "[base]") {
  persistd::testing::CheckProperty([] {
    const WallTime time{std::chrono::nanoseconds(*rc::gen::arbitrary<int64_t>())};
    const std::string theirs = absl::FormatTime(
        "%Y-%m-%d%ET%H:%M:%E*SZ", absl::FromUnixNanos(time.time_since_epoch().count()), absl::UTCTimeZone());
    RC_ASSERT(FormatRfc3339(time) == theirs);
    RC_ASSERT(ParseRfc3339(theirs) == time);
  });
  REQUIRE_FALSE(ParseRfc3339("2026-02-29T10:00:00Z").has_value());
  REQUIRE_FALSE(ParseRfc3339("2026-11-22T10:00:00.Z").has_value());
  REQUIRE_FALSE(ParseRfc3339("2026-11-22T24:00:00Z").has_value());
}

TEST_CASE("Offsets, lower case and leap seconds are understood", "[base]") {
  const WallTime ten = At(1'795'341'600'000'000'000);
  for (const char* text :
       {"2026-11-22T10:00:00Z", "2026-11-22t10:00:00z", "2026-11-22T10:00:00.000Z", "2026-11-22T12:30:00+02:30",
        "2026-11-21T22:00:00-12:00", "2026-11-22T10:00:00+00:00", "2026-11-22T10:00:00-00:00"}) {
    INFO(text);
    CHECK(ParseRfc3339(text) == ten);
  }
  // The 61st second of a minute is the first one of the next.
  CHECK(ParseRfc3339("2016-12-31T23:59:60Z") == ParseRfc3339("2017-01-01T00:00:00Z"));
  // Digits beyond nanoseconds are cut.
  CHECK(ParseRfc3339("1970-01-01T00:00:00.0000000019Z") == At(1));
  CHECK(ParseRfc3339("2024-02-29T00:00:00Z").has_value());
}

TEST_CASE("Other texts and times out of range are refused", "[base]") {
  for (const char* text : {"",
                           "now",
                           "2026-11-22",
                           "2026-11-22T10:00:00",
                           "2026-11-22 10:00:00Z",
                           "2026-11-22T10:00Z",
                           "2026-13-01T00:00:00Z",
                           "2026-02-30T00:00:00Z",
                           "2023-02-29T00:00:00Z",
                           "2026-11-22T24:00:00Z",
                           "2026-11-22T10:60:00Z",
                           "2026-11-22T10:00:61Z",
                           "2026-11-22T10:00:00+25:00",
                           "2026-11-22T10:00:00Zx",
                           "2026-11-22T10:00:00.Z",
                           "infinite-future",
                           "infinite-past",
                           "2262-04-11T23:47:16.854775808Z",
                           "1677-09-21T00:12:43.145224191Z",
                           "9999-12-31T23:59:59Z",
                           "0001-01-01T00:00:00Z",
                           "-0001-01-01T00:00:00Z",
                           " 2026-11-22T10:00:00Z",
                           "2026-11-22T10:00:00Z "}) {
    INFO(text);
    CHECK_FALSE(ParseRfc3339(text).has_value());
  }
}

}  // namespace
}  // namespace persistd::base
