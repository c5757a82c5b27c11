#include "server/base/decimal.h"

#include <cstdint>

#include "absl/strings/str_cat.h"
#include "tests/testing/catch.h"
#include "tests/testing/properties.h"

namespace persistd::base {
namespace {

TEST_CASE("A number has exactly one text", "[base]") {
  persistd::testing::CheckProperty([](uint64_t number) { RC_ASSERT(ParseDecimal(absl::StrCat(number)) == number); });
  CHECK(ParseDecimal("0") == uint64_t{0});
  CHECK(ParseDecimal("18446744073709551615") == UINT64_MAX);
  for (const char* text :
       {"", "00", "01", "+1", "-1", " 1", "1 ", "1.0", "0x1", "1e3", "18446744073709551616", "\n1", "one"}) {
    INFO(text);
    CHECK_FALSE(ParseDecimal(text).has_value());
  }
}

}  // namespace
}  // namespace persistd::base
