// Runs jq programs in worker processes (worker.h), a few at a time, bounded in time, memory and output. Thread-safe.
//
// One thread for each worker hands it requests and waits for its answers, so callers only await a future. What waits
// for its turn is answered at its deadline, or up to time_limit later, when the next worker is free to look. A worker
// whose program takes too long is killed, one that crashed is known to have; the next request starts another. README.md
// says what a program may do.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/future.h"
#include "server/base/mutex.h"

namespace persistd::transform {

// A program that compiles. A plain value.
struct Program {
  uint32_t number = 0;  // Of the runner that compiled it.
  std::string source;
};
using ProgramPtr = std::shared_ptr<const Program>;

// One event as a program sees it: `.data` is the JSON text `data` (empty: null), the rest is in the JSON object
// `fields`.
struct FoldInput {
  std::string fields;
  std::string data;
};

struct FoldOutput {
  // INVALID_ARGUMENT: the program or the JSON; OUT_OF_RANGE: the new state is too large; RESOURCE_EXHAUSTED: time or
  // memory ran out, or the worker crashed; DEADLINE_EXCEEDED: its turn did not come in time; UNAVAILABLE: too many wait
  // already, or no worker runs.
  absl::Status status;
  std::string state{};             // JSON.
  std::optional<size_t> failed{};  // Which event it failed on, where that is known.
};

class Runner {
 public:
  struct Options {
    std::string worker_program = "/proc/self/exe";  // Its main calls RunWorkerIfAsked.
    int workers = 2;
    std::chrono::milliseconds time_limit{2000};  // For one fold.
    uint64_t memory_bytes = 256u << 20;          // Of a worker, beside its own code.
    uint64_t max_state_bytes = 4u << 20;
    size_t max_waiting = 10'000;
    uint64_t max_waiting_bytes = 256u << 20;  // Of requests that wait.
  };

  explicit Runner(Options options);
  ~Runner();  // Stops.

  // Blocks. INVALID_ARGUMENT with jq's message and the line: it does not compile. What is compiled is kept for ever.
  absl::StatusOr<ProgramPtr> Compile(std::string source);

  // state: JSON; empty: null. The future is set on a thread of the runner.
  base::Future<FoldOutput> Fold(ProgramPtr program, std::string state, std::vector<FoldInput> events,
                                base::SteadyTime deadline);

  // Fails what waits and what runs.
  void Stop();

 private:
  struct Job {
    ProgramPtr program;
    std::string request;  // Empty: only compile.
    base::SteadyTime deadline;
    base::Promise<FoldOutput> promise;
  };
  class Worker;

  void Serve();
  std::optional<Job> NextJob() EXCLUDES(mutex_);
  // Takes out the jobs whose time is over.
  std::deque<Job> TakeLate() REQUIRES(mutex_);
  base::Future<FoldOutput> Submit(Job job) EXCLUDES(mutex_);

  const Options options_;
  base::Mutex mutex_;
  base::CondVar changed_;
  bool stopping_ GUARDED_BY(mutex_) = false;
  uint32_t next_number_ GUARDED_BY(mutex_) = 1;
  std::deque<Job> jobs_ GUARDED_BY(mutex_);
  uint64_t waiting_bytes_ GUARDED_BY(mutex_) = 0;  // Of `jobs_`.
  std::vector<Worker*> running_ GUARDED_BY(mutex_);
  std::vector<std::thread> threads_;
};

}  // namespace persistd::transform
