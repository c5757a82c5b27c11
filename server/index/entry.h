// What the index keeps of a message of an event stream, and putting messages together into saves. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "server/base/clock.h"
#include "server/domain/aggregate_ref.h"
#include "server/jetstream/message.h"
#include "server/jetstream/tail.h"

namespace persistd::index {

struct Entry {
  enum class Kind {
    kEvent,
    kCarrier,  // Carries the checks of a commit of several aggregates; no event.
    kForeign,  // Not written by persistd.
    kDamaged,  // Written by persistd, but what is needed of it cannot be read.
  };
  Kind kind = Kind::kForeign;
  uint64_t sequence = 0;
  uint64_t fingerprint = 0;

  // Of events; commit_id and the group also of carriers.
  domain::AggregateRef ref;
  std::string commit_id;
  uint32_t part = 1;  // Of `parts` events of this aggregate in its save.
  uint32_t parts = 1;
  uint32_t group_place = 0;  // Of `group_size` messages of a commit of several aggregates; 0: it is none.
  uint32_t group_size = 0;
  uint64_t version = 0;
  base::WallTime recorded_time;
  std::string cid;
  // Of the event and of its payload, see CidKey; 0: there is none.
  uint64_t cid_key = 0;
  uint64_t payload_key = 0;
  std::string tags;      // JSON, as stored; empty: none.
  std::string metadata;  // JSON, as stored; empty: none.
  bool tombstone = false;
};

Entry ToEntry(const jetstream::Message& message);

// Takes the messages of one stream in order and gives back those of complete saves: a save counts only when its last
// message is there. All messages of a save are neighbours in the stream, so at most one is incomplete at any time.
class SaveAssembler {
 public:
  // What is complete with this message: the events of one save, or of a commit of several aggregates. Usually one.
  std::vector<Entry> Add(Entry entry);

  // Forgets the save that is incomplete.
  void Clear() { open_.clear(); }
  bool complete() const { return open_.empty(); }

 private:
  bool Continues(const Entry& entry) const;

  std::vector<Entry> open_;
};

}  // namespace persistd::index
