#include "server/rpc/call_stats.h"

#include <thread>
#include <vector>

#include "tests/testing/catch.h"

namespace persistd::rpc {
namespace {

using std::chrono::microseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

uint64_t Sum(const auto& counts) {
  uint64_t sum = 0;
  for (const uint64_t count : counts) sum += count;
  return sum;
}

TEST_CASE("Calls run until they end, and count by their codes", "[calls]") {
  CallStats stats;
  stats.Begin();
  stats.Begin();
  stats.Begin();
  CHECK(stats.Read().running == 3);
  CHECK(Sum(stats.Read().by_code) == 0);
  stats.End(absl::StatusCode::kOk, seconds(1));
  stats.End(absl::StatusCode::kAborted, seconds(2));
  const CallCounts counts = stats.Read();
  CHECK(counts.running == 1);
  CHECK(Sum(counts.by_code) == 2);
  CHECK(counts.by_code[0] == 1);
  CHECK(counts.by_code[10] == 1);
  CHECK(counts.total_duration == seconds(3));
}

TEST_CASE("Every code of gRPC has its own count, any other counts as UNKNOWN", "[calls]") {
  CallStats stats;
  for (const int code : {0, 16, 17, -1, 1000}) {
    stats.Begin();
    stats.End(static_cast<absl::StatusCode>(code), seconds(0));
  }
  const CallCounts counts = stats.Read();
  CHECK(counts.by_code[0] == 1);
  CHECK(counts.by_code[16] == 1);
  CHECK(counts.by_code[2] == 3);
}

TEST_CASE("A duration counts in the first bucket that it does not exceed", "[calls]") {
  CallStats stats;
  const auto end = [&](nanoseconds duration) {
    stats.Begin();
    stats.End(absl::StatusCode::kOk, duration);
  };
  end(nanoseconds(0));
  end(microseconds(250));
  end(microseconds(250) + nanoseconds(1));
  end(seconds(30));
  end(seconds(30) + nanoseconds(1));
  const CallCounts counts = stats.Read();
  CHECK(counts.by_duration.front() == 2);
  CHECK(counts.by_duration[1] == 1);
  CHECK(counts.by_duration[kDurationBounds.size() - 1] == 1);
  CHECK(counts.by_duration.back() == 1);
  CHECK(Sum(counts.by_duration) == 5);
}

TEST_CASE("No call is lost between threads", "[calls]") {
  constexpr uint64_t kCalls = 10'000;
  CallStats stats;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&stats] {
      for (uint64_t call = 0; call < kCalls; ++call) {
        stats.Begin();
        stats.End(absl::StatusCode::kNotFound, microseconds(call));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const CallCounts counts = stats.Read();
  CHECK(counts.running == 0);
  CHECK(counts.by_code[5] == 4 * kCalls);
  CHECK(Sum(counts.by_duration) == 4 * kCalls);
  CHECK(counts.by_duration[0] == 4 * 251);
}

}  // namespace
}  // namespace persistd::rpc
