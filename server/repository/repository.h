// The aggregate repository: saves, loads and histories over JetStream. Knows nothing of gRPC.
//
// Callers pass requests whose parts are valid (rpc/ checks them); deadlines bound every wait. Errors are those of
// domain/errors.h. Thread-safe; nothing blocks. See README.md of this folder for how a save and a load go.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/executor.h"
#include "server/base/task.h"
#include "server/domain/event.h"
#include "server/domain/position.h"
#include "server/jetstream/kv.h"
#include "server/repository/block_hints.h"
#include "server/repository/block_store.h"
#include "server/repository/chain.h"
#include "server/repository/commit_hints.h"
#include "server/repository/lru_cache.h"
#include "server/repository/snapshot_policy.h"
#include "server/repository/snapshot_reader.h"
#include "server/repository/storage.h"
#include "server/repository/type_rules.h"
#include "server/repository/types.h"
#include "server/transform/runner.h"

namespace persistd::repository {

// What must be there before a save.
struct Expectation {
  enum class Kind { kAny, kExact, kMustExist };
  Kind kind = Kind::kAny;
  uint64_t version = 0;  // With kExact; 0: must not exist.
};

struct NewState {
  uint32_t schema_version = 1;
  domain::Payload payload;
};

// What a save asks to remember, and which of it the caller chose. What the caller left out gets a default, and a
// repeated save is compared only by what was chosen.
struct SaveEvent {
  domain::NewEvent event;
  bool has_event_id = false;
  bool has_time = false;
};

struct SaveCommand {
  domain::AggregateRef ref;
  Expectation expectation;
  std::vector<SaveEvent> events;  // 1 to 1000.
  std::optional<NewState> state;
  std::optional<std::vector<std::string>> tags;    // Absent: as they were.
  std::optional<domain::CustomMetadata> metadata;  // Absent: as it was.
  std::string request_id;                          // Empty: one is made.
  bool tombstone = false;                          // The only event is `_deleted`; the aggregate must exist.
  bool create_snapshot = false;                    // Of the state after this save.
};

// What must be there of an aggregate that a commit does not write. Not kAny.
struct Check {
  domain::AggregateRef ref;
  Expectation expectation;
};

// Several aggregates of one stream, each once, saved in one commit. request_id of the saves is empty.
struct SaveAllCommand {
  std::vector<SaveCommand> saves;
  std::vector<Check> checks;
  std::string request_id;  // Empty: one is made.
};

// What is known of an aggregate without payloads.
struct AggregateInfo {
  domain::AggregateRef ref;
  uint64_t version = 0;
  uint32_t state_schema_version = 0;  // 0: no state.
  base::WallTime last_modified;
  std::string state_cid;
  std::string head_cid;
  std::vector<std::string> tags;
  domain::CustomMetadata metadata;
  bool deleted = false;  // The last event is a tombstone.
  domain::Position position;
};

enum class StateResult { kNone, kWritten, kSuperseded, kPending };

struct SavedEvent {
  uint64_t version = 0;
  std::string event_id;
  std::string cid;
  std::string prev_cid{};
  domain::Position position;
};

struct SaveResult {
  AggregateInfo info;
  std::vector<SavedEvent> events;
  int replicas = 1;
  bool in_memory = false;  // Lost when the NATS servers restart.
  StateResult state = StateResult::kNone;
  bool deduplicated = false;
  std::string commit_id;
};

struct SaveAllResult {
  std::vector<SaveResult> results;  // In the order of the command.
  bool deduplicated = false;
  std::string commit_id;
};

enum class Consistency { kStrong, kCached, kAtLeast };

struct LoadCommand {
  domain::AggregateRef ref;
  Consistency consistency = Consistency::kStrong;               // Only of a load of what is there now.
  domain::Position at_least{};                                  // With kAtLeast.
  std::variant<std::monostate, uint64_t, base::WallTime> at{};  // Now, at a version (from 1), or at a time.
  std::optional<bool> include_events{};                         // Absent: those after the state, unless folded into it.
  bool use_snapshot = true;                                     // False: from the events alone.
};

struct Event {
  domain::RecordedEvent event;
  domain::Position position;
};

struct LoadResult {
  AggregateInfo info;
  std::optional<domain::StateRecord> state;
  std::vector<Event> events;      // After the state, oldest first.
  bool folded = false;            // The state was computed by the type's fold.
  uint64_t snapshot_version = 0;  // Of the snapshot that was used; 0: none.
};

// A kept state, without its content.
struct SnapshotInfo {
  domain::AggregateRef ref;
  uint64_t version = 0;
  uint32_t schema_version = 1;
  std::string content_type;
  uint64_t size = 0;  // Bytes.
  std::string cid;
  base::WallTime created;
};

struct SnapshotCommand {
  domain::AggregateRef ref;
  uint64_t version = 0;           // 0: the current one.
  std::optional<NewState> state;  // Absent: the stored or the folded one.
};

struct HistoryQuery {
  domain::AggregateRef ref;
  uint64_t from_version = 0;           // Exclusive; 0: from the first one that is kept.
  std::optional<uint64_t> to_version;  // Inclusive; absent: the last one.
  bool reverse = false;
  std::vector<std::string> types;  // Empty: all.
};

// Takes the next event; false stops the history (the reader went away). Completes when the reader wants more.
using EventSink = std::function<base::Task<bool>(Event event)>;

struct RepositoryOptions {
  StorageOptions storage;
  bool enable_ipld = true;  // Events and states get CIDs.
  size_t head_cache_bytes = 64u << 20;
  size_t state_cache_entries = 1000;
  size_t state_cache_bytes = 64u << 20;
  std::chrono::milliseconds cache_ttl{5000};
  size_t max_load_bytes = 4u << 20;
  // Both must outlive the repository; nullptr: there are none.
  CommitHints* hints = nullptr;
  BlockHints* block_hints = nullptr;
  TypeRulesMap rules{};
  transform::Runner* transforms = nullptr;  // Must outlive the repository; needed when a type has a fold.
  SnapshotReader* snapshots = nullptr;      // Must outlive the repository; nullptr: its own.
  jetstream::KvOptions snapshot_bucket{.bucket = "cim-snapshots"};
  jetstream::KvOptions block_bucket{.bucket = "cim-blocks"};
  jetstream::KvOptions control_bucket{.bucket = "cim-control"};
  SnapshotPolicies snapshot_policies;
  // Of types that are truncated: events and snapshots that are younger are not removed, whatever replaces them.
  std::chrono::milliseconds truncation_min_age = std::chrono::minutes(10);
  // Whether NATS servers that keep so many copies call fsync before they acknowledge, as far as is known.
  std::function<bool(int replicas)> fsync_always = [](int) { return false; };
};

// Counts since the start.
struct RepositoryStats {
  std::map<std::string, uint64_t> foreign_messages;  // Met while reading, by stream.
  std::map<std::string, CacheStats> caches;          // By name.
  SnapshotStats snapshots{};
};

class Repository {
 public:
  // The connections and the executor must outlive it.
  static std::unique_ptr<Repository> Create(RepositoryOptions options, Connections connections,
                                            base::Executor* executor, const base::Clock* clock);
  virtual ~Repository() = default;

