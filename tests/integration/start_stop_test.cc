// How the daemon starts, stops, and dies.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/unique_fd.h"
#include "tests/integration/api.h"
#include "tests/integration/persistd_process.h"
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
using testing::PollUntil;

// For tests that save a lot: what survives a power cut is tested elsewhere.
constexpr char kFastDisk[] = "nats.embedded.sync_interval=2m";

// What one run of the daemon is in these tests: the process, a client, its nats-server.
struct Running {
  explicit Running(PersistdProcess::Options options) : process(std::move(options)), api(process.address()) {
    if (!process.WaitUntilReady()) Must(absl::UnavailableError(absl::StrCat("persistd is not ready: ", process.log())));
    for (const pid_t child : ChildrenOf(process.pid())) nats_pid = child;
  }
  [[nodiscard]] bool NatsIsGone() const {
    return PollUntil([this] { return !IsRunning(nats_pid); }, kPatience);
  }

  PersistdProcess process;
  Api api;
  pid_t nats_pid = 0;
};

// A history larger than all buffers on the way, of which one event was read: it runs until the rest is read.
std::unique_ptr<HistoryCall> StartSlowHistory(Api& api, int& events_left) {
  const pb::AggregateRef ref = Order("long");
  constexpr int kSaves = 16;
  for (int i = 0; i < kSaves; ++i) Must(api.Save(SaveOf(ref, 2, std::string(500'000, 'x'))).status());
  auto history = api.StartHistory(HistoryOf(ref));
  CHECK(history->MustNext().version() == 1);
  events_left = 2 * kSaves - 1;
  return history;
}

TEST_CASE("The ready file holds the address while the daemon serves, whatever an earlier run left there", "[start]") {
  Running daemon({});
  CHECK(daemon.process.ready() == daemon.process.address() + "\n");
  CHECK(Must(daemon.api.IsServing()));
  CHECK(StrContains(daemon.process.log(), absl::StrCat("serving address=", daemon.process.address())));
}

TEST_CASE("A second daemon on the same data_dir is refused, and the first goes on", "[start]") {
  Running first({});
  PersistdProcess second({.data_dir = first.process.data_dir()});
  const auto status = second.WaitForEnd();
  REQUIRE(status.has_value());
  INFO(second.log());
  CHECK(status->code == 1);
  CHECK(StrContains(second.log(), first.process.data_dir()));
  CHECK(second.ready().empty());
  CHECK(first.api.Save(SaveOf(Order("1"))).ok());
}

TEST_CASE("A port that is taken is named, and nothing is left running", "[start]") {
  Running first({});
  PersistdProcess second({.sets = {"server.listen_address=" + first.process.address()}});
  const auto status = second.WaitForEnd();
  REQUIRE(status.has_value());
  INFO(second.log());
  CHECK(status->code == 1);
  CHECK(StrContains(second.log(), first.process.address()));
  CHECK(StrContains(second.log(), "in use"));
  CHECK(first.api.Save(SaveOf(Order("1"))).ok());
}

TEST_CASE("A data_dir that cannot be made and a nats-server that is none are named", "[start]") {
  PersistdProcess no_folder({.data_dir = "/proc/persistd"});
  REQUIRE(no_folder.WaitForEnd().has_value());
  CHECK(no_folder.WaitForEnd()->code == 1);
  CHECK(StrContains(no_folder.log(), "/proc/persistd"));
  PersistdProcess no_server({.sets = {"nats.embedded.binary=/bin/true"}});
  REQUIRE(no_server.WaitForEnd().has_value());
  CHECK(no_server.WaitForEnd()->code != 0);
  CHECK(StrContains(no_server.log(), "/bin/true"));
}

TEST_CASE("A fold that is no program is named, and the daemon does not start", "[start]") {
  testing::TempDir dir;
  Must(testing::WriteFile(dir.File("fold.jq"), ".state + (\n"));
  const std::string type = "repository.aggregates=[{context: sales, aggregate: order, ";
  for (const auto& [rule, named] : std::vector<std::pair<std::string, std::string>>{
           {"fold: \".state | nothing_like_this\"", "nothing_like_this"},
           {absl::StrCat("fold_file: ", dir.File("fold.jq")), dir.File("fold.jq")}}) {
    INFO(rule);
    PersistdProcess daemon({.sets = {absl::StrCat(type, rule, "}]")}});
    const auto status = daemon.WaitForEnd();
    REQUIRE(status.has_value());
    INFO(daemon.log());
    CHECK(status->code == 1);
    CHECK(StrContains(daemon.log(), "repository.aggregates: fold of sales.order"));
    CHECK(StrContains(daemon.log(), named));
    CHECK(daemon.ready().empty());
    // Before anything was made.
    CHECK_FALSE(std::filesystem::exists(absl::StrCat(daemon.data_dir(), "/nats")));
  }
}

TEST_CASE("SIGTERM and SIGINT let a running history finish, refuse new calls, and end with 0", "[stop]") {
  const int end_signal = GENERATE(SIGTERM, SIGINT);
  Running daemon({.sets = {kFastDisk}});
  int left = 0;
  const auto history = StartSlowHistory(daemon.api, left);
  daemon.process.Signal(end_signal);
  REQUIRE(daemon.api.WaitUntilServing(false));
  const absl::Status refused = daemon.api.Save(SaveOf(Order("late"))).status();
  CHECK(ReasonOf(refused) == pb::ERROR_REASON_SHUTTING_DOWN);
  CHECK(PollUntil([&] { return daemon.process.ready().empty(); }, kPatience));
  for (; left > 0; --left) history->MustNext();
  CHECK_FALSE(Must(history->Next()).has_value());
  const auto status = daemon.process.WaitForEnd();
  REQUIRE(status.has_value());
  INFO(daemon.process.log());
  CHECK(status->code == 0);
  CHECK(daemon.process.ready().empty());
  CHECK(daemon.NatsIsGone());
  CHECK(StrContains(daemon.process.log(), "stopped"));
}

TEST_CASE("SIGTERM lets a running save finish: it is acknowledged and stored", "[stop]") {
  const auto nats = Must(testing::NatsServer::Start({}));
  const std::string urls = "nats.urls=" + nats->url();
  {
    Running daemon({.sets = {urls}});
    Must(daemon.api.Save(SaveOf(Order("1"))).status());
    nats->Pause();
    auto save = std::async(std::launch::async, [&] { return daemon.api.Save(SaveOf(Order("1"), 1, 1, "{}")); });
    // The save is under way once the daemon has sent it, which nobody tells; a load that waits behind it is one more
    // running call.
    CHECK(ReasonOf(daemon.api.Load(Order("1"), {.timeout = 500ms}).status()) == pb::ERROR_REASON_NATS_UNAVAILABLE);
    daemon.process.Signal(SIGTERM);
    REQUIRE(daemon.api.WaitUntilServing(false));
    nats->Resume();
    const absl::StatusOr<pb::SaveResponse> saved = save.get();
    INFO(saved.status().ToString());
    REQUIRE(saved.ok());
    CHECK(saved->metadata().version() == 2);
    REQUIRE(daemon.process.WaitForEnd().has_value());
    CHECK(daemon.process.WaitForEnd()->code == 0);
  }
  Running again({.sets = {urls}});
  CHECK(Must(again.api.GetMetadata(Order("1"))).version() == 2);
}

TEST_CASE("Calls that outlast shutdown_grace are cut, and the daemon ends with 0 soon after", "[stop]") {
  Running daemon({.sets = {kFastDisk, "server.shutdown_grace=300ms"}});
  int left = 0;
  const auto history = StartSlowHistory(daemon.api, left);
  const auto begin = std::chrono::steady_clock::now();
  daemon.process.Signal(SIGTERM);
  const auto status = daemon.process.WaitForEnd(10s);
  const auto took = std::chrono::steady_clock::now() - begin;
  INFO(daemon.process.log());
  REQUIRE(status.has_value());
  CHECK(status->code == 0);
  CHECK(took >= 300ms);
  CHECK(took < 8s);
  absl::StatusOr<std::optional<pb::RecordedEvent>> next = history->Next();
  while (next.ok() && next->has_value()) next = history->Next();
  CHECK_FALSE(next.ok());  // Cut, and not mistaken for the end.
  CHECK(daemon.NatsIsGone());
}

TEST_CASE("A save that waits for NATS when the grace is over is told, and the daemon ends with 0", "[stop]") {
  const auto nats = Must(testing::NatsServer::Start({}));
  Running daemon({.sets = {"nats.urls=" + nats->url(), "server.shutdown_grace=300ms"}});
  Must(daemon.api.Save(SaveOf(Order("1"))).status());
  nats->Pause();
  auto save = std::async(std::launch::async, [&] { return daemon.api.Save(SaveOf(Order("1"), 1, 1, "{}")); });
  CHECK_FALSE(daemon.api.Load(Order("1"), {.timeout = 500ms}).ok());
  daemon.process.Signal(SIGTERM);
  const auto status = daemon.process.WaitForEnd(10s);
  INFO(daemon.process.log());
  REQUIRE(status.has_value());
  CHECK(status->code == 0);
  const absl::Status cut = save.get().status();
  INFO(cut.ToString());
  CHECK((absl::IsUnavailable(cut) || absl::IsCancelled(cut)));
}

TEST_CASE("A second signal ends the daemon at once, and its nats-server with it", "[stop]") {
  Running daemon({.sets = {kFastDisk, "server.shutdown_grace=5m"}});
  int left = 0;
  const auto history = StartSlowHistory(daemon.api, left);
  daemon.process.Signal(SIGTERM);
  REQUIRE(daemon.process.WaitForLog("stopping"));
  CHECK(IsRunning(daemon.process.pid()));
  daemon.process.Signal(SIGTERM);
  const auto status = daemon.process.WaitForEnd(10s);
  REQUIRE(status.has_value());
  CHECK(status->code == 128 + SIGTERM);
  CHECK(daemon.NatsIsGone());
}

TEST_CASE("A signal ends a daemon that still waits for NATS", "[stop]") {
  const auto nats = Must(testing::NatsServer::Start({}));
  nats->Kill9();
  PersistdProcess daemon({.sets = {"nats.urls=" + nats->url()}});
  Api api(daemon.address());
  REQUIRE_FALSE(Must(api.IsServing()));
  daemon.Signal(SIGTERM);
  const auto status = daemon.WaitForEnd(10s);
  REQUIRE(status.has_value());
  CHECK(status->code == 0);
}

TEST_CASE("kill -9 of the daemon leaves no nats-server, and the data is there again afterwards", "[stop]") {
  const testing::TempDir dir;
  pid_t nats_pid = 0;
  {
    Running daemon({.data_dir = dir.File("data")});
    nats_pid = daemon.nats_pid;
    REQUIRE(IsRunning(nats_pid));
    Must(daemon.api.Save(SaveOf(Order("1"), 3)).status());
    daemon.process.Signal(SIGKILL);
    REQUIRE(daemon.process.WaitForEnd().has_value());
    CHECK(daemon.NatsIsGone());
  }
  Running again({.data_dir = dir.File("data")});
  CHECK(again.nats_pid != nats_pid);
  CHECK(Must(again.api.History(Order("1"))).size() == 3);
}

TEST_CASE("A nats-server that is killed is started again, and calls work again", "[start]") {
  Running daemon({});
  Must(daemon.api.Save(SaveOf(Order("1"), 2)).status());
  for (uint64_t round = 1; round <= 2; ++round) {
    REQUIRE(kill(ChildrenOf(daemon.process.pid()).at(0), SIGKILL) == 0);
    REQUIRE(PollUntil([&] { return daemon.api.Save(SaveOf(Order("1"), 1), {.timeout = 2s}).ok(); }, kPatience));
    CHECK(Must(daemon.api.GetServerInfo()).nats().reconnects() == round);
  }
  const std::vector<pb::RecordedEvent> events = Must(daemon.api.History(Order("1")));
  CHECK(events.size() >= 4);
  for (size_t i = 0; i < events.size(); ++i) CHECK(events[i].version() == i + 1);
}

// Says CONNECT and PING over a bare socket; the server's answer to them.
std::string AnswerToStranger(int port) {
  const base::UniqueFd fd(socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  REQUIRE(connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
  const std::string hello = "CONNECT {\"verbose\":false}\r\nPING\r\n";
  REQUIRE(send(fd.get(), hello.data(), hello.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(hello.size()));
  std::string answer;
  char buffer[4096];
  while (!StrContains(answer, "PONG") && !StrContains(answer, "-ERR")) {
    const ssize_t count = recv(fd.get(), buffer, sizeof(buffer), 0);
    if (count <= 0) break;
    answer.append(buffer, static_cast<size_t>(count));
  }
  return answer;
}

TEST_CASE("The embedded nats-server lets nobody in without its credentials, which are private to the user", "[start]") {
  Running daemon({});
  const std::string url = Must(daemon.api.GetServerInfo()).nats().server_url();
  CHECK(absl::StartsWith(url, "nats://127.0.0.1:"));
  const std::string answer = AnswerToStranger(std::stoi(url.substr(url.rfind(':') + 1)));
  INFO(answer);
  CHECK(StrContains(answer, "Authorization Violation"));
  CHECK_FALSE(StrContains(answer, "PONG"));
  const auto mode = std::filesystem::status(daemon.process.data_dir() + "/nats").permissions();
  CHECK((mode & (std::filesystem::perms::group_all | std::filesystem::perms::others_all)) ==
        std::filesystem::perms::none);
}

}  // namespace
}  // namespace persistd::integration
