// Aggregates stored in bulk behind persistd's back, in exactly its format, their events interleaved: aggregate 0's
// first event, aggregate 1's first event, and so on, then all second events. So the events of one aggregate are as far
// apart as there are aggregates.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/bench/world.h"

namespace persistd::bench {

struct DatasetOptions {
  std::string aggregate;
  uint64_t aggregates = 0;
  uint64_t events = 1;      // Of each.
  uint64_t with_state = 0;  // The first so many have a state, of their last version.
  // More aggregates with events spread evenly over the whole: how many events each of them has. Without others
  // (aggregates = 0) the events of each are contiguous.
  std::vector<uint64_t> spread = {};
};

class Dataset {
 public:
  // Stores it.
  Dataset(World* world, DatasetOptions options);

  const DatasetOptions& options() const { return options_; }
  std::string Id(uint64_t number) const { return EntityId('d', number); }
  // Of the i-th of options().spread.
  std::string SpreadId(uint64_t i) const { return EntityId('s', i); }
  // `count` different ones of those with state, or of those without, in random order.
  std::vector<std::string> Sample(World& world, uint64_t count, bool with_state) const;

 private:
  void StoreEvents(World& world);
  void StoreStates(World& world);

  const DatasetOptions options_;
};

}  // namespace persistd::bench
