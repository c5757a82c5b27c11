#include "server/rpc/stream_window.h"

#include <atomic>
#include <thread>
#include <vector>

#include "server/base/task.h"
#include "tests/testing/catch.h"
#include "tests/testing/poll.h"

namespace persistd::rpc {
namespace {

using ::persistd::testing::PollUntil;

// Whether a wait that begins now has ended.
template <typename Wait>
std::shared_ptr<std::atomic<bool>> Waited(Wait wait) {
  auto done = std::make_shared<std::atomic<bool>>(false);
  base::Spawn([](Wait inner, std::shared_ptr<std::atomic<bool>> ended) -> base::Task<void> {
    co_await inner;
    *ended = true;
  }(wait, done));
  return done;
}

TEST_CASE("There is room while there are fewer items and fewer bytes than allowed", "[window]") {
  StreamWindow window(2, 100);
  CHECK(*Waited(window.Room()));
  window.Enter(10);
  CHECK(*Waited(window.Room()));
  window.Enter(10);
  const auto room = Waited(window.Room());
  CHECK_FALSE(*room);
  window.Leave(10);
  CHECK(*room);
  window.Resize(10, 100);
  const auto bytes = Waited(window.Room());
  CHECK_FALSE(*bytes);
  window.Leave(100);
  CHECK(*bytes);
}

TEST_CASE("One item is let in however large it is, and the next one waits for it", "[window]") {
  StreamWindow window(10, 100);
  window.Enter(1'000);
  const auto room = Waited(window.Room());
  CHECK_FALSE(*room);
  window.Leave(1'000);
  CHECK(*room);
}

TEST_CASE("Idle is when everything has left", "[window]") {
  StreamWindow window(10, 100);
  CHECK(*Waited(window.Idle()));
  window.Enter(1);
  window.Enter(2);
  const auto idle = Waited(window.Idle());
  window.Leave(1);
  CHECK_FALSE(*idle);
  window.Leave(2);
  CHECK(*idle);
}

TEST_CASE("Items that leave on other threads wake the one who waits", "[window]") {
  constexpr size_t kItems = 4;
  constexpr int kAll = 2'000;
  StreamWindow window(kItems, 1'000'000);
  std::atomic<int> entered = 0;
  std::atomic<int> most = 0;
  std::atomic<int> now = 0;
  std::atomic<bool> ended = false;
  base::Spawn([](StreamWindow& w, std::atomic<int>& in, std::atomic<int>& under_way, std::atomic<int>& peak,
                 std::atomic<bool>& done) -> base::Task<void> {
    for (int i = 0; i < kAll; ++i) {
      co_await w.Room();
      w.Enter(1);
      if (++under_way > peak) peak = under_way.load();
      ++in;
    }
    co_await w.Idle();
    done = true;
  }(window, entered, now, most, ended));
  std::atomic<int> left = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&] {
      while (true) {
        const int mine = left.fetch_add(1);
        if (mine >= kAll) return;
        while (entered <= mine) std::this_thread::yield();
        --now;
        window.Leave(1);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(PollUntil([&] { return ended.load(); }, std::chrono::seconds(20)));
  CHECK(most <= static_cast<int>(kItems));
}

TEST_CASE("Answers pass in the order of their numbers, whatever order they come in", "[window]") {
  InOrder order(4);
  std::vector<uint64_t> passed;
  const auto answer = [&](uint64_t number) {
    base::Spawn([](InOrder& in, uint64_t mine, std::vector<uint64_t>& out) -> base::Task<void> {
      co_await in.Await(mine);
      out.push_back(mine);
      in.Pass();
    }(order, number, passed));
  };
  answer(2);
  answer(1);
  answer(3);
  CHECK(passed.empty());
  answer(0);
  CHECK(passed == std::vector<uint64_t>{0, 1, 2, 3});
  // The places are used again.
  answer(5);
  answer(7);
  answer(4);
  CHECK(passed == std::vector<uint64_t>{0, 1, 2, 3, 4, 5});
  answer(6);
  CHECK(passed == std::vector<uint64_t>{0, 1, 2, 3, 4, 5, 6, 7});
}

}  // namespace
}  // namespace persistd::rpc
