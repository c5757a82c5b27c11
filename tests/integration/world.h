// A daemon over an external nats-server, and a look into that server behind the daemon's back. For one thread.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/integration/api.h"
#include "tests/server/jetstream/live.h"
#include "tests/testing/daemon.h"
#include "tests/testing/must.h"
#include "tests/testing/nats_server.h"

namespace persistd::integration {

using testing::Must;

class World {
 public:
  explicit World(std::vector<std::string> sets = {}, testing::NatsServer::Options nats = {})
      : nats_(Must(testing::NatsServer::Start(std::move(nats)))), live_(jetstream::To(nats_->url())) {
    if (!live_.WaitUntilUp()) Must(absl::UnavailableError("no connection to nats-server"));
    StartDaemon(std::move(sets));
  }

  // Another daemon in place of the one before, over the same data.
  void StartDaemon(std::vector<std::string> sets = {}) {
    daemon_ = nullptr;
    sets.push_back("nats.urls=" + nats_->url());
    daemon_ = Must(testing::Daemon::Start({.sets = std::move(sets)}));
    api_ = std::make_unique<Api>(daemon_->address());
  }

  testing::NatsServer& nats() const { return *nats_; }
  jetstream::Live& live() { return live_; }
  testing::Daemon& daemon() { return *daemon_; }
  Api& api() { return *api_; }

  // Publishes what persistd did not write.
  void Publish(const std::string& subject, jetstream::Headers headers = {}, const std::string& data = "hello") {
    Must(live_.Ask({.subject = subject, .headers = std::move(headers), .data = data}).status());
  }

 private:
  const std::unique_ptr<testing::NatsServer> nats_;
  jetstream::Live live_;
  std::unique_ptr<testing::Daemon> daemon_;
  std::unique_ptr<Api> api_;
};

}  // namespace persistd::integration
