// Saves the events of one aggregate: the commit path. Thread-safe.
//
// The rules, and why each save is stored at most once and never in part, are in README.md of this folder.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/executor.h"
#include "server/base/task.h"
#include "server/repository/aggregate_locks.h"
#include "server/repository/commit_search.h"
#include "server/repository/commit_window.h"
#include "server/repository/head.h"
#include "server/repository/history.h"
#include "server/repository/lru_cache.h"
#include "server/repository/repository.h"
#include "server/repository/storage.h"

namespace persistd::repository {

// What a save came to.
struct Commit {
  Head head;  // After the save. Its labels are those of the save's last event.
  uint64_t first_version = 0;
  std::vector<Event> events;  // Without payloads, unless it was found stored.
  std::string commit_id;
  bool deduplicated = false;
};

class Saver {
 public:
  struct Options {
    size_t head_cache_bytes = 0;
  };

  Saver(Options options, Storage* storage, History* history, base::Executor* executor, const base::Clock* clock);

  base::Task<absl::StatusOr<Commit>> Save(SaveCommand command, base::SteadyTime deadline);

 private:
  struct KnownHead {
    Head head;
    // Shared, so that a copy of this is cheap. Used by whoever holds the aggregate's lock.
    std::shared_ptr<CommitWindow> window;
  };
  // One save on its way.
  struct Attempt {
    SaveCommand command;
    std::string commit_id;
    base::SteadyTime deadline;
    jetstream::StreamPtr stream;
    KnownHead known;
    bool fresh = false;   // `known` was read from the stream by this save.
    bool sent = false;    // Messages of it were given to NATS.
    bool open = false;    // Copies of them may be stored, or be completed later.
    bool stored = false;  // An event with this commit id was seen in the stream.
  };
  // What became of a publish, as far as it could be settled.
  struct Settled {
    enum class Kind { kStored, kLostRace, kFailed };
    Kind kind = Kind::kFailed;
    uint64_t last_sequence = 0;  // With kStored.
    bool was_unknown = false;
    absl::Status status;  // With kFailed, and with kLostRace when the server refuses to store anything more.
  };
  struct Prepared {
    std::shared_ptr<CommitUnit> unit;
    std::vector<Event> events;
    jetstream::AggregateLabels labels;
    std::vector<jetstream::PlacePointers> pointers;
  };

  static absl::Status OutcomeUnknown(const Attempt& attempt, absl::string_view why);

  base::Task<absl::StatusOr<Commit>> SaveLocked(Attempt& attempt);
  base::Task<absl::Status> FindStream(Attempt& attempt);
  base::Task<absl::Status> RefreshHead(Attempt& attempt);
  base::Task<absl::StatusOr<std::optional<Commit>>> FindEarlier(Attempt& attempt);
  base::Task<absl::StatusOr<Commit>> CommitFound(Attempt& attempt, uint64_t first_version);
  absl::StatusOr<Prepared> Prepare(const Attempt& attempt) const;
  base::Task<Settled> PublishUntilSettled(Attempt& attempt, const Prepared& prepared);
  Commit Finish(Attempt& attempt, Prepared prepared, uint64_t last_sequence);
  void Remember(const domain::AggregateRef& ref, KnownHead known);

  Storage* const storage_;
  History* const history_;
  base::Executor* const executor_;
  const base::Clock* const clock_;
  CommitSearch search_;
  AggregateLocks locks_;
  LruCache<KnownHead> heads_;
};

}  // namespace persistd::repository
