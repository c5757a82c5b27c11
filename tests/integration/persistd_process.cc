#include "tests/integration/persistd_process.h"

#include <fcntl.h>

#include <filesystem>
#include <sstream>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/base/unique_fd.h"
#include "tests/testing/files.h"
#include "tests/testing/must.h"
#include "tests/testing/poll.h"
#include "tests/testing/ports.h"
#include "tests/testing/runfiles.h"

namespace persistd::integration {
namespace {

using std::chrono_literals::operator""s;
using testing::Must;

std::unique_ptr<base::Process> Launch(std::vector<std::string> arguments, const std::string& log,
                                      std::vector<std::string> environment = {}) {
  arguments.insert(arguments.begin(), Must(testing::Runfile("persistd/server/persistd")));
  const base::UniqueFd fd(open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  base::Process::Options options{.command = std::move(arguments), .output_fd = fd.get()};
  if (!environment.empty()) options.environment = std::move(environment);
  return Must(base::Process::Start(std::move(options)));
}

struct ProcessInfo {
  char state = 'X';  // X: there is no such process.
  pid_t parent = 0;
};

ProcessInfo InfoOf(pid_t pid) {
  const std::string stat = testing::ReadFile(absl::StrCat("/proc/", pid, "/stat"));
  const size_t name_end = stat.rfind(')');  // The name may hold anything.
  ProcessInfo info;
  if (name_end != std::string::npos) std::istringstream(stat.substr(name_end + 1)) >> info.state >> info.parent;
  return info;
}

}  // namespace

PersistdProcess::PersistdProcess(Options options)
    : options_(std::move(options)), port_(testing::FreePorts(1)[0]), address_(absl::StrCat("127.0.0.1:", port_)) {
  if (options_.data_dir.empty()) options_.data_dir = dir_.File("data");
  std::vector<std::string> arguments = {"--ready-file", dir_.File("ready")};
  if (!options_.config.empty()) {
    Must(testing::WriteFile(dir_.File("persistd.yaml"), options_.config));
    arguments.insert(arguments.end(), {"--config", dir_.File("persistd.yaml")});
  }
  std::vector<std::string> sets = {absl::StrCat("server.listen_address=", address_),
                                   absl::StrCat("data_dir=", options_.data_dir),
                                   absl::StrCat("nats.embedded.binary=", Must(testing::Runfile("tools/nats-server")))};
  sets.insert(sets.end(), options_.sets.begin(), options_.sets.end());
  for (const std::string& set : sets) arguments.insert(arguments.end(), {"--set", set});
  process_ = Launch(std::move(arguments), dir_.File("log"));
}

std::string PersistdProcess::log() const { return testing::ReadFile(dir_.File("log")); }

std::string PersistdProcess::ready() const { return testing::ReadFile(dir_.File("ready")); }

bool PersistdProcess::WaitUntilReady() const {
  return testing::PollUntil([&] { return !ready().empty(); }, 30s);
}

bool PersistdProcess::WaitForLog(const std::string& text) const {
  return testing::PollUntil([&] { return absl::StrContains(log(), text); }, 30s);
}

std::optional<base::ExitStatus> PersistdProcess::WaitForEnd(std::chrono::milliseconds timeout) {
  return process_->WaitUntil(std::chrono::steady_clock::now() + timeout);
}

Outcome RunPersistd(std::vector<std::string> arguments, std::vector<std::string> environment) {
  const testing::TempDir dir;
  const std::unique_ptr<base::Process> process =
      Launch(std::move(arguments), dir.File("output"), std::move(environment));
  const std::optional<base::ExitStatus> status = process->WaitUntil(std::chrono::steady_clock::now() + 30s);
  if (!status.has_value()) Must(absl::DeadlineExceededError("persistd runs on where it should have ended"));
  return {.status = *status, .output = testing::ReadFile(dir.File("output"))};
}

std::vector<pid_t> ChildrenOf(pid_t pid) {
  std::vector<pid_t> children;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    pid_t candidate = 0;
    if (!absl::SimpleAtoi(entry.path().filename().string(), &candidate)) continue;
    if (InfoOf(candidate).parent == pid && IsRunning(candidate)) children.push_back(candidate);
  }
  return children;
}

bool IsRunning(pid_t pid) {
  const char state = InfoOf(pid).state;
  return state != 'X' && state != 'Z';
}

}  // namespace persistd::integration
