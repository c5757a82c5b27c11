// Sends commits to JetStream: alone as a publish or an atomic batch, or several together in one batch (group commit).
//
// On a stream of one replica a batch costs milliseconds whatever its size, and so does every publish of a server that
// calls fsync first. So while a commit of a stream is under way, others wait, and leave together when it is done, each
// with its own check. One that fails fails alone: it is taken out and the rest is sent again. What is stored can be
// told for each commit, as if it had been sent alone. README.md of this folder has the reasons. Thread-safe.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/base/burst.h"
#include "server/base/clock.h"
#include "server/base/executor.h"
#include "server/base/future.h"
#include "server/base/mutex.h"
#include "server/base/task.h"
#include "server/jetstream/publisher.h"
#include "server/jetstream/reader.h"
#include "server/jetstream/streams.h"

namespace persistd::repository {

struct CommitOptions {
  size_t max_batch_messages = 1000;
  size_t max_batch_bytes = 4u << 20;
  int max_inflight = 2;  // Batches of one stream.
  // How long the first commit of a batch waits for others, beside waiting for those under way.
  std::chrono::milliseconds max_delay{0};
  // Whether commits of one message wait for each other, too: where each would cost an fsync.
  std::function<bool(const jetstream::Stream& stream)> group_single = [](const jetstream::Stream&) { return false; };
  // Whether the NATS server may acknowledge a batch although it failed to store a message in the middle of it: then it
  // is asked where the batch begins.
  std::function<bool()> doubt_batches = [] { return false; };
};

// What is stored as a whole or not at all: messages that end up side by side, with the check of each.
struct CommitUnit {
  std::vector<jetstream::OutgoingMessage> messages;  // 1 to 1000, with the headers of their checks.
  std::vector<jetstream::ExpectedLast> checks;       // What those headers say, each once.
};

class Committer {
 public:
  // All must outlive it.
  Committer(CommitOptions options, jetstream::Publisher* publisher, jetstream::Reader* reader, base::Executor* executor,
            const base::Clock* clock);
  ~Committer();

  // Where a read sees every acknowledged write: on a replicated stream only the leader can tell. On one without
  // replicas a mirror may answer a direct get instead (jetstream::IsFromMirror).
  static jetstream::ReadFrom StrongRead(const jetstream::Stream& stream) {
    return stream.replicas > 1 ? jetstream::ReadFrom::kLeader : jetstream::ReadFrom::kAnyReplica;
  }

  // Ends by `deadline`; then with kUnknown, or with kNotStored when it still waited. Once it was sent, NATS has
  // `patience` to answer. last_sequence is that of the unit's last message.
  base::Task<jetstream::PublishOutcome> Commit(jetstream::StreamPtr stream, std::shared_ptr<CommitUnit> unit,
                                               std::chrono::milliseconds patience, base::SteadyTime deadline);

 private:
  // A unit on its way.
  struct Sending {
    std::shared_ptr<CommitUnit> unit;
    base::Promise<jetstream::PublishOutcome> outcome;
    std::chrono::milliseconds patience{};
    base::SteadyTime deadline;
    base::SteadyTime since;
    size_t bytes = 0;
    bool waiting = false;  // In the lane. Guarded by its mutex.
  };
  using SendingPtr = std::shared_ptr<Sending>;
  using Batch = std::vector<SendingPtr>;

  class Lane;

  std::shared_ptr<Lane> LaneOf(const jetstream::StreamPtr& stream);

  const CommitOptions options_;
  jetstream::Publisher* const publisher_;
  jetstream::Reader* const reader_;
  base::Executor* const executor_;
  const base::Clock* const clock_;
  base::Mutex mutex_;
  std::map<std::string, std::shared_ptr<Lane>> lanes_ GUARDED_BY(mutex_);  // By stream.
};

}  // namespace persistd::repository
