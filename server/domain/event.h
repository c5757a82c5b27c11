// Events and states as plain values, free of any transport.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "server/base/clock.h"
#include "server/domain/aggregate_ref.h"

namespace persistd::domain {

inline constexpr int kMaxEventsPerSave = 1000;  // nats-server's limit for one atomic batch.
inline constexpr uint32_t kMaxSchemaVersion = 999'999;
inline constexpr size_t kMaxIdBytes = 128;
inline constexpr size_t kMaxMetadataValueBytes = 256;
inline constexpr size_t kMaxContentTypeBytes = 256;
inline constexpr size_t kMaxCustomEntries = 64;
inline constexpr size_t kMaxCustomBytes = 8 * 1024;
inline constexpr size_t kMaxTags = 32;
inline constexpr size_t kMaxTagBytes = 128;

// The type of the event that deletes an aggregate. Callers cannot save it: types of theirs do not begin with `_`.
inline constexpr char kDeletedType[] = "_deleted";

using CustomMetadata = std::map<std::string, std::string>;

// Bytes with their media type. An absent payload has an empty content_type and no data.
struct Payload {
  std::string content_type;
  std::string data;

  bool operator==(const Payload&) const = default;
};

struct EventMetadata {
  std::string correlation_id;
  std::string causation_id;
  std::string actor;
  std::string traceparent;
  CustomMetadata custom;

  bool operator==(const EventMetadata&) const = default;
};

// An event to be saved; every default is filled in.
struct NewEvent {
  std::string event_id;
  std::string type;
  uint32_t schema_version = 1;
  Payload payload;
  EventMetadata metadata;
  base::WallTime time;
};

// What the last event of a save carries beside itself: the aggregate's tags and custom metadata as they now are.
struct AggregateLabels {
  std::vector<std::string> tags;
  CustomMetadata metadata;

  bool operator==(const AggregateLabels&) const = default;
};

// An event as stored. `ref`, `type` and `schema_version` come from its subject.
struct RecordedEvent {
  AggregateRef ref;
  uint64_t version = 0;
  std::string event_id;
  std::string type;
  uint32_t schema_version = 1;
  Payload payload;
  EventMetadata metadata;
  base::WallTime time;
  base::WallTime recorded_time;
  std::string commit_id;
  uint32_t commit_index = 0;  // Of this event within its save, from 0.
  uint32_t commit_size = 1;   // Events in its save.
  // Of its message within a commit of several aggregates, from 1, and how many messages that has; 0: it is of one.
  uint32_t group_place = 0;
  uint32_t group_size = 0;
  // Content identifiers (server/ipld/event_block.h): of the event, of its payload, and of the aggregate's event before
  // it. All empty where none were made; the second one without payload, the third one where the event before has none.
  std::string cid;
  std::string payload_cid;
  std::string prev_cid;
  uint64_t sequence = 0;  // In the stream; 0 before it is stored.

  bool ends_commit() const { return commit_index + 1 == commit_size; }
};

// Content that is too large for one message: the blocks that hold it, in order.
struct ChunkList {
  uint64_t size = 0;              // Of the whole content.
  std::vector<std::string> cids;  // Every block but the last has kChunkBytes.

  bool operator==(const ChunkList&) const = default;
};
inline constexpr size_t kChunkBytes = 512 * 1024;  // For ever: it is part of what is stored.

// A stored state, and which version of the aggregate it is the state of.
struct StateRecord {
  AggregateRef ref;
  uint64_t version = 0;
  uint32_t schema_version = 1;
  Payload payload;
  std::optional<ChunkList> chunks{};  // Set: the content is in these blocks, and payload.data is empty.
  std::string commit_id;
  std::string cid;
  base::WallTime recorded_time;
  uint64_t sequence = 0;  // In the state stream.
};

}  // namespace persistd::domain
