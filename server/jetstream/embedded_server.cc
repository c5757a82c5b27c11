#include "server/jetstream/embedded_server.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <system_error>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/base/logging.h"
#include "server/base/status_macros.h"
#include "server/base/unique_fd.h"

namespace persistd::jetstream {
namespace {

namespace fs = std::filesystem;
using std::chrono::steady_clock;

constexpr auto kMaxStart = std::chrono::minutes(10);
constexpr auto kReadyPoll = std::chrono::milliseconds(20);
constexpr auto kProgressReport = std::chrono::seconds(10);
// Processor time that counts as a sign of life: reading a big store may take long without a log line.
constexpr auto kCpuProgress = std::chrono::milliseconds(50);
// A killed daemon's own lock goes with it; its server follows within this time, unless its disk hangs.
constexpr auto kDaemonLockPatience = std::chrono::seconds(1);
constexpr auto kStoreLockPatience = std::chrono::seconds(15);
constexpr auto kFirstBackOff = std::chrono::milliseconds(100);
constexpr auto kMaxBackOff = std::chrono::milliseconds(10'000);
constexpr auto kStableLife = std::chrono::seconds(30);
constexpr int kCrashLoop = 3;  // Failures in a row that make a crash loop.
constexpr uint64_t kLogFileBytes = 16 << 20;
constexpr int kLogFiles = 3;
constexpr int kMaxPayload = 1 << 20;

constexpr char kUser[] = "persistd";
constexpr char kLockFile[] = "LOCK";

// 192 random bits as 48 hex digits.
std::string NewPassword() {
  std::array<char, 24> bytes;
  // getentropy fails only for more than 256 bytes or on a kernel without it; there is nothing sane to go on with.
  if (getentropy(bytes.data(), bytes.size()) != 0) std::abort();
  return absl::BytesToHexString({bytes.data(), bytes.size()});
}

// A string of nats-server's configuration language.
std::string Quoted(absl::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\' || static_cast<unsigned char>(c) < ' ') {
      absl::StrAppend(&out, "\\x", absl::Hex(static_cast<unsigned char>(c), absl::kZeroPad2));
    } else {
      out += c;
    }
  }
  return out + "\"";
}

absl::Status CheckOptions(const EmbeddedServer::Options& options) {
  if (options.dir.empty()) return absl::InvalidArgumentError("the embedded nats-server needs a folder (data_dir)");
  if (options.port < 0 || options.port > 65535) {
    return absl::InvalidArgumentError(absl::StrCat("nats.embedded.port ", options.port, " is not in 0..65535"));
  }
  absl::Duration interval;
  if (options.sync_interval != "always" && (!absl::ParseDuration(options.sync_interval, &interval) ||
                                            interval <= absl::ZeroDuration() || interval > absl::Hours(24))) {
    return absl::InvalidArgumentError(absl::StrCat("nats.embedded.sync_interval \"",
                                                   absl::CEscape(options.sync_interval),
                                                   "\" is neither \"always\" nor a duration up to 24h such as 2m"));
  }
  return absl::OkStatus();
}

// Creates `dir` when it is missing and takes it from everybody else: the configuration in it holds the password.
absl::Status PrepareFolder(const fs::path& dir) {
  std::error_code error;
  fs::create_directories(dir, error);
  if (error) return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot create the folder ", dir.string()));
  struct stat info;
  if (stat(dir.c_str(), &info) != 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot look at ", dir.string()));
  // Never lock other users out of a folder that somebody named by mistake (/tmp, a home).
  if ((info.st_mode & 077) != 0 && !fs::is_empty(dir, error) && !fs::exists(dir / kLockFile, error)) {
    return absl::FailedPreconditionError(
        absl::StrCat("the folder ", dir.string(), " holds other files and is open to other users: give the embedded ",
                     "nats-server a folder of its own"));
  }
  if (chmod(dir.c_str(), 0700) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot make the folder ", dir.string(), " private (mode 0700)"));
  }
  if (access(dir.c_str(), W_OK | X_OK) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot write to the folder ", dir.string()));
  }
  return absl::OkStatus();
}

// The server needs nothing else, and none of our settings, which may hold secrets.
std::vector<std::string> ServerEnvironment() {
  std::vector<std::string> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    for (const char* wanted : {"PATH=", "HOME=", "TZ=", "GOMAXPROCS=", "GOMEMLIMIT=", "GOGC=", "GODEBUG="}) {
      if (absl::StartsWith(*entry, wanted)) environment.emplace_back(*entry);
    }
  }
  return environment;
}

// The port in a ports file of nats-server; nullopt while it is not wholly written.
std::optional<int> ReadPort(const fs::path& ports_folder) {
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(ports_folder, error)) {
    std::ifstream file(entry.path());
    const nlohmann::json ports = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
    if (!ports.is_object() || !ports.contains("nats") || !ports["nats"].is_array() || ports["nats"].empty() ||
        !ports["nats"][0].is_string()) {
      continue;
    }
    const auto url = ports["nats"][0].get<std::string>();
    int port = 0;
    if (absl::SimpleAtoi(absl::string_view(url).substr(url.rfind(':') + 1), &port)) return port;
  }
  return std::nullopt;
}

