// Counts the calls of a server: who may start, and when all have ended. Thread-safe.
#pragma once

#include <chrono>
#include <cstdint>

#include "absl/status/status.h"
#include "server/base/clock.h"
#include "server/base/mutex.h"

namespace persistd::rpc {

class Admission {
 public:
  explicit Admission(int max_running) : max_running_(max_running) {}

  // Lets a call run; Leave() must follow. OVERLOADED when enough run, SHUTTING_DOWN after Close().
  absl::Status Enter();
  void Leave();
  // From now on nobody may enter.
  void Close();
  // False when calls still ran at `deadline`.
  bool WaitUntilIdle(base::SteadyTime deadline);

  // Returns when nobody was refused by Close() for `quiet`, or at `deadline`.
  void WaitUntilQuiet(std::chrono::milliseconds quiet, base::SteadyTime deadline);

  // The objects of calls, running or waiting for a caller.
  void ObjectMade();
  void ObjectGone();
  // False when some were still there at `deadline`.
  bool WaitUntilGone(base::SteadyTime deadline);

 private:
  const int64_t max_running_;
  base::Mutex mutex_;
  base::CondVar changed_;
  int64_t running_ GUARDED_BY(mutex_) = 0;
  int64_t objects_ GUARDED_BY(mutex_) = 0;
  bool closed_ GUARDED_BY(mutex_) = false;
  base::SteadyTime last_refusal_ GUARDED_BY(mutex_);
};

}  // namespace persistd::rpc
