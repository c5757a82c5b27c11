// A key-value bucket, as NATS's own tools know it (ADR-8): stream KV_<bucket>, a key's value is the last message of
// subject $KV.<bucket>.<key>, its revision that message's sequence.
//
// Keys: tokens of `A-Z a-z 0-9 _ = / -` joined by dots, at most 1024 bytes. Values: what one message holds. The stream
// is made at the first write; one that exists with settings under which values could vanish is refused, never changed.
//
// Errors are those of domain/errors.h, and Aborted (without detail) where another revision is there than was expected.
// OUTCOME_UNKNOWN: a write got no answer in time, or it did and others have written since what may have been its value.
// Thread-safe.
#pragma once

#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/clock.h"
#include "server/base/executor.h"
#include "server/base/future.h"
#include "server/base/mutex.h"
#include "server/base/task.h"
#include "server/jetstream/connection.h"
#include "server/jetstream/message.h"
#include "server/jetstream/publisher.h"
#include "server/jetstream/reader.h"

namespace persistd::jetstream {

struct KvOptions {
  std::string bucket{};
  int replicas = 1;
  std::string storage = "file";  // Or "memory".
  std::string compression = "none";
  int history = 1;                   // Revisions kept of each key, 1 to 64.
  std::chrono::milliseconds ttl{0};  // How long a value stays; 0: for ever.
  uint64_t max_bytes = 0;            // Of the whole bucket; 0: no limit.
  std::string description = "persistd";
  // What writers need of a bucket that exists. One that is made here has both.
  bool batches = false;    // WriteAll of several.
  bool entry_ttl = false;  // Values with a time to live of their own.
};

struct KvEntry {
  enum class Operation { kPut, kDelete };
  std::string key;
  std::string value;  // Empty with kDelete.
  Headers headers;
  uint64_t revision = 0;
  base::WallTime time;  // Of the write, by the NATS server's clock.
  Operation operation = Operation::kPut;
};

// A write of one key.
struct KvWrite {
  std::string key;
  std::string value;
  Headers headers;
  std::optional<uint64_t> revision;  // The last one must be this; 0: it was never written; nullopt: any.
  KvEntry::Operation operation = KvEntry::Operation::kPut;
};

struct KvPage {
  std::vector<KvEntry> entries;  // In the order of their keys.
  std::string next;              // Pass as `after` for the next page; empty: this was the last one, whatever it holds.
};

bool IsKvKey(absl::string_view key);

// Empty when `config`, as STREAM.INFO reports it, suits a bucket; otherwise what is wrong.
std::string BucketUnsuitableBecause(const nlohmann::json& config, const KvOptions& options);

class Kv {
 public:
  // reads, writes: may be the same. They and the executor must outlive it.
  Kv(KvOptions options, Connection* writes, Connection* reads, base::Executor* executor);

  // The value of a key; nullopt: there is none, or it was deleted. Sees every acknowledged write with kLeader (which
  // costs no more in a bucket without replicas); kAnyReplica may be behind.
  base::Task<absl::StatusOr<std::optional<KvEntry>>> Get(std::string key, ReadFrom from, base::SteadyTime deadline);
  // The same, but a deletion is an entry of its own: for its revision.
  base::Task<absl::StatusOr<std::optional<KvEntry>>> Last(std::string key, ReadFrom from, base::SteadyTime deadline);
  // A get on its way: pass what the future brings to FinishGet. So many can be under way at once.
  base::Future<absl::StatusOr<Message>> StartGet(const std::string& key, ReadFrom from, base::SteadyTime deadline);
  absl::StatusOr<std::optional<KvEntry>> FinishGet(absl::StatusOr<Message> answer, ReadFrom from) const;

  // How the bucket keeps what it holds, as NATS says now; nullopt: there is none yet.
  struct Facts {
    int replicas = 1;
    bool on_disk = false;
    bool for_ever = false;  // No value ends by its age.
  };
  base::Task<absl::StatusOr<std::optional<Facts>>> Look(base::SteadyTime deadline);

  // Whether the bucket was made yet.
  base::Task<absl::StatusOr<bool>> Exists(base::SteadyTime deadline);
  // Makes it, where it does not exist.
  base::Task<absl::Status> Ensure(base::SteadyTime deadline);

