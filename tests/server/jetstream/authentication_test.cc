// Every way to show a NATS server who we are, right and wrong.
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "cim/persistence/v1/errors.pb.h"
#include "server/domain/errors.h"
#include "server/jetstream/connection.h"
#include "tests/server/jetstream/live.h"
#include "tests/server/jetstream/nats_keys.h"
#include "tests/testing/catch.h"
#include "tests/testing/files.h"
#include "tests/testing/must.h"
#include "tests/testing/nats_server.h"
#include "tests/testing/poll.h"
#include "tests/testing/temp_dir.h"

namespace persistd::jetstream {
namespace {

using ::persistd::testing::Must;
using ::persistd::testing::NatsServer;
using ::persistd::testing::NewNkey;
using ::persistd::testing::TempDir;
using ::persistd::testing::WriteFile;

bool Works(const ConnectOptions& options) {
  Live live(options);
  return live.WaitUntilUp() && live.Ask({.subject = "$JS.API.INFO", .headers = {}, .data = ""}).ok();
}

// The reason why a connection is refused; empty when it comes up.
std::string Refusal(const ConnectOptions& options) {
  const absl::StatusOr<std::shared_ptr<RawConnection>> connection = RawConnection::Connect(options);
  return connection.ok() ? "" : std::string(connection.status().message());
}

TEST_CASE("User and password open a server, others do not", "[jetstream]") {
  const auto nats = Must(NatsServer::Start({.user = "persistd", .password = "p@ss:w/ord"}));
  ConnectOptions options = To(nats->url());
  options.user = "persistd";
  options.password = "p@ss:w/ord";
  CHECK(Works(options));
  options.password = "wrong";
  CHECK(absl::IsUnauthenticated(RawConnection::Connect(options).status()));
  CHECK(absl::StrContains(Refusal(options), "connecting to NATS"));
  CHECK_FALSE(Refusal(To(nats->url())).empty());
  // A daemon with a wrong password stays up, says so, and does not repeat the password.
  Live live(options);
  REQUIRE(persistd::testing::PollUntil(
      [&] { return absl::StrContains(live.connection().status().message(), "cannot connect"); }, kPatience));
  CHECK(domain::HasReason(live.connection().status(), cim::persistence::v1::ERROR_REASON_NATS_UNAVAILABLE));
  CHECK_FALSE(absl::StrContains(live.connection().status().message(), "wrong"));
}

TEST_CASE("Credentials inside a URL work and are not shown", "[jetstream]") {
  const auto nats = Must(NatsServer::Start({.user = "persistd", .password = "secret"}));
  Live live(To(absl::StrCat("nats://persistd:secret@127.0.0.1:", nats->port())));
  REQUIRE(live.WaitUntilUp());
  CHECK(live.connection().server_url() == nats->url());
}

TEST_CASE("A token opens a server", "[jetstream]") {
  const auto nats = Must(NatsServer::Start({.extra_config = "authorization { token: \"t0ken\" }"}));
  ConnectOptions options = To(nats->url());
  options.token = "t0ken";
  CHECK(Works(options));
  options.token = "other";
  CHECK_FALSE(Refusal(options).empty());
}

TEST_CASE("An nkey seed file opens a server", "[jetstream]") {
  const persistd::testing::Nkey key = NewNkey('U');
  const auto nats = Must(
      NatsServer::Start({.extra_config = absl::StrCat("authorization { users: [ { nkey: ", key.public_key, " } ] }")}));
  const TempDir dir;
  ConnectOptions options = To(nats->url());
  options.nkey_seed_file = dir.File("seed");
  Must(WriteFile(options.nkey_seed_file, absl::StrCat(key.seed, "\n")));
  CHECK(Works(options));

  Must(WriteFile(options.nkey_seed_file, NewNkey('U').seed));
  CHECK_FALSE(Refusal(options).empty());
  Must(WriteFile(options.nkey_seed_file, "no seed"));
  CHECK(absl::StrContains(Refusal(options), "is not a user nkey seed"));
  CHECK_FALSE(absl::StrContains(Refusal(options), "no seed"));
  options.nkey_seed_file = dir.File("missing");
  CHECK(Refusal(options) == absl::StrCat("cannot read nats.nkey_seed_file ", dir.File("missing")));
}

TEST_CASE("A credentials file opens a server that trusts its operator", "[jetstream]") {
  const persistd::testing::OperatorSetup setup = persistd::testing::NewOperatorSetup();
  const auto nats = Must(NatsServer::Start({.extra_config = setup.server_config}));
  const TempDir dir;
  ConnectOptions options = To(nats->url());
  options.creds_file = dir.File("user.creds");
  Must(WriteFile(options.creds_file, setup.creds));
  CHECK(Works(options));

  Must(WriteFile(options.creds_file, persistd::testing::NewOperatorSetup().creds));  // Of another operator.
  CHECK_FALSE(Refusal(options).empty());
  options.creds_file = dir.File("missing");
  CHECK_FALSE(Refusal(options).empty());
}

}  // namespace
}  // namespace persistd::jetstream
