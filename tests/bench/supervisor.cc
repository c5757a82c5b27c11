#include "tests/bench/supervisor.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <string>
#include <system_error>

namespace persistd::bench {
namespace {

volatile sig_atomic_t child_pid = 0;

// A signal that reached the supervisor alone; after Ctrl-C in a terminal the child has it already.
void EndChild(int) {
  if (child_pid > 0) kill(child_pid, SIGTERM);
}

std::string MakeFolder() {
  const char* root = std::getenv("TEST_TMPDIR");
  std::string path = std::string(root != nullptr ? root : "/tmp") + "/persistd-bench-XXXXXX";
  return mkdtemp(path.data()) != nullptr ? path : "";
}

}  // namespace

int RunSupervised(const std::function<int()>& work) {
  const std::string folder = MakeFolder();
  if (folder.empty()) {
    std::perror("no temporary folder");
    return 1;
  }
  setenv("TEST_TMPDIR", folder.c_str(), 1);
  // The servers that the child leaves behind become ours, so that we can wait for their end.
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  struct sigaction action {};
  action.sa_handler = EndChild;
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    exit(work());
  }
  child_pid = child;
  int status = child < 0 ? 1 << 8 : 0;
  int any = 0;
  for (pid_t ended = 0; (ended = wait(&any)) > 0 || errno == EINTR;) {
    if (ended == child) status = any;
  }
  std::error_code ignored;
  std::filesystem::remove_all(folder, ignored);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace persistd::bench
