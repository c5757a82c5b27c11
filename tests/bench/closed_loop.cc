#include "tests/bench/closed_loop.h"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <utility>

namespace persistd::bench {
namespace {

using Clock = std::chrono::steady_clock;

float Microseconds(Clock::duration duration) { return std::chrono::duration<float, std::micro>(duration).count(); }

class Loop {
 public:
  Loop(Workload& workload, const LoopOptions& options)
      : workload_(workload), options_(options), started_at_(options.window) {}

  Measurement Run() {
    const Clock::time_point begin = Clock::now();
    record_from_ = begin + options_.warm_up;
    end_ = record_from_ + options_.time;
    if (options_.warm_up.count() == 0) BeginRecording(begin);
    for (uint32_t slot = 0; slot < options_.window; ++slot) StartIn(slot, Clock::now());
    while (in_flight_ > 0) OnDone(workload_.Wait());
    if (!uses_.has_value()) EndRecording(Clock::now());
    SetPercentiles(std::move(latencies_), measurement_);
    measurement_.processes = *std::move(uses_);
    measurement_.events_per_operation = options_.events_per_operation;
    return std::move(measurement_);
  }

 private:
  void StartIn(uint32_t slot, Clock::time_point now) {
    if (started_ >= options_.most_operations) return;
    started_at_[slot] = now;
    if (!workload_.Start(slot)) return;
    ++started_;
    ++in_flight_;
  }

  void OnDone(const Done& done) {
    const Clock::time_point now = Clock::now();
    --in_flight_;
    if (done.counts && !done.failure.empty() && ++measurement_.failures == 1) measurement_.first_failure = done.failure;
    if (!meter_.has_value() && now >= record_from_) BeginRecording(now);
    const bool recording = meter_.has_value() && !uses_.has_value();
    if (recording && now < end_ && done.counts && done.failure.empty()) {
      ++measurement_.operations;
      latencies_.push_back(Microseconds(now - started_at_[done.slot]));
    }
    if (now < end_) {
      StartIn(done.slot, now);
      // The last operations, with fewer in flight than the window, would blur a measurement that ends by count.
      if (recording && started_ >= options_.most_operations) EndRecording(now);
    } else if (recording) {
      EndRecording(now);
    }
  }

  void BeginRecording(Clock::time_point now) {
    recording_since_ = now;
    meter_.emplace(options_.processes);
    latencies_.reserve(1u << 20);
  }

  void EndRecording(Clock::time_point now) {
    if (!meter_.has_value()) BeginRecording(now);
    uses_ = meter_->Read();
    measurement_.seconds = std::chrono::duration<double>(now - recording_since_).count();
  }

  Workload& workload_;
  const LoopOptions& options_;
  std::vector<Clock::time_point> started_at_;
  Clock::time_point record_from_;
  Clock::time_point end_;
  Clock::time_point recording_since_;
  uint64_t started_ = 0;
  uint64_t in_flight_ = 0;
  std::optional<ProcessMeter> meter_;
  std::optional<std::vector<ProcessUse>> uses_;
  std::vector<float> latencies_;
  Measurement measurement_;
};

}  // namespace

Measurement RunClosedLoop(Workload& workload, const LoopOptions& options) { return Loop(workload, options).Run(); }

void SetPercentiles(std::vector<float> latencies_us, Measurement& measurement) {
  if (latencies_us.empty()) return;
  const auto at = [&latencies_us](double quantile) {
    const auto index = static_cast<size_t>(quantile * static_cast<double>(latencies_us.size() - 1));
    const auto place = latencies_us.begin() + static_cast<std::ptrdiff_t>(index);
    std::nth_element(latencies_us.begin(), place, latencies_us.end());
    return static_cast<double>(*place);
  };
  measurement.p50_us = at(0.5);
  measurement.p99_us = at(0.99);
  measurement.p999_us = at(0.999);
}

}  // namespace persistd::bench
