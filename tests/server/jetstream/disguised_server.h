// A real nats-server behind a proxy that forges what the gate of a connection asks it: its version and API level. The
// server does everything right, so only what it says of itself can be why it is refused. For one thread.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/substitute.h"
#include "server/jetstream/server_probe.h"
#include "tests/server/jetstream/live.h"
#include "tests/testing/must.h"
#include "tests/testing/nats_server.h"
#include "tests/testing/tcp_proxy.h"

namespace persistd::jetstream {

class DisguisedServer {
 public:
  DisguisedServer()
      : nats_(testing::Must(testing::NatsServer::Start({}))),
        proxy_(testing::Must(testing::TcpProxy::Start(nats_->port()))),
        facts_(testing::Must(ProbeServer(*testing::Must(RawConnection::Connect(To(nats_->url())))))) {}

  std::string url() const { return absl::StrCat("nats://127.0.0.1:", proxy_->port()); }  // Of the proxy.
  // What the server says when it does not pretend.
  const ServerFacts& facts() const { return facts_; }

  // Each takes the place of the one before, from the next answer on.
  void PretendVersion(const std::string& version) {
    // The key in front, which nobody reads, leaves room for a version that is up to ten characters longer.
    Forge(absl::Substitute(R"("_nats.req.level":"2","_nats.ver":"$0")", facts_.version),
          absl::Substitute(R"("_nats":"2","_nats.ver":"$0")", version));
  }
  void PretendApiLevel(int level) {
    Forge(absl::Substitute(R"("api":{"level":$0)", facts_.api_level), absl::Substitute(R"("api":{"level":$0)", level));
  }
  void PretendNothing() { proxy_->ReplaceAnswers("", ""); }

  // Closes all connections, as a server does that is replaced by another.
  void CutConnections() {
    proxy_->SetAway(true);
    proxy_->SetAway(false);
  }

 private:
  // Spaces after a token of JSON make it as long as before.
  void Forge(const std::string& text, std::string replacement) {
    replacement.append(text.size() - replacement.size(), ' ');
    proxy_->ReplaceAnswers(text, std::move(replacement));
  }

  const std::unique_ptr<testing::NatsServer> nats_;
  const std::unique_ptr<testing::TcpProxy> proxy_;
  const ServerFacts facts_;
};

}  // namespace persistd::jetstream
