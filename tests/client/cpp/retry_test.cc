#include "client/cpp/retry.h"

#include <algorithm>

#include "tests/client/cpp/fakes.h"
#include "tests/testing/catch.h"

namespace persistd::client {
namespace {

namespace pb = cim::persistence::v1;
using std::chrono::hours;
using std::chrono::milliseconds;

const absl::Status kAway = absl::UnavailableError("away");

absl::Status Overloaded(int64_t delay_seconds) {
  pb::ErrorDetail detail;
  detail.set_reason(pb::ERROR_REASON_OVERLOADED);
  detail.mutable_retry_delay()->set_seconds(delay_seconds);
  return Error(absl::StatusCode::kResourceExhausted, detail);
}

TEST_CASE("Without jitter the waits grow by the multiplier up to the maximum", "[client]") {
  FakeClock clock;
  RetryLoop retry({.initial_backoff = milliseconds(50), .max_backoff = milliseconds(300), .multiplier = 2, .jitter = 0},
                  clock, clock.Now() + hours(1));
  for (int i = 0; i < 5; ++i) CHECK(retry.WaitToRetry(kAway));
  CHECK(clock.sleeps == std::vector<Clock::Duration>{milliseconds(50), milliseconds(100), milliseconds(200),
                                                     milliseconds(300), milliseconds(300)});
  CHECK(retry.attempts() == 6);
}

TEST_CASE("Jitter shortens waits by at most its share, and differently each time", "[client]") {
  FakeClock clock;
  RetryLoop retry(
      {.max_elapsed = hours(1), .initial_backoff = milliseconds(100), .max_backoff = milliseconds(100), .jitter = 0.5},
      clock, clock.Now() + hours(1));
  for (int i = 0; i < 100; ++i) REQUIRE(retry.WaitToRetry(kAway));
  const auto [shortest, longest] = std::minmax_element(clock.sleeps.begin(), clock.sleeps.end());
  CHECK(*shortest >= milliseconds(50));
  CHECK(*longest <= milliseconds(100));
  CHECK(*shortest < *longest);
}

TEST_CASE("Only unavailable and overloaded are worth a repeat", "[client]") {
  CHECK(IsRetryable(kAway));
  CHECK(IsRetryable(Error(absl::StatusCode::kUnavailable, pb::ERROR_REASON_OUTCOME_UNKNOWN)));
  CHECK(IsRetryable(Overloaded(0)));
  CHECK_FALSE(IsRetryable(absl::OkStatus()));
  CHECK_FALSE(IsRetryable(Error(absl::StatusCode::kAborted, pb::ERROR_REASON_VERSION_CONFLICT)));
  CHECK_FALSE(IsRetryable(Error(absl::StatusCode::kResourceExhausted, pb::ERROR_REASON_TOO_LARGE)));
  CHECK_FALSE(IsRetryable(absl::ResourceExhaustedError("message larger than max")));
  CHECK_FALSE(IsRetryable(absl::DeadlineExceededError("late")));
}

TEST_CASE("The wait that the daemon asks for is added to the back-off", "[client]") {
  FakeClock clock;
  RetryLoop retry({.initial_backoff = milliseconds(50), .jitter = 0}, clock, clock.Now() + hours(1));
  REQUIRE(retry.WaitToRetry(Overloaded(3)));
  CHECK(clock.sleeps.back() == milliseconds(3'050));
}

TEST_CASE("A wait that would pass the deadline or the policy's end is not begun", "[client]") {
  FakeClock clock;
  const RetryPolicy policy{.max_elapsed = milliseconds(1'000), .initial_backoff = milliseconds(400), .jitter = 0};
  RetryLoop by_policy(policy, clock, clock.Now() + hours(1));
  CHECK(by_policy.WaitToRetry(kAway));
  CHECK_FALSE(by_policy.WaitToRetry(kAway));

  RetryLoop by_deadline(policy, clock, clock.Now() + milliseconds(400));
  CHECK_FALSE(by_deadline.WaitToRetry(kAway));
  CHECK(clock.sleeps.size() == 1);
}

TEST_CASE("A senseless wait from the daemon neither overflows nor goes backwards", "[client]") {
  FakeClock clock;
  RetryLoop retry({.initial_backoff = milliseconds(50), .jitter = 0}, clock, clock.Now() + hours(1));
  CHECK_FALSE(retry.WaitToRetry(Overloaded(INT64_MAX)));
  REQUIRE(retry.WaitToRetry(Overloaded(INT64_MIN)));
  CHECK(clock.sleeps.back() == milliseconds(100));
}

TEST_CASE("A policy that makes no sense is refused by name", "[client]") {
  CHECK(RetryPolicy{}.Validate().ok());
  CHECK(RetryPolicy{.max_elapsed = milliseconds(0)}.Validate().ok());
  const auto message = [](const RetryPolicy& policy) { return std::string(policy.Validate().message()); };
  CHECK_THAT(message({.max_elapsed = milliseconds(-1)}), testing::ContainsText("max_elapsed"));
  CHECK_THAT(message({.initial_backoff = milliseconds(0)}), testing::ContainsText("initial_backoff"));
  CHECK_THAT(message({.max_backoff = milliseconds(1)}), testing::ContainsText("max_backoff"));
  CHECK_THAT(message({.multiplier = 0.5}), testing::ContainsText("multiplier"));
  CHECK_THAT(message({.jitter = 1.5}), testing::ContainsText("jitter"));
}

}  // namespace
}  // namespace persistd::client
