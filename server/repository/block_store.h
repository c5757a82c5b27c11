// Blocks by their content identifiers: what rpc/ calls. Thread-safe; nothing blocks.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/task.h"
#include "server/ipld/cid.h"

namespace persistd::repository {

struct FoundBlock {
  enum class Source { kBlock, kEvent, kPayload };
  std::string data{};
  Source source = Source::kBlock;
};

class BlockStore {
 public:
  virtual ~BlockStore() = default;

  // Stores bytes whose CID is `cid`, for ever. True: they were there.
  virtual base::Task<absl::StatusOr<bool>> Put(ipld::Cid cid, std::string bytes, base::SteadyTime deadline) = 0;
  // The bytes of a block, or of an event's block or payload; they have this CID. BLOCK_NOT_FOUND; CORRUPT_DATA: what is
  // there under this CID has another one.
  virtual base::Task<absl::StatusOr<FoundBlock>> Get(ipld::Cid cid, base::SteadyTime deadline) = 0;
};

}  // namespace persistd::repository
