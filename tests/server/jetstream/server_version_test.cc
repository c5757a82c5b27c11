#include "server/jetstream/server_version.h"

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "tests/testing/catch.h"
#include "tests/testing/must.h"

namespace persistd::jetstream {
namespace {

using testing::Must;

TEST_CASE("Versions are read with and without v, pre-release and build", "[jetstream]") {
  REQUIRE(Must(ParseServerVersion("2.15.1")).ToString() == "2.15.1");
  REQUIRE(Must(ParseServerVersion("v2.12.14-RC.1")).ToString() == "2.12.14-RC.1");
  REQUIRE(Must(ParseServerVersion("2.14.0-preview-x.3+git.abc")).ToString() == "2.14.0-preview-x.3");
}

TEST_CASE("Texts that are no versions are refused and quoted", "[jetstream]") {
  for (const char* text : {"", "v", "2", "2.15", "2.15.", "2.15.1.0", "2.x.1", "-2.15.1", "2.15.1-", "2.15.1-a..b",
                           "2.15.1-a_b", " 2.15.1", "2.15.1\n", "9999999999.0.0", "vv2.15.1"}) {
    INFO(text);
    REQUIRE(absl::IsInvalidArgument(ParseServerVersion(text).status()));
    REQUIRE(absl::IsInvalidArgument(CheckServerVersion(text)));
  }
  REQUIRE(absl::IsInvalidArgument(ParseServerVersion(std::string(1000, '1')).status()));
  REQUIRE(absl::StrContains(ParseServerVersion("2.15\r\n").status().message(), R"("2.15\r\n" is no)"));
}

TEST_CASE("Versions are ordered as semver.org says", "[jetstream]") {
  const std::vector<std::string> ordered = {"1.99.99",    "2.0.0-alpha",  "2.0.0-alpha.1", "2.0.0-alpha.beta",
                                            "2.0.0-beta", "2.0.0-beta.2", "2.0.0-beta.11", "2.0.0-rc.1",
                                            "2.0.0",      "2.0.1",        "2.9.10",        "2.10.0"};
  for (size_t i = 0; i < ordered.size(); ++i) {
    for (size_t j = 0; j < ordered.size(); ++j) {
      INFO(ordered[i] << " and " << ordered[j]);
      const int order = Compare(Must(ParseServerVersion(ordered[i])), Must(ParseServerVersion(ordered[j])));
      REQUIRE((order < 0) == (i < j));
      REQUIRE((order == 0) == (i == j));
    }
  }
}

TEST_CASE("Releases that keep the guarantees are accepted", "[jetstream]") {
  for (const char* version : {"2.12.14", "2.12.15", "2.12.99", "2.14.4", "2.14.5-RC.1", "2.15.0", "2.15.1", "3.0.0"}) {
    INFO(version);
    REQUIRE(CheckServerVersion(version).ok());
  }
}

TEST_CASE("Older releases are refused by name, with what to install", "[jetstream]") {
  for (const char* version : {"1.4.1", "2.9.10", "2.11.9", "2.12.0", "2.12.13", "2.12.14-RC.1", "2.13.0", "2.13.20",
                              "2.14.0", "2.14.3", "2.14.4-RC.2"}) {
    INFO(version);
    const absl::Status status = CheckServerVersion(version);
    REQUIRE(absl::IsFailedPrecondition(status));
    REQUIRE(absl::StrContains(status.message(), std::string("nats-server ") + version));
    REQUIRE(absl::StrContains(status.message(), "install nats-server 2.12.14"));
  }
}

}  // namespace
}  // namespace persistd::jetstream
