#include "server/repository/retry.h"

#include <algorithm>
#include <chrono>
#include <random>

namespace persistd::repository {
namespace {

constexpr std::chrono::milliseconds kFirstWait{5};
constexpr std::chrono::milliseconds kLongestWait{250};
constexpr std::chrono::milliseconds kFirstAttempt{2000};

}  // namespace

base::SteadyTime Backoff::Next() {
  thread_local std::minstd_rand random(std::random_device{}());
  const auto longest = std::min(kLongestWait, kFirstWait * (1 << std::min(attempts_, 6)));
  ++attempts_;
  std::uniform_int_distribution<int64_t> jitter(longest.count() / 2, longest.count());
  return base::Clock::System().SteadyNow() + std::chrono::milliseconds(jitter(random));
}

std::chrono::milliseconds AttemptTime(const Backoff& backoff) {
  return kFirstAttempt * (1 << std::min(backoff.attempts(), 4));
}

base::SteadyTime AttemptDeadline(const Backoff& backoff, base::SteadyTime deadline) {
  return std::min(deadline, base::Clock::System().SteadyNow() + AttemptTime(backoff));
}

bool IsPermanent(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kInternal:
      return true;
    default:
      return false;
  }
}

}  // namespace persistd::repository
