#include "server/domain/utf8.h"

#include <rapidcheck.h>

#include <string>

#include "absl/strings/escaping.h"
#include "tests/testing/catch.h"
#include "tests/testing/properties.h"

namespace persistd::domain {
namespace {

TEST_CASE("UTF-8 is accepted and nothing that looks like it", "[domain]") {
  for (const char* text : {"", "a", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEE\x80\x80",
                           "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF", "a\xC3\xA4z"}) {
    CHECK(IsUtf8(text));
  }
  CHECK(IsUtf8(absl::string_view("\0", 1)));
  for (const char* text : {"\x80",
                           "\xBF",  // A continuation alone.
                           "\xC0\x80",
                           "\xC0\xAF",
                           "\xC1\xBF",  // Overlong.
                           "\xE0\x80\xAF",
                           "\xE0\x9F\xBF",
                           "\xF0\x80\x80\xAF",
                           "\xF0\x8F\xBF\xBF",
                           "\xED\xA0\x80",
                           "\xED\xAF\xBF",
                           "\xED\xBF\xBF",              // Surrogates.
                           "\xED\xA0\xBD\xED\xB8\x80",  // An emoji as a pair of them.
                           "\xF4\x90\x80\x80",
                           "\xF5\x80\x80\x80",
                           "\xFE",
                           "\xFF",
                           "\xC3",
                           "\xE2\x82",
                           "\xF0\x9F\x98",  // Cut off.
                           "\xC3z",
                           "\xE2\x82z",
                           "\xF0\x9F\x98z",
                           "\xC3\xC3"}) {
    INFO(absl::CHexEscape(text));
    CHECK_FALSE(IsUtf8(text));
  }
}

TEST_CASE(
    "UTF-8 made from code points is accepted, and with one byte dropped it is judged as before the drop or refused",
    "[domain]") {
  testing::CheckProperty([] {
    const std::string text = *rc::gen::suchThat(testing::Utf8Text(64), [](const std::string& t) { return !t.empty(); });
    RC_ASSERT(IsUtf8(text));
    const auto at = *rc::gen::inRange<size_t>(0, text.size());
    const bool ascii = static_cast<unsigned char>(text[at]) < 0x80;
    RC_ASSERT(IsUtf8(text.substr(0, at) + text.substr(at + 1)) == ascii);
  });
}

}  // namespace
}  // namespace persistd::domain
