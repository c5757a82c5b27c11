// What the daemon does when its NATS is late, goes away, comes back, wants credentials, or will not do.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/integration/api.h"
#include "tests/integration/persistd_process.h"
#include "tests/server/jetstream/disguised_server.h"
#include "tests/server/jetstream/nats_keys.h"
#include "tests/testing/catch.h"
#include "tests/testing/files.h"
#include "tests/testing/must.h"
#include "tests/testing/nats_server.h"
#include "tests/testing/poll.h"
#include "tests/testing/temp_dir.h"

namespace persistd::integration {
namespace {

using absl::StrContains;
using testing::Must;
using testing::NatsServer;

// True once a call fails in the way that is wanted: each of the daemon's connections finds out for itself.
template <typename Call>
[[nodiscard]] bool WaitForFailure(Call call, pb::ErrorReason reason, const std::string& text) {
  absl::Status status;
  const bool failed = testing::PollUntil(
      [&] {
        status = call();
        return ReasonOf(status) == reason && StrContains(status.message(), text);
      },
      kPatience);
  if (!failed) UNSCOPED_INFO(status.ToString());
  return failed;
}

// The answers of every kind of call.
std::vector<absl::Status> CallAll(Api& api, const CallOptions& options = {}) {
  pb::GetAtVersionRequest at;
  *at.mutable_ref() = Order("away");
  at.set_version(1);
  return {api.Save(SaveOf(Order("away")), options).status(), api.Load(Order("away"), options).status(),
          api.GetMetadata(Order("away"), options).status(), api.History(HistoryOf(Order("away")), options).status(),
          api.GetAtVersion(at, options).status()};
}

// Every kind of call fails UNAVAILABLE with NATS_UNAVAILABLE, long before its deadline.
void CheckUnavailable(Api& api) {
  REQUIRE(testing::PollUntil([&] { return !Must(api.GetServerInfo()).nats().connected(); }, kPatience));
  const auto load = [&api] { return api.Load(Order("1"), {.timeout = 1s}).status(); };
  REQUIRE(WaitForFailure(load, pb::ERROR_REASON_NATS_UNAVAILABLE, ""));
  const auto begin = std::chrono::steady_clock::now();
  for (const absl::Status& answer : CallAll(api, {.timeout = 20s})) {
    INFO(answer.ToString());
    CHECK(absl::IsUnavailable(answer));
    CHECK(ReasonOf(answer) == pb::ERROR_REASON_NATS_UNAVAILABLE);
    CHECK(DetailOf(answer).retryable());
  }
  CHECK(std::chrono::steady_clock::now() - begin < 10s);
  const pb::GetServerInfoResponse info = Must(api.GetServerInfo());
  CHECK_FALSE(info.nats().connected());
  REQUIRE(info.warnings_size() > 0);
  CHECK(absl::StartsWith(info.warnings(0), "NATS: "));
}

TEST_CASE("The daemon is NOT_SERVING until its NATS starts, and then serves by itself", "[nats]") {
  const auto nats = Must(NatsServer::Start({}));
  nats->Kill9();
  PersistdProcess daemon({.sets = {"nats.urls=" + nats->url()}});
  Api api(daemon.address());
  REQUIRE_FALSE(Must(api.IsServing()));
  CHECK(daemon.ready().empty());
  CheckUnavailable(api);
  Must(nats->Restart());
  REQUIRE(api.WaitUntilServing(true));
  REQUIRE(daemon.WaitUntilReady());
  CHECK(api.Save(SaveOf(Order("1"))).ok());
}

TEST_CASE("The daemon says NOT_SERVING while NATS is away and goes on by itself when it is back", "[nats]") {
  const auto nats = Must(NatsServer::Start({}));
  PersistdProcess daemon({.sets = {"nats.urls=" + nats->url()}});
  Api api(daemon.address());
  REQUIRE(api.WaitUntilServing(true));
  uint64_t version = 0;
  for (int round = 0; round < 3; ++round) {
    Must(api.Save(SaveOf(Order("1"), version++, 1, "{}")).status());
    if (round == 1) {
      REQUIRE(nats->Stop().code == 0);
    } else {
      nats->Kill9();
    }
    REQUIRE(api.WaitUntilServing(false));
    CheckUnavailable(api);
    Must(nats->Restart());
    REQUIRE(api.WaitUntilServing(true));
    Must(api.Save(SaveOf(Order("1"), version++, 1, "{}")).status());
  }
  CHECK(Must(api.History(Order("1"))).size() == version);
  CHECK(Must(api.GetServerInfo()).nats().reconnects() == 3);
}

TEST_CASE("A NATS that hangs is given up after pings, with the daemon's calls answered within their deadlines",
          "[nats]") {
  const auto nats = Must(NatsServer::Start({}));
  PersistdProcess daemon(
      {.sets = {"nats.urls=" + nats->url(), "nats.ping_interval=200ms", "nats.connect_timeout=500ms"}});
  Api api(daemon.address());
  REQUIRE(api.WaitUntilServing(true));
  pb::SaveRequest save = SaveOf(Order("1"));
  save.set_request_id("hung");
  nats->Pause();
  // Sent or not: the daemon says which.
  const absl::Status hung = api.Save(save, {.timeout = 5s}).status();
  INFO(hung.ToString());
  CHECK(absl::IsUnavailable(hung));
  REQUIRE(api.WaitUntilServing(false));
  CheckUnavailable(api);
  nats->Resume();
  REQUIRE(api.WaitUntilServing(true));
  Must(api.Save(save).status());
  CHECK(Must(api.History(Order("1"))).size() == 1);
}

void CheckLogin(const NatsServer& nats, const std::vector<std::string>& right, const std::vector<std::string>& wrong) {
  const auto with_url = [&](std::vector<std::string> sets) {
    sets.push_back("nats.urls=" + nats.url());
    return sets;
  };
  {
    PersistdProcess daemon({.sets = with_url(right)});
    Api api(daemon.address());
    INFO(daemon.log());
    REQUIRE(api.WaitUntilServing(true));
    CHECK(api.Save(SaveOf(Order("1"))).ok());
  }
  PersistdProcess daemon({.sets = with_url(wrong)});
  Api api(daemon.address());
  REQUIRE_FALSE(Must(api.IsServing()));  // Also waits for the daemon to listen.
  const auto load = [&api] { return api.Load(Order("1")).status(); };
  CHECK(WaitForFailure(load, pb::ERROR_REASON_NATS_UNAVAILABLE, "Authorization Violation"));
  CHECK_FALSE(Must(api.IsServing()));
}

TEST_CASE("The daemon logs in with user and password, from the configuration, a file or the URL", "[nats][login]") {
  const testing::TempDir dir;
  Must(testing::WriteFile(dir.File("password"), "passw0rd\n"));
  const auto nats = Must(NatsServer::Start({.user = "me", .password = "passw0rd"}));
  CheckLogin(*nats, {"nats.user=me", "nats.password=passw0rd"}, {"nats.user=me", "nats.password=other"});
  CheckLogin(*nats, {"nats.user=me", "nats.password_file=" + dir.File("password")}, {});
  PersistdProcess daemon({.sets = {absl::StrCat("nats.urls=nats://me:passw0rd@127.0.0.1:", nats->port())}});
  Api api(daemon.address());
  REQUIRE(api.WaitUntilServing(true));
  CHECK_FALSE(StrContains(Must(api.GetServerInfo()).nats().server_url(), "passw0rd"));
  CHECK_FALSE(StrContains(daemon.log(), "passw0rd"));
}

TEST_CASE("The daemon logs in with a token", "[nats][login]") {
  const testing::TempDir dir;
  Must(testing::WriteFile(dir.File("token"), "s3cr3t\n"));
  const auto nats = Must(NatsServer::Start({.extra_config = "authorization { token: \"s3cr3t\" }"}));
  CheckLogin(*nats, {"nats.token=s3cr3t"}, {"nats.token=other"});
  CheckLogin(*nats, {"nats.token_file=" + dir.File("token")}, {});
}

TEST_CASE("The daemon logs in with an NKey", "[nats][login]") {
  const testing::TempDir dir;
  const testing::Nkey right = testing::NewNkey('U');
  Must(testing::WriteFile(dir.File("right"), right.seed + "\n"));
  Must(testing::WriteFile(dir.File("wrong"), testing::NewNkey('U').seed));
  const auto nats = Must(NatsServer::Start(
      {.extra_config = absl::StrCat("authorization { users: [ { nkey: ", right.public_key, " } ] }")}));
  CheckLogin(*nats, {"nats.nkey_seed_file=" + dir.File("right")}, {"nats.nkey_seed_file=" + dir.File("wrong")});
}

TEST_CASE("The daemon logs in with a credentials file", "[nats][login]") {
  const testing::TempDir dir;
  const testing::OperatorSetup setup = testing::NewOperatorSetup();
  Must(testing::WriteFile(dir.File("right"), setup.creds));
  Must(testing::WriteFile(dir.File("wrong"), testing::NewOperatorSetup().creds));
  const auto nats = Must(NatsServer::Start({.extra_config = setup.server_config}));
  CheckLogin(*nats, {"nats.creds_file=" + dir.File("right")}, {"nats.creds_file=" + dir.File("wrong")});
}

TEST_CASE("A NATS without JetStream is refused by name", "[nats]") {
  const auto nats = Must(NatsServer::Start({.extra_config = "accounts { A { users: [{user: u, password: p}] } }"}));
  PersistdProcess daemon({.sets = {"nats.urls=" + nats->url(), "nats.user=u", "nats.password=p"}});
  Api api(daemon.address());
  REQUIRE_FALSE(Must(api.IsServing()));
  const auto save = [&api] { return api.Save(SaveOf(Order("1"))).status(); };
  CHECK(WaitForFailure(save, pb::ERROR_REASON_STORAGE_UNSUITABLE, "JetStream"));
  CHECK(absl::IsFailedPrecondition(save()));
  CHECK_FALSE(Must(api.IsServing()));
}

// Both of the daemon's connections are refused, every kind of call says why and stores nothing.
void CheckRefused(Api& api, const std::string& name) {
  REQUIRE(api.WaitUntilServing(false));
  // Each connection finds out for itself: the one for writes is told of here, and a call may need several of them.
  const auto told = [&] {
    const pb::GetServerInfoResponse info = Must(api.GetServerInfo());
    return info.warnings_size() > 0 && StrContains(info.warnings(0), name);
  };
  REQUIRE(testing::PollUntil(told, kPatience));
  std::vector<absl::Status> answers;
  const auto refused = [&] {
    answers = CallAll(api);
    return std::ranges::all_of(answers, [&](const absl::Status& answer) {
      return ReasonOf(answer) == pb::ERROR_REASON_STORAGE_UNSUITABLE && StrContains(answer.message(), name);
    });
  };
  (void)testing::PollUntil(refused, kPatience);
  for (const absl::Status& answer : answers) {
    INFO(answer.ToString());
    CHECK(absl::IsFailedPrecondition(answer));
    CHECK(ReasonOf(answer) == pb::ERROR_REASON_STORAGE_UNSUITABLE);
    CHECK(StrContains(answer.message(), name));
  }
  CHECK_FALSE(Must(api.IsServing()));
  CHECK_FALSE(Must(api.GetServerInfo()).nats().connected());
}

TEST_CASE("A nats-server that is too old is refused by name, when the daemon starts and whenever it connects again",
          "[nats]") {
  jetstream::DisguisedServer server;
  server.PretendVersion("2.12.9");
  PersistdProcess daemon({.sets = {"nats.urls=" + server.url()}});
  Api api(daemon.address());
  CheckRefused(api, "nats-server 2.12.9 ");
  CHECK(daemon.ready().empty());
  server.PretendNothing();
  REQUIRE(api.WaitUntilServing(true));
  REQUIRE(daemon.WaitUntilReady());
  Must(api.Save(SaveOf(Order("1"), 0, 1, "{}")).status());
  uint64_t version = 1;
  const std::vector<std::pair<std::function<void()>, std::string>> disguises = {
      {[&] { server.PretendVersion("2.11.9"); }, "nats-server 2.11.9 "},
      {[&] { server.PretendVersion("2.12.13"); }, "nats-server 2.12.13 "},
      {[&] { server.PretendVersion("2.14.2"); }, "nats-server 2.14.2 "},
      {[&] { server.PretendVersion("2.14.3"); }, "nats-server 2.14.3 "},
      {[&] { server.PretendApiLevel(0); }, "nats-server 2.10 or older (JetStream API level 0)"},
      {[&] { server.PretendApiLevel(1); }, "nats-server 2.11 (JetStream API level 1)"}};
  for (const auto& [disguise, name] : disguises) {
    INFO(name);
    disguise();
    server.CutConnections();
    CheckRefused(api, name);
    server.PretendNothing();
    REQUIRE(api.WaitUntilServing(true));
    Must(api.Save(SaveOf(Order("1"), version++, 1, "{}")).status());
  }
  CHECK(Must(api.History(Order("1"))).size() == version);
  CHECK(Must(api.GetServerInfo()).nats().server_version() == server.facts().version);
  // What no refused connection may have stored.
  CHECK(absl::IsNotFound(api.Load(Order("away")).status()));
}

TEST_CASE("A nats-server of an older line with the fix is served", "[nats]") {
  jetstream::DisguisedServer server;
  server.PretendVersion("2.14.9");
  PersistdProcess daemon({.sets = {"nats.urls=" + server.url()}});
  Api api(daemon.address());
  REQUIRE(api.WaitUntilServing(true));
  CHECK(api.Save(SaveOf(Order("1"))).ok());
  CHECK(Must(api.GetServerInfo()).nats().server_version() == "2.14.9");
}

}  // namespace
}  // namespace persistd::integration
