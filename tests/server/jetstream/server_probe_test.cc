#include "server/jetstream/server_probe.h"

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "cim/persistence/v1/errors.pb.h"
#include "server/domain/errors.h"
#include "server/jetstream/server_version.h"
#include "tests/server/jetstream/disguised_server.h"
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

absl::StatusOr<ServerFacts> Probe(const ConnectOptions& options) {
  return ProbeServer(*Must(RawConnection::Connect(options)));
}

TEST_CASE("A current nats-server passes the probe, again and again, and nothing is left of it", "[jetstream]") {
  const auto nats = Must(NatsServer::Start({}));
  for (int i = 0; i < 5; ++i) {
    const absl::StatusOr<ServerFacts> facts = Probe(To(nats->url()));
    INFO(facts.status());
    REQUIRE(facts.ok());
    CHECK(CheckServerVersion(facts->version).ok());
    CHECK(facts->api_level >= 2);
  }
  Live live(To(nats->url()));
  REQUIRE(live.WaitUntilUp());
  CHECK(UnsignedField(live.Api("STREAM.NAMES").body, "total") == 0);
}

TEST_CASE("A probed connection serves requests", "[jetstream]") {
  const auto nats = Must(NatsServer::Start({}));
  Live live(To(nats->url()), [](RawConnection& connection) { return ProbeServer(connection).status(); });
  REQUIRE(live.WaitUntilUp());
  live.MakeStream(EventStreamConfig("S", "s.>"));
  CHECK(live.CountMessages("S") == 0);
}

TEST_CASE("A server or an account without JetStream is refused with the reason", "[jetstream]") {
  const auto off = Must(NatsServer::Start({.extra_config = "jetstream: false"}));
  const absl::Status nobody = Probe(To(off->url())).status();
  CHECK(domain::HasReason(nobody, pb::ERROR_REASON_NATS_UNAVAILABLE));
  CHECK(absl::StrContains(nobody.message(), "is JetStream on?"));

  const auto nats = Must(NatsServer::Start({.extra_config = "accounts { A { users: [ { user: a, password: b } ] } }"}));
  ConnectOptions options = To(nats->url());
  options.user = "a";
  options.password = "b";
  const absl::Status account = Probe(options).status();
  INFO(account);
  CHECK(absl::StrContains(account.message(), "JetStream"));
  CHECK_FALSE(account.ok());
}

TEST_CASE("A server whose limits leave no room for batches is refused", "[jetstream]") {
  const auto nats =
      Must(NatsServer::Start({.extra_config = "accounts { A { jetstream { max_streams: 1, max_mem: 0 }, users: "
                                              "[ { user: a, password: b } ] } }"}));
  ConnectOptions options = To(nats->url());
  options.user = "a";
  options.password = "b";
  const absl::Status status = Probe(options).status();
  INFO(status);
  CHECK(domain::HasReason(status, pb::ERROR_REASON_STORAGE_UNSUITABLE));
}

TEST_CASE("A server where others capture the probe's subjects is refused with the reason", "[jetstream]") {
  const auto nats = Must(NatsServer::Start({}));
  Live live(To(nats->url()));
  REQUIRE(live.WaitUntilUp());
  live.MakeStream(EventStreamConfig("ALL", "cim.>"));
  const absl::Status status = Probe(To(nats->url())).status();
  CHECK(domain::HasReason(status, pb::ERROR_REASON_STORAGE_UNSUITABLE));
  CHECK(absl::StrContains(status.message(), "overlap"));
}

TEST_CASE("Releases that mix up the checks of a batch are refused by name, their fixes are not", "[jetstream]") {
  DisguisedServer server;
  for (const char* version : {"2.11.9", "2.12.0", "2.12.9", "2.12.13", "2.12.14-RC.1", "2.13.0", "2.14.0", "2.14.1",
                              "2.14.2", "2.14.3", "2.14.4-RC.1"}) {
    server.PretendVersion(version);
    const absl::Status status = Probe(To(server.url())).status();
    INFO(version << ": " << status);
    CHECK(domain::HasReason(status, pb::ERROR_REASON_STORAGE_UNSUITABLE));
    CHECK(absl::StartsWith(status.message(), absl::StrCat("nats-server ", version, " does not keep")));
    CHECK(absl::StrContains(status.message(), "install nats-server 2.12.14"));
  }
  for (const char* version : {"2.12.14", "2.12.15", "2.14.4", "2.14.9", "2.15.0", "3.0.0"}) {
    server.PretendVersion(version);
    CHECK(Must(Probe(To(server.url()))).version == version);
  }
  server.PretendNothing();
  CHECK(Must(Probe(To(server.url()))).version == server.facts().version);
  Live live(To(server.url()));
  REQUIRE(live.WaitUntilUp());
  CHECK(UnsignedField(live.Api("STREAM.NAMES").body, "total") == 0);  // Refused probes clean up too.
}

TEST_CASE("Releases whose JetStream API is too old are refused by name", "[jetstream]") {
  DisguisedServer server;
  const auto probe = [&](int level) {
    server.PretendApiLevel(level);
    return Probe(To(server.url()));
  };
  for (const int level : {0, 1}) {
    const absl::Status status = probe(level).status();
    INFO(status);
    CHECK(domain::HasReason(status, pb::ERROR_REASON_STORAGE_UNSUITABLE));
    CHECK(absl::StrContains(status.message(), level == 0 ? "nats-server 2.10 or older (JetStream API level 0)"
                                                         : "nats-server 2.11 (JetStream API level 1)"));
  }
  CHECK(Must(probe(2)).api_level == 2);
}

TEST_CASE("A connection is refused to an older server at its start and whenever it is made again", "[jetstream]") {
  DisguisedServer server;
  server.PretendVersion("2.12.9");
  Live live(To(server.url()), [](RawConnection& connection) { return ProbeServer(connection).status(); });
  const auto refused = [&](const std::string& name) {
    const bool told =
        PollUntil([&] { return absl::StrContains(live.connection().status().message(), name); }, kPatience);
    const absl::Status status = live.Ask({.subject = "$JS.API.INFO", .headers = {}, .data = ""}).status();
    INFO(status);
    CHECK(domain::HasReason(status, pb::ERROR_REASON_STORAGE_UNSUITABLE));
    CHECK(absl::StrContains(status.message(), name));
    return told;
  };
  REQUIRE(refused("nats-server 2.12.9 "));
  CHECK(live.connection().connects() == 0);
  server.PretendNothing();
  REQUIRE(live.WaitUntilUp(1));
  server.PretendVersion("2.14.3");
  server.CutConnections();
  REQUIRE(refused("nats-server 2.14.3 "));
  server.PretendApiLevel(1);
  REQUIRE(refused("nats-server 2.11 "));
  server.PretendApiLevel(0);
  REQUIRE(refused("nats-server 2.10 or older "));
  CHECK(live.connection().connects() == 1);
  server.PretendVersion("2.14.9");
  REQUIRE(live.WaitUntilUp(2));
  CHECK_FALSE(live.Api("INFO").error.has_value());
}

TEST_CASE("A server that hangs fails the probe as unavailable", "[jetstream]") {
  const auto nats = Must(NatsServer::Start({}));
  const std::shared_ptr<RawConnection> connection = Must(RawConnection::Connect(To(nats->url())));
  nats->Pause();
  CHECK(domain::HasReason(ProbeServer(*connection).status(), pb::ERROR_REASON_NATS_UNAVAILABLE));
}

}  // namespace
}  // namespace persistd::jetstream
