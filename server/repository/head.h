// The head of an aggregate: what must be known of its history to continue it. A plain value.
#pragma once

#include <cstdint>
#include <string>

#include "server/base/clock.h"
#include "server/jetstream/event_codec.h"
#include "server/jetstream/pointers.h"
#include "server/jetstream/streams.h"

namespace persistd::repository {

struct Head {
  jetstream::StreamPtr stream;
  uint64_t version = 0;  // 0: there is no complete save.
  // Of the last message of the aggregate, which JetStream compares with. Differs from `sequence` after a torn save.
  uint64_t last_sequence = 0;

  // Of the last event of the last complete save.
  uint64_t sequence = 0;
  jetstream::Pointers pointers;
  std::string commit_id;
  base::WallTime recorded_time;
  std::string cid;
  domain::AggregateLabels labels;
  bool deleted = false;  // That event is a tombstone.

  // The id of the torn save that the aggregate ends with; empty: it ends with a complete one. nats-server completes a
  // batch that it broke off when it starts again, unless something was stored in the stream after it.
  std::string torn_commit_id;

  // The last message is not ours: the history can be read, but not continued.
  bool foreign_tail = false;
};

}  // namespace persistd::repository
