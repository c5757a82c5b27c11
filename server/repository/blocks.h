// Content blocks: bucket cim-blocks, key = CID of the bytes, value = the bytes. Content that is too large for one
// message is kept as a list of them. Thread-safe.
//
// The same bytes are stored once. Blocks come first, then what lists them: a crash between leaves blocks that nobody
// lists. BlockCollector removes such blocks when they are old, and relies on what is kept here: a list is stored within
// kListWithin after its blocks were written, or were found to be younger than kYoung. So a block that is there already
// and no longer young is written again, and so are all of them when their list takes long (Renew).
//
// Two kinds of blocks are in the bucket. Chunks, which are written here, have the header kChunkHeader; those that users
// store have not, and nobody removes them for not being listed. Whoever stores a user's block writes it without the
// header, over a chunk as well; a chunk that is there without the header stays as it is.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/clock.h"
#include "server/base/executor.h"
#include "server/base/task.h"
#include "server/domain/event.h"
#include "server/jetstream/kv.h"

namespace persistd::repository {

// Of a chunk: the snapshot buckets whose snapshots may list it, with commas. States may list every chunk.
inline constexpr absl::string_view kChunkHeader = "persistd-chunk";

// The buckets that the header's value names; nullopt when it is none.
std::optional<std::vector<std::string>> BucketsOfChunk(absl::string_view value);

// A block that was written less than this ago is listed without being written again.
inline constexpr std::chrono::hours kYoung{1};
// The longest time from when a block was looked at until its list is stored: attempts to store it begin within
// kRenewAfter, and if one that took longer was stored after all, the blocks are looked at again.
inline constexpr std::chrono::minutes kListWithin{30};
inline constexpr std::chrono::minutes kRenewAfter{10};

struct BlocksOptions {
  std::string snapshot_bucket = "cim-snapshots";
  // Other times are for tests.
  std::chrono::milliseconds young = kYoung;
  std::chrono::milliseconds renew_after = kRenewAfter;
  const base::Clock* clock = &base::Clock::System();
};

class Blocks {
 public:
  explicit Blocks(jetstream::Kv* kv, BlocksOptions options = {}) : kv_(kv), options_(std::move(options)) {}

  // Stores `content`, which the caller keeps, in blocks. On OK they are all there.
  base::Task<absl::StatusOr<domain::ChunkList>> Store(const std::string& content, base::SteadyTime deadline);
  // The content that `list` names. CORRUPT_DATA when a block is missing or is not what its CID says; then `owner` and
  // `sequence` name the message that lists them. how: who is asked, and, where it is not nullptr, a time that becomes
  // the latest one at which one of the blocks was written.
  struct How {
    jetstream::ReadFrom from = jetstream::ReadFrom::kAnyReplica;
    base::WallTime* written = nullptr;
  };
  base::Task<absl::StatusOr<std::string>> Fetch(const domain::ChunkList& list, std::string owner, uint64_t sequence,
                                                How how, base::SteadyTime deadline);

  static bool IsLarge(const domain::StateRecord& state) { return state.payload.data.size() > domain::kChunkBytes; }
  // Content that was moved into blocks, until its list is stored. Empty: it needed none.
  struct Spilled {
    std::string content{};
    // Its blocks were looked at from then on. By both clocks: one stands still in a suspended machine, the other one
    // may be set.
    base::SteadyTime since{};
    base::WallTime wall_since{};

    bool any() const { return !content.empty(); }
  };
  // Moves the content of a state into blocks where it is too large for a message.
  base::Task<absl::StatusOr<Spilled>> Spill(domain::StateRecord& state, base::SteadyTime deadline);
  // To be called before each attempt to store the list, and after the one that stored it. Where that took long, sees
  // to it that all blocks are there and young.
  base::Task<absl::Status> Renew(Spilled& spilled, base::SteadyTime deadline);
  // The inverse: brings the content back. owner: the stream that the state comes from.
  base::Task<absl::Status> Fill(domain::StateRecord& state, std::string owner, base::SteadyTime deadline) {
    return Fill(state, std::move(owner), How(), deadline);
  }
  base::Task<absl::Status> Fill(domain::StateRecord& state, std::string owner, How how, base::SteadyTime deadline);

  jetstream::Kv& kv() { return *kv_; }

 private:
  // A block that may be there already.
  base::Task<absl::Status> StoreOne(std::string key, absl::string_view bytes, base::SteadyTime deadline);
  base::Task<absl::StatusOr<std::optional<jetstream::KvEntry>>> FetchOne(std::string key, size_t size,
                                                                         base::SteadyTime deadline);

  bool IsYoung(base::WallTime written) const;
  // The header of a chunk that had `before` (nullptr: none).
  jetstream::Headers ChunkHeaders(const std::string* before) const;

  jetstream::Kv* const kv_;
  const BlocksOptions options_;
};

}  // namespace persistd::repository
