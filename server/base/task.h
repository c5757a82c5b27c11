// Task<T>: a coroutine that computes a T. Lazy (it starts when awaited or spawned), move-only, awaited once.
//
//   Task<absl::StatusOr<Head>> Loader::ReadHead(AggregateRef ref) {
//     CO_ASSIGN_OR_RETURN(Message message, co_await reader_.Last(filter));
//     co_return ParseHead(message);
//   }
//
// A task runs on whatever thread completes what it waits for; state shared between tasks needs a lock, and no lock may
// be held over a co_await. A coroutine takes its arguments by value, or by reference when its caller awaits it.
// GCC 12 destroys braced temporaries inside a co_await expression twice: name them in a statement of their own.
#pragma once

#include <atomic>
#include <coroutine>
#include <cstdlib>
#include <exception>
#include <optional>
#include <utility>

namespace persistd::base {

template <typename T>
class Task;

namespace internal {

// A task that ends before its awaiter has finished suspending lets the awaiter go on by itself; whoever comes second of
// the two (`handed_over`) resumes. So a loop over tasks that end at once needs no stack, also without the tail calls
// that GCC makes only when it optimises.
struct TaskPromiseBase {
  std::suspend_always initial_suspend() noexcept { return {}; }
  struct FinalAwaiter {
    bool await_ready() noexcept { return false; }
    template <typename Promise>
    void await_suspend(std::coroutine_handle<Promise> handle) noexcept {
      TaskPromiseBase& promise = handle.promise();
      const std::coroutine_handle<> awaiting = promise.continuation;
      if (promise.handed_over.exchange(true, std::memory_order_acq_rel)) awaiting.resume();
    }
    void await_resume() noexcept {}
  };
  FinalAwaiter final_suspend() noexcept { return {}; }
  // The code base reports errors by value; an exception that gets here is a bug or an exhausted machine.
  void unhandled_exception() noexcept { std::terminate(); }

  std::coroutine_handle<> continuation;
  std::atomic<bool> handed_over = false;
};

template <typename T>
struct TaskPromise : TaskPromiseBase {
  Task<T> get_return_object();
  template <typename U>
  void return_value(U&& value) {
    result.emplace(std::forward<U>(value));
  }
  T Take() { return std::move(*result); }
  std::optional<T> result;
};

template <>
struct TaskPromise<void> : TaskPromiseBase {
  Task<void> get_return_object();
  void return_void() noexcept {}
  void Take() {}
};

}  // namespace internal

template <typename T>
class [[nodiscard]] Task {
 public:
  using promise_type = internal::TaskPromise<T>;

  explicit Task(std::coroutine_handle<promise_type> handle) : handle_(handle) {}
  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Task& operator=(Task&&) = delete;
  ~Task() {
    if (handle_) handle_.destroy();
  }

  bool await_ready() const noexcept { return false; }
  bool await_suspend(std::coroutine_handle<> awaiting) noexcept {
    const std::coroutine_handle<promise_type> handle = handle_;
    handle.promise().continuation = awaiting;
    handle.resume();
    return !handle.promise().handed_over.exchange(true, std::memory_order_acq_rel);
  }
  T await_resume() { return handle_.promise().Take(); }

 private:
  std::coroutine_handle<promise_type> handle_;
};

namespace internal {

template <typename T>
Task<T> TaskPromise<T>::get_return_object() {
  return Task<T>(std::coroutine_handle<TaskPromise<T>>::from_promise(*this));
}

inline Task<void> TaskPromise<void>::get_return_object() {
  return Task<void>(std::coroutine_handle<TaskPromise<void>>::from_promise(*this));
}

// The outermost frame of a spawned task: frees itself when the task is done.
struct Detached {
  struct promise_type {
    Detached get_return_object() noexcept { return {}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() noexcept {}
    void unhandled_exception() noexcept { std::terminate(); }
  };
};

}  // namespace internal

// Runs `task` on this thread until it first waits; afterwards it goes on by itself. Who must know of its end says so
// inside the task.
inline void Spawn(Task<void> task) {
  [](Task<void> inner) -> internal::Detached { co_await inner; }(std::move(task));
}

}  // namespace persistd::base
