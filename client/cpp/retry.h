// When a failed call is tried again, and after which wait.
#pragma once

#include <chrono>
#include <memory>
#include <random>

#include "absl/status/status.h"

namespace persistd::client {

// How often calls are repeated. The waits grow from `initial_backoff` by `multiplier` up to `max_backoff`; a wait that
// the daemon asked for is added.
struct RetryPolicy {
  // No repeats after this time, counted from the start of the call. Zero: never repeat.
  std::chrono::milliseconds max_elapsed{30'000};
  std::chrono::milliseconds initial_backoff{50};
  std::chrono::milliseconds max_backoff{2'000};
  double multiplier = 2;
  // Each back-off is shortened by a random share of up to this, 0 to 1, so that clients spread out.
  double jitter = 0.5;

  // INVALID_ARGUMENT naming the value that makes no sense.
  absl::Status Validate() const;
};

// The time that deadlines and waits go by; tests put their own in its place. Thread-safe.
class Clock {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  using Duration = std::chrono::steady_clock::duration;

  virtual ~Clock() = default;
  virtual TimePoint Now() = 0;
  virtual void SleepFor(Duration duration) = 0;

  // The machine's monotonic clock.
  static std::shared_ptr<Clock> Real();
};

// True when the same call may succeed later by itself: UNAVAILABLE, or RESOURCE_EXHAUSTED because of OVERLOADED.
bool IsRetryable(const absl::Status& status);

// The attempts of one call. Not thread-safe; `clock` must outlive it.
class RetryLoop {
 public:
  RetryLoop(const RetryPolicy& policy, Clock& clock, Clock::TimePoint deadline);

  // To be called when an attempt has failed with `error`. True: try again, the wait is over. False: give up, because a
  // repeat cannot help or the wait would pass the deadline.
  bool WaitToRetry(const absl::Status& error);

  // How many attempts there were so far, the one running included.
  int attempts() const { return attempts_; }

 private:
  Clock::Duration NextBackoff();

  const RetryPolicy policy_;
  Clock& clock_;
  const Clock::TimePoint last_retry_;
  std::chrono::duration<double, std::milli> backoff_;
  int attempts_ = 1;
  std::minstd_rand random_;
};

}  // namespace persistd::client
