#include "server/base/process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/file_lock.h"
#include "server/base/mutex.h"
#include "server/base/unique_fd.h"
#include "tests/testing/catch.h"
#include "tests/testing/must.h"
#include "tests/testing/temp_dir.h"

namespace persistd::base {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::Must;

SteadyTime In(seconds time) { return std::chrono::steady_clock::now() + time; }

std::string Shell(const std::string& script) { return Must(RunForOutput({"/bin/sh", "-c", script}, seconds(20))); }

std::string Content(const UniqueFd& file) {
  std::string text(4096, '\0');
  text.resize(static_cast<size_t>(std::max<ssize_t>(0, pread(file.get(), text.data(), text.size(), 0))));
  return text;
}

std::unique_ptr<Process> StartShell(const std::string& script) {
  return Must(Process::Start({.command = {"/bin/sh", "-c", script}}));
}

TEST_CASE("A program's output, exit code and fatal signal are reported", "[base]") {
  REQUIRE(Shell("echo out; echo err >&2") == "out\nerr\n");

  const absl::Status failed = RunForOutput({"/bin/sh", "-c", "echo why; exit 7"}, seconds(20)).status();
  REQUIRE(absl::IsUnknown(failed));
  REQUIRE(absl::StrContains(failed.message(), "exit code 7: why"));

  const auto killed = StartShell("kill -SEGV $$");
  REQUIRE(killed->WaitUntil(In(seconds(20)))->ToString() == "signal 11 (Segmentation fault)");
  REQUIRE_FALSE(killed->Signal(SIGTERM));
  REQUIRE_FALSE(killed->cpu_time().has_value());
}

TEST_CASE("A program that cannot be started is named with the reason", "[base]") {
  const absl::Status missing = Process::Start({.command = {"/no/such/program"}}).status();
  REQUIRE(absl::IsNotFound(missing));
  REQUIRE(absl::StrContains(missing.message(), "cannot start /no/such/program: cannot execute it"));
  REQUIRE(absl::IsPermissionDenied(Process::Start({.command = {"/etc/passwd"}}).status()));
  REQUIRE(absl::IsInvalidArgument(Process::Start({}).status()));
}

TEST_CASE("A program that takes too long is killed", "[base]") {
  REQUIRE(absl::IsDeadlineExceeded(RunForOutput({"/bin/sleep", "1000"}, milliseconds(50)).status()));
}

TEST_CASE("A child gets no descriptors but those it is given", "[base]") {
  const UniqueFd open_one(open("/dev/null", O_RDONLY));  // Not even close-on-exec.
  const UniqueFd given(open("/dev/zero", O_RDONLY | O_CLOEXEC));
  const UniqueFd output(memfd_create("output", MFD_CLOEXEC));
  // Looks at each number, for listing the folder would take a descriptor.
  const std::string script =
      "fd=0; while [ $fd -lt 64 ]; do [ -e /proc/$$/fd/$fd ] && echo $fd; fd=$((fd+1)); done; true";
  const auto child = Must(Process::Start(
      {.command = {"/bin/sh", "-c", script}, .output_fd = output.get(), .inherited_fds = {given.get()}}));
  REQUIRE(child->WaitUntil(In(seconds(20)))->code == 0);
  REQUIRE(Content(output) == absl::StrCat("0\n1\n2\n", given.get(), "\n"));
}

TEST_CASE("A child starts with default signals, in its own group, with the given environment", "[base]") {
  signal(SIGPIPE, SIG_IGN);
  REQUIRE(Shell("grep SigBlk /proc/self/status") == "SigBlk:\t0000000000000000\n");
  REQUIRE(Shell("grep -q 'SigIgn:.*[02468ace]...$' /proc/self/status && echo heard") == "heard\n");  // Bit 12: SIGPIPE.
  signal(SIGPIPE, SIG_DFL);
  REQUIRE(Shell("set -- $(cat /proc/$$/stat); test $5 = $$ && echo own") == "own\n");

  const UniqueFd output(memfd_create("output", MFD_CLOEXEC));
  const auto child = Must(Process::Start(
      {.command = {"/usr/bin/env"}, .environment = std::vector<std::string>{"ONLY=this"}, .output_fd = output.get()}));
  REQUIRE(child->WaitUntil(In(seconds(20)))->code == 0);
  REQUIRE(Content(output) == "ONLY=this\n");
}

TEST_CASE("A child outlives the thread that started it and dies with its object", "[base]") {
  std::unique_ptr<Process> child;
  std::thread([&child] { child = StartShell("sleep 1000 & wait"); }).join();
  REQUIRE_FALSE(child->exit_status().has_value());
  REQUIRE(child->cpu_time().has_value());
  const pid_t pid = child->pid();
  child = nullptr;
  REQUIRE(kill(pid, 0) != 0);
}

TEST_CASE("Stop ends a child in order, and by force when it does not obey", "[base]") {
  // The shell reports on its killed children, which nobody reads: that must not end it by SIGPIPE.
  const auto start = [](const std::string& trap) {
    int fds[2];
    REQUIRE(pipe2(fds, O_CLOEXEC) == 0);
    const UniqueFd read_end(fds[0]);
    const UniqueFd write_end(fds[1]);
    auto child = Must(Process::Start(
        {.command = {"/bin/sh", "-c", "exec 2>/dev/null; " + trap + "; echo ready; while :; do sleep 0.01; done"},
         .output_fd = write_end.get()}));
    char c;  // The first byte says that the trap is set.
    REQUIRE(read(read_end.get(), &c, 1) == 1);
    return child;
  };
  REQUIRE(start("trap 'exit 5' TERM")->Stop(seconds(20)).code == 5);
  REQUIRE(start("trap '' TERM")->Stop(milliseconds(50)).signal == SIGKILL);

  const auto paused = start("trap 'exit 6' TERM");
  REQUIRE(paused->Signal(SIGSTOP));
  REQUIRE(paused->Stop(seconds(20)).code == 6);
}

TEST_CASE("The end of a child is announced once, after its status is known", "[base]") {
  Mutex mutex;
  CondVar changed;
  int ends = 0;
  const auto child = Must(Process::Start({.command = {"/bin/true"}, .on_exit = [&] {
                                            MutexLock lock(mutex);
                                            ++ends;
                                            changed.NotifyAll();
                                          }}));
  MutexLock lock(mutex);
  while (ends == 0) changed.Wait(mutex);
  REQUIRE(child->exit_status()->code == 0);
  REQUIRE(ends == 1);
}

TEST_CASE("A lock file has one holder, which the others are told", "[base]") {
  const testing::TempDir dir;
  const std::string path = dir.File("LOCK");
  {
    FileLock first = Must(FileLock::Acquire(path, milliseconds(0)));
    const absl::Status refused = FileLock::Acquire(path, milliseconds(30)).status();
    REQUIRE(absl::IsFailedPrecondition(refused));
    REQUIRE(refused.message() == absl::StrCat(path, " is locked by process ", getpid()));
    Must(first.SetHolder(7));
    REQUIRE(absl::StrContains(FileLock::Acquire(path, milliseconds(0)).status().message(), "by process 7"));
  }
  Must(FileLock::Acquire(path, milliseconds(0)));
  REQUIRE(absl::IsNotFound(FileLock::Acquire(dir.File("missing/LOCK"), milliseconds(0)).status()));
}

TEST_CASE("A child that inherits a lock keeps it until it ends", "[base]") {
  const testing::TempDir dir;
  const std::string path = dir.File("LOCK");
  std::unique_ptr<Process> child;
  {
    const FileLock lock = Must(FileLock::Acquire(path, milliseconds(0)));
    child = Must(Process::Start({.command = {"/bin/sleep", "1000"}, .inherited_fds = {lock.fd()}}));
  }
  REQUIRE(absl::IsFailedPrecondition(FileLock::Acquire(path, milliseconds(0)).status()));
  std::thread killer([&child] { child->Signal(SIGKILL); });
  Must(FileLock::Acquire(path, seconds(20)));
  killer.join();
}

}  // namespace
}  // namespace persistd::base
