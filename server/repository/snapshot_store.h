// The stored snapshots: a manifest for each aggregate that lists them, and a record for each that holds the state (or
// lists the blocks that do). Formats: server/jetstream/README.md. Thread-safe.
//
// The record is written before the manifest that lists it, and removed after it; so what a manifest lists is there. A
// snapshot is derived from the events: a damaged one is passed over when loading, never an error.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/executor.h"
#include "server/base/task.h"
#include "server/domain/event.h"
#include "server/jetstream/kv.h"
#include "server/repository/blocks.h"
#include "server/repository/retry.h"
#include "server/repository/snapshot_manifest.h"
#include "server/repository/snapshot_reader.h"

namespace persistd::repository {

class SnapshotStore final : public SnapshotReader, public TruncationReader {
 public:
  // announcer: what new snapshots are announced on. All must outlive it.
  SnapshotStore(jetstream::Kv* kv, Blocks* blocks, jetstream::Connection* announcer, base::Executor* executor,
                const base::Clock* clock)
      : kv_(kv), blocks_(blocks), announcer_(announcer), executor_(executor), clock_(clock) {}

  // Two gets where the newest one will do, plus those of its blocks.
  base::Task<absl::StatusOr<std::optional<domain::StateRecord>>> Latest(domain::AggregateRef ref,
                                                                        uint64_t at_most_version,
                                                                        base::SteadyTime deadline) override;

  base::Task<absl::StatusOr<std::optional<domain::StateRecord>>> Needed(domain::AggregateRef ref,
                                                                        uint64_t at_most_version,
                                                                        base::SteadyTime deadline) override;
  base::Task<absl::StatusOr<std::optional<Truncation>>> TruncationOf(domain::AggregateRef ref,
                                                                     base::SteadyTime deadline) override;

  // What there is. Sees every snapshot that was added before.
  base::Task<absl::StatusOr<SnapshotManifest>> Manifest(domain::AggregateRef ref, base::SteadyTime deadline);

  struct Added {
    ManifestEntry entry;
    bool fresh = false;      // False: this save's snapshot was there already, and `entry` is that one.
    bool truncated = false;  // Events were removed, or are about to be.
  };
  // Keeps a state with its content. keep: how many of the aggregate's snapshots stay, the newest ones; 0: all. All stay
  // where events were removed: which are needed then is for the truncator to tell.
  base::Task<absl::StatusOr<Added>> Add(domain::StateRecord state, size_t keep, base::SteadyTime deadline);
  // The list as the leader has it, to be replaced.
  struct Listed {
    SnapshotManifest manifest;
    uint64_t revision = 0;  // 0: there is none yet.
  };
  base::Task<absl::StatusOr<Listed>> List(domain::AggregateRef ref, base::SteadyTime deadline) {
    return Find(std::move(ref), jetstream::ReadFrom::kLeader, deadline);
  }
  // Puts the list in the place of that revision, without `dropped`, whose records are erased. Aborted: another is
  // there.
  base::Task<absl::Status> Replace(domain::AggregateRef ref, Listed list, std::vector<uint64_t> dropped,
                                   base::SteadyTime deadline);

  // Waits before the list is read again, after others were faster. OVERLOADED when there is no time left.
  base::Task<absl::Status> Pause(Backoff& backoff, base::SteadyTime deadline);

  // A listed snapshot as the leader has it, with its content, verified against its CID.
  struct Stored {
    domain::StateRecord state;
    base::WallTime written;  // When the last part of it was, by its entry and by the clock of the NATS server.
  };
  // nullopt: it is not there. DataLoss: it is damaged.
  base::Task<absl::StatusOr<std::optional<Stored>>> ReadBack(domain::AggregateRef ref, ManifestEntry entry,
                                                             base::SteadyTime deadline);
  // Whether the snapshots are kept as surely as events that `replicas` servers hold: on disk, for ever, as often.
  base::Task<absl::StatusOr<bool>> IsAsSafeAs(int replicas, base::SteadyTime deadline);

  // Met while loading, since the start.
  uint64_t damaged() const { return damaged_; }

 private:
  // A record that a manifest stops listing.
  struct Dropped {
    uint64_t version = 0;
    uint64_t revision = 0;
  };
  using Records = std::vector<Dropped>;

  base::Task<absl::StatusOr<Listed>> Find(domain::AggregateRef ref, jetstream::ReadFrom from,
                                          base::SteadyTime deadline);
  // nullopt: it is not there any more. DataLoss: it is damaged.
  base::Task<absl::StatusOr<std::optional<Stored>>> ReadRecord(domain::AggregateRef ref, ManifestEntry entry,
                                                               jetstream::ReadFrom from, base::SteadyTime deadline);
  void NotePassedOver(const domain::AggregateRef& ref, const ManifestEntry& entry, const absl::Status& why);
  // Makes `state` the one of a record that is there for the same save, where that is another one and can be read.
  // False: it stays as it is.
  base::Task<absl::StatusOr<bool>> Adopt(jetstream::KvEntry record, domain::StateRecord& state,
                                         base::SteadyTime deadline);
  // Takes versions out of the manifest and remembers their records.
  base::Task<absl::StatusOr<Records>> Drop(const domain::AggregateRef& ref, SnapshotManifest& manifest,
                                           std::vector<uint64_t> versions, base::SteadyTime deadline);
  base::Task<void> EraseRecords(domain::AggregateRef ref, Records records, base::SteadyTime deadline);
  void Announce(const domain::AggregateRef& ref, const ManifestEntry& entry);

  jetstream::Kv* const kv_;
  Blocks* const blocks_;
  jetstream::Connection* const announcer_;
  base::Executor* const executor_;
  const base::Clock* const clock_;
  std::atomic<uint64_t> damaged_ = 0;
  std::atomic<bool> said_unsafe_ = false;
};

}  // namespace persistd::repository
