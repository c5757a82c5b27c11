#include "server/app/run.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "server/app/daemon.h"
#include "server/app/ready_file.h"
#include "server/app/version.h"
#include "server/base/logging.h"

namespace persistd::app {
namespace {

constexpr int kStartFailed = 1;

sigset_t EndSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  return set;
}

int WaitForSignal() {
  const sigset_t set = EndSignals();
  int signal = 0;
  while (sigwait(&set, &signal) != 0) {
  }
  return signal;
}

}  // namespace

void BlockSignals() {
  const sigset_t set = EndSignals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  signal(SIGPIPE, SIG_IGN);
}

int Run(const config::Config& config, const Flags& flags) {
  base::LogInfo("starting", {{"version", kVersion}, {"pid", getpid()}, {"data_dir", config.data_dir}});
  absl::StatusOr<std::unique_ptr<Daemon>> created = Daemon::Create(config, &base::Clock::System());
  if (!created.ok()) {
    base::LogError("cannot start", {{"reason", created.status().message()}});
    return kStartFailed;
  }
  Daemon& daemon = **created;
  // Start may take minutes (a big store recovers); signals count from the first moment.
  std::atomic<bool> asked_to_end = false;
  std::atomic<bool> ended = false;
  std::thread signals([&] {
    const int first = WaitForSignal();
    if (ended) return;
    base::LogInfo("signal", {{"number", first}});
    asked_to_end = true;
    daemon.Cancel();
    asked_to_end.notify_all();
    WaitForSignal();
    if (ended) return;
    base::LogWarn("second signal: ending at once");
    _exit(128 + first);
  });

  // One may have been left behind by a kill -9; and whoever waits for one that cannot be written would wait for ever.
  const absl::Status prepared = flags.ready_file.empty() ? absl::OkStatus() : PrepareReadyFile(flags.ready_file);
  const auto on_serving = [&daemon, &flags] {
    base::LogInfo("serving", {{"address", daemon.address()}});
    if (flags.ready_file.empty()) return;
    const absl::Status written = WriteReadyFile(flags.ready_file, daemon.address());
    if (!written.ok()) base::LogError("no ready file", {{"reason", written.message()}});
  };
  const absl::Status started = prepared.ok() ? daemon.Start(on_serving) : prepared;
  if (started.ok()) {
    asked_to_end.wait(false);
  } else if (!asked_to_end) {
    base::LogError("cannot start", {{"reason", started.message()}});
  }
  if (!flags.ready_file.empty()) RemoveReadyFile(flags.ready_file);
  daemon.Stop();

  // Wakes the signal thread, which may still wait for a first or second one.
  ended = true;
  const bool had_first = asked_to_end;
  pthread_kill(signals.native_handle(), SIGTERM);
  if (!had_first && !asked_to_end) pthread_kill(signals.native_handle(), SIGTERM);
  signals.join();
  return started.ok() || had_first ? 0 : kStartFailed;
}

}  // namespace persistd::app
