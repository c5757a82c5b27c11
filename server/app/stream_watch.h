// Looks at all streams when NATS is first there and then twice a minute: makes them follow their settings, learns of
// types that other daemons created, and remembers what they hold. Off the path of all calls, on a thread of its own.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <thread>

#include "server/base/mutex.h"
#include "server/repository/types.h"

namespace persistd::app {

class StreamWatch {
 public:
  struct Options {
    std::chrono::milliseconds interval{30'000};
    // After a look that failed.
    std::chrono::milliseconds retry{2'000};
    // How long one look may take.
    std::chrono::milliseconds patience{10'000};
    // What memory the NATS servers use, in bytes; may block a little.
    std::function<uint64_t()> memory = [] { return uint64_t{0}; };
    // Called after the first look, whatever it brought.
    std::function<void()> on_looked = [] {};
  };

  // types must outlive it.
  StreamWatch(Options options, repository::Types* types);
  ~StreamWatch();  // Stops.

  void Start();
  // NATS is there (again): look now.
  void Wake();
  // Returns when the thread has ended. The connections must have been closed: a look waits for their answers.
  void Stop();

  bool looked() const;
  // As of the last look.
  uint64_t memory_bytes() const;

 private:
  void Run();

  const Options options_;
  repository::Types* const types_;
  mutable base::Mutex mutex_;
  base::CondVar changed_;
  bool awake_ GUARDED_BY(mutex_) = false;
  bool stopping_ GUARDED_BY(mutex_) = false;
  bool looked_ GUARDED_BY(mutex_) = false;
  uint64_t memory_bytes_ GUARDED_BY(mutex_) = 0;
  std::thread thread_;
};

}  // namespace persistd::app
