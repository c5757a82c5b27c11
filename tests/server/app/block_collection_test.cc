#include "server/app/block_collection.h"

#include <atomic>

#include "tests/testing/catch.h"
#include "tests/testing/poll.h"

namespace persistd::app {
namespace {

using std::chrono_literals::operator""h;
using std::chrono_literals::operator""min;
using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""s;
using ::persistd::testing::PollUntil;

TEST_CASE("The first run is at a random time within an hour, or within the interval", "[collection]") {
  CHECK(BlockCollection::FirstRun(24h, 0) == 0ms);
  CHECK(BlockCollection::FirstRun(24h, 0.5) == 30min);
  CHECK(BlockCollection::FirstRun(24h, 1) == 1h);
  CHECK(BlockCollection::FirstRun(10min, 0.5) == 5min);
}

TEST_CASE("Runs follow each other, and a problem is told until one goes well", "[collection]") {
  std::atomic<int> runs = 0;
  std::atomic<bool> good = false;
  std::atomic<int> cancels = 0;
  BlockCollection collection({.interval = 1ms,
                              .run = [&]() -> absl::StatusOr<repository::Collection> {
                                ++runs;
                                if (good) return repository::Collection{};
                                return absl::DataLossError("unreadable");
                              },
                              .cancel = [&] { ++cancels; }});
  CHECK(collection.problem().empty());
  collection.Start();
  CHECK(PollUntil([&] { return collection.problem() == "unreadable"; }, 20s));
  good = true;
  CHECK(PollUntil([&] { return collection.problem().empty(); }, 20s));
  CHECK(runs >= 2);
  collection.Stop();
  CHECK(cancels == 1);
}

TEST_CASE("An interval of zero means never, and stopping does not wait for the first run", "[collection]") {
  for (const std::chrono::milliseconds interval : {0ms, std::chrono::milliseconds(1h)}) {
    std::atomic<int> runs = 0;
    BlockCollection collection({.interval = interval,
                                .first_after = interval,
                                .run = [&]() -> absl::StatusOr<repository::Collection> {
                                  ++runs;
                                  return repository::Collection{};
                                },
                                .cancel = [] {}});
    collection.Start();
    collection.Stop();
    CHECK(runs == 0);
  }
}

}  // namespace
}  // namespace persistd::app
