// Content blocks: bucket cim-blocks, key = CID of the bytes, value = the bytes. Content that is too large for one
// message is kept as a list of them. Thread-safe.
//
// The same bytes are stored once. Blocks come first, then what lists them: a crash between leaves blocks that nobody
// lists. Whoever removes such blocks must leave the young ones alone: what lists them may be about to be written. So a
// block that is there already is written again when it is no longer young.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/clock.h"
#include "server/base/executor.h"
#include "server/base/task.h"
#include "server/domain/event.h"
#include "server/jetstream/kv.h"

namespace persistd::repository {

class Blocks {
 public:
  // A block that was written less than this ago is listed without being written again.
  static constexpr std::chrono::hours kYoung{1};

  explicit Blocks(jetstream::Kv* kv) : kv_(kv) {}

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
  // Moves the content of a state into blocks where it is too large for a message.
  base::Task<absl::Status> Spill(domain::StateRecord& state, base::SteadyTime deadline);
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

  jetstream::Kv* const kv_;
};

}  // namespace persistd::repository
