#include "tests/bench/measurement.h"

#include <algorithm>
#include <cstddef>
#include <numeric>

namespace persistd::bench {

double Measurement::cpu_us_per_operation() const {
  if (operations == 0) return 0;
  double seconds_in_all = 0;
  for (const ProcessUse& process : processes) seconds_in_all += process.cpu_seconds;
  return seconds_in_all * 1e6 / static_cast<double>(operations);
}

const Measurement& MedianRun(const std::vector<Measurement>& runs) {
  std::vector<size_t> order(runs.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&runs](size_t a, size_t b) { return runs[a].rate() < runs[b].rate(); });
  return runs[order[order.size() / 2]];
}

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace persistd::bench
