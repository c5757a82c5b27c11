// One thread that runs functions now or at a time: deadlines, back-offs, and work that must leave the caller's stack.
//
// Functions must not block. Thread-safe. Stop() runs what was posted with Post and drops what waits for its time.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <utility>

#include "server/base/clock.h"
#include "server/base/future.h"
#include "server/base/mutex.h"

namespace persistd::base {

class Executor {
 public:
  // Names a function that waits for its time; default-constructed: none.
  struct TimerId {
    SteadyTime at;
    uint64_t number = 0;
    bool operator<(const TimerId& other) const { return at != other.at ? at < other.at : number < other.number; }
  };

  // name: of the thread, at most 15 bytes.
  explicit Executor(std::string name);
  ~Executor();  // Stops.

  void Post(std::function<void()> function);
  TimerId RunAt(SteadyTime at, std::function<void()> function);
  // False when it has run, is running, or was never there.
  bool Cancel(TimerId id);
  // Completes at `at`.
  Future<bool> Sleep(SteadyTime at);
  void Stop();

 private:
  void Run();

  Mutex mutex_;
  CondVar changed_;
  std::map<TimerId, std::function<void()>> timers_ GUARDED_BY(mutex_);
  uint64_t next_number_ GUARDED_BY(mutex_) = 1;
  bool stopping_ GUARDED_BY(mutex_) = false;
  // When the thread looks again by itself: only what is due earlier has to wake it.
  SteadyTime wakes_at_ GUARDED_BY(mutex_) = SteadyTime::min();
  std::thread thread_;
};

}  // namespace persistd::base
