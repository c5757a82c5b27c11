// A std::mutex that clang's thread-safety analysis understands (bazel build --config=thread-safety).
//
// Not absl::Mutex: Debian's build of it is not instrumented, so TSan reports false races inside it.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

#if defined(__clang__)
#define PERSISTD_THREAD_ANNOTATION(x) __attribute__((x))
#else
#define PERSISTD_THREAD_ANNOTATION(x)
#endif

// Abseil before 2023 defines these two without a prefix, with the same meaning.
#undef GUARDED_BY
#undef NO_THREAD_SAFETY_ANALYSIS

#define CAPABILITY(x) PERSISTD_THREAD_ANNOTATION(capability(x))
#define SCOPED_CAPABILITY PERSISTD_THREAD_ANNOTATION(scoped_lockable)
#define GUARDED_BY(x) PERSISTD_THREAD_ANNOTATION(guarded_by(x))
#define REQUIRES(...) PERSISTD_THREAD_ANNOTATION(requires_capability(__VA_ARGS__))
#define EXCLUDES(...) PERSISTD_THREAD_ANNOTATION(locks_excluded(__VA_ARGS__))
#define ACQUIRE(...) PERSISTD_THREAD_ANNOTATION(acquire_capability(__VA_ARGS__))
#define RELEASE(...) PERSISTD_THREAD_ANNOTATION(release_capability(__VA_ARGS__))
#define NO_THREAD_SAFETY_ANALYSIS PERSISTD_THREAD_ANNOTATION(no_thread_safety_analysis)

namespace persistd::base {

class CAPABILITY("mutex") Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void Lock() ACQUIRE() { mutex_.lock(); }
  void Unlock() RELEASE() { mutex_.unlock(); }

 private:
  friend class CondVar;
  std::mutex mutex_;
};

class SCOPED_CAPABILITY MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) ACQUIRE(mutex) : mutex_(mutex) { mutex_.Lock(); }
  ~MutexLock() RELEASE() { mutex_.Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

// A condition variable over Mutex. Wake-ups may be spurious: call in a loop that checks the condition.
class CondVar {
 public:
  void Wait(Mutex& mutex) REQUIRES(mutex) NO_THREAD_SAFETY_ANALYSIS {
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    condition_.wait(lock);
    lock.release();
  }
  // Returns false when `deadline` passed.
  bool WaitUntil(Mutex& mutex, std::chrono::steady_clock::time_point deadline) REQUIRES(mutex)
      NO_THREAD_SAFETY_ANALYSIS {
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    const bool signalled = condition_.wait_until(lock, deadline) == std::cv_status::no_timeout;
    lock.release();
    return signalled;
  }
  void NotifyOne() { condition_.notify_one(); }
  void NotifyAll() { condition_.notify_all(); }

 private:
  std::condition_variable condition_;
};

}  // namespace persistd::base
