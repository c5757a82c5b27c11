// Promise and Future: carry one value from a callback to a coroutine.
//
// The promise is set exactly once, from any thread (TrySet tells who was first); the future is awaited at most once. The
// waiting coroutine goes on inside the call that sets the value, on that thread. Either side may go away first.
#pragma once

#include <atomic>
#include <coroutine>
#include <memory>
#include <optional>
#include <utility>

#include "server/base/mutex.h"
#include "server/base/task.h"

namespace persistd::base {

namespace internal {

template <typename T>
struct FutureState {
  std::atomic<bool> claimed = false;
  Mutex mutex;
  std::optional<T> value GUARDED_BY(mutex);
  std::coroutine_handle<> waiting GUARDED_BY(mutex);
};

}  // namespace internal

template <typename T>
class [[nodiscard]] Future {
 public:
  explicit Future(std::shared_ptr<internal::FutureState<T>> state) : state_(std::move(state)) {}

  bool await_ready() const noexcept { return false; }
  bool await_suspend(std::coroutine_handle<> handle) {
    // Once the lock is released this coroutine may go on elsewhere and destroy *this: keep what the unlock touches.
    const std::shared_ptr<internal::FutureState<T>> state = state_;
    MutexLock lock(state->mutex);
    if (state->value.has_value()) return false;
    state->waiting = handle;
    return true;
  }
  T await_resume() {
    MutexLock lock(state_->mutex);
    return std::move(*state_->value);
  }

 private:
  std::shared_ptr<internal::FutureState<T>> state_;
};

template <typename T>
class Promise {
 public:
  Promise() : state_(std::make_shared<internal::FutureState<T>>()) {}

  Future<T> future() const { return Future<T>(state_); }

  // False, and `value` is dropped, when the promise was set before.
  bool TrySet(T value) const {
    if (state_->claimed.exchange(true)) return false;
    std::coroutine_handle<> waiting;
    {
      MutexLock lock(state_->mutex);
      state_->value.emplace(std::move(value));
      waiting = std::exchange(state_->waiting, nullptr);
    }
    if (waiting) waiting.resume();
    return true;
  }

 private:
  std::shared_ptr<internal::FutureState<T>> state_;
};

// Blocks this thread until `task` is done. For start, stop and tests; never on a thread that completes futures.
template <typename T>
T BlockOn(Task<T> task) {
  Mutex mutex;
  CondVar done_changed;
  std::optional<T> result;
  bool done = false;
  auto run = [](Task<T> inner, Mutex& m, CondVar& changed, std::optional<T>& out, bool& finished) -> Task<void> {
    T value = co_await inner;
    MutexLock lock(m);
    out.emplace(std::move(value));
    finished = true;
    changed.NotifyAll();
  };
  Spawn(run(std::move(task), mutex, done_changed, result, done));
  MutexLock lock(mutex);
  while (!done) done_changed.Wait(mutex);
  return std::move(*result);
}

}  // namespace persistd::base
