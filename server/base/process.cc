#include "server/base/process.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/base/unique_fd.h"

namespace persistd::base {
namespace {

// What the child does between fork and exec, for the message when one of these fails.
enum Step { kTieToParent, kOwnGroup, kRedirect, kCloseDescriptors, kExecute };
constexpr const char* kStepTexts[] = {"tie it to this process", "give it a process group",
                                      "redirect its standard streams", "close descriptors in it", "execute it"};

// What the child writes to the error pipe. The pipe closes on exec, so no bytes mean success.
struct ChildFailure {
  int error;
  Step step;
};

// Everything that the child needs, made before the fork: after it only async-signal-safe calls are allowed, because
// another thread may have held any lock (malloc's, say) at the moment of the fork.
struct ChildPlan {
  std::vector<char*> arguments;
  std::vector<char*> environment;
  int null_fd;
  int output_fd;
  int error_fd;
  int descriptor_limit;
  const std::vector<int>& inherited_fds;
  pid_t parent;
};

[[noreturn]] void Fail(const ChildPlan& plan, Step step) {
  const ChildFailure failure = {errno, step};
  // The parent learns of it or is gone; there is nobody else to tell.
  [[maybe_unused]] const ssize_t written = write(plan.error_fd, &failure, sizeof(failure));
  _exit(127);
}

[[noreturn]] void RunChild(const ChildPlan& plan) {
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) Fail(plan, kTieToParent);
  // The parent may have died before prctl: then nobody will send the signal.
  if (getppid() != plan.parent) _exit(127);
  if (setpgid(0, 0) != 0) Fail(plan, kOwnGroup);

  // exec keeps ignored signals ignored. Signals that cannot be reset (SIGKILL, SIGSTOP, libc's own) fail harmlessly.
  struct sigaction by_default = {};
  by_default.sa_handler = SIG_DFL;
  for (int signal = 1; signal < NSIG; ++signal) sigaction(signal, &by_default, nullptr);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);

  if (dup2(plan.null_fd, STDIN_FILENO) < 0 || dup2(plan.output_fd, STDOUT_FILENO) < 0 ||
      dup2(plan.output_fd, STDERR_FILENO) < 0) {
    Fail(plan, kRedirect);
  }
  // Linux before 5.11 does not know this flag.
  if (close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) != 0) {
    for (int fd = 3; fd < plan.descriptor_limit; ++fd) fcntl(fd, F_SETFD, FD_CLOEXEC);
  }
  for (const int fd : plan.inherited_fds) {
    if (fcntl(fd, F_SETFD, 0) != 0) Fail(plan, kCloseDescriptors);
  }
  execve(plan.arguments[0], plan.arguments.data(), plan.environment.data());
  Fail(plan, kExecute);
}

std::vector<char*> Pointers(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

std::vector<char*> OwnEnvironment() {
  std::vector<char*> pointers;
  for (char** entry = environ; *entry != nullptr; ++entry) pointers.push_back(*entry);
  pointers.push_back(nullptr);
  return pointers;
}

absl::StatusOr<pid_t> Spawn(Process::Options& options) {
  if (options.command.empty()) return absl::InvalidArgumentError("no command to run");
  const std::string attempt = absl::StrCat("cannot start ", options.command[0]);
  const UniqueFd null_fd(open("/dev/null", O_RDWR | O_CLOEXEC));
  int pipe_fds[2];
  if (!null_fd.valid() || pipe2(pipe_fds, O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, attempt);
  const UniqueFd error_read(pipe_fds[0]);
  UniqueFd error_write(pipe_fds[1]);
  const ChildPlan plan = {
      .arguments = Pointers(options.command),
      .environment = options.environment.has_value() ? Pointers(*options.environment) : OwnEnvironment(),
      .null_fd = null_fd.get(),
      .output_fd = options.output_fd >= 0 ? options.output_fd : null_fd.get(),
      .error_fd = error_write.get(),
      .descriptor_limit = static_cast<int>(sysconf(_SC_OPEN_MAX)),
      .inherited_fds = options.inherited_fds,
      .parent = getpid(),
  };

  const pid_t pid = fork();
  if (pid < 0) return absl::ErrnoToStatus(errno, attempt);
  if (pid == 0) RunChild(plan);

  error_write.Reset();
  ChildFailure failure;
  ssize_t count;
  do {
    count = read(error_read.get(), &failure, sizeof(failure));
  } while (count < 0 && errno == EINTR);
  if (count != static_cast<ssize_t>(sizeof(failure))) return pid;
  while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  return absl::ErrnoToStatus(failure.error, absl::StrCat(attempt, ": cannot ", kStepTexts[failure.step]));
}

ExitStatus FromWaitStatus(int status) {
  if (WIFSIGNALED(status)) return {.code = -1, .signal = WTERMSIG(status)};
  return {.code = WEXITSTATUS(status), .signal = 0};
}

}  // namespace

std::string ExitStatus::ToString() const {
  if (signal == 0) return absl::StrCat("exit code ", code);
  const char* text = sigdescr_np(signal);
  return absl::StrCat("signal ", signal, " (", text != nullptr ? text : "unknown", ")");
}

absl::StatusOr<std::unique_ptr<Process>> Process::Start(Options options) {
  std::unique_ptr<Process> process(new Process(std::move(options)));
  process->thread_ = std::thread([self = process.get()] { self->Run(); });
  MutexLock lock(process->mutex_);
  while (!process->started_.has_value()) process->changed_.Wait(process->mutex_);
  if (process->started_->ok()) return process;
  return *process->started_;
}

Process::~Process() {
  Signal(SIGKILL);
  thread_.join();
}

void Process::Run() {
  // Signals belong to the threads that were made for them. The child inherits this mask until it has reset the
  // handlers, so that no handler of ours ever runs in it.
  sigset_t signals;
  sigfillset(&signals);
  pthread_sigmask(SIG_SETMASK, &signals, nullptr);
  const absl::StatusOr<pid_t> pid = Spawn(options_);
  // The kernel drops an ignored signal only when its first receiver, this thread, does not block it. A SIGCHLD that is
  // kept interrupts the system calls of other threads (EINTR).
  sigdelset(&signals, SIGCHLD);
  pthread_sigmask(SIG_SETMASK, &signals, nullptr);
  if (pid.ok()) pid_ = *pid;
  {
    MutexLock lock(mutex_);
    started_ = pid.status();
    changed_.NotifyAll();
  }
  if (!pid.ok()) return;

  // First see the end, then reap under the lock: until it is reaped its number cannot be given to another process, so
  // Signal() never hits a stranger.
  siginfo_t info;
  while (waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOWAIT) != 0 && errno == EINTR) {
  }
  {
    MutexLock lock(mutex_);
    int status = 0;
    exit_status_ = waitpid(pid_, &status, 0) == pid_ ? FromWaitStatus(status) : ExitStatus();
    changed_.NotifyAll();
  }
  if (options_.on_exit) options_.on_exit();
}

