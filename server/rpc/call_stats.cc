#include "server/rpc/call_stats.h"

#include <algorithm>
#include <cstddef>

namespace persistd::rpc {
namespace {

template <typename Counters, typename Counts>
void ReadAll(const Counters& counters, Counts& counts) {
  std::transform(counters.begin(), counters.end(), counts.begin(),
                 [](const auto& counter) { return counter.load(std::memory_order_relaxed); });
}

}  // namespace

void CallStats::End(absl::StatusCode code, std::chrono::nanoseconds duration) {
  auto index = static_cast<size_t>(code);
  if (index >= by_code_.size()) index = static_cast<size_t>(absl::StatusCode::kUnknown);
  by_code_[index].fetch_add(1, std::memory_order_relaxed);
  const auto bound = std::lower_bound(kDurationBounds.begin(), kDurationBounds.end(), duration);
  by_duration_[static_cast<size_t>(bound - kDurationBounds.begin())].fetch_add(1, std::memory_order_relaxed);
  total_ns_.fetch_add(duration.count(), std::memory_order_relaxed);
  running_.fetch_sub(1, std::memory_order_relaxed);
}

CallCounts CallStats::Read() const {
  CallCounts counts;
  ReadAll(by_code_, counts.by_code);
  ReadAll(by_duration_, counts.by_duration);
  counts.total_duration = std::chrono::nanoseconds(total_ns_.load(std::memory_order_relaxed));
  counts.running = running_.load(std::memory_order_relaxed);
  return counts;
}

}  // namespace persistd::rpc
