#include "tests/bench/closed_loop.h"

#include <algorithm>
#include <deque>
#include <vector>

#include "tests/bench/measurement.h"
#include "tests/testing/catch.h"

namespace persistd::bench {
namespace {

// Ends operations in the order in which they began, at once.
class Instant final : public Workload {
 public:
  bool Start(uint32_t slot) override {
    if (left == 0) return false;
    --left;
    under_way.push_back(slot);
    most_under_way = std::max(most_under_way, under_way.size());
    return true;
  }
  Done Wait() override {
    Done done{.slot = under_way.front()};
    under_way.pop_front();
    const uint64_t number = ++ended;
    if (fail_every > 0 && number % fail_every == 0) done.failure = "it failed";
    if (ignore_every > 0 && number % ignore_every == 0) done.counts = false;
    return done;
  }

  uint64_t left = 1'000'000'000;
  uint64_t fail_every = 0;
  uint64_t ignore_every = 0;
  uint64_t ended = 0;
  std::deque<uint32_t> under_way;
  size_t most_under_way = 0;
};

LoopOptions Counted(uint32_t window, uint64_t operations) {
  return {.window = window,
          .time = std::chrono::hours(1),
          .warm_up = std::chrono::milliseconds(0),
          .most_operations = operations};
}

TEST_CASE("a closed loop keeps its window full and leaves nothing in flight", "[bench]") {
  Instant workload;
  const Measurement measured = RunClosedLoop(workload, Counted(7, 1000));
  CHECK(workload.most_under_way == 7);
  CHECK(workload.under_way.empty());
  CHECK(workload.ended == 1000);
  // Those that end after the last start run in a window that is not full.
  CHECK(measured.operations == 993);
}

TEST_CASE("a closed loop ends when the workload has no more", "[bench]") {
  Instant workload;
  workload.left = 100;
  const Measurement measured = RunClosedLoop(workload, Counted(8, 1'000'000));
  CHECK(workload.ended == 100);
  CHECK(measured.operations == 100);
  CHECK(measured.seconds > 0);
}

TEST_CASE("a closed loop counts failures apart, and what does not count not at all", "[bench]") {
  Instant workload;
  workload.left = 1000;
  workload.fail_every = 10;
  workload.ignore_every = 4;  // Every twentieth both fails and does not count.
  const Measurement measured = RunClosedLoop(workload, Counted(1, 1'000'000));
  CHECK(measured.failures == 50);
  CHECK(measured.first_failure == "it failed");
  CHECK(measured.operations == 1000 - 100 - 250 + 50);
}

TEST_CASE("percentiles are those of the sorted latencies", "[bench]") {
  std::vector<float> latencies;
  for (int i = 1000; i >= 0; --i) latencies.push_back(static_cast<float>(i));
  Measurement measured;
  SetPercentiles(latencies, measured);
  CHECK(measured.p50_us == 500);
  CHECK(measured.p99_us == 990);
  CHECK(measured.p999_us == 999);
  SetPercentiles({3}, measured);
  CHECK(measured.p999_us == 3);
}

TEST_CASE("the median run is the one with the median rate", "[bench]") {
  std::vector<Measurement> runs(3);
  runs[0] = {.operations = 30, .seconds = 1};
  runs[1] = {.operations = 10, .seconds = 1};
  runs[2] = {.operations = 20, .seconds = 1};
  CHECK(MedianRun(runs).operations == 20);
  CHECK(Median({3, 1, 2}) == 2);
  CHECK(Median({}) == 0);
}

}  // namespace
}  // namespace persistd::bench
