// A real persistd, to be treated badly.
//
// Runs `persistd --config FILE --set … --ready-file FILE` on 127.0.0.1. The daemon must write the ready file whole (by
// rename): "host:port". It dies with the object or with the test program. One thread at a time.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/base/process.h"
#include "tests/testing/temp_dir.h"

namespace persistd::testing {

class Daemon {
 public:
  struct Options {
    std::vector<std::string> sets = {};  // "key=value" each, for --set.
    std::string data_dir = {};           // Empty: in the object's folder. Never removed when given.
    std::string binary = {};             // Empty: //server:persistd of the runfiles.
    std::chrono::milliseconds start_timeout{60'000};
  };

  // Returns when the daemon is SERVING. Otherwise the status holds its exit status and the end of its log.
  static absl::StatusOr<std::unique_ptr<Daemon>> Start(Options options);

  const std::string& address() const { return address_; }  // "127.0.0.1:PORT", the same after every restart.
  pid_t pid() const;                                       // 0 while it does not run.
  bool running() const;
  const std::string& data_dir() const { return options_.data_dir; }
  // The last MiB of what all its runs wrote to standard error and standard output.
  std::string log() const;

  void Kill9();                  // Returns when it has ended.
  base::ExitStatus Terminate();  // SIGTERM, waits for the end; SIGKILL after 60 s. Must run.
  // Same data, same port. Kills it first when it runs.
  absl::Status Restart();
  void Pause();   // SIGSTOP
  void Resume();  // SIGCONT

 private:
  explicit Daemon(Options options);
  absl::Status Launch();

  const TempDir dir_;
  Options options_;
  std::string address_ = "127.0.0.1:0";
  std::unique_ptr<base::Process> process_;
};

}  // namespace persistd::testing
