// Reads what processes spend: processor time to the microsecond, and the peak of resident memory since the meter began.
#pragma once

#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

#include "tests/bench/measurement.h"

namespace persistd::bench {

struct NamedProcess {
  std::string name;
  pid_t pid = 0;  // 0: this process.
};

// Resident memory now, in MiB; 0 when the process is gone.
double ResidentMib(pid_t pid);

class ProcessMeter {
 public:
  // Starts measuring. Several processes of one name are added up.
  explicit ProcessMeter(std::vector<NamedProcess> processes);
  std::vector<ProcessUse> Read() const;

 private:
  std::vector<NamedProcess> processes_;
  std::vector<double> started_;  // Processor seconds at the start.
};

}  // namespace persistd::bench
