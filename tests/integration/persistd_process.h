// One run of the persistd program, for tests of the program itself: its command line, signals, exit status, ready file
// and children. Unlike testing::Daemon it need not become ready. One thread at a time; killed with the object.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/process.h"
#include "tests/testing/temp_dir.h"

namespace persistd::integration {

class PersistdProcess {
 public:
  struct Options {
    std::vector<std::string> sets = {};  // "key=value" each, for --set.
    std::string config = {};             // The text of a file for --config; empty: none.
    std::string data_dir = {};           // Empty: in the object's folder.
  };

  // Starts it on a free port and does not wait.
  explicit PersistdProcess(Options options);

  const std::string& address() const { return address_; }
  int port() const { return port_; }
  const std::string& data_dir() const { return options_.data_dir; }
  pid_t pid() const { return process_->pid(); }
  std::string log() const;
  // What the ready file says; empty while there is none.
  std::string ready() const;
  [[nodiscard]] bool WaitUntilReady() const;
  [[nodiscard]] bool WaitForLog(const std::string& text) const;

  void Signal(int signal) { process_->Signal(signal); }
  // nullopt: it still runs.
  std::optional<base::ExitStatus> WaitForEnd(std::chrono::milliseconds timeout = std::chrono::seconds(30));

 private:
  const testing::TempDir dir_;
  Options options_;
  const int port_;
  const std::string address_;
  std::unique_ptr<base::Process> process_;
};

// Runs `persistd arguments…` to its end.
struct Outcome {
  base::ExitStatus status;
  std::string output;  // Standard output and standard error.
};
Outcome RunPersistd(std::vector<std::string> arguments, std::vector<std::string> environment = {});

// The running processes whose parent is `pid`, and whether a process runs. Processes that ended but were not waited
// for do not count.
std::vector<pid_t> ChildrenOf(pid_t pid);
bool IsRunning(pid_t pid);

}  // namespace persistd::integration
