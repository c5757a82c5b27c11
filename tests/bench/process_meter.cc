#include "tests/bench/process_meter.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "absl/strings/str_cat.h"

namespace persistd::bench {
namespace {

double CpuSeconds(pid_t pid) {
  clockid_t clock = CLOCK_PROCESS_CPUTIME_ID;
  timespec time{};
  if (pid != 0 && clock_getcpuclockid(pid, &clock) != 0) return 0;
  if (clock_gettime(clock, &time) != 0) return 0;
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
}

std::string ProcPath(pid_t pid, const char* file) {
  return absl::StrCat("/proc/", pid == 0 ? std::string("self") : std::to_string(pid), "/", file);
}

// A field of /proc/PID/status in MiB, proc(5).
double StatusMib(pid_t pid, const std::string& field) {
  std::ifstream status(ProcPath(pid, "status"));
  std::string name;
  double kib = 0;
  for (std::string line; std::getline(status, line);) {
    if (line.rfind(field + ":", 0) == 0) kib = std::stod(line.substr(field.size() + 1));
  }
  return kib / 1024;
}

}  // namespace

double ResidentMib(pid_t pid) { return StatusMib(pid, "VmRSS"); }

ProcessMeter::ProcessMeter(std::vector<NamedProcess> processes) : processes_(std::move(processes)) {
  for (const NamedProcess& process : processes_) {
    // 5: forget the peak of resident memory, proc(5).
    std::ofstream(ProcPath(process.pid, "clear_refs")) << "5";
    started_.push_back(CpuSeconds(process.pid));
  }
}

std::vector<ProcessUse> ProcessMeter::Read() const {
  std::vector<ProcessUse> uses;
  for (size_t i = 0; i < processes_.size(); ++i) {
    const NamedProcess& process = processes_[i];
    auto use = std::find_if(uses.begin(), uses.end(), [&](const ProcessUse& u) { return u.name == process.name; });
    if (use == uses.end()) use = uses.insert(uses.end(), ProcessUse{.name = process.name});
    use->cpu_seconds += CpuSeconds(process.pid) - started_[i];
    use->peak_mib += StatusMib(process.pid, "VmHWM");
  }
  return uses;
}

}  // namespace persistd::bench
