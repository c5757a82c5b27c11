// The loop of every measurement: keep `window` operations in flight, start another whenever one ends, for a time.
#pragma once

#include <chrono>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "tests/bench/measurement.h"
#include "tests/bench/process_meter.h"

namespace persistd::bench {

struct Done {
  uint32_t slot = 0;
  std::string failure = {};  // Empty: it succeeded.
  bool counts = true;        // False: neither as an operation nor as a failure.
};

// Operations that run at once, each in a slot. For one thread.
class Workload {
 public:
  virtual ~Workload() = default;
  // Starts an operation in the free slot; false: there are no more.
  virtual bool Start(uint32_t slot) = 0;
  // Blocks until an operation has ended. Throws when none ends for a long time.
  virtual Done Wait() = 0;
};

struct LoopOptions {
  uint32_t window = 1;
  std::chrono::milliseconds time{4000};
  std::chrono::milliseconds warm_up{500};                           // Before the time, not counted.
  uint64_t most_operations = std::numeric_limits<uint64_t>::max();  // In all; the measurement ends there.
  double events_per_operation = 1;
  std::vector<NamedProcess> processes = {};
};

// Returns when nothing is in flight any more.
Measurement RunClosedLoop(Workload& workload, const LoopOptions& options);

// p50, p99 and p99.9 of latencies in microseconds.
void SetPercentiles(std::vector<float> latencies_us, Measurement& measurement);

}  // namespace persistd::bench
