// Events and states whose stored form is kept in testdata/, and access to those golden messages.
//
// A golden file is a message as text: the subject on the first line, one `name: value` line for each header, an empty
// line, then the body to the end of the file, as it is.
#pragma once

#include <string>
#include <tuple>
#include <vector>

#include "server/domain/event.h"
#include "server/jetstream/event_codec.h"
#include "server/jetstream/message.h"
#include "server/jetstream/pointers.h"

namespace persistd::jetstream {

// An event with all that EncodeEvent needs, stored at event.sequence, and what DecodeEvent must give back.
struct EventSample {
  std::string golden;  // The file's name.
  domain::RecordedEvent event;
  PlacePointers places;
  uint64_t batch_index = 0;
  bool has_labels = false;
  domain::AggregateLabels labels;
  Pointers pointers;
};

struct StateSample {
  std::string golden;
  domain::StateRecord state;
};

std::vector<EventSample> EventSamples();
std::vector<StateSample> StateSamples();
std::vector<StateSample> SnapshotSamples();

OutgoingMessage Encode(const EventSample& sample);

// The text of a golden file; a message in that form; and a message read from it.
std::string ReadGolden(const std::string& name);
std::string ToGolden(const OutgoingMessage& message);
OutgoingMessage ParseGolden(const std::string& text);

// As the message would be received.
Message Received(const OutgoingMessage& message, uint64_t sequence);

// All fields, for comparing.
inline auto Fields(const domain::RecordedEvent& e) {
  return std::tie(e.ref, e.version, e.event_id, e.type, e.schema_version, e.payload, e.metadata, e.time,
                  e.recorded_time, e.commit_id, e.commit_index, e.commit_size, e.cid, e.payload_cid, e.prev_cid,
                  e.sequence);
}
inline auto Fields(const domain::StateRecord& s) {
  return std::tie(s.ref, s.version, s.schema_version, s.payload, s.chunks, s.commit_id, s.cid, s.recorded_time,
                  s.sequence);
}

}  // namespace persistd::jetstream
