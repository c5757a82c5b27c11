// Removes chunks (blocks.h) that no state and no snapshot lists any more: those of values that were replaced or
// dropped, and of writes that ended before their list. For a thread of its own, which a run blocks. Several may run at
// once, in one daemon or in several.
//
// A run looks which chunks are old (none: that was all), then reads every list that there is, and removes the old
// chunks that it did not meet, each at the revision that was seen.
//
// Why this loses nothing. Let `start` be when the run began to look, and r a revision of a block from before
// start - min_age. Whoever lists the block from now on finds r no longer young (kYoung), so he writes the block again
// first, which makes a later revision; the removal of r leaves that one, whether it comes before or after it. Whoever
// listed r as it was did so before it was kYoung old, and stored the list within kListWithin after that: before start,
// for min_age is more than the two (kLeastAge leaves half an hour for clocks that differ and servers that lag). So the
// lists that are there at start are all that will ever need r; the run reads them all, or removes nothing. As r can
// only become more useless, it does not matter how long a run takes, or how many runs there are.
//
// A stream that holds lists may be away for a time: a nats-server that cannot recover one goes on without it. So the
// streams that runs have found are remembered in NATS, and while one of them is missing nothing is removed.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <set>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/base/executor.h"
#include "server/base/mutex.h"
#include "server/ipld/cid.h"
#include "server/jetstream/connection.h"
#include "server/jetstream/kv.h"
#include "server/jetstream/reader.h"
#include "server/jetstream/stream_scan.h"
#include "server/repository/blocks.h"

namespace persistd::repository {

// What a run did.
struct Collection {
  uint64_t candidates = 0;  // Chunks that were old enough.
  uint64_t lists = 0;       // States and snapshots in blocks that were met.
  uint64_t collected = 0;
  uint64_t collected_bytes = 0;
};

struct BlockCollectorOptions {
  jetstream::KvOptions block_bucket{.bucket = "cim-blocks"};
  std::string snapshot_bucket = "cim-snapshots";
  // Where is kept which streams a run has ever found lists in.
  jetstream::KvOptions control_bucket{.bucket = "cim-control"};
  // Chunks that were written less than this ago stay. At least kLeastAge, but in tests.
  std::chrono::milliseconds min_age = std::chrono::hours(24);
  // From the end of the mark to the first removal: loads that have just read a list that was replaced still find its
  // blocks.
  std::chrono::milliseconds grace = std::chrono::minutes(1);
  size_t max_candidates = 200'000;    // At a time; about 100 bytes each. More take several rounds.
  std::function<void()> on_marked{};  // Before the grace; for tests.
};

class BlockCollector {
 public:
  static constexpr std::chrono::hours kLeastAge{2};
  static_assert(kYoung + kListWithin + std::chrono::minutes(30) <= kLeastAge);

  // scans: what reads the streams; writes: what removes. All must outlive it.
  BlockCollector(BlockCollectorOptions options, jetstream::Connection* scans, jetstream::Connection* writes,
                 base::Executor* executor);

  // Where a list cannot be read or understood, or NATS does not answer, nothing (more) is removed: the error says why.
  absl::StatusOr<Collection> Run();
  // Ends a run soon, and all later ones at once.
  void Cancel();

 private:
  struct Candidate {
    uint64_t revision = 0;
    uint64_t bytes = 0;
  };
  struct DigestHash {
    size_t operator()(const std::array<uint8_t, 32>& digest) const;
  };
  // Some of the old chunks: by digest, for that takes half the room of a key.
  struct Round {
    absl::flat_hash_map<std::array<uint8_t, 32>, Candidate, DigestHash> candidates{};
    std::set<std::string> snapshot_buckets{};  // Whose snapshots may list them.
    uint64_t last = 0;                         // The revision that was looked at last.
    bool more = false;                         // There may be some after it.
  };

  absl::StatusOr<Round> FindCandidates(uint64_t after);
  void Consider(jetstream::Message message, Round& round) const;
  // Takes what is listed out of the round.
  absl::Status Mark(Round& round, Collection& collection);
  absl::Status MarkStream(const std::string& stream, Round& round, Collection& collection);
  // Whether the message lists blocks.
  absl::StatusOr<bool> MarkList(const std::string& stream, uint64_t sequence, Round& round);
  // Those of states, whatever daemons call them.
  absl::StatusOr<std::set<std::string>> StateStreams();
  // FAILED_PRECONDITION when one is missing that was there in an earlier run; otherwise remembers those that are new.
  absl::Status CheckNoneMissing(const std::set<std::string>& streams);
  absl::Status Sweep(const Round& round, Collection& collection);

  absl::Status Wait(std::chrono::milliseconds time);
  bool cancelled() const;
  // Visits the whole stream, some of it perhaps more than once.
  absl::Status Scan(const std::string& stream, const jetstream::ScanVisitor& visit);

  const BlockCollectorOptions options_;
  jetstream::Connection* const scans_;
  base::Executor* const executor_;
  jetstream::Kv blocks_;
  jetstream::Kv control_;
  jetstream::Reader reader_;
  mutable base::Mutex mutex_;
  base::CondVar cancelled_changed_;
  bool cancelled_ GUARDED_BY(mutex_) = false;
};

}  // namespace persistd::repository
