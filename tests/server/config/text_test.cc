#include "server/config/text.h"

#include <algorithm>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "server/config/yaml.h"
#include "tests/testing/catch.h"
#include "tests/testing/properties.h"

namespace persistd::config {
namespace {

TEST_CASE("Quoted text cannot reach the terminal or end the quotes", "[config]") {
  REQUIRE(Quoted("a\"b\\c") == R"("a\"b\\c")");
  REQUIRE(Quoted("\x1b[31m\n") == R"("\x1b[31m\x0a")");
  REQUIRE(Quoted("Žluťoučký") == "\"Žluťoučký\"");
  REQUIRE(Quoted("\xc2\x9b"
                 "31m") == R"("\x9b31m")");
  REQUIRE(Quoted("\xff\xfe") == R"("\xff\xfe")");
}

TEST_CASE("Quoted text is cut between characters", "[config]") {
  const std::string quoted = Quoted(std::string(63, 'a') + "ž and more");
  REQUIRE(quoted == "\"" + std::string(63, 'a') + "\"...");
}

TEST_CASE("Escaped text reads back from YAML as it was", "[config]") {
  testing::CheckProperty([] {
    const std::string text = *testing::Utf8Text(200);
    const auto parsed = ParseYaml(Escaped(text));
    RC_ASSERT(std::holds_alternative<YamlNode>(parsed));
    RC_ASSERT(std::get<YamlNode>(parsed).text == text);
  });
}

TEST_CASE("Well-formed UTF-8 is accepted up to the last code point", "[config]") {
  for (const char* text : {"", "plain", "\x7f", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80",
                           "\xef\xbf\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"}) {
    INFO(text);
    REQUIRE_FALSE(InvalidUtf8At(text).has_value());
  }
}

TEST_CASE("The first byte that is not UTF-8 is found", "[config]") {
  for (const char* bad : {"\x80", "\xc0\xaf", "\xc1\xbf", "\xc3", "\xc3(", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xe2\x82",
                          "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff"}) {
    REQUIRE(InvalidUtf8At(std::string("ž") + bad) == std::optional<std::size_t>(2));
  }
}

TEST_CASE("A misspelt word finds what was meant", "[config]") {
  const std::vector<std::string> names = {"listen_address", "shutdown_grace", "threads", "urls"};
  REQUIRE(ClosestTo("listen_adress", names) == "listen_address");
  REQUIRE(ClosestTo("listen-address", names) == "listen_address");
  REQUIRE(ClosestTo("listenAddress", names) == "listen_address");
  REQUIRE(ClosestTo("LISTEN_ADDRESS", names) == "listen_address");
  REQUIRE(ClosestTo("listen", names) == "listen_address");
  REQUIRE(ClosestTo("ursl", names) == "urls");
  REQUIRE(ClosestTo("url", names) == "urls");
}

TEST_CASE("A word that resembles nothing is not guessed at", "[config]") {
  const std::vector<std::string> names = {"cache_size", "cache_bytes", "urls"};
  for (const std::string& word :
       {std::string(), std::string("cats"), std::string("cache"), std::string("password"), std::string(100'000, 'x')}) {
    REQUIRE_FALSE(ClosestTo(word, names).has_value());
  }
}

}  // namespace
}  // namespace persistd::config
