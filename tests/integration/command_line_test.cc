// The program's command line and configuration, as somebody at a terminal or a service manager meets them.

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "tests/integration/persistd_process.h"
#include "tests/testing/catch.h"
#include "tests/testing/files.h"
#include "tests/testing/must.h"
#include "tests/testing/temp_dir.h"

namespace persistd::integration {
namespace {

using absl::StrContains;
using testing::Must;

constexpr int kUsageError = 2;

void CheckRefused(const Outcome& outcome, const std::vector<std::string>& mentions) {
  INFO(outcome.output);
  CHECK(outcome.status.code == kUsageError);
  for (const std::string& text : mentions) CHECK(StrContains(outcome.output, text));
}

TEST_CASE("persistd --help and --version say what they should and end with 0", "[command line]") {
  for (const char* flag : {"--help", "-h"}) {
    const Outcome help = RunPersistd({flag});
    CHECK(help.status.code == 0);
    for (const char* text : {"usage: persistd", "--config FILE", "--set KEY=VALUE", "--ready-file FILE",
                             "--check-config", "--version", "PERSISTD_", "SIGTERM", "Exit status"}) {
      CHECK(StrContains(help.output, text));
    }
  }
  const Outcome version = RunPersistd({"--version"});
  CHECK(version.status.code == 0);
  CHECK(absl::StartsWith(version.output, "persistd 0."));
}

TEST_CASE("A wrong command line is refused with its reason and exit status 2", "[command line]") {
  CheckRefused(RunPersistd({"--bogus"}), {"unknown argument --bogus", "persistd --help"});
  CheckRefused(RunPersistd({"serve"}), {"unknown argument serve"});
  CheckRefused(RunPersistd({"--config"}), {"--config needs a value"});
  CheckRefused(RunPersistd({"--set"}), {"--set needs a value"});
  CheckRefused(RunPersistd({"--help=yes"}), {"--help takes no value"});
  CheckRefused(RunPersistd({"--set", "nonsense"}), {"nonsense"});
  CheckRefused(RunPersistd({"--set", "server.prot=1"}), {"server.prot"});
  CheckRefused(RunPersistd({"--set", "server.threads=many"}), {"server.threads", "1 to 16"});
  CheckRefused(RunPersistd({"--config", "/nowhere/persistd.yaml"}), {"/nowhere/persistd.yaml"});
}

TEST_CASE("A ready file that cannot be written ends the daemon before it serves", "[command line]") {
  const testing::TempDir dir;
  const Outcome outcome = RunPersistd({"--ready-file", dir.File("none/ready"), "--set", "data_dir=" + dir.File("data"),
                                       "--set", "server.listen_address=127.0.0.1:0"});
  INFO(outcome.output);
  CHECK(outcome.status.code == 1);
  CHECK(StrContains(outcome.output, dir.File("none/ready") + ".new: No such file or directory"));
}

TEST_CASE("--check-config prints the configuration in force, without secrets, and starts nothing", "[command line]") {
  const testing::TempDir dir;
  const Outcome good =
      RunPersistd({"--check-config", "--set", "data_dir=" + dir.File("data"), "--set",
                   "nats.urls=nats://127.0.0.1:4222", "--set", "nats.user=me", "--set", "nats.password=hunter2"});
  INFO(good.output);
  CHECK(good.status.code == 0);
  CHECK(StrContains(good.output, dir.File("data")));
  CHECK(StrContains(good.output, "nats://127.0.0.1:4222"));
  CHECK_FALSE(StrContains(good.output, "hunter2"));
  CHECK_FALSE(StrContains(RunPersistd({"--check-config", "--set", "nats.urls=nats://me:hunter2@127.0.0.1:4222"}).output,
                          "hunter2"));
  CheckRefused(RunPersistd({"--check-config", "--set", "server.shutdown_grace=2d"}), {"server.shutdown_grace"});
}

TEST_CASE("What is wrong in a configuration file is named with file, line, key and what is allowed", "[command line]") {
  const testing::TempDir dir;
  const std::string file = dir.File("bad.yaml");
  const auto check = [&](const std::string& text, const std::vector<std::string>& mentions) {
    Must(testing::WriteFile(file, text));
    CheckRefused(RunPersistd({"--check-config", "--config", file}), mentions);
    CheckRefused(RunPersistd({"--config", file}), mentions);
  };
  check("server:\n  shutdown_grace: 10s\n  treads: 2\n", {file + ":3", "server.treads"});
  check("server:\n  threads: 99\n", {file + ":2", "server.threads", "1 to 16"});
  check("log:\n  level: loud\n", {file + ":2", "log.level", "debug"});
  check("nats:\n  connect_timeout: fast\n", {file + ":2", "nats.connect_timeout", "100ms"});
  check("repository:\n  event_streams: many\n", {file + ":2", "repository.event_streams", "per_aggregate_type"});
  check("server: [\n", {file + ":"});
  check("repository:\n  aggregates:\n    - {context: \"a b\", aggregate: order}\n", {file + ":3", "a b"});
}

TEST_CASE("The environment sets keys, below --set and above the file", "[command line]") {
  const testing::TempDir dir;
  const std::string file = dir.File("persistd.yaml");
  Must(testing::WriteFile(file, "limits:\n  max_concurrent_calls: 11\n  max_load_size: 5MiB\n"));
  const std::vector<std::string> environment = {"PERSISTD_LIMITS__MAX_CONCURRENT_CALLS=22",
                                                "PERSISTD_SERVER__THREADS=3"};
  const Outcome all = RunPersistd({"--check-config", "--config", file, "--set", "server.threads=4"}, environment);
  INFO(all.output);
  CHECK(all.status.code == 0);
  CHECK(StrContains(all.output, "max_concurrent_calls: 22"));
  CHECK(StrContains(all.output, "max_load_size: 5MiB"));
  CHECK(StrContains(all.output, "threads: 4"));
  CheckRefused(RunPersistd({"--check-config"}, {"PERSISTD_SERVER__TREADS=3"}), {"PERSISTD_SERVER__TREADS"});
}

TEST_CASE("TLS to NATS is refused with the reason, before anything starts", "[command line]") {
  PersistdProcess daemon({.sets = {"nats.urls=tls://127.0.0.1:4222"}});
  const auto status = daemon.WaitForEnd();
  REQUIRE(status.has_value());
  INFO(daemon.log());
  // A system whose libnats is newer may use TLS; then the server must be missing.
  if (StrContains(daemon.log(), "nats.tls is refused")) {
    CHECK(status->code == 1);
    CHECK(StrContains(daemon.log(), "data race"));
    CHECK(StrContains(daemon.log(), "3.11"));
  }
}

}  // namespace
}  // namespace persistd::integration
