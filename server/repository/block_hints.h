// Where an event or a payload with a CID may be, told by something that has read all events. Thread-safe.
//
// Only a hint: what it says is compared with the stream, and what it does not know may be there all the same.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/task.h"
#include "server/ipld/cid.h"

namespace persistd::repository {

struct MessagePlace {
  std::string stream{};
  uint64_t sequence = 0;
};

class BlockHints {
 public:
  virtual ~BlockHints() = default;

  // The messages that may be of the event with this CID, or hold the payload with it. up_to_date: after all that has
  // come so far was read; INDEX_NOT_READY while that is not known.
  virtual base::Task<absl::StatusOr<std::vector<MessagePlace>>> FindBlock(ipld::Cid cid, bool up_to_date,
                                                                          base::SteadyTime deadline) = 0;
};

}  // namespace persistd::repository
