#include "client/cpp/retry.h"

#include <algorithm>
#include <optional>
#include <thread>

#include "client/cpp/errors.h"

namespace persistd::client {
namespace {

namespace pb = cim::persistence::v1;

class RealClock final : public Clock {
 public:
  TimePoint Now() override { return std::chrono::steady_clock::now(); }
  void SleepFor(Duration duration) override { std::this_thread::sleep_for(duration); }
};

// The wait that the daemon asked for; zero when it did not.
Clock::Duration RetryDelay(const absl::Status& error) {
  const std::optional<pb::ErrorDetail> detail = GetErrorDetail(error);
  if (!detail.has_value()) return Clock::Duration::zero();
  const auto& delay = detail->retry_delay();
  // Any number can come over the wire; beyond a day it is as good as never.
  constexpr std::chrono::hours kMax{24};
  if (delay.seconds() < 0 || delay.nanos() < 0) return Clock::Duration::zero();
  if (delay.seconds() >= std::chrono::seconds(kMax).count()) return kMax;
  return std::chrono::seconds(delay.seconds()) + std::chrono::nanoseconds(delay.nanos());
}

}  // namespace

absl::Status RetryPolicy::Validate() const {
  if (max_elapsed.count() < 0) return absl::InvalidArgumentError("retry.max_elapsed must not be negative");
  if (initial_backoff.count() <= 0) return absl::InvalidArgumentError("retry.initial_backoff must be positive");
  if (max_backoff < initial_backoff) {
    return absl::InvalidArgumentError("retry.max_backoff must not be less than retry.initial_backoff");
  }
  if (!(multiplier >= 1)) return absl::InvalidArgumentError("retry.multiplier must be at least 1");
  if (!(jitter >= 0 && jitter <= 1)) return absl::InvalidArgumentError("retry.jitter must be between 0 and 1");
  return absl::OkStatus();
}

std::shared_ptr<Clock> Clock::Real() { return std::make_shared<RealClock>(); }

bool IsRetryable(const absl::Status& status) {
  if (absl::IsUnavailable(status)) return true;
  if (!absl::IsResourceExhausted(status)) return false;
  const std::optional<pb::ErrorDetail> detail = GetErrorDetail(status);
  return detail.has_value() && detail->reason() == pb::ERROR_REASON_OVERLOADED;
}

RetryLoop::RetryLoop(const RetryPolicy& policy, Clock& clock, Clock::TimePoint deadline)
    : policy_(policy),
      clock_(clock),
      // Compared as durations, for `now + max_elapsed` could overflow.
      last_retry_(deadline - clock.Now() < policy.max_elapsed ? deadline : clock.Now() + policy.max_elapsed),
      backoff_(policy.initial_backoff) {}

bool RetryLoop::WaitToRetry(const absl::Status& error) {
  if (!IsRetryable(error)) return false;
  const Clock::Duration wait = RetryDelay(error) + NextBackoff();
  if (wait >= last_retry_ - clock_.Now()) return false;
  clock_.SleepFor(wait);
  ++attempts_;
  return true;
}

Clock::Duration RetryLoop::NextBackoff() {
  // Most calls never come here, so the seed is drawn only now.
  if (attempts_ == 1) random_.seed(std::random_device()());
  const double share = 1 - policy_.jitter * std::uniform_real_distribution<double>()(random_);
  const auto wait = std::chrono::duration_cast<Clock::Duration>(backoff_ * share);
  backoff_ = std::min<decltype(backoff_)>(backoff_ * policy_.multiplier, policy_.max_backoff);
  return wait;
}

}  // namespace persistd::client