bool Process::Signal(int signal) {
  MutexLock lock(mutex_);
  if (pid_ == 0 || exit_status_.has_value()) return false;
  return kill(-pid_, signal) == 0;
}

std::optional<ExitStatus> Process::exit_status() const {
  MutexLock lock(mutex_);
  return exit_status_;
}

std::optional<ExitStatus> Process::WaitUntil(SteadyTime deadline) {
  MutexLock lock(mutex_);
  while (!exit_status_.has_value()) {
    if (!changed_.WaitUntil(mutex_, deadline)) break;
  }
  return exit_status_;
}

ExitStatus Process::Stop(std::chrono::milliseconds grace) {
  Signal(SIGTERM);
  Signal(SIGCONT);  // A stopped process would not see SIGTERM.
  if (const auto ended = WaitUntil(std::chrono::steady_clock::now() + grace)) return *ended;
  Signal(SIGKILL);
  MutexLock lock(mutex_);
  while (!exit_status_.has_value()) changed_.Wait(mutex_);
  return *exit_status_;
}

std::optional<std::chrono::nanoseconds> Process::cpu_time() const {
  MutexLock lock(mutex_);
  clockid_t clock;
  timespec used;
  if (exit_status_.has_value() || clock_getcpuclockid(pid_, &clock) != 0 || clock_gettime(clock, &used) != 0) {
    return std::nullopt;
  }
  return std::chrono::seconds(used.tv_sec) + std::chrono::nanoseconds(used.tv_nsec);
}

absl::StatusOr<std::string> RunForOutput(std::vector<std::string> command, std::chrono::milliseconds timeout) {
  constexpr size_t kMaxOutput = 64 * 1024;
  const std::string name = command.empty() ? "" : command[0];
  const UniqueFd output_fd(memfd_create("output", MFD_CLOEXEC));
  if (!output_fd.valid()) return absl::ErrnoToStatus(errno, "cannot make a memory file");
  ASSIGN_OR_RETURN(const std::unique_ptr<Process> process,
                   Process::Start({.command = std::move(command), .output_fd = output_fd.get()}));
  const auto ended = process->WaitUntil(std::chrono::steady_clock::now() + timeout);
  if (!ended.has_value()) {
    return absl::DeadlineExceededError(absl::StrCat(name, " did not end within ", timeout.count(), " ms"));
  }
  std::string output(kMaxOutput, '\0');
  const ssize_t size = pread(output_fd.get(), output.data(), output.size(), 0);
  if (size < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot read the output of ", name));
  output.resize(static_cast<size_t>(size));
  if (ended->code != 0) {
    return absl::UnknownError(absl::StrCat(name, " ended with ", ended->ToString(), ": ", output));
  }
  return output;
}

}  // namespace persistd::base
