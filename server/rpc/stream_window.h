// What a handler of a stream of requests has under way: how much, and since when nothing.
//
//   co_await window.Room();          // before it reads the next request
//   window.Enter(bytes);             // before it starts to work on it
//   window.Leave(bytes);             // the last thing that the work does: the handler may be gone afterwards
//   co_await window.Idle();          // before the handler ends
//
// One coroutine, the handler, waits; any threads leave. A handler that does not read slows its client down.
#pragma once

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "server/base/mutex.h"

namespace persistd::rpc {

class StreamWindow {
 public:
  // There is room while there are fewer than max_items and fewer than max_bytes.
  StreamWindow(size_t max_items, uint64_t max_bytes) : max_items_(max_items), max_bytes_(max_bytes) {}
  StreamWindow(const StreamWindow&) = delete;
  StreamWindow& operator=(const StreamWindow&) = delete;

  struct Wait {
    StreamWindow* window;
    bool until_idle;
    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<> handle) { return window->StartWait(handle, until_idle); }
    void await_resume() const noexcept {}
  };
  Wait Room() { return Wait{this, /*until_idle=*/false}; }
  Wait Idle() { return Wait{this, /*until_idle=*/true}; }

  void Enter(uint64_t bytes);
  // An item turns out to be of another size than it entered with.
  void Resize(uint64_t from, uint64_t to);
  void Leave(uint64_t bytes);

 private:
  bool StartWait(std::coroutine_handle<> handle, bool until_idle);
  // The coroutine that waits, if it need not any more.
  std::coroutine_handle<> TakeWaiting() REQUIRES(mutex_);
  bool Satisfied(bool until_idle) const REQUIRES(mutex_) {
    return until_idle ? items_ == 0 : items_ < max_items_ && (items_ == 0 || bytes_ < max_bytes_);
  }

  const size_t max_items_;
  const uint64_t max_bytes_;
  base::Mutex mutex_;
  size_t items_ GUARDED_BY(mutex_) = 0;
  uint64_t bytes_ GUARDED_BY(mutex_) = 0;
  std::coroutine_handle<> waiting_ GUARDED_BY(mutex_);
  bool until_idle_ GUARDED_BY(mutex_) = false;
};

// Lets work that ends in any order answer in the order of its numbers, from 0. Thread-safe.
class InOrder {
 public:
  // of: at most so many numbers are under way.
  explicit InOrder(size_t of) : waiting_(of) {}

  struct Turn {
    InOrder* order;
    uint64_t number;
    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<> handle) { return order->StartWait(number, handle); }
    void await_resume() const noexcept {}
  };
  // Completes when all before `number` have passed. Each number passes exactly once.
  Turn Await(uint64_t number) { return Turn{this, number}; }
  // The number whose turn it is has answered. Runs the next one, if it waits, in here.
  void Pass();

 private:
  bool StartWait(uint64_t number, std::coroutine_handle<> handle);

  base::Mutex mutex_;
  uint64_t next_ GUARDED_BY(mutex_) = 0;
  std::vector<std::coroutine_handle<>> waiting_ GUARDED_BY(mutex_);  // By number, modulo their count.
};

}  // namespace persistd::rpc