std::chrono::milliseconds BackOff(int failures) {
  return std::min<std::chrono::milliseconds>(kMaxBackOff, kFirstBackOff * (1 << std::clamp(failures - 1, 0, 10)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<EmbeddedServer>> EmbeddedServer::Create(Options options) {
  RETURN_IF_ERROR(CheckOptions(options));
  ASSIGN_OR_RETURN(ServerBinary binary, FindServerBinary(options.binary));
  const fs::path dir(options.dir);
  RETURN_IF_ERROR(PrepareFolder(dir));
  absl::StatusOr<base::FileLock> daemon_lock = base::FileLock::Acquire(dir / kLockFile, kDaemonLockPatience);
  if (absl::IsFailedPrecondition(daemon_lock.status())) {
    return absl::FailedPreconditionError(
        absl::StrCat("another daemon uses this data folder: ", daemon_lock.status().message()));
  }
  RETURN_IF_ERROR(daemon_lock.status());
  absl::StatusOr<base::FileLock> store_lock = base::FileLock::Acquire(dir / "nats-server.lock", kStoreLockPatience);
  if (absl::IsFailedPrecondition(store_lock.status())) {
    return absl::FailedPreconditionError(
        absl::StrCat("the nats-server of an earlier daemon has not ended: ", store_lock.status().message()));
  }
  RETURN_IF_ERROR(store_lock.status());

  std::unique_ptr<EmbeddedServer> server(
      new EmbeddedServer(std::move(options), std::move(binary), std::move(*daemon_lock), std::move(*store_lock)));
  ASSIGN_OR_RETURN(std::unique_ptr<base::Process> process, server->Launch());
  server->Announce("started");
  base::MutexLock lock(server->stop_mutex_);
  server->supervisor_ =
      std::thread([self = server.get(), first = std::move(process)]() mutable { self->Supervise(std::move(first)); });
  pthread_setname_np(server->supervisor_.native_handle(), "nats-supervisor");
  return server;
}

EmbeddedServer::EmbeddedServer(Options options, ServerBinary binary, base::FileLock daemon_lock,
                               base::FileLock store_lock)
    : options_(std::move(options)),
      binary_(std::move(binary)),
      user_(kUser),
      password_(NewPassword()),
      daemon_lock_(std::move(daemon_lock)),
      store_lock_(std::move(store_lock)),
      port_(options_.port) {}

EmbeddedServer::~EmbeddedServer() { Stop(); }

void EmbeddedServer::Stop() {
  {
    base::MutexLock lock(mutex_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  base::MutexLock lock(stop_mutex_);
  if (supervisor_.joinable()) supervisor_.join();
}

pid_t EmbeddedServer::pid() const {
  base::MutexLock lock(mutex_);
  return pid_;
}

absl::Status EmbeddedServer::health() const {
  base::MutexLock lock(mutex_);
  return why_down_.empty() ? absl::OkStatus() : absl::UnavailableError(why_down_);
}

std::string EmbeddedServer::PathOf(absl::string_view name) const {
  return (fs::path(options_.dir) / std::string(name)).string();
}

absl::Status EmbeddedServer::WriteConfig(int port) const {
  std::string text = absl::StrCat(
      "# Written by persistd at every start of its nats-server. Holds a password: keep it private.\n",
      "server_name: persistd\n", "host: \"127.0.0.1\"\n", "port: ", port == 0 ? -1 : port,
      "\n",  // nats-server's word for any free port is -1.
      "ports_file_dir: ", Quoted(PathOf("ports")), "\n", "pid_file: ", Quoted(PathOf("nats-server.pid")), "\n",
      "log_file: ", Quoted(PathOf("nats-server.log")), "\n", "logfile_size_limit: ", kLogFileBytes, "\n",
      "logfile_max_num: ", kLogFiles, "\n", "max_payload: ", kMaxPayload, "\n", "authorization { user: ", Quoted(user_),
      ", password: ", Quoted(password_), " }\n", "jetstream {\n", "  store_dir: ", Quoted(PathOf("store")), "\n",
      "  sync_interval: ", Quoted(options_.sync_interval), "\n");
  if (options_.max_file_store_bytes > 0) {
    absl::StrAppend(&text, "  max_file_store: ", options_.max_file_store_bytes, "\n");
  }
  if (options_.max_memory_store_bytes > 0) {
    absl::StrAppend(&text, "  max_memory_store: ", options_.max_memory_store_bytes, "\n");
  }
  text += "}\n";

  const std::string path = PathOf("nats-server.conf");
  unlink(path.c_str());  // So that the new file has our mode, whatever was there.
  const base::UniqueFd file(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file.valid()) return absl::ErrnoToStatus(errno, absl::StrCat("cannot create ", path));
  errno = 0;  // A short write sets none.
  if (write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    return absl::ErrnoToStatus(errno != 0 ? errno : ENOSPC, absl::StrCat("cannot write ", path));
  }
  return absl::OkStatus();
}

// A killed server leaves its ports file; only one of the new server may be found there.
absl::Status EmbeddedServer::ClearPortsFolder() const {
  const std::string path = PathOf("ports");
  std::error_code error;
  fs::remove_all(path, error);
  if (!error) fs::create_directory(path, error);
  return error ? absl::ErrnoToStatus(error.value(), absl::StrCat("cannot clear the folder ", path)) : absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<base::Process>> EmbeddedServer::Launch() {
  RETURN_IF_ERROR(WriteConfig(port_));
  RETURN_IF_ERROR(ClearPortsFolder());
  const std::string output_path = PathOf("nats-server.out");  // What comes before the log is open, and Go's panics.
  const ServerLog log({PathOf("nats-server.log"), output_path});
  const base::UniqueFd output(open(output_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!output.valid()) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", output_path));

  const auto on_exit = [this] {
    base::MutexLock lock(mutex_);
    changed_.NotifyAll();
  };
  ASSIGN_OR_RETURN(std::unique_ptr<base::Process> process,
                   base::Process::Start({.command = {binary_.path, "--config", PathOf("nats-server.conf")},
                                         .environment = ServerEnvironment(),
                                         .output_fd = output.get(),
                                         .inherited_fds = {store_lock_.fd()},
                                         .on_exit = on_exit}));
  RETURN_IF_ERROR(store_lock_.SetHolder(process->pid()));
  RETURN_IF_ERROR(AwaitReady(*process, log));
  SetRunning(process->pid());
  base::LogInfo("nats-server started", {{"version", binary_.version},
                                        {"pid", process->pid()},
                                        {"url", url_},
                                        {"dir", options_.dir},
                                        {"sync_interval", options_.sync_interval}});
  return process;
}

// nats-server writes its ports file when it has recovered its streams and listens.
absl::Status EmbeddedServer::AwaitReady(base::Process& process, const ServerLog& log) {
  const base::SteadyTime start = steady_clock::now();
  base::SteadyTime last_progress = start;
  base::SteadyTime last_report = start;
  off_t log_size = log.size();
  std::chrono::nanoseconds cpu{0};
  while (true) {
    if (const auto ended = process.exit_status()) {
      return StartFailure(absl::StrCat("ended with ", ended->ToString(), " while starting"), log);
    }
    if (const std::optional<int> port = ReadPort(PathOf("ports"))) {
      if (url_.empty()) {
        port_ = *port;
        url_ = absl::StrCat("nats://127.0.0.1:", *port);
      }
      return absl::OkStatus();
    }
    const base::SteadyTime now = steady_clock::now();
    const off_t new_size = log.size();
    const std::chrono::nanoseconds new_cpu = process.cpu_time().value_or(cpu);
    if (new_size != log_size || new_cpu - cpu >= kCpuProgress) {
      last_progress = now;
      log_size = new_size;
      cpu = new_cpu;
    }
    if (now - last_progress >= options_.start_timeout || now - start >= kMaxStart) {
      return StartFailure(absl::StrCat("was not ready after ", absl::FormatDuration(absl::FromChrono(now - start)),
                                       now - start >= kMaxStart ? "" : " and shows no progress"),
                          log);
    }
    if (now - last_report >= kProgressReport) {
      last_report = now;
      base::LogInfo("nats-server is still starting",
                    {{"elapsed", absl::FormatDuration(absl::Trunc(absl::FromChrono(now - start), absl::Seconds(1)))},
                     {"log", PathOf("nats-server.log")}});
    }
    if (options_.cancelled && options_.cancelled())
      return absl::CancelledError("the start of nats-server was given up");
    if (WaitForStopUntil(now + kReadyPoll)) return absl::CancelledError("nats-server is being stopped");
  }
}

absl::Status EmbeddedServer::StartFailure(absl::string_view what, const ServerLog& log) const {
  const std::string tail = log.Tail();
  if (absl::StrContains(tail, "address already in use")) {
    return absl::FailedPreconditionError(absl::StrCat("another program listens on 127.0.0.1:", port_,
                                                      ", the port of the embedded nats-server: end it or set "
                                                      "nats.embedded.port to another port or 0 (any free one)"));
  }
  return absl::UnavailableError(
      absl::StrCat(binary_.path, " ", what, "; its log in ", options_.dir, " ends with:\n", tail));
}

void EmbeddedServer::Supervise(std::unique_ptr<base::Process> process) {
  int failures = 0;  // In a row, without a stable life between them.
  while (process != nullptr) {
    const base::SteadyTime born = steady_clock::now();
    const ServerLog log({PathOf("nats-server.log"), PathOf("nats-server.out")});
    if (WaitForEndOrStop(*process)) {
      const base::ExitStatus ended = process->Stop(options_.stop_grace);
      base::LogInfo("nats-server stopped", {{"status", ended.ToString()}});
      break;
    }
    if (steady_clock::now() - born >= kStableLife) failures = 0;
    ReportFailure(++failures,
                  absl::UnavailableError(absl::StrCat("nats-server died: ", process->exit_status()->ToString(),
                                                      "; its log ends with:\n", log.Tail())));
    process = Relaunch(failures);
  }
  SetDown("nats-server is stopped");
  Announce("stopped");
}

// Tries until the server runs (with a growing pause, for the reason may pass: a full disk, a taken port) or Stop() is
// called: then null.
std::unique_ptr<base::Process> EmbeddedServer::Relaunch(int& failures) {
  while (!WaitForStopUntil(steady_clock::now() + BackOff(failures))) {
    absl::StatusOr<std::unique_ptr<base::Process>> process = Launch();
    if (process.ok()) {
      Announce("started");
      return std::move(*process);
    }
    if (!absl::IsCancelled(process.status())) ReportFailure(++failures, process.status());
  }
  return nullptr;
}

void EmbeddedServer::ReportFailure(int failures, const absl::Status& reason) {
  const bool crash_loop = failures >= kCrashLoop;
  SetDown(crash_loop ? absl::StrCat("nats-server failed ", failures, " times in a row, last: ", reason.message())
                     : std::string(reason.message()));
  base::LogError(crash_loop ? "nats-server keeps failing" : "nats-server failed",
                 {{"reason", reason.message()},
                  {"failures_in_a_row", failures},
                  {"next_try_in_ms", BackOff(failures).count()},
                  {"dir", options_.dir}});
  Announce(crash_loop ? "crash-looping" : "died");
}

// True as soon as Stop() was called.
bool EmbeddedServer::WaitForStopUntil(base::SteadyTime deadline) {
  base::MutexLock lock(mutex_);
  while (!stopping_ && steady_clock::now() < deadline) changed_.WaitUntil(mutex_, deadline);
  return stopping_;
}

// True when Stop() was called, false when the server ended by itself.
bool EmbeddedServer::WaitForEndOrStop(const base::Process& process) {
  base::MutexLock lock(mutex_);
  while (!stopping_ && !process.exit_status().has_value()) changed_.Wait(mutex_);
  return stopping_;
}

void EmbeddedServer::SetRunning(pid_t pid) {
  base::MutexLock lock(mutex_);
  pid_ = pid;
  why_down_.clear();
}

void EmbeddedServer::SetDown(std::string why) {
  base::MutexLock lock(mutex_);
  pid_ = 0;
  why_down_ = std::move(why);
}

void EmbeddedServer::Announce(absl::string_view event) const {
  if (options_.on_event) options_.on_event(event);
}

}  // namespace persistd::jetstream
