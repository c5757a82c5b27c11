// Writers that race each other through two daemons.

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/fault/seed.h"
#include "tests/fault/workload.h"
#include "tests/testing/catch.h"
#include "tests/testing/daemon.h"
#include "tests/testing/must.h"
#include "tests/testing/nats_cluster.h"
#include "tests/testing/nats_server.h"

namespace persistd::fault {
namespace {

using std::chrono_literals::operator""s;
using testing::Daemon;
using testing::Must;
using testing::NatsCluster;
using testing::NatsServer;

std::unique_ptr<Daemon> StartDaemon(const std::string& urls, std::vector<std::string> more = {}) {
  std::vector<std::string> sets = {absl::StrCat("nats.urls=[", urls, "]")};
  sets.insert(sets.end(), more.begin(), more.end());
  return Must(Daemon::Start({.sets = std::move(sets)}));
}

TEST_CASE("Two daemons over one NATS store each acknowledged save of sixteen writers exactly once", "[fault]") {
  const auto nats = Must(NatsServer::Start({.sync_always = true}));
  const auto first = StartDaemon(nats->url());
  const auto second = StartDaemon(nats->url());
  Workload workload(
      {.addresses = {first->address(), second->address()}, .seed = Seed(), .saves_per_writer = 20 * Scale()});
  workload.Start();
  workload.Join();
  REQUIRE(Join(workload.FindProblems()) == "");
  // It was a race: some lost it.
  size_t refused = 0;
  for (const SaveRecord& record : workload.ledger().records()) refused += record.answer.has_value() ? 0 : 1;
  REQUIRE(refused > 0);
  REQUIRE(refused < workload.total());
}

TEST_CASE("A three-node cluster keeps each acknowledged save exactly once while its leader is killed", "[fault]") {
  const auto cluster = Must(NatsCluster::Start({}));
  const std::vector<std::string> replicated = {"repository.stream.replicas=3"};
  const auto first = StartDaemon(cluster->url_list(), replicated);
  const auto second = StartDaemon(cluster->url_list(), replicated);
  Workload workload({.addresses = {first->address(), second->address()},
                     .seed = Seed() + 1,
                     .saves_per_writer = 20 * Scale(),
                     .call_timeout = 8s,
                     .settle_timeout = 120s,
                     .replicas = 3});
  workload.Start();
  std::mt19937_64 random(Seed());
  const size_t kills = static_cast<size_t>(Scale());
  for (size_t kill = 1; kill <= kills; ++kill) {
    const size_t strike = workload.total() * kill / (kills + 1) + random() % 20;
    REQUIRE(workload.ledger().WaitForSettled(strike, 120s));
    const int leader = Must(cluster->WaitForLeader(60s));
    cluster->Kill9(leader);
    // The others go on without it.
    REQUIRE(workload.ledger().WaitForSettled(strike + 20, 120s));
    Must(cluster->Restart(leader));
    Must(cluster->WaitUntilWhole(120s));
  }
  workload.Join();
  REQUIRE(Join(workload.FindProblems()) == "");
}

}  // namespace
}  // namespace persistd::fault
