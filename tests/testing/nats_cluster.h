// Three real nats-servers that form a JetStream cluster on 127.0.0.1: enough for streams with three replicas (R3).
//
// One thread at a time, except for the addresses. The servers die with the object or with the test program.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tests/testing/nats_server.h"

namespace persistd::testing {

class NatsCluster {
 public:
  struct Options {
    bool sync_always = false;
    int size = 3;
    std::string extra_config = {};  // Lines added to every server's configuration.
    std::string user = {};
    std::string password = {};
  };

  // Returns when a meta leader is elected and all servers follow it.
  static absl::StatusOr<std::unique_ptr<NatsCluster>> Start(Options options);

  int size() const { return static_cast<int>(servers_.size()); }
  NatsServer& server(int i) { return *servers_[static_cast<size_t>(i)]; }
  std::vector<std::string> urls() const;
  std::string url_list() const;  // urls() joined by commas.

  void Kill9(int i) { server(i).Kill9(); }
  // Returns when it listens; WaitUntilWhole() waits until it has caught up.
  absl::Status Restart(int i) { return server(i).Restart(); }
  void Pause(int i) { server(i).Pause(); }
  void Resume(int i) { server(i).Resume(); }

  // The server that leads JetStream's meta group, once all running servers agree on one of them.
  absl::StatusOr<int> WaitForLeader(std::chrono::milliseconds timeout = std::chrono::seconds(30));
  // As WaitForLeader, and all servers are up and have caught up with it, in the meta group and in every stream.
  absl::StatusOr<int> WaitUntilWhole(std::chrono::milliseconds timeout = std::chrono::seconds(60));

 private:
  NatsCluster() = default;

  int AgreedLeader() const;
  bool IsWhole(int leader) const;

  std::vector<std::unique_ptr<NatsServer>> servers_;
};

}  // namespace persistd::testing
