#include "tests/testing/daemon.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/base/unique_fd.h"
#include "tests/testing/files.h"
#include "tests/testing/poll.h"
#include "tests/testing/runfiles.h"

namespace persistd::testing {
namespace {

constexpr auto kStopGrace = std::chrono::seconds(60);
constexpr size_t kMaxLog = 1 << 20;
constexpr size_t kErrorTail = 4096;

}  // namespace

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Start(Options options) {
  if (options.binary.empty()) {
    ASSIGN_OR_RETURN(options.binary, Runfile("persistd/server/persistd"));
  }
  std::unique_ptr<Daemon> daemon(new Daemon(std::move(options)));
  RETURN_IF_ERROR(daemon->Launch());
  return daemon;
}

Daemon::Daemon(Options options) : options_(std::move(options)) {
  if (options_.data_dir.empty()) options_.data_dir = dir_.File("data");
}

absl::Status Daemon::Launch() {
  const std::string config = dir_.File("persistd.yaml");
  const std::string ready_file = dir_.File("ready");
  ASSIGN_OR_RETURN(const std::string nats_server, Runfile("tools/nats-server"));
  RETURN_IF_ERROR(
      WriteFile(config, absl::StrCat("server:\n  listen_address: \"", address_, "\"\ndata_dir: \"", options_.data_dir,
                                     "\"\nnats:\n  embedded:\n    binary: \"", nats_server, "\"\n")));
  unlink(ready_file.c_str());
  std::vector<std::string> command = {options_.binary, "--config", config, "--ready-file", ready_file};
  for (const std::string& set : options_.sets) command.insert(command.end(), {"--set", set});
  const base::UniqueFd log_fd(open(dir_.File("log").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!log_fd.valid()) return absl::ErrnoToStatus(errno, "cannot open the daemon's log");
  ASSIGN_OR_RETURN(process_, base::Process::Start({.command = std::move(command), .output_fd = log_fd.get()}));

  std::string ready;
  const bool settled = PollUntil(
      [&] {
        ready = ReadFile(ready_file);
        return !ready.empty() || process_->exit_status().has_value();
      },
      options_.start_timeout);
  if (!ready.empty()) {
    address_ = std::string(absl::StripAsciiWhitespace(ready));
    return absl::OkStatus();
  }
  const std::string what = settled ? absl::StrCat("ended with ", process_->exit_status()->ToString()) : "hung";
  process_ = nullptr;
  return absl::UnavailableError(
      absl::StrCat("persistd ", what, " before it was ready; its log ends with:\n", Tail(log(), kErrorTail)));
}

pid_t Daemon::pid() const { return running() ? process_->pid() : 0; }

bool Daemon::running() const { return process_ != nullptr && !process_->exit_status().has_value(); }

std::string Daemon::log() const { return Tail(ReadFile(dir_.File("log")), kMaxLog); }

void Daemon::Kill9() { process_ = nullptr; }

base::ExitStatus Daemon::Terminate() {
  const base::ExitStatus status = process_ != nullptr ? process_->Stop(kStopGrace) : base::ExitStatus();
  process_ = nullptr;
  return status;
}

absl::Status Daemon::Restart() {
  Kill9();
  return Launch();
}

void Daemon::Pause() {
  if (running()) process_->Signal(SIGSTOP);
}

void Daemon::Resume() {
  if (running()) process_->Signal(SIGCONT);
}

}  // namespace persistd::testing
