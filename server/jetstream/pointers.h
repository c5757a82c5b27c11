// Back-pointers: how an event names the stream sequences of its aggregate's earlier events, so that a history is read
// by direct gets, however far apart its events are. Pure, thread-safe.
//
// Event `v` points to the up to 32 events before it, and to the last event before it whose version is a multiple of
// 1024, of 32,768 and of 1,048,576 (where that is not among the 32; one that serves several levels is named once). So a
// history of n events is collected in n/32 steps, and any version is found in at most 32 steps for each level.
//
// An event's own sequence is not known when it is published, but events of one batch get consecutive ones. So a pointer
// into the same batch is a distance from the event's own sequence, every other one an absolute sequence.
//
// ce-backpointers: `[distances;]sequences`. Distances count down from the own sequence, each given as the step from
// the one before; sequences likewise: the first one absolute, then steps down. `kxN` stands for the step k, N times.
// Example: `1x2;8120,20` at sequence 9000 = 8999, 8998, 8120, 8100.
// ce-skippointers: `version:sequence` or `version:-distance`, comma-separated, highest version first.
// Numbers are decimal, without signs, spaces and leading zeros; a run has N of at least 2.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace persistd::jetstream {

inline constexpr size_t kMaxBackPointers = 32;
inline constexpr uint64_t kSkipLevels[] = {1024, 32'768, 1'048'576};

// Where an event is: in the stream, or as the n-th message of the batch that is being built.
struct EventPlace {
  bool in_batch = false;
  uint64_t number = 0;  // Stream sequence, or index in the batch from 0.
};

struct SkipPlace {
  uint64_t version = 0;
  EventPlace place;
};

// The pointers of one event. back[i] is the place of version `version - 1 - i`.
struct PlacePointers {
  std::vector<EventPlace> back;
  std::vector<SkipPlace> skip;  // Descending versions.
};

// The versions that skip pointers of `version` lead to: descending, each once.
std::vector<uint64_t> SkipTargets(uint64_t version);

// The pointers of the event after (version, place, pointers).
PlacePointers NextPointers(uint64_t version, EventPlace place, const PlacePointers& pointers);

// The header values for the message at `batch_index`; empty: leave the header out.
std::string EncodeBackPointers(const PlacePointers& pointers, uint64_t batch_index);
std::string EncodeSkipPointers(const PlacePointers& pointers, uint64_t batch_index);

struct SkipPointer {
  uint64_t version = 0;
  uint64_t sequence = 0;

  bool operator==(const SkipPointer&) const = default;
};

// Pointers as read from a stored event: all sequences absolute.
struct Pointers {
  std::vector<uint64_t> back;     // back[i]: version - 1 - i. Strictly descending.
  std::vector<SkipPointer> skip;  // Goes on strictly descending, by SkipTargets.

  bool operator==(const Pointers&) const = default;
};

// back, skip: the header values, empty when absent. nullopt when they are malformed or cannot be those of `version` at
// `sequence`.
std::optional<Pointers> DecodePointers(absl::string_view back, absl::string_view skip, uint64_t version,
                                       uint64_t sequence);

PlacePointers ToPlaces(const Pointers& pointers);

}  // namespace persistd::jetstream
