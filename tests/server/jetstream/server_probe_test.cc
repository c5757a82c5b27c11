#include "server/jetstream/server_probe.h"

#include <string>

#include "absl/strings/match.h"
#include "cim/persistence/v1/errors.pb.h"
#include "server/domain/errors.h"
#include "server/jetstream/server_version.h"
#include "tests/server/jetstream/live.h"
#include "tests/testing/catch.h"
#include "tests/testing/must.h"
#include "tests/testing/nats_server.h"

namespace persistd::jetstream {
namespace {

namespace pb = cim::persistence::v1;
using ::persistd::testing::Must;
using ::persistd::testing::NatsServer;

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

TEST_CASE("A server that hangs fails the probe as unavailable", "[jetstream]") {
  const auto nats = Must(NatsServer::Start({}));
  const std::shared_ptr<RawConnection> connection = Must(RawConnection::Connect(To(nats->url())));
  nats->Pause();
  CHECK(domain::HasReason(ProbeServer(*connection).status(), pb::ERROR_REASON_NATS_UNAVAILABLE));
}

}  // namespace
}  // namespace persistd::jetstream
