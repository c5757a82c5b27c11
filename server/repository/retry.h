// When to try again: exponential back-off with jitter, bounded by the caller's deadline.
#pragma once

#include <chrono>

#include "absl/status/status.h"
#include "server/base/clock.h"

namespace persistd::repository {

class Backoff {
 public:
  // The time of the next attempt: 5 ms from now, then twice as long each time up to 250 ms, each shortened at random.
  base::SteadyTime Next();
  int attempts() const { return attempts_; }

 private:
  int attempts_ = 0;
};

// How long one attempt may take before it is made again: 2 s, then twice as long each time, up to 32 s.
std::chrono::milliseconds AttemptTime(const Backoff& backoff);
// When one that begins now has taken so long; at most `deadline`.
base::SteadyTime AttemptDeadline(const Backoff& backoff, base::SteadyTime deadline);

// True for errors that the same call would meet again at once.
bool IsPermanent(const absl::Status& status);

}  // namespace persistd::repository
