#include "server/base/task.h"

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "server/base/executor.h"
#include "server/base/future.h"
#include "tests/testing/catch.h"

namespace persistd::base {
namespace {

Task<int64_t> Add(int64_t a, int64_t b) { co_return a + b; }

Task<int64_t> Sum(int n) {
  int64_t sum = 0;
  for (int i = 1; i <= n; ++i) sum = co_await Add(sum, i);
  co_return sum;
}

TEST_CASE("A task awaits a hundred thousand tasks without growing the stack", "[base]") {
  REQUIRE(BlockOn(Sum(100'000)) == 5'000'050'000);
}

TEST_CASE("A future hands over a value that is set before or after it is awaited", "[base]") {
  auto wait = [](Future<std::unique_ptr<int>> future) -> Task<int> {
    std::unique_ptr<int> value = co_await future;
    co_return *value;
  };
  Promise<std::unique_ptr<int>> early;
  REQUIRE(early.TrySet(std::make_unique<int>(1)));
  REQUIRE_FALSE(early.TrySet(std::make_unique<int>(2)));
  REQUIRE(BlockOn(wait(early.future())) == 1);

  Promise<std::unique_ptr<int>> late;
  std::thread setter([late] { late.TrySet(std::make_unique<int>(3)); });
  REQUIRE(BlockOn(wait(late.future())) == 3);
  setter.join();
}

TEST_CASE("Futures are set and awaited from many threads at once", "[base]") {
  Executor executor("test");
  std::atomic<int> sum = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) {
        Promise<int> promise;
        executor.Post([promise] { promise.TrySet(1); });
        Spawn([](Future<int> future, std::atomic<int>& out) -> Task<void> { out += co_await future; }(promise.future(),
                                                                                                    sum));
      }
    });
  }
  for (auto& thread : threads) thread.join();
  executor.Stop();
  REQUIRE(sum == 4000);
}

TEST_CASE("An executor runs timers in the order of their times and skips cancelled ones", "[base]") {
  Executor executor("test");
  const SteadyTime now = std::chrono::steady_clock::now();
  std::string order;
  executor.RunAt(now + std::chrono::milliseconds(20), [&] { order += 'b'; });
  executor.RunAt(now + std::chrono::milliseconds(10), [&] { order += 'a'; });
  const Executor::TimerId cancelled = executor.RunAt(now + std::chrono::milliseconds(15), [&] { order += 'x'; });
  REQUIRE(executor.Cancel(cancelled));
  REQUIRE_FALSE(executor.Cancel(cancelled));
  auto wait = [](Future<bool> future) -> Task<bool> { co_return co_await future; };
  REQUIRE(BlockOn(wait(executor.Sleep(now + std::chrono::milliseconds(30)))));
  executor.Stop();
  REQUIRE(order == "ab");
}

}  // namespace
}  // namespace persistd::base
