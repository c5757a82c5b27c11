#include "server/jetstream/connection.h"

#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "cim/persistence/v1/errors.pb.h"
#include "server/base/burst.h"
#include "server/domain/errors.h"
#include "tests/server/jetstream/live.h"
#include "tests/testing/catch.h"
#include "tests/testing/must.h"
#include "tests/testing/nats_server.h"
#include "tests/testing/poll.h"

namespace persistd::jetstream {
namespace {

namespace pb = cim::persistence::v1;
using ::persistd::testing::Must;
using ::persistd::testing::NatsServer;
using ::persistd::testing::PollUntil;

OutgoingMessage Text(std::string subject, std::string data = "") {
  return {.subject = std::move(subject), .headers = {}, .data = std::move(data)};
}

OutgoingMessage Info() { return Text("$JS.API.INFO"); }

TEST_CASE("A request gets its answer, and several in flight get their own", "[jetstream]") {
  const auto nats = Must(NatsServer::Start({}));
  Live live(To(nats->url()));
  REQUIRE(live.WaitUntilUp());
  CHECK(live.connection().server_url() == nats->url());
  live.MakeStream(EventStreamConfig("S", "s.>"));
  std::vector<base::Future<absl::StatusOr<Message>>> futures;
  for (int i = 0; i < 200; ++i) {
    futures.push_back(live.connection().Request(Text("s.x", absl::StrCat(i)), In(kPatience)));
  }
  for (uint64_t i = 0; i < futures.size(); ++i) {
    const absl::StatusOr<Message> answer = Await(std::move(futures[i]));
    REQUIRE(answer.ok());
    CHECK(UnsignedField(Must(ParseApiAnswer(answer->data)).body, "seq") == i + 1);
  }
}

TEST_CASE("Many threads that write at once share one connection", "[jetstream]") {
  const auto nats = Must(NatsServer::Start({}));
  ConnectOptions options = To(nats->url());
  options.through_library = GENERATE(false, true);
  Live live(options);
  REQUIRE(live.WaitUntilUp());
  live.MakeStream(EventStreamConfig("S", "s.>"));
  constexpr int kThreads = 8;
  constexpr int kRequests = 1000;
  std::atomic<int> answered = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&live, &answered, t] {
      const std::string subject = absl::StrCat("s.", t);
      for (int i = 0; i < kRequests; i += 10) {
        std::vector<base::Future<absl::StatusOr<Message>>> futures;
        base::Burst::Begin();
        for (int n = 0; n < 10; ++n) {
          futures.push_back(live.connection().Request(Text(subject, std::string(2000, 'x')), In(kPatience)));
        }
        base::Burst::End();
        for (auto& future : futures) answered += Await(std::move(future)).ok() ? 1 : 0;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(answered == kThreads * kRequests);
  CHECK(live.connection().connects() == 1);
}

TEST_CASE("A connection that is silent for many pings stays up", "[jetstream]") {
  const auto nats = Must(NatsServer::Start({}));
  ConnectOptions options = To(nats->url());
  options.ping_interval = std::chrono::milliseconds(50);
  options.through_library = GENERATE(false, true);
  Live live(options);
  REQUIRE(live.WaitUntilUp());
  const auto until = In(std::chrono::milliseconds(600));
  REQUIRE(PollUntil([&] { return std::chrono::steady_clock::now() >= until; }, kPatience));
  CHECK(live.connection().status().ok());
  CHECK(live.connection().connects() == 1);
}

TEST_CASE("A server that does not answer pings is given up", "[jetstream]") {
  const auto nats = Must(NatsServer::Start({}));
  ConnectOptions options = To(nats->url());
  options.ping_interval = std::chrono::milliseconds(100);
  options.through_library = GENERATE(false, true);
  Live live(options);
  REQUIRE(live.WaitUntilUp());
  nats->Pause();
  CHECK(live.WaitUntilDown());
  nats->Resume();
}

TEST_CASE("A subject that nobody serves is an answer of its own and leaves the connection up", "[jetstream]") {
  const auto nats = Must(NatsServer::Start({}));
  ConnectOptions options = To(nats->url());
  options.through_library = GENERATE(false, true);
  Live live(options);
  REQUIRE(live.WaitUntilUp());
  const absl::Status status = live.Ask(Text("nobody.home", "x")).status();
  CHECK(absl::IsUnavailable(status));
  CHECK(absl::StrContains(status.message(), "no NATS server answers"));
  CHECK(live.Ask(Info()).ok());
  CHECK(live.connection().connects() == 1);
}

TEST_CASE("The connection comes back by itself after the server was killed", "[jetstream]") {
  const auto nats = Must(NatsServer::Start({}));
  Live live(To(nats->url()));
  REQUIRE(live.WaitUntilUp());
  for (uint64_t n = 2; n <= 4; ++n) {
    nats->Kill9();
    REQUIRE(live.WaitUntilDown());
    CHECK(domain::HasReason(live.connection().status(), pb::ERROR_REASON_NATS_UNAVAILABLE));
    Must(nats->Restart());
    REQUIRE(live.WaitUntilUp(n));
    CHECK(live.Ask(Info()).ok());
  }
  CHECK(live.connection().connects() == 4);
}

TEST_CASE("A connection that is started before its server waits for it", "[jetstream]") {
  const auto nats = Must(NatsServer::Start({}));
  nats->Kill9();
  Live live(To(nats->url()));
  REQUIRE(
      PollUntil([&] { return absl::StrContains(live.connection().status().message(), "cannot connect"); }, kPatience));
  Must(nats->Restart());
  CHECK(live.WaitUntilUp());
}

TEST_CASE("Requests under way fail as unknown when the connection is lost", "[jetstream]") {
  const auto nats = Must(NatsServer::Start({}));
  Live live(To(nats->url()));
  REQUIRE(live.WaitUntilUp());
  nats->Pause();
  std::vector<base::Future<absl::StatusOr<Message>>> futures;
  for (int i = 0; i < 20; ++i) futures.push_back(live.connection().Request(Info(), In(std::chrono::minutes(10))));
  nats->Kill9();
  for (auto& future : futures) {
    const absl::Status status = Await(std::move(future)).status();
    CHECK(absl::IsUnknown(status));
    CHECK(absl::StrContains(status.message(), "lost"));
  }
}

TEST_CASE("What is asked while the server is away fails at once and is never sent later", "[jetstream]") {
  const auto nats = Must(NatsServer::Start({}));
  Live live(To(nats->url()));
  REQUIRE(live.WaitUntilUp());
  live.MakeStream(EventStreamConfig("S", "s.>"));
  nats->Kill9();
  REQUIRE(live.WaitUntilDown());
  for (int i = 0; i < 50; ++i) {
    const auto start = std::chrono::steady_clock::now();
    const absl::Status status = live.Ask(Text("s.x", "late")).status();
    CHECK(domain::HasReason(status, pb::ERROR_REASON_NATS_UNAVAILABLE));
    CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(5));
  }
  Must(nats->Restart());
  REQUIRE(live.WaitUntilUp(2));
  // Anything sent late would be in front of this message.
  const absl::StatusOr<Message> first = live.Ask(Text("s.x", "first"));
  REQUIRE(first.ok());
  CHECK(UnsignedField(Must(ParseApiAnswer(first->data)).body, "seq") == 1);
}

TEST_CASE("A request without an answer by its deadline is unknown, and its late answer disturbs nobody",
          "[jetstream]") {
  const auto nats = Must(NatsServer::Start({}));
  Live live(To(nats->url()));
  REQUIRE(live.WaitUntilUp());
  nats->Pause();
  const absl::Status status = live.Ask(Info(), std::chrono::milliseconds(50)).status();
  CHECK(absl::IsUnknown(status));
  CHECK(absl::StrContains(status.message(), "in time"));
  nats->Resume();
  for (int i = 0; i < 5; ++i) CHECK(live.Ask(Info()).ok());
  CHECK(live.connection().connects() == 1);
}

TEST_CASE("A gate that refuses keeps the connection down and gives its reason", "[jetstream]") {
  const auto nats = Must(NatsServer::Start({}));
  std::atomic<int> asked = 0;
  std::atomic<bool> open = false;
  Live live(To(nats->url()), [&](RawConnection&) {
    ++asked;
    return open ? absl::OkStatus() : domain::StorageUnsuitable("this server is too old");
  });
  REQUIRE(PollUntil([&] { return asked >= 2; }, kPatience));
  CHECK(live.connection().connects() == 0);
  const absl::Status status = live.Ask(Info()).status();
  CHECK(domain::HasReason(status, pb::ERROR_REASON_STORAGE_UNSUITABLE));
  CHECK(status.message() == "this server is too old");
  CHECK(live.connection().status() == status);
  open = true;  // The operator has put a newer server there.
  CHECK(live.WaitUntilUp());
}

TEST_CASE("The gate is asked again for every connection", "[jetstream]") {
  const auto nats = Must(NatsServer::Start({}));
  std::atomic<bool> open = true;
  Live live(To(nats->url()), [&](RawConnection&) { return open ? absl::OkStatus() : domain::StorageUnsuitable("no"); });
  REQUIRE(live.WaitUntilUp());
  open = false;
  nats->Kill9();
  REQUIRE(live.WaitUntilDown());
  Must(nats->Restart());
  CHECK(PollUntil([&] { return domain::HasReason(live.connection().status(), pb::ERROR_REASON_STORAGE_UNSUITABLE); },
                  kPatience));
  CHECK(live.connection().connects() == 1);
}

TEST_CASE("Stop fails what is under way, and what comes later is told that the daemon stops", "[jetstream]") {
  const auto nats = Must(NatsServer::Start({}));
  Live live(To(nats->url()));
  REQUIRE(live.WaitUntilUp());
  nats->Pause();
  base::Future<absl::StatusOr<Message>> pending = live.connection().Request(Info(), In(std::chrono::minutes(10)));
  live.connection().Stop();
  CHECK(absl::IsUnknown(Await(std::move(pending)).status()));
  CHECK(domain::HasReason(live.Ask(Info()).status(), pb::ERROR_REASON_SHUTTING_DOWN));
  live.connection().Stop();  // Twice does no harm.
}

TEST_CASE("Stop does not wait for a server that hangs at the gate", "[jetstream]") {
  const auto nats = Must(NatsServer::Start({}));
  std::atomic<bool> at_gate = false;
  Live live(To(nats->url()), [&](RawConnection& connection) {
    nats->Pause();
    at_gate = true;
    return connection.SyncRequest(Info(), std::chrono::minutes(10)).status();
  });
  REQUIRE(PollUntil([&] { return at_gate.load(); }, kPatience));
  const auto start = std::chrono::steady_clock::now();
  live.connection().Stop();
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(10));
}

TEST_CASE("A message that would break the protocol is not sent", "[jetstream]") {
  const auto nats = Must(NatsServer::Start({.extra_config = "max_payload: 4096"}));
  Live live(To(nats->url()));
  REQUIRE(live.WaitUntilUp());
  live.MakeStream(EventStreamConfig("S", "s.>"));
  for (const std::string& subject :
       {std::string(""), std::string("s.x 1\r\nx\r\nPUB s.y 1\r\ny"), std::string("s.x\ty"), std::string("s.\n")}) {
    CHECK(absl::IsInvalidArgument(live.Ask(Text(subject)).status()));
  }
  const std::vector<std::pair<std::string, std::string>> headers = {
      {"a", "b\r\nNats-Rollup: all"}, {"a", "b\n"}, {"a\r\n", "b"}, {"a:", "b"}, {"a b", "c"}, {"", "b"}, {"a", ""}};
  for (const auto& [name, value] : headers) {
    OutgoingMessage message = Text("s.x");
    message.headers.Add(name, value);
    CHECK(absl::IsInvalidArgument(live.Ask(message).status()));
  }
  CHECK(absl::IsOutOfRange(live.Ask(Text("s.x", std::string(4097, 'x'))).status()));
  OutgoingMessage message = Text("s.x", std::string(4000, 'x'));
  message.headers.Add("a", std::string(100, 'y'));
  CHECK(absl::IsOutOfRange(live.Ask(message).status()));
  CHECK(live.Ask(Text("s.x", std::string(4096, 'x'))).ok());
  CHECK(live.CountMessages("S") == 1);
  CHECK(live.connection().connects() == 1);
}

TEST_CASE("A connection that the server ends for a protocol error is made anew", "[jetstream]") {
  const auto nats = Must(NatsServer::Start({}));
  Live live(To(nats->url()));
  REQUIRE(live.WaitUntilUp());
  CHECK(absl::IsUnknown(live.Ask(Text(std::string(5000, 'a'))).status()));  // Over max_control_line.
  CHECK(live.WaitUntilUp(2));
}

TEST_CASE("Requests of many threads each end once, whatever becomes of the server", "[jetstream]") {
  const auto nats = Must(NatsServer::Start({}));
  Live live(To(nats->url()));
  REQUIRE(live.WaitUntilUp());
  constexpr int kThreads = 4;
  std::atomic<int> answered = 0;
  std::atomic<int> failed = 0;
  std::atomic<bool> enough = false;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      while (!enough) {
        const absl::Status status = Await(live.connection().Request(Info(), In(kPatience))).status();
        const bool expected = status.ok() || absl::IsUnknown(status) || absl::IsUnavailable(status);
        (status.ok() ? answered : failed) += expected ? 1 : 1'000'000;
      }
    });
  }
  for (uint64_t n = 2; n <= 3; ++n) {
    const int before = answered;
    CHECK(PollUntil([&] { return answered > before + 50; }, kPatience));
    nats->Kill9();
    CHECK(live.WaitUntilDown());
    Must(nats->Restart());
    CHECK(live.WaitUntilUp(n));
  }
  enough = true;
  for (std::thread& thread : threads) thread.join();
  CHECK(failed > 0);
  CHECK(failed < 1'000'000);
}

}  // namespace
}  // namespace persistd::jetstream
