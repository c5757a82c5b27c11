// What one run of a probe found: operations, latencies, and what the processes spent meanwhile. Plain values.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace persistd::bench {

struct ProcessUse {
  std::string name;  // client, persistd, nats-server, echo
  double cpu_seconds = 0;
  double peak_mib = 0;  // Of resident memory, within the measurement.
};

struct Measurement {
  uint64_t operations = 0;
  uint64_t failures = 0;
  std::string first_failure = {};
  double seconds = 0;
  double p50_us = 0;
  double p99_us = 0;
  double p999_us = 0;
  double events_per_operation = 1;
  std::vector<ProcessUse> processes = {};
  std::map<std::string, double> figures = {};  // What else was measured, with its unit in the name.
  std::string note = {};  // What a reader of the table should know, such as the better of two ways.

  double rate() const { return seconds > 0 ? static_cast<double>(operations) / seconds : 0; }
  double events_rate() const { return rate() * events_per_operation; }
  // Of all processes; 0 when there were no operations.
  double cpu_us_per_operation() const;
};

// The run with the median rate.
const Measurement& MedianRun(const std::vector<Measurement>& runs);
// Of a copy; 0 when there are none.
double Median(std::vector<double> values);

}  // namespace persistd::bench
