// Removes events that a snapshot stands for, of types with `retention: truncate_before_snapshot`. Thread-safe.
//
// What must never happen is that an event is removed which is still needed. README.md of this folder has the rules and
// why they suffice. In short: nothing is removed unless the aggregate's list of snapshots says beforehand, durably,
// from where on events stay; the list then always names a usable snapshot from there on, and every change of the list
// keeps it so.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/executor.h"
#include "server/base/task.h"
#include "server/repository/head.h"
#include "server/repository/history.h"
#include "server/repository/snapshot_store.h"
#include "server/repository/storage.h"
#include "server/repository/type_rules.h"
#include "server/transform/runner.h"

namespace persistd::repository {

class Truncator {
 public:
  struct Options {
    TypeRulesMap rules{};
    transform::Runner* transforms = nullptr;  // Must outlive it; needed when a type has a fold.
    // Events and snapshots that are younger than this count as not there: no event so young is removed.
    std::chrono::milliseconds min_age = std::chrono::minutes(10);
    // Whether servers that keep so many copies are known to call fsync before they acknowledge. Otherwise nothing is
    // removed.
    std::function<bool(int replicas)> fsync_always = [](int) { return false; };
    size_t max_events = 1024;  // Looked at and announced at a time, or a save more.
  };

  // All must outlive it.
  Truncator(Options options, Storage* storage, History* history, SnapshotStore* store, base::Executor* executor,
            const base::Clock* clock);

  // To be called after a snapshot was taken. Removes what an earlier call has announced, announces what can be removed
  // next, and drops the snapshots that are older than the one that stands for it. keep: at least 1. remove: false where
  // the type is not to be truncated (any more); then only the snapshots are looked after.
  base::Task<absl::Status> Run(domain::AggregateRef ref, size_t keep, bool remove, base::SteadyTime deadline);

  // Removes a snapshot from the list. SNAPSHOT_NOT_FOUND; HISTORY_REMOVED when no other one stands for removed events.
  base::Task<absl::Status> Drop(domain::AggregateRef ref, uint64_t version, base::SteadyTime deadline);

  // Events removed since the start.
  uint64_t removed() const { return removed_; }

 private:
  struct Usable {
    domain::RecordedEvent event;  // Of its version.
    base::WallTime written;
  };
  // The one test of whether a snapshot can stand for the events up to it; nullopt: it cannot.
  base::Task<absl::StatusOr<std::optional<Usable>>> Test(domain::AggregateRef ref, const Head& head,
                                                         ManifestEntry entry, base::SteadyTime deadline);
  base::Task<absl::StatusOr<bool>> FoldContinues(const domain::StateRecord& state, base::SteadyTime deadline);
  // Whether the list names a usable snapshot of `version` or later, other than `except`.
  base::Task<absl::StatusOr<bool>> HasUsable(domain::AggregateRef ref, const Head& head,
                                             const SnapshotManifest& manifest, uint64_t version, uint64_t except,
                                             base::SteadyTime deadline);

  bool IsOld(base::WallTime time) const;

  struct Base {
    ManifestEntry entry;
    domain::RecordedEvent event;
  };
  // The keep-th newest usable snapshot that is old enough; nullopt: there are not so many.
  base::Task<absl::StatusOr<std::optional<Base>>> FindBase(domain::AggregateRef ref, const Head& head,
                                                           const SnapshotManifest& manifest, size_t keep,
                                                           base::SteadyTime deadline);
  // The first event of a save to which the history may be truncated so that `base` stays.
  struct FirstKept {
    uint64_t version = 0;
    uint64_t sequence = 0;
  };
  base::Task<absl::StatusOr<FirstKept>> FindFirstKept(domain::AggregateRef ref, const Head& head,
                                                      const domain::RecordedEvent& base, uint64_t from,
                                                      base::SteadyTime deadline);
  // False: other aggregates of the commit that ends with `end` still have events of it.
  base::Task<absl::StatusOr<bool>> IsLastOfGroup(const Head& head, const domain::RecordedEvent& end,
                                                 base::SteadyTime deadline);
  // The sequence of `kept`, and those of some events before it that are there, descending: to purge piece by piece.
  base::Task<absl::StatusOr<std::vector<uint64_t>>> Pieces(domain::AggregateRef ref, const Head& head,
                                                           jetstream::DecodedEvent kept, base::SteadyTime deadline);
  // Removes what is announced.
  base::Task<absl::Status> Purge(domain::AggregateRef ref, const Head& head, Truncation truncation,
                                 base::SteadyTime deadline);
  // One attempt of Run. Aborted: the list was changed meanwhile.
  base::Task<absl::Status> RunOnce(domain::AggregateRef ref, size_t keep, bool remove, base::SteadyTime deadline);
  // Versions that need not be listed any more.
  std::vector<uint64_t> Surplus(const SnapshotManifest& manifest, const std::optional<Base>& base, size_t keep) const;

  const Options options_;
  Storage* const storage_;
  History* const history_;
  SnapshotStore* const store_;
  base::Executor* const executor_;
  const base::Clock* const clock_;
  std::atomic<uint64_t> removed_ = 0;
  std::atomic<bool> said_not_durable_ = false;
};

}  // namespace persistd::repository
