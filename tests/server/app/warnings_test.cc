#include "server/app/warnings.h"

#include "absl/strings/match.h"
#include "tests/testing/catch.h"

namespace persistd::app {
namespace {

using repository::StreamsReport;

jetstream::StreamFacts Facts(std::string name, uint64_t subjects, uint64_t bytes = 0, uint64_t max_bytes = 0) {
  return {.name = std::move(name),
          .settings = {.replicas = 1, .storage = "file", .compression = "none", .max_bytes = max_bytes},
          .bytes = bytes,
          .subjects = subjects};
}

TEST_CASE("Streams in order bring no warning", "[warnings]") {
  CHECK(StreamWarnings({}, 1).empty());
  CHECK(StreamWarnings({.streams = {Facts("A", 3), Facts("B", 2, 79, 100)}, .complaints = {}}, 5).empty());
}

TEST_CASE("Subjects of all streams together are compared with the limit", "[warnings]") {
  const StreamsReport report{.streams = {Facts("A", 4'000'000), Facts("B", 2'000'000)}, .complaints = {}};
  const std::vector<std::string> warnings = StreamWarnings(report, 5'999'999);
  REQUIRE(warnings.size() == 1);
  CHECK(absl::StrContains(warnings[0], "6000000 subjects"));
  CHECK(absl::StrContains(warnings[0], "limits.max_subjects_warning is 5999999"));
  CHECK(absl::StrContains(warnings[0], "2100 to 6600 MB"));
  CHECK(StreamWarnings(report, 6'000'000).empty());
}

TEST_CASE("A stream that is nearly full is named, whatever its size", "[warnings]") {
  for (const uint64_t max : {uint64_t{1000}, uint64_t{1} << 50}) {
    const std::vector<std::string> warnings = StreamWarnings(
        {.streams = {Facts("A", 1, max / 10 * 9, max), Facts("B", 1, max / 10 * 7, max)}, .complaints = {}}, 10);
    REQUIRE(warnings.size() == 1);
    CHECK(absl::StrContains(warnings[0], "stream A holds"));
    CHECK(absl::StrContains(warnings[0], "max_bytes"));
  }
}

TEST_CASE("Memory and settings that are not followed are told", "[warnings]") {
  jetstream::StreamFacts memory = Facts("M", 1);
  memory.settings.storage = "memory";
  const std::vector<std::string> warnings =
      StreamWarnings({.streams = {memory}, .complaints = {{"S", "replicas 1 -> 3 was refused"}}}, 10);
  REQUIRE(warnings.size() == 2);
  CHECK(warnings[0] == "stream S is not as configured: replicas 1 -> 3 was refused");
  CHECK(absl::StrContains(warnings[1], "stream M is kept in memory"));
  CHECK(absl::StrContains(warnings[1], "do not survive a restart"));
}

}  // namespace
}  // namespace persistd::app
