// A child process that cannot outlive this one.
//
// Linux sends the parent-death signal when the THREAD that forked ends. So every Process has a thread of its own, which
// forks the child, waits for its end and only then returns: whichever thread calls Start() may end at any time, and if
// this process dies in any way, even by SIGKILL, the child is killed too.
//
// The child starts in a process group of its own (Ctrl-C in a terminal does not reach it), with default signal
// handling, standard input from /dev/null, and no descriptor of ours but those it is given.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/mutex.h"

namespace persistd::base {

// How a process ended: by exit(code), or by a signal.
struct ExitStatus {
  int code = -1;   // -1 when a signal ended it.
  int signal = 0;  // 0 when it exited.

  // "exit code 1" or "signal 9 (Killed)".
  std::string ToString() const;
};

// Thread-safe.
class Process {
 public:
  struct Options {
    // The program and its arguments. The program is a path; PATH is not searched.
    std::vector<std::string> command = {};
    // "NAME=value" each; absent: the environment of this process.
    std::optional<std::vector<std::string>> environment = std::nullopt;
    // Becomes standard output and standard error; -1 discards them. Only used during Start().
    int output_fd = -1;
    // Open in the child under the same numbers. Only used during Start().
    std::vector<int> inherited_fds = {};
    // Called once after the child has ended, on the process's thread. Must not destroy the Process.
    std::function<void()> on_exit = {};
  };

  // Returns when the program runs. Errors: what could not be done, with the system's reason (NOT_FOUND when there is no
  // such program, PERMISSION_DENIED when it is not executable).
  static absl::StatusOr<std::unique_ptr<Process>> Start(Options options);

  // Kills the process group when the child still runs, and waits for its end.
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  pid_t pid() const { return pid_; }
  // Sends `signal` to the child's process group; false when the child has ended.
  bool Signal(int signal);
  // How it ended; nullopt while it runs.
  std::optional<ExitStatus> exit_status() const;
  // Waits for the end; nullopt when `deadline` passed before.
  std::optional<ExitStatus> WaitUntil(SteadyTime deadline);
  // SIGTERM, and SIGKILL when that has not ended it within `grace`.
  ExitStatus Stop(std::chrono::milliseconds grace);
  // Processor time used so far; nullopt when it has ended.
  std::optional<std::chrono::nanoseconds> cpu_time() const;

 private:
  explicit Process(Options options) : options_(std::move(options)) {}
  void Run();

  Options options_;
  pid_t pid_ = 0;  // Written before Start() returns.
  mutable Mutex mutex_;
  CondVar changed_;
  std::optional<absl::Status> started_ GUARDED_BY(mutex_);
  std::optional<ExitStatus> exit_status_ GUARDED_BY(mutex_);
  std::thread thread_;
};

// Runs `command` to its end and returns the first 64 KiB of what it wrote to standard output and standard error.
// DEADLINE_EXCEEDED when it takes longer than `timeout` (it is killed); UNKNOWN with its output when it fails.
absl::StatusOr<std::string> RunForOutput(std::vector<std::string> command, std::chrono::milliseconds timeout);

}  // namespace persistd::base
