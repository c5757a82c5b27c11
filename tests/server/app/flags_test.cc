#include "server/app/flags.h"

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "tests/testing/catch.h"
#include "tests/testing/must.h"

namespace persistd::app {
namespace {

using testing::Must;

std::string Refusal(const std::vector<std::string>& arguments) {
  return std::string(ParseFlags(arguments).status().message());
}

TEST_CASE("No flags are a command line too", "[flags]") {
  const Flags flags = Must(ParseFlags({}));
  CHECK(flags.config_file.empty());
  CHECK(flags.overrides.empty());
  CHECK(flags.ready_file.empty());
  CHECK_FALSE((flags.check_config || flags.version || flags.help));
}

TEST_CASE("Values follow their flag or an equals sign, and may hold equals signs", "[flags]") {
  const Flags flags = Must(ParseFlags({"--config", "a.yaml", "--set=log.level=debug", "--set", "nats.token=a=b",
                                       "--ready-file=/tmp/x=y", "--check-config"}));
  CHECK(flags.config_file == "a.yaml");
  CHECK(flags.overrides == std::vector<std::string>{"log.level=debug", "nats.token=a=b"});
  CHECK(flags.ready_file == "/tmp/x=y");
  CHECK(flags.check_config);
}

TEST_CASE("What looks like a flag may be a value", "[flags]") {
  CHECK(Must(ParseFlags({"--ready-file", "--version"})).ready_file == "--version");
  CHECK_FALSE(Must(ParseFlags({"--ready-file", "--version"})).version);
}

TEST_CASE("Wrong command lines are refused by what is wrong", "[flags]") {
  CHECK(Refusal({"--confg", "x"}) == "unknown argument --confg");
  CHECK(Refusal({"--confg=x"}) == "unknown argument --confg=x");
  CHECK(Refusal({"start"}) == "unknown argument start");
  CHECK(Refusal({""}) == "unknown argument ");
  CHECK(Refusal({"--config"}) == "--config needs a value");
  CHECK(Refusal({"--version=1"}) == "--version takes no value");
}

TEST_CASE("The help names every flag", "[flags]") {
  for (const char* flag : {"--config", "--set", "--ready-file", "--check-config", "--version", "--help"}) {
    CHECK(absl::StrContains(HelpText(), flag));
  }
}

}  // namespace
}  // namespace persistd::app
