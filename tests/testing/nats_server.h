// A real nats-server with JetStream on 127.0.0.1, to be treated badly: killed, restarted on the same port and store,
// paused.
//
// It lives in a temporary folder of its own, and dies with the object or with the test program. One thread at a time,
// except for the addresses, which never change.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/base/process.h"
#include "tests/testing/temp_dir.h"

namespace persistd::testing {

class NatsServer {
 public:
  struct Options {
    bool sync_always = false;       // fsync before every answer.
    std::string store_dir = {};     // JetStream's store; empty: in the object's folder. Never removed when given.
    uint64_t max_file_store_bytes = 0;  // What JetStream may use; 0: three quarters of the disk's free space.
    std::string extra_config = {};  // Lines added to the configuration.
    std::string user = {};          // With `password`: clients must know them.
    std::string password = {};
    std::string name = "test";  // server_name
    // A command that runs the server, such as {"unshare", "--mount"}. When it forks, pid() is the wrapper's, and
    // signals reach both.
    std::vector<std::string> wrapper = {};
  };

  // Returns when it accepts clients. The status holds the end of its log when it does not.
  static absl::StatusOr<std::unique_ptr<NatsServer>> Start(Options options);

  std::string url() const;             // "nats://127.0.0.1:PORT"
  std::string monitoring_url() const;  // "http://127.0.0.1:PORT"
  int port() const { return port_; }
  int monitoring_port() const { return monitoring_port_; }
  const std::string& name() const { return options_.name; }
  const std::string& store_dir() const { return options_.store_dir; }

  pid_t pid() const;  // 0 while it does not run.
  bool running() const;
  bool paused() const { return paused_; }
  void Kill9();             // Returns when it has ended.
  base::ExitStatus Stop();  // SIGTERM; SIGKILL after 20 s. Must run.
  // Same port, same store. Stops it first when it runs.
  absl::Status Restart();
  void Pause();   // SIGSTOP: connections stay, nothing is answered.
  void Resume();  // SIGCONT
  // The end of its log.
  std::string log() const;

 private:
  explicit NatsServer(Options options);
  absl::Status WriteConfig() const;
  absl::Status Launch();

  const TempDir dir_;
  Options options_;
  const int port_;
  const int monitoring_port_;
  bool paused_ = false;
  std::unique_ptr<base::Process> process_;
};

}  // namespace persistd::testing
