// Runs the collector of blocks now and then, on a thread of its own, and says in the log what came of it.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "server/base/mutex.h"
#include "server/repository/block_collector.h"

namespace persistd::app {

class BlockCollection {
 public:
  struct Options {
    std::chrono::milliseconds interval{0};  // From the end of a run to the next one; 0: never.
    // Before the first run; see FirstRun.
    std::chrono::milliseconds first_after{0};
    std::function<absl::StatusOr<repository::Collection>()> run;
    std::function<void()> cancel;  // Makes a run end soon. Thread-safe.
  };

  explicit BlockCollection(Options options);
  ~BlockCollection();  // Stops.

  // A moment for the first run, so that daemons that start together do not all run at once. random: from 0 to 1.
  static std::chrono::milliseconds FirstRun(std::chrono::milliseconds interval, double random);

  void Start();
  // Returns when the thread has ended. The connections must have been closed: a run waits for their answers.
  void Stop();

  // Why the last run did not remove all that nobody needs; empty: it did, or there was none.
  std::string problem() const;

 private:
  void Loop();
  void RunOnce();

  const Options options_;
  mutable base::Mutex mutex_;
  base::CondVar changed_;
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::string problem_ GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace persistd::app
