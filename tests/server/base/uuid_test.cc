#include "server/base/uuid.h"

#include <chrono>
#include <set>
#include <string>

#include "tests/testing/catch.h"

namespace persistd::base {
namespace {

TEST_CASE("A new UUIDv7 carries its millisecond and is unique", "[base]") {
  const WallTime now{std::chrono::milliseconds(1'795'000'000'123)};
  std::set<std::string> seen;
  for (int i = 0; i < 1000; ++i) {
    const std::string id = NewUuidV7(now + std::chrono::microseconds(999));
    REQUIRE(UuidV7Time(id) == now);
    REQUIRE(seen.insert(id).second);
  }
}

TEST_CASE("The time of the UUIDv7 in RFC 9562's appendix is read", "[base]") {
  REQUIRE(UuidV7Time("017F22E2-79B0-7CC3-98C4-DC0C0C07398F") == WallTime(std::chrono::milliseconds(1'645'557'742'000)));
}

TEST_CASE("Texts that are no UUIDv7 have no time", "[base]") {
  for (const char* text : {"", "017f22e2-79b0-4cc3-98c4-dc0c0c07398f", "017f22e2-79b0-7cc3-18c4-dc0c0c07398f",
                           "017f22e279b07cc398c4dc0c0c07398f", "017f22e2-79b0-7cc3-98c4-dc0c0c07398g",
                           "ffffffff-ffff-7fff-8fff-ffffffffffff"}) {
    INFO(text);
    REQUIRE_FALSE(UuidV7Time(text).has_value());
  }
}

}  // namespace
}  // namespace persistd::base
