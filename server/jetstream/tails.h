// One tail for each stream of events or chains that there is, found by its name: what the local index and the caches
// follow.
//
// Streams are looked for at the start, when Nudge is called, and every now and then. Thread-safe; TailSink says on
// which thread the sink is called.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/executor.h"
#include "server/base/mutex.h"
#include "server/base/task.h"
#include "server/jetstream/connection.h"
#include "server/jetstream/tail.h"

namespace persistd::jetstream {

class TailsSink : public TailSink {
 public:
  // Those that there are. Called whenever they were looked for.
  virtual void OnStreams(const std::vector<std::string>& streams) = 0;
};

class Tails {
 public:
  struct Options {
    std::string event_stream_name;  // Streams of this name, alone or before a '+', that hold `cim.events.>`.
    std::chrono::milliseconds look_every{2000};
    std::chrono::milliseconds heartbeat{5000};
  };

  // All must outlive it, and the sink also the connection's Stop.
  Tails(Options options, Connection* connection, base::Executor* executor, TailsSink* sink);
  ~Tails();  // Stops.

  void Start();
  // Blocks until nothing runs any more; not on the thread of the connection or the executor, which must still run.
  void Stop();

  // Looks for streams soon.
  void Nudge();
  // See Tail::Done.
  void Done(const std::string& stream, uint64_t count);
  // See Tail::BeginAgain; for all streams.
  void BeginAgain();
  // See Tail::pending; 0 for a stream that is not followed.
  uint64_t pending(const std::string& stream) const;

 private:
  base::Task<void> Run();
  base::Task<absl::StatusOr<std::vector<std::string>>> ListStreams();
  // Those that hold some of `subjects`. subjects: must outlive the task.
  base::Task<absl::Status> AddStreams(absl::string_view subjects, std::vector<std::string>& streams);
  bool IsFollowed(const std::string& stream) const;
  void Follow(const std::vector<std::string>& streams);
  bool stopping() const;

  const Options options_;
  Connection* const connection_;
  base::Executor* const executor_;
  TailsSink* const sink_;

  mutable base::Mutex mutex_;
  base::CondVar ended_changed_;
  bool started_ GUARDED_BY(mutex_) = false;
  bool stopping_ GUARDED_BY(mutex_) = false;
  bool ended_ GUARDED_BY(mutex_) = false;
  bool nudged_ GUARDED_BY(mutex_) = false;
  std::map<std::string, std::shared_ptr<Tail>> tails_ GUARDED_BY(mutex_);
};

}  // namespace persistd::jetstream
