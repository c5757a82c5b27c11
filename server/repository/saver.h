// Saves events: the commit path. Of one aggregate, or of several in one commit. Thread-safe.
//
// The rules, and why each save is stored at most once and never in part, are in README.md of this folder.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/clock.h"
#include "server/base/executor.h"
#include "server/base/task.h"
#include "server/repository/aggregate_locks.h"
#include "server/repository/commit_hints.h"
#include "server/repository/commit_search.h"
#include "server/repository/commit_window.h"
#include "server/repository/head.h"
#include "server/repository/history.h"
#include "server/repository/lru_cache.h"
#include "server/repository/packed_head.h"
#include "server/repository/repository.h"
#include "server/repository/storage.h"

namespace persistd::repository {

// What a save of one aggregate came to.
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
    CommitHints* hints = nullptr;  // nullptr: there are none.
    bool chain = true;             // Events get CIDs, each that of the event before it.
  };

  Saver(Options options, Storage* storage, History* history, base::Executor* executor, const base::Clock* clock);

  base::Task<absl::StatusOr<Commit>> Save(SaveCommand command, base::SteadyTime deadline);
  // In the order of the command. VERSION_CONFLICT names everything that is not as expected.
  base::Task<absl::StatusOr<std::vector<Commit>>> SaveAll(SaveAllCommand command, base::SteadyTime deadline);

  // Some daemon has saved the aggregate: the message of the save's last event, perhaps without its body. Drops a head
  // that is older, and remembers the new one when the save is recent.
  void NoteSave(const domain::AggregateRef& ref, const jetstream::Message& last);
  CacheStats head_stats() const { return heads_.stats(); }

 private:
  struct KnownHead {
    Head head;
    // Of the saves without an exact version; nullptr while there was none. Shared, so that a copy of this is cheap.
    // Used by whoever holds the aggregate's lock.
    std::shared_ptr<CommitWindow> window;
  };
  // The same in the cache.
  struct CachedHead {
    PackedHead head;
    std::shared_ptr<CommitWindow> window;
  };
  // One aggregate of an attempt.
  struct Part {
    domain::AggregateRef ref;
    Expectation expectation;
    const SaveCommand* command = nullptr;  // nullptr: it is only checked.
    KnownHead known;
    bool fresh = false;  // `known` was read from the stream by this attempt.
  };
  // One commit on its way.
  struct Attempt {
    SaveAllCommand command;
    std::string commit_id;
    base::SteadyTime deadline;
    jetstream::StreamPtr stream;
    std::vector<Part> parts;  // The saves of `command`, in order, then its checks.
    bool sent = false;        // Messages of it were given to NATS.
    bool open = false;        // Copies of them may be stored, or be completed later.
    bool stored = false;      // An event with this commit id was seen in the stream.

    bool single() const { return parts.size() == 1; }
    const domain::AggregateRef& first_ref() const { return parts.front().ref; }
  };
  // What the messages of an attempt continue.
  struct Continued {
    uint64_t version = 0;
    uint64_t last_sequence = 0;
  };
  // What became of a publish, as far as it could be settled.
  struct Settled {
    enum class Kind { kStored, kLostRace, kFailed };
    Kind kind = Kind::kFailed;
    uint64_t last_sequence = 0;  // With kStored.
    bool was_unknown = false;
    absl::Status status;  // With kFailed, and with kLostRace when the server refuses to store anything more.
  };
  // The messages of an attempt, and what they say of each aggregate that it saves.
  struct Prepared {
    struct Save {
      size_t first_message = 0;  // Of the unit.
      std::vector<Event> events;
      domain::AggregateLabels labels;
      jetstream::PlacePointers pointers;  // Of the last event.
    };
    std::shared_ptr<CommitUnit> unit;
    std::vector<Save> saves;
  };

  static absl::Status OutcomeUnknown(const Attempt& attempt, absl::string_view why);
  static bool Meets(const Part& part);
  // Why an attempt some of whose parts are not as expected, by fresh heads, is refused.
  static absl::Status Refusal(const Attempt& attempt);

  base::Task<absl::StatusOr<std::vector<Commit>>> Run(Attempt& attempt);
  base::Task<absl::StatusOr<std::vector<Commit>>> SaveLocked(Attempt& attempt);
  base::Task<absl::Status> FindStream(Attempt& attempt);
  // From the cache, or assumed where the publish will tell. False: some must be read.
  bool TakeKnownHeads(Attempt& attempt);
  base::Task<absl::Status> ReadMissingHeads(Attempt& attempt);
  // False: it is certain, without looking, that no earlier copy of this save is at the known heads.
  static bool MayBeStored(const Attempt& attempt);
  base::Task<absl::Status> RefreshHeads(Attempt& attempt, bool only_stale);
  base::Task<absl::Status> RefreshHead(const Attempt& attempt, Part& part);
  base::Task<absl::StatusOr<std::optional<std::vector<Commit>>>> FindEarlier(Attempt& attempt);
  base::Task<absl::StatusOr<std::optional<uint64_t>>> FindEarlier(const Attempt& attempt, Part& part);
  base::Task<absl::StatusOr<Commit>> CommitFound(const Attempt& attempt, const Part& part, uint64_t first_version);
  absl::Status CheckRequestId(const Attempt& attempt, base::WallTime recorded) const;
  absl::StatusOr<Prepared> Prepare(const Attempt& attempt) const;
  absl::Status PrepareSave(const Attempt& attempt, const Part& part, base::WallTime recorded, size_t group_size,
                           Prepared& prepared) const;
  base::Task<Settled> PublishUntilSettled(Attempt& attempt, const Prepared& prepared);
  // After an answer that these copies are not stored: whether earlier ones are, or whether none can be any more.
  // nullopt: neither is known.
  base::Task<std::optional<Settled>> LookAfterAnswer(Attempt& attempt, const Prepared& prepared,
                                                     const std::vector<Continued>& sent,
                                                     const jetstream::PublishOutcome& outcome, bool was_unknown,
                                                     absl::Status& last_error);
  // Not OK when the stream is not the one any more that the attempt began with.
  base::Task<absl::Status> CheckStream(const Attempt& attempt, bool forget);
  std::vector<Commit> Finish(Attempt& attempt, Prepared prepared, uint64_t last_sequence);
  // The head after a save of another daemon, if its last message tells.
  std::optional<CachedHead> HeadFromMessage(const domain::AggregateRef& ref, const jetstream::Message& last) const;
  // About what it takes in the cache.
  static size_t BytesOf(const domain::AggregateRef& ref, const CachedHead& cached);
  void Remember(const domain::AggregateRef& ref, const Head& head, std::shared_ptr<CommitWindow> window);

  const bool chain_;
  Storage* const storage_;
  History* const history_;
  base::Executor* const executor_;
  const base::Clock* const clock_;
  CommitSearch search_;
  AggregateLocks locks_;
  LruCache<CachedHead> heads_;
};

}  // namespace persistd::repository
