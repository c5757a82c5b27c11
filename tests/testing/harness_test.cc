// The harness itself: what the integration and fault tests stand on.
#include <signal.h>

#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "tests/testing/catch.h"
#include "tests/testing/daemon.h"
#include "tests/testing/files.h"
#include "tests/testing/http.h"
#include "tests/testing/must.h"
#include "tests/testing/nats_cluster.h"
#include "tests/testing/nats_server.h"
#include "tests/testing/ports.h"
#include "tests/testing/runfiles.h"
#include "tests/testing/temp_dir.h"

namespace persistd::testing {
namespace {

bool Contains(const absl::Status& status, const std::string& text) {
  return absl::StrContains(std::string(status.message()), text);
}

std::unique_ptr<Daemon> StartFake(std::vector<std::string> sets = {}) {
  return Must(Daemon::Start({.sets = std::move(sets), .binary = Must(Runfile("persistd/tests/testing/fake_daemon"))}));
}

TEST_CASE("A temporary folder goes with its object and all it holds", "[harness]") {
  std::string path;
  {
    const TempDir dir;
    path = dir.path();
    std::filesystem::create_directories(dir.File("a/b"));
    Must(WriteFile(dir.File("a/b/c"), "text"));
    REQUIRE(ReadFile(dir.File("a/b/c")) == "text");
  }
  REQUIRE_FALSE(std::filesystem::exists(path));
}

TEST_CASE("Free ports are different, also between calls", "[harness]") {
  std::set<int> seen;
  for (int i = 0; i < 10; ++i) {
    for (const int port : FreePorts(3)) REQUIRE(seen.insert(port).second);
  }
}

TEST_CASE("A nats-server comes back on its port after kill -9 and after an orderly stop", "[harness]") {
  const auto nats = Must(NatsServer::Start({.sync_always = true}));
  const std::string url = nats->url();
  const pid_t first = nats->pid();
  REQUIRE(absl::StrContains(Must(HttpGet(nats->monitoring_port(), "/varz")), "\"sync_always\": true"));
  REQUIRE(std::filesystem::exists(nats->store_dir()));

  nats->Kill9();
  REQUIRE(nats->pid() == 0);
  REQUIRE(kill(first, 0) != 0);
  REQUIRE_FALSE(HttpGet(nats->monitoring_port(), "/varz").ok());
  Must(nats->Restart());
  REQUIRE(nats->pid() != first);
  REQUIRE(nats->url() == url);
  REQUIRE(HttpGet(nats->monitoring_port(), "/varz").ok());

  REQUIRE(nats->Stop().code == 0);
  Must(nats->Restart());
  REQUIRE(HttpGet(nats->monitoring_port(), "/varz").ok());
}

TEST_CASE("A nats-server outlives the thread that started it", "[harness]") {
  std::unique_ptr<NatsServer> nats;
  std::thread([&nats] { nats = Must(NatsServer::Start({})); }).join();
  REQUIRE(HttpGet(nats->monitoring_port(), "/varz").ok());
  REQUIRE(nats->running());
}

TEST_CASE("A paused nats-server does not answer until it is resumed", "[harness]") {
  const auto nats = Must(NatsServer::Start({}));
  nats->Pause();
  REQUIRE(absl::IsUnavailable(HttpGet(nats->monitoring_port(), "/varz").status()));
  nats->Resume();
  Must(HttpGet(nats->monitoring_port(), "/varz"));
  nats->Pause();
  REQUIRE(nats->Stop().code == 0);  // Also a paused one stops in order.
}

TEST_CASE("A nats-server takes credentials, more config, its store and a wrapper command", "[harness]") {
  const TempDir dir;
  const auto nats = Must(NatsServer::Start({.store_dir = dir.File("kept"),
                                            .extra_config = "max_payload: 4321",
                                            .user = "u",
                                            .password = "p",
                                            .wrapper = {"nice", "-n", "1"}}));
  const std::string page = Must(HttpGet(nats->monitoring_port(), "/varz"));
  REQUIRE(absl::StrContains(page, "\"max_payload\": 4321"));
  REQUIRE(absl::StrContains(page, "\"auth_required\": true"));
  nats->Kill9();
  REQUIRE(std::filesystem::exists(dir.File("kept/jetstream")));
}

TEST_CASE("A nats-server that cannot start says why", "[harness]") {
  const auto nats = NatsServer::Start({.extra_config = "no such setting {"});
  REQUIRE(absl::IsUnavailable(nats.status()));
  REQUIRE(Contains(nats.status(), "Parse error"));
}

TEST_CASE("A cluster elects a leader, replaces a killed or paused one, and becomes whole again", "[harness]") {
  const auto cluster = Must(NatsCluster::Start({}));
  REQUIRE(cluster->urls().size() == 3);
  const int first = Must(cluster->WaitForLeader());

  cluster->Kill9(first);
  const int second = Must(cluster->WaitForLeader());
  REQUIRE(second != first);
  Must(cluster->Restart(first));
  const int third = Must(cluster->WaitUntilWhole());

  cluster->Pause(third);
  const int fourth = Must(cluster->WaitForLeader());
  REQUIRE(fourth != third);
  cluster->Resume(third);
  Must(cluster->WaitUntilWhole());
}

TEST_CASE("A daemon comes back on its port with its data, killed or stopped", "[harness]") {
  const auto daemon = StartFake();
  const std::string address = daemon->address();
  REQUIRE(absl::StartsWith(address, "127.0.0.1:"));
  REQUIRE(address != "127.0.0.1:0");
  const pid_t first = daemon->pid();
  daemon->Kill9();
  REQUIRE(kill(first, 0) != 0);
  REQUIRE(daemon->pid() == 0);
  Must(daemon->Restart());
  REQUIRE(daemon->address() == address);
  REQUIRE(daemon->Terminate().code == 0);
  REQUIRE(absl::StrContains(daemon->log(), "stopped in order"));
  REQUIRE_FALSE(daemon->running());
  Must(daemon->Restart());
  REQUIRE(daemon->running());
}

TEST_CASE("A daemon that ends before it is ready gives its exit code and the end of its log", "[harness]") {
  const auto daemon = Daemon::Start(
      {.sets = {"fail=the config is wrong"}, .binary = Must(Runfile("persistd/tests/testing/fake_daemon"))});
  REQUIRE(absl::IsUnavailable(daemon.status()));
  REQUIRE(Contains(daemon.status(), "exit code 3"));
  REQUIRE(Contains(daemon.status(), "the config is wrong"));
}

}  // namespace
}  // namespace persistd::testing
