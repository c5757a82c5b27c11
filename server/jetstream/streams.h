// Finds, creates and checks the streams that hold events and states. Thread-safe.
//
// A stream is looked at once per connection and daemon, then remembered. One that exists with settings under which
// saves would not be safe is refused, never changed. Only Follow changes one.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/mutex.h"
#include "server/base/task.h"
#include "server/jetstream/connection.h"
#include "server/jetstream/stream_config.h"

namespace persistd::jetstream {

// A stream that exists and is suitable.
struct Stream {
  std::string name;
  uint64_t incarnation = 0;  // Its creation time in nanoseconds: tells it from a later stream of the same name.
  int replicas = 1;
  uint64_t max_bytes = 0;  // 0: no limit.
  bool in_memory = false;
  bool purgeable = false;  // Events may be removed from it.
};
using StreamPtr = std::shared_ptr<const Stream>;

// What a stream is and holds at the moment.
struct StreamFacts {
  std::string name;
  StreamSettings settings;  // All present.
  uint64_t messages = 0;
  uint64_t bytes = 0;
  uint64_t subjects = 0;
  uint64_t last_sequence = 0;
};

class Streams {
 public:
  struct Options {
    int max_streams = 200;
    std::string event_stream_name;  // Streams with this name, alone or before a '+', count against max_streams.
    std::string aggregate_stream_name;
  };

  Streams(Options options, Connection* connection) : options_(std::move(options)), connection_(connection) {}

  // The stream if it was found on this connection and not forgotten since; otherwise nullptr, which says nothing.
  StreamPtr Remembered(const std::string& name) const;

  // nullptr: it does not exist. StorageUnsuitable when the events that it would hold are in another one: to say that
  // there are none would be wrong.
  base::Task<absl::StatusOr<StreamPtr>> Find(StreamSpec spec, base::SteadyTime deadline);
  // Creates it when it does not exist.
  base::Task<absl::StatusOr<StreamPtr>> FindOrCreate(StreamSpec spec, base::SteadyTime deadline);

  // Changes a stream that exists so that it has the settings of `spec`, keeping all else; each change is logged.
  // stream == nullptr: it does not exist. `complaint`: the stream can be used, but does not have all settings, and why.
  // An error when it cannot be used, or NATS did not answer.
  struct Followed {
    StreamPtr stream;
    std::string complaint;
  };
  base::Task<absl::StatusOr<Followed>> Follow(StreamSpec spec, base::SteadyTime deadline);

  // Asks NATS; nullopt: there is no such stream. Notices when another daemon has changed a stream that is used here.
  base::Task<absl::StatusOr<std::optional<StreamFacts>>> Look(std::string name, base::SteadyTime deadline);
  // How many messages each subject has that matches the filter. For streams of few subjects: one message holds them
  // all.
  base::Task<absl::StatusOr<std::map<std::string, uint64_t>>> Subjects(std::string name, std::string filter,
                                                                       base::SteadyTime deadline);
  // Removes the messages that match the filter and have a lower sequence; how many. The last one of the filter is never
  // among them when `sequence` is that of one of them.
  base::Task<absl::StatusOr<uint64_t>> PurgeBelow(std::string name, std::string filter, uint64_t sequence,
                                                  base::SteadyTime deadline);
  // The names of all streams that begin with one of the options' names, alone or before a '+', and that of the chains.
  base::Task<absl::StatusOr<std::vector<std::string>>> Names(base::SteadyTime deadline);

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
  // One STREAM.UPDATE over the configuration that `info` reports; "" or why NATS refused.
  base::Task<absl::StatusOr<std::string>> Update(nlohmann::json info, StreamSpec spec, StreamChange::Step step,
                                                 base::SteadyTime deadline);
  void NoticeChange(const std::string& name, const nlohmann::json& info);
  bool IsEvents(const std::string& name) const;
  bool IsOurs(const std::string& name) const;
  base::Task<absl::Status> CheckSubjectsFree(StreamSpec spec, base::SteadyTime deadline);
  base::Task<absl::Status> CheckRoomForOneMore(base::SteadyTime deadline);

  const Options options_;
  Connection* const connection_;
  mutable base::Mutex mutex_;
  std::map<std::string, Known> known_ GUARDED_BY(mutex_);
};

}  // namespace persistd::jetstream
