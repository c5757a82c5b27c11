// A nats-server of our own: started, watched, restarted when it dies, and never left behind.
//
// The server lives in one folder (mode 0700): its configuration with the password made at start, JetStream's store, its
// log, and two lock files. `LOCK` is held by the daemon: one daemon per folder. `nats-server.lock` is held by the
// daemon AND the server it started, so that after a kill -9 of the daemon the next one waits until the old server has
// let go of the store. It listens on 127.0.0.1 only, on one port for the life of the object.
//
// Threads: one supervises; the server's own base::Process has another. All methods are thread-safe.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/clock.h"
#include "server/base/file_lock.h"
#include "server/base/mutex.h"
#include "server/base/process.h"
#include "server/jetstream/server_binary.h"
#include "server/jetstream/server_log.h"

namespace persistd::jetstream {

class EmbeddedServer {
 public:
  struct Options {
    std::string binary = {};  // Path of nats-server; empty: searched for, see FindServerBinary.
    std::string dir = {};     // Created when missing. Only for this server.
    int port = 0;             // 0: a free one, kept while this object lives.
    // When JetStream calls fsync: "always" (before it answers), or a duration such as "2m".
    std::string sync_interval = "always";
    uint64_t max_file_store_bytes = 0;    // 0: nats-server's default, three quarters of the free disk.
    uint64_t max_memory_store_bytes = 0;  // 0: nats-server's default, three quarters of the memory.
    // How long a starting server may show no sign of progress (log lines, processor time). Recovery of a big store may
    // take up to ten minutes in all.
    std::chrono::milliseconds start_timeout{10'000};
    std::chrono::milliseconds stop_grace{10'000};  // From SIGTERM to SIGKILL.
    // Called with "started", "died", "crash-looping" or "stopped" after it has happened, on the supervising thread
    // (the first "started" inside Create). Must not block and must not call Stop().
    std::function<void(absl::string_view event)> on_event = {};
    // Asked while waiting for a start; true gives it up with CANCELLED. May be called from several threads.
    std::function<bool()> cancelled = {};
  };

  // Starts the server and returns when it accepts clients. Errors:
  //   INVALID_ARGUMENT     an option makes no sense
  //   NOT_FOUND            no nats-server
  //   FAILED_PRECONDITION  its version is refused; another daemon uses `dir`; the port is taken
  //   UNAVAILABLE          it ended or hung while starting; the message holds the end of its log
  //   or what the system said about `dir`.
  static absl::StatusOr<std::unique_ptr<EmbeddedServer>> Create(Options options);

  ~EmbeddedServer();  // Stops.
  EmbeddedServer(const EmbeddedServer&) = delete;
  EmbeddedServer& operator=(const EmbeddedServer&) = delete;

  // Ends the server in order (SIGTERM, then SIGKILL after stop_grace) and waits for it. Idempotent.
  void Stop();

  const std::string& url() const { return url_; }  // "nats://127.0.0.1:PORT", without credentials.
  const std::string& user() const { return user_; }
  const std::string& password() const { return password_; }
  const std::string& version() const { return binary_.version; }
  // The server's process id; 0 while it does not run.
  pid_t pid() const;
  // OK while it runs; otherwise UNAVAILABLE with the reason and, after several deaths in a row, the end of its log.
  absl::Status health() const;

 private:
  EmbeddedServer(Options options, ServerBinary binary, base::FileLock daemon_lock, base::FileLock store_lock);

  std::string PathOf(absl::string_view name) const;
  absl::Status WriteConfig(int port) const;
  absl::Status ClearPortsFolder() const;
  absl::StatusOr<std::unique_ptr<base::Process>> Launch();
  absl::Status AwaitReady(base::Process& process, const ServerLog& log);
  absl::Status StartFailure(absl::string_view what, const ServerLog& log) const;
  void Supervise(std::unique_ptr<base::Process> process);
  std::unique_ptr<base::Process> Relaunch(int& failures);
  void ReportFailure(int failures, const absl::Status& reason);
  bool WaitForStopUntil(base::SteadyTime deadline);
  bool WaitForEndOrStop(const base::Process& process);
  void SetRunning(pid_t pid);
  void SetDown(std::string why);
  void Announce(absl::string_view event) const;

  const Options options_;
  const ServerBinary binary_;
  const std::string user_;
  const std::string password_;
  const base::FileLock daemon_lock_;
  base::FileLock store_lock_;  // Used by Launch() alone.
  // Set by the first Launch(), inside Create(); read-only afterwards.
  int port_ = 0;
  std::string url_;

  mutable base::Mutex mutex_;
  base::CondVar changed_;  // Stop was asked, or the server ended.
  bool stopping_ GUARDED_BY(mutex_) = false;
  pid_t pid_ GUARDED_BY(mutex_) = 0;
  std::string why_down_ GUARDED_BY(mutex_);  // Empty while it runs.
  base::Mutex stop_mutex_;                   // Held while joining.
  std::thread supervisor_ GUARDED_BY(stop_mutex_);
};

}  // namespace persistd::jetstream