  virtual base::Task<absl::StatusOr<SaveResult>> Save(SaveCommand command, base::SteadyTime deadline) = 0;
  virtual base::Task<absl::StatusOr<SaveAllResult>> SaveAll(SaveAllCommand command, base::SteadyTime deadline) = 0;
  virtual base::Task<absl::StatusOr<LoadResult>> Load(LoadCommand command, base::SteadyTime deadline) = 0;
  virtual base::Task<absl::StatusOr<AggregateInfo>> Info(domain::AggregateRef ref, base::SteadyTime deadline) = 0;
  // Not OK when the history broke off; a sink that stops ends it with OK.
  virtual base::Task<absl::Status> History(HistoryQuery query, EventSink sink, base::SteadyTime deadline) = 0;

  virtual base::Task<absl::StatusOr<SnapshotInfo>> CreateSnapshot(SnapshotCommand command,
                                                                  base::SteadyTime deadline) = 0;
  // Newest first.
  virtual base::Task<absl::StatusOr<std::vector<SnapshotInfo>>> ListSnapshots(domain::AggregateRef ref,
                                                                              base::SteadyTime deadline) = 0;
  virtual base::Task<absl::Status> DeleteSnapshot(domain::AggregateRef ref, uint64_t version,
                                                  base::SteadyTime deadline) = 0;

  // AGGREGATE_NOT_FOUND where no message is; VERSION_NOT_FOUND or HISTORY_REMOVED where from_version is not there;
  // HISTORY_REMOVED also where all up to to_version was removed, or perhaps the event with expected_head_cid.
  // Unavailable when the history changed too often while it was read. Cancelled when the sink stopped it.
  virtual base::Task<absl::StatusOr<Verification>> VerifyChain(VerifyCommand command, VerifyProgressSink progress,
                                                               base::SteadyTime deadline) = 0;
  // Events first to last in order; `first` begins a save. CORRUPT_DATA where one does not match its CIDs or the one
  // before it.
  virtual base::Task<absl::Status> ReadChain(domain::AggregateRef ref, uint64_t first, uint64_t last, ChainSink sink,
                                             base::SteadyTime deadline) = 0;

  // To be called for each save of an aggregate that some daemon, or this one, stored. last: the message of its last
  // event, with that version; no body is needed. Drops what is outdated from the caches, and remembers the head of what
  // others save now. Quick.
  virtual void NoteSave(const domain::AggregateRef& ref, uint64_t version, const jetstream::Message& last) = 0;

  // The types and their streams; lives as long as this. nullptr in a repository without streams of its own.
  virtual Types* types() { return nullptr; }
  // The same of blocks.
  virtual BlockStore* blocks() { return nullptr; }
  virtual std::vector<jetstream::StreamPtr> streams() const = 0;
  virtual RepositoryStats stats() const = 0;
};

}  // namespace persistd::repository
