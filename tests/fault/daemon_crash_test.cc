// kill -9 of daemons while clients save. Clients repeat by request id, so every save ends up stored exactly once.

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
using testing::Daemon;
using testing::Must;
using testing::NatsServer;

TEST_CASE("A daemon that is killed with its embedded nats-server while saving stores each save exactly once",
          "[fault]") {
  const auto daemon = Must(Daemon::Start({}));
  Workload workload({.addresses = {daemon->address()}, .seed = Seed(), .writers = 8, .saves_per_writer = 30 * Scale()});
  std::mt19937_64 random(Seed());
  workload.Start();
  const size_t kills = 3 * static_cast<size_t>(Scale());
  for (size_t kill = 1; kill <= kills; ++kill) {
    REQUIRE(workload.ledger().WaitForSettled(workload.total() * kill / (kills + 1) + random() % 20, 60s));
    daemon->Kill9();
    Must(daemon->Restart());
  }
  workload.Join();
  REQUIRE(Join(workload.FindProblems()) == "");
  // The kills struck: calls ended without an answer.
  REQUIRE(workload.ledger().unknown() > 0);
}

TEST_CASE("A save whose daemon is killed is repeated through another daemon and stored exactly once", "[fault]") {
  const auto nats = Must(NatsServer::Start({.sync_always = true}));
  const std::vector<std::string> sets = {absl::StrCat("nats.urls=[", nats->url(), "]")};
  const auto first = Must(Daemon::Start({.sets = sets}));
  const auto second = Must(Daemon::Start({.sets = sets}));
  Workload workload({.addresses = {first->address(), second->address()},
                     .seed = Seed() + 1,
                     .writers = 8,
                     .saves_per_writer = 30 * Scale()});
  std::mt19937_64 random(Seed() + 1);
  workload.Start();
  const size_t kills = 4 * static_cast<size_t>(Scale());
  for (size_t kill = 1; kill <= kills; ++kill) {
    REQUIRE(workload.ledger().WaitForSettled(workload.total() * kill / (kills + 1) + random() % 15, 60s));
    Must((kill % 2 == 0 ? first : second)->Restart());  // Kills it first.
  }
  workload.Join();
  REQUIRE(Join(workload.FindProblems()) == "");
  REQUIRE(workload.ledger().unknown() > 0);
}

}  // namespace
}  // namespace persistd::fault
