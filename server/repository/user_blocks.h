// The blocks of users, in the bucket that they share with chunks (blocks.h has the rules), and the blocks of events,
// which are made anew from their messages. Thread-safe.
#pragma once

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/task.h"
#include "server/ipld/cid.h"
#include "server/jetstream/kv.h"
#include "server/jetstream/reader.h"
#include "server/repository/block_hints.h"
#include "server/repository/block_store.h"

namespace persistd::repository {

class UserBlocks final : public BlockStore {
 public:
  // hints: nullptr where nothing knows of events. All must outlive it.
  UserBlocks(jetstream::Kv* kv, jetstream::Reader* reader, BlockHints* hints)
      : kv_(kv), reader_(reader), hints_(hints) {}

  base::Task<absl::StatusOr<bool>> Put(ipld::Cid cid, std::string bytes, base::SteadyTime deadline) override;
  base::Task<absl::StatusOr<FoundBlock>> Get(ipld::Cid cid, base::SteadyTime deadline) override;

 private:
  // nullopt: the message is another one, or gone. CORRUPT_DATA: it says that it is this one, and is not.
  base::Task<absl::StatusOr<std::optional<FoundBlock>>> ReadEvent(ipld::Cid cid, MessagePlace place,
                                                                  base::SteadyTime deadline);

  jetstream::Kv* const kv_;
  jetstream::Reader* const reader_;
  BlockHints* const hints_;
};

}  // namespace persistd::repository
