// The aggregates that measurements work on: names, the versions that the client knows of, and messages of them exactly
// as persistd stores them.
//
// For one thread.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "server/domain/event.h"
#include "server/jetstream/message.h"
#include "server/jetstream/pointers.h"

namespace persistd::bench {

inline constexpr char kContext[] = "bench";
inline constexpr char kEventType[] = "happened";
inline constexpr size_t kPayloadBytes = 256;

// 256 bytes of JSON.
const std::string& PayloadText();

// 36 bytes, as long as a UUID. `set` tells apart entities of the same number.
std::string EntityId(char set, uint64_t number);

// Of `aggregate` in the context of the benchmark: the streams that persistd makes.
std::string EventStream(const std::string& aggregate);
std::string StateStream(const std::string& aggregate);

// Event `version` of `ref`, a save of its own, as persistd publishes it. cid: of the event before, and then of this
// one; nullptr: nobody will read it as a part of a history.
jetstream::OutgoingMessage EventMessage(const domain::AggregateRef& ref, uint64_t version,
                                        const jetstream::PlacePointers& pointers, std::string commit_id,
                                        std::string* cid = nullptr);
// The state of `version`; commit_id: of the event with that version.
jetstream::OutgoingMessage StateMessage(const domain::AggregateRef& ref, uint64_t version, std::string commit_id);

// Aggregates that are known to exist, one event each at first. Draws them so that none is in flight twice.
class EntityPool {
 public:
  explicit EntityPool(uint64_t count) : versions_(count, 1), busy_(count, false) {}

  // Uniformly among those that are free; it is busy from now on.
  uint64_t Take(std::mt19937_64& random) {
    std::uniform_int_distribution<uint64_t> any(0, versions_.size() - 1);
    uint64_t number = any(random);
    while (busy_[number]) number = any(random);
    busy_[number] = true;
    return number;
  }
  void GiveBack(uint64_t number, uint64_t added_events) {
    busy_[number] = false;
    versions_[number] += added_events;
  }
  uint64_t version(uint64_t number) const { return versions_[number]; }
  void set_version(uint64_t number, uint64_t version) { versions_[number] = version; }
  uint64_t size() const { return versions_.size(); }

 private:
  std::vector<uint64_t> versions_;
  std::vector<bool> busy_;
};

}  // namespace persistd::bench
