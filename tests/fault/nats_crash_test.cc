// kill -9, restarts and long pauses of nats-server while clients save through two daemons.

#include <random>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/fault/seed.h"
#include "tests/fault/workload.h"
#include "tests/testing/catch.h"
#include "tests/testing/daemon.h"
#include "tests/testing/must.h"
#include "tests/testing/nats_server.h"

namespace persistd::fault {
namespace {

using std::chrono_literals::operator""s;
using std::chrono_literals::operator""ms;
using testing::Daemon;
using testing::Must;
using testing::NatsServer;

TEST_CASE("A nats-server that is killed and restarted while saving loses nothing and stores nothing twice", "[fault]") {
  const auto nats = Must(NatsServer::Start({.sync_always = true}));
  const std::vector<std::string> sets = {absl::StrCat("nats.urls=[", nats->url(), "]")};
  const auto first = Must(Daemon::Start({.sets = sets}));
  const auto second = Must(Daemon::Start({.sets = sets}));
  Workload workload({.addresses = {first->address(), second->address()},
                     .seed = Seed(),
                     .writers = 8,
                     .saves_per_writer = 30 * Scale()});
  std::mt19937_64 random(Seed());
  workload.Start();
  const size_t kills = 3 * static_cast<size_t>(Scale());
  for (size_t kill = 1; kill <= kills; ++kill) {
    REQUIRE(workload.ledger().WaitForSettled(workload.total() * kill / (kills + 1) + random() % 20, 60s));
    nats->Kill9();
    Must(nats->Restart());
  }
  workload.Join();
  REQUIRE(Join(workload.FindProblems()) == "");
  // The kills struck: calls failed. What was unknown the daemons settled by themselves.
  REQUIRE(workload.ledger().failed() > 0);
}

TEST_CASE("A nats-server that pauses for longer than the clients wait stores each save exactly once", "[fault]") {
  const auto nats = Must(NatsServer::Start({.sync_always = true}));
  const std::vector<std::string> sets = {absl::StrCat("nats.urls=[", nats->url(), "]")};
  const auto first = Must(Daemon::Start({.sets = sets}));
  const auto second = Must(Daemon::Start({.sets = sets}));
  Workload workload({.addresses = {first->address(), second->address()},
                     .seed = Seed() + 1,
                     .writers = 8,
                     .saves_per_writer = 30 * Scale(),
                     .call_timeout = 1500ms});
  std::mt19937_64 random(Seed() + 1);
  workload.Start();
  const size_t pauses = 3 * static_cast<size_t>(Scale());
  for (size_t pause = 1; pause <= pauses; ++pause) {
    REQUIRE(workload.ledger().WaitForSettled(workload.total() * pause / (pauses + 1) + random() % 20, 60s));
    nats->Pause();
    // Every second time the clients have already repeated what they do not know.
    const size_t failures = pause % 2 == 0 ? 16 : 1;
    REQUIRE(workload.ledger().WaitForFailed(workload.ledger().failed() + failures, 60s));
    nats->Resume();
  }
  workload.Join();
  REQUIRE(Join(workload.FindProblems()) == "");
  REQUIRE(workload.ledger().unknown() > 0);
}

}  // namespace
}  // namespace persistd::fault
