// Finds, creates and checks the streams that hold events and states. Thread-safe.
//
// A stream is looked at once per connection and daemon, then remembered. One that exists with settings under which
// saves would not be safe is refused, never changed.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/mutex.h"
#include "server/base/task.h"
#include "server/jetstream/connection.h"

namespace persistd::jetstream {

enum class StreamKind {
  kEvents,  // Keeps everything for ever.
  kState,   // Keeps the last message of each subject.
};

struct StreamSpec {
  std::string name;
  std::string subjects;  // One pattern.
  StreamKind kind = StreamKind::kEvents;
  int replicas = 1;
  std::string compression = "none";  // Or "s2".
};

// A stream that exists and is suitable.
struct Stream {
  std::string name;
  uint64_t incarnation = 0;  // Its creation time in nanoseconds: tells it from a later stream of the same name.
  int replicas = 1;
};
using StreamPtr = std::shared_ptr<const Stream>;

// Empty when `config`, as STREAM.INFO reports it, suits `spec`; otherwise what is wrong and what to do.
std::string UnsuitableBecause(const nlohmann::json& config, const StreamSpec& spec);

class Streams {
 public:
  struct Options {
    int max_streams = 200;
    std::string event_stream_name;  // Streams with this name, alone or before a '+', count against max_streams.
  };

  Streams(Options options, Connection* connection) : options_(std::move(options)), connection_(connection) {}

  // The stream if it was found on this connection and not forgotten since; otherwise nullptr, which says nothing.
  StreamPtr Remembered(const std::string& name) const;

  // nullptr: it does not exist. StorageUnsuitable when the events that it would hold are in another one: to say that
  // there are none would be wrong.
  base::Task<absl::StatusOr<StreamPtr>> Find(StreamSpec spec, base::SteadyTime deadline);
  // Creates it when it does not exist.
  base::Task<absl::StatusOr<StreamPtr>> FindOrCreate(StreamSpec spec, base::SteadyTime deadline);

  // To be called when a stream that was found does not answer: it is looked for again when it is next needed.
  void Forget(const std::string& name);

  // Those found since the start.
  std::vector<StreamPtr> known() const;

 private:
  struct Known {
    StreamPtr stream;
    uint64_t connection = 0;  // Connection::connects() when it was asked for.
    bool forgotten = false;
  };

  // connection: Connection::connects() when `info` was asked for.
  absl::StatusOr<StreamPtr> CheckAndRemember(const nlohmann::json& info, const StreamSpec& spec, uint64_t connection);
  base::Task<absl::StatusOr<StreamPtr>> Create(StreamSpec spec, base::SteadyTime deadline);
  base::Task<absl::Status> CheckSubjectsFree(StreamSpec spec, base::SteadyTime deadline);
  base::Task<absl::Status> CheckRoomForOneMore(base::SteadyTime deadline);

  const Options options_;
  Connection* const connection_;
  mutable base::Mutex mutex_;
  std::map<std::string, Known> known_ GUARDED_BY(mutex_);
};

}  // namespace persistd::jetstream
