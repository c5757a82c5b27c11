// The content-addressed form of an event: a canonical DAG-CBOR block, which README.md of this folder describes field by
// field. It is not stored: it is made anew, bit for bit, from what is. Pure, thread-safe.
#pragma once

#include <optional>
#include <string>

#include "server/domain/event.h"
#include "server/ipld/cid.h"

namespace persistd::ipld {

// The version of the block's schema. Blocks are for ever: another schema needs another number.
inline constexpr uint64_t kEventBlockFormat = 1;

// The block of an event whose payload_cid and prev_cid are set (empty: it has none). labels: those that its message
// carries. Its own cid and its place in the stream are not part of it. nullopt: one of the two is no CID.
std::optional<std::string> EventBlock(const domain::RecordedEvent& event, const domain::AggregateLabels& labels);

// Sets payload_cid and cid. prev_cid must be set, to a CID or to nothing.
void AddCids(domain::RecordedEvent& event, const domain::AggregateLabels& labels);

// How an event differs from what its CIDs say.
struct Mismatch {
  enum class Part { kPayload, kMetadata };
  Part part = Part::kPayload;
  std::string expected;  // The CID that is recorded.
  std::string actual;    // That of what is there; empty: it has none.
};

// True when the event has no CID, or everything of it but its payload, which need not be there, matches it.
bool HeadersMatch(const domain::RecordedEvent& event, const domain::AggregateLabels& labels);

// nullopt: the event matches its CIDs, or has none.
std::optional<Mismatch> CheckCids(const domain::RecordedEvent& event, const domain::AggregateLabels& labels);

}  // namespace persistd::ipld
