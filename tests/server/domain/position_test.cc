#include "server/domain/position.h"

#include <string>

#include "tests/testing/catch.h"
#include "tests/testing/properties.h"

namespace persistd::domain {
namespace {

using ::persistd::testing::AnyBytes;
using ::persistd::testing::CheckProperty;

TEST_CASE("A position survives its token", "[domain]") {
  const Position single(
      StreamPosition{.stream = "CIM-EVENTS+sales+order", .incarnation = 1'795'000'000'000'000'000, .sequence = 42});
  CHECK(single.ToToken() == "CIM-EVENTS+sales+order:1795000000000000000:42");
  CHECK(Position::Parse(single.ToToken()) == single);
  const std::optional<Position> several = Position::Parse("A:1:18446744073709551615,B:0:0,a:2:7");
  REQUIRE(several.has_value());
  CHECK(several->streams().size() == 3);
  CHECK(several->streams()[0] == StreamPosition{.stream = "A", .incarnation = 1, .sequence = UINT64_MAX});
  CHECK(several->ToToken() == "A:1:18446744073709551615,B:0:0,a:2:7");
}

TEST_CASE("Tokens that persistd did not make are refused", "[domain]") {
  for (const char* token :
       {"",        ",",       "A",           "A:1",         "A:1:2:3",      ":1:2",        "A::2",
        "A:1:",    "A:x:2",   "A:-1:2",      "A:+1:2",      "A: 1:2",       "A:01:2",      "A:1:18446744073709551616",
        "A:1:2,",  ",A:1:2",  "B:1:2,A:1:2", "A:1:2,A:1:3",  // Not in order; twice the same stream.
        "a b:1:2", "a.b:1:2", "a>:1:2",      "*:1:2",       "a\r\nPUB:1:2", "\xC3\xA4:1:2"}) {
    INFO(token);
    CHECK_FALSE(Position::Parse(token).has_value());
  }
  CHECK(Position::Parse(std::string(255, 'x') + ":1:2").has_value());
  CHECK_FALSE(Position::Parse(std::string(256, 'x') + ":1:2").has_value());
}

TEST_CASE("Whatever text is read as a position is its one spelling", "[domain]") {
  CheckProperty([] {
    const std::string token =
        *rc::gen::oneOf(AnyBytes(), rc::gen::container<std::string>(rc::gen::elementOf(std::string("AB:01,+ "))));
    const std::optional<Position> position = Position::Parse(token);
    if (position.has_value()) RC_ASSERT(position->ToToken() == token);
  });
}

}  // namespace
}  // namespace persistd::domain