  // Each answers the new revision. A write whose answer is lost is sent again until its outcome is known, so a value
  // that is there already counts as written; the copies of a Put may land after a later write of the same key.
  base::Task<absl::StatusOr<uint64_t>> Put(std::string key, std::string value, base::SteadyTime deadline,
                                           Headers headers = Headers());
  // The key must have no value. A deleted key has none.
  base::Task<absl::StatusOr<uint64_t>> Create(std::string key, std::string value, base::SteadyTime deadline,
                                              Headers headers = Headers());
  // The key's last revision must be `revision`; 0: it was never written.
  base::Task<absl::StatusOr<uint64_t>> Update(std::string key, std::string value, uint64_t revision,
                                              base::SteadyTime deadline, Headers headers = Headers());
  // Writes a marker in place of the value; earlier revisions stay, as far as `history` goes. revision: as for Update;
  // nullopt: any.
  base::Task<absl::StatusOr<uint64_t>> Delete(std::string key, std::optional<uint64_t> revision,
                                              base::SteadyTime deadline);
  // The same, and removes the earlier revisions.
  base::Task<absl::StatusOr<uint64_t>> Purge(std::string key, std::optional<uint64_t> revision,
                                             base::SteadyTime deadline);
  // Removes all revisions up to `revision` without a marker, so that nothing of them stays; a watch does not see it. A
  // later revision stays, whenever it was written.
  base::Task<absl::Status> Erase(std::string key, uint64_t revision, base::SteadyTime deadline);
  // The same; answers how many revisions there were.
  base::Task<absl::StatusOr<uint64_t>> EraseCounted(std::string key, uint64_t revision, base::SteadyTime deadline);

  // Several, 1 to 1000, each of another key: all or none. As Update, and Delete, for each. Answers the revision of the
  // last one; the others have those before it, in order.
  base::Task<absl::StatusOr<uint64_t>> WriteAll(std::vector<KvWrite> writes, base::SteadyTime deadline);

  // One create on its way, as StartGet: for blocks, of which many are under way. FinishCreate: the revision; Aborted
  // when there is something already; any other error leaves the outcome open.
  base::Future<absl::StatusOr<Message>> StartCreate(const std::string& key, std::string value,
                                                    base::SteadyTime deadline, Headers headers = Headers());
  absl::StatusOr<uint64_t> FinishCreate(absl::StatusOr<Message> answer) const;

  // The keys whose first tokens are `prefix` (all keys: ""), with their values, after `after`. A page ends at
  // max_entries, or with the entry that reaches max_bytes of values; among many deleted keys also before, even empty.
  // Sees every acknowledged write that was there when it began.
  base::Task<absl::StatusOr<KvPage>> List(std::string prefix, std::string after, size_t max_entries, size_t max_bytes,
                                          base::SteadyTime deadline);
  // The same, of keys that match a pattern of NATS and begin with a text; empty: whatever follows.
  struct KeyFilter {
    std::string pattern = ">";
    std::string prefix{};
  };
  base::Task<absl::StatusOr<KvPage>> ListMatching(KeyFilter filter, std::string after, size_t max_entries,
                                                  size_t max_bytes, base::SteadyTime deadline);

  const KvOptions& options() const { return options_; }
  const std::string& stream() const { return stream_; }
  std::string SubjectOf(absl::string_view key) const;
  // nullopt when the message is not of this bucket.
  std::optional<KvEntry> EntryOf(Message message) const;

 private:
  OutgoingMessage Encode(const KvWrite& write) const;
  base::Task<absl::StatusOr<uint64_t>> Send(KvWrite write, base::SteadyTime deadline);
  // After an attempt whose outcome is not known: the revision that a copy of it has made; nullopt: none is there.
  base::Task<absl::StatusOr<std::optional<uint64_t>>> FindCopy(const KvWrite& write, base::SteadyTime deadline);
  base::Task<absl::Status> MakeBucket(base::SteadyTime deadline);
  // The first `max` keys after `after`, deleted ones as well.
  base::Task<absl::StatusOr<std::vector<std::string>>> Keys(KeyFilter filter, std::string after, size_t max,
                                                            base::SteadyTime deadline);
  // How many of the keys were read: those up to the entry that left none of `bytes`.
  base::Task<absl::StatusOr<size_t>> AppendEntries(std::span<const std::string> keys, std::vector<KvEntry>& entries,
                                                   size_t& bytes, base::SteadyTime deadline);
  absl::Status CheckInfo(const nlohmann::json& info, uint64_t connection);
  void Forget() EXCLUDES(mutex_);
  bool MissingLately() const EXCLUDES(mutex_);
  bool replicated() const EXCLUDES(mutex_);

  const KvOptions options_;
  const std::string stream_;
  const std::string subject_prefix_;  // Ends with a dot.
  Connection* const writes_;
  Connection* const reads_;
  base::Executor* const executor_;
  Reader reader_;
  Publisher publisher_;
  mutable base::Mutex mutex_;
  uint64_t found_on_ GUARDED_BY(mutex_) = 0;  // Connection::connects() when it was last found suitable; 0: never.
  bool replicated_ GUARDED_BY(mutex_) = true;
  base::SteadyTime missed_ GUARDED_BY(mutex_);  // When there was no such bucket.
};

}  // namespace persistd::jetstream
