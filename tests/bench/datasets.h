// The data sets that several scenarios share.
#pragma once

#include <algorithm>
#include <cstdint>

#include "tests/bench/dataset.h"
#include "tests/bench/scenario.h"

namespace persistd::bench {

// 10,000 events: 1,000 aggregates of 10, half of them with state.
inline const Dataset& Small(World& world) {
  return world.dataset({.aggregate = "small", .aggregates = 1000, .events = 10, .with_state = 500});
}

// 1,000,000 events: 100,000 aggregates of 10, half of them with state.
inline const Dataset& Middle(World& world) {
  return world.dataset({.aggregate = "middle", .aggregates = 100'000, .events = 10, .with_state = 50'000});
}

// RunOptions::large_events events: aggregates of 10, 100,000 of them with state, and one each with 1,000 and 10,000
// events spread over the whole.
inline const Dataset& Large(World& world, const RunOptions& run) {
  return world.dataset({.aggregate = "large",
                        .aggregates = run.large_events / 10,
                        .events = 10,
                        .with_state = std::min<uint64_t>(100'000, run.large_events / 20),
                        .spread = {1000, 10'000}});
}

// One aggregate each with 1,000 and 10,000 adjacent events.
inline const Dataset& Contiguous(World& world) {
  return world.dataset({.aggregate = "contiguous", .spread = {1000, 10'000}});
}

}  // namespace persistd::bench
