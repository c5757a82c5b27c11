#include "client/cli/arguments.h"

#include "tests/testing/catch.h"

namespace persistd::cli {
namespace {

using Words = std::vector<std::string>;

const std::vector<FlagSpec> kFlags = {
    {"name"}, {"tag", FlagSpec::kRepeated}, {"force", FlagSpec::kSwitch}, {"help", FlagSpec::kSwitch}};

std::string ErrorOf(const Words& words) { return std::string(Arguments::Parse(words, kFlags).status().message()); }

TEST_CASE("Flags may stand anywhere, with their value after a space or an equals sign", "[cli]") {
  const auto arguments =
      Arguments::Parse({"one", "--name=a=b", "two", "--tag", "x", "--force", "--tag=", "--tag", "-5"}, kFlags);
  REQUIRE(arguments.ok());
  CHECK(arguments->positionals() == Words{"one", "two"});
  CHECK(arguments->Get("name") == "a=b");
  CHECK(arguments->All("tag") == Words{"x", "", "-5"});
  CHECK(arguments->Has("force"));
  CHECK_FALSE(arguments->Has("help"));
  CHECK_FALSE(arguments->Get("help").has_value());
}

TEST_CASE("After two dashes everything is positional, a single dash always is", "[cli]") {
  const auto arguments = Arguments::Parse({"-", "--", "--name", "-h"}, kFlags);
  REQUIRE(arguments.ok());
  CHECK(arguments->positionals() == Words{"-", "--name", "-h"});
  CHECK(Arguments::Parse({"-h"}, kFlags)->Has("help"));
}

TEST_CASE("Parsing can stop at the first positional argument", "[cli]") {
  const auto arguments = Arguments::Parse({"--name", "a", "save", "--unknown"}, kFlags, true);
  REQUIRE(arguments.ok());
  CHECK(arguments->Get("name") == "a");
  CHECK(arguments->rest() == Words{"save", "--unknown"});
}

TEST_CASE("Wrong flags are named", "[cli]") {
  CHECK(ErrorOf({"--nmae", "x"}) == "unknown flag --nmae");
  CHECK(ErrorOf({"-x"}) == "unknown flag -x");
  CHECK(ErrorOf({"--name"}) == "--name needs a value");
  CHECK(ErrorOf({"--name=a", "--name=b"}) == "--name is given twice");
  CHECK(ErrorOf({"--force", "--force"}) == "--force is given twice");
  CHECK(ErrorOf({"--force=yes"}) == "--force takes no value");
}

TEST_CASE("Numbers are whole, complete and in range", "[cli]") {
  CHECK(*ParseNumber("n", "18446744073709551615") == UINT64_MAX);
  for (const char* const text : {"", "-1", "+1", "1x", "1.0", " 1", "0x10", "18446744073709551616"}) {
    CHECK_FALSE(ParseNumber("n", text).ok());
  }
  CHECK(std::string(ParseNumber("--n", "9", 8).status().message()) ==
        "--n needs a whole number from 0 to 8, not \"9\"");
  const auto arguments = Arguments::Parse({"--name", "12"}, kFlags);
  CHECK(**arguments->GetNumber("name") == 12);
  CHECK_FALSE(arguments->GetNumber("tag")->has_value());
}

}  // namespace
}  // namespace persistd::cli
