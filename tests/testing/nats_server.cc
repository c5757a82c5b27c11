#include "tests/testing/nats_server.h"

#include <fcntl.h>
#include <signal.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/base/unique_fd.h"
#include "tests/testing/files.h"
#include "tests/testing/poll.h"
#include "tests/testing/ports.h"
#include "tests/testing/runfiles.h"

namespace persistd::testing {
namespace {

namespace fs = std::filesystem;

constexpr auto kStartTimeout = std::chrono::seconds(60);
constexpr auto kStopGrace = std::chrono::seconds(20);
constexpr size_t kLogTail = 4096;

bool AllThreadsStopped(pid_t pid) {
  std::error_code error;
  for (const fs::directory_entry& thread : fs::directory_iterator(absl::StrCat("/proc/", pid, "/task"), error)) {
    // "number (name) state …", proc(5).
    const std::string stat = ReadFile(thread.path().string() + "/stat");
    const size_t name_end = stat.rfind(") ");
    if (name_end != std::string::npos && stat[name_end + 2] != 'T') return false;
  }
  return true;
}

}  // namespace

absl::StatusOr<std::unique_ptr<NatsServer>> NatsServer::Start(Options options) {
  std::unique_ptr<NatsServer> server(new NatsServer(std::move(options)));
  RETURN_IF_ERROR(server->Launch());
  return server;
}

NatsServer::NatsServer(Options options)
    : options_(std::move(options)), port_(FreePorts(1)[0]), monitoring_port_(FreePorts(1)[0]) {
  if (options_.store_dir.empty()) options_.store_dir = dir_.File("store");
}

std::string NatsServer::url() const { return absl::StrCat("nats://127.0.0.1:", port_); }
std::string NatsServer::monitoring_url() const { return absl::StrCat("http://127.0.0.1:", monitoring_port_); }

absl::Status NatsServer::WriteConfig() const {
  std::string config = absl::StrCat(
      "server_name: ", options_.name, "\nhost: 127.0.0.1\nport: ", port_, "\nhttp: \"127.0.0.1:", monitoring_port_,
      "\"\nports_file_dir: \"", dir_.File("ports"), "\"\njetstream {\n  store_dir: \"", options_.store_dir, "\"\n",
      options_.sync_always ? "  sync_interval: always\n" : "",
      options_.max_file_store_bytes > 0 ? absl::StrCat("  max_file_store: ", options_.max_file_store_bytes, "\n") : "",
      "}\n", options_.extra_config, "\n");
  if (!options_.user.empty()) {
    absl::StrAppend(&config, "authorization { user: \"", options_.user, "\", password: \"", options_.password,
                    "\" }\n");
  }
  return WriteFile(dir_.File("nats-server.conf"), config);
}

absl::Status NatsServer::Launch() {
  ASSIGN_OR_RETURN(const std::string binary, Runfile("tools/nats-server"));
  RETURN_IF_ERROR(WriteConfig());
  // The server writes a file here when it listens; a killed one leaves its own.
  const std::string ports = dir_.File("ports");
  std::error_code error;
  fs::remove_all(ports, error);
  fs::create_directory(ports, error);
  if (error) return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot make ", ports));

  std::vector<std::string> command = options_.wrapper;
  if (!command.empty()) command.insert(command.begin(), "/usr/bin/env");  // Searches PATH.
  command.insert(command.end(), {binary, "--config", dir_.File("nats-server.conf")});
  const base::UniqueFd log_fd(
      open(dir_.File("nats-server.log").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!log_fd.valid()) return absl::ErrnoToStatus(errno, "cannot open nats-server.log");
  ASSIGN_OR_RETURN(process_, base::Process::Start({.command = std::move(command), .output_fd = log_fd.get()}));
  paused_ = false;

  const bool ready =
      PollUntil([&] { return process_->exit_status().has_value() || !fs::is_empty(ports, error); }, kStartTimeout);
  if (ready && !process_->exit_status().has_value()) return absl::OkStatus();
  process_ = nullptr;
  return absl::UnavailableError(absl::StrCat("nats-server ", options_.name, ready ? " ended" : " hung",
                                             " while starting; its log ends with:\n", log()));
}

pid_t NatsServer::pid() const { return running() ? process_->pid() : 0; }

bool NatsServer::running() const { return process_ != nullptr && !process_->exit_status().has_value(); }

void NatsServer::Kill9() { process_ = nullptr; }

base::ExitStatus NatsServer::Stop() {
  const base::ExitStatus status = process_ != nullptr ? process_->Stop(kStopGrace) : base::ExitStatus();
  process_ = nullptr;
  return status;
}

absl::Status NatsServer::Restart() {
  if (running()) Stop();
  return Launch();
}

void NatsServer::Pause() {
  paused_ = running() && process_->Signal(SIGSTOP);
  // The signal reaches one thread after the other; until all have stopped the server may still answer.
  if (paused_) static_cast<void>(PollUntil([&] { return AllThreadsStopped(process_->pid()); }, kStopGrace));
}

void NatsServer::Resume() {
  if (running()) process_->Signal(SIGCONT);
  paused_ = false;
}

std::string NatsServer::log() const { return Tail(ReadFile(dir_.File("nats-server.log")), kLogTail); }

}  // namespace persistd::testing
