// Short ways to write the messages that callers build most often.
#pragma once

#include <string>
#include <utility>

#include "cim/persistence/v1/types.pb.h"

namespace persistd::client {

inline cim::persistence::v1::AggregateRef Ref(std::string context, std::string aggregate, std::string entity_id) {
  cim::persistence::v1::AggregateRef ref;
  ref.set_context(std::move(context));
  ref.set_aggregate(std::move(aggregate));
  ref.set_entity_id(std::move(entity_id));
  return ref;
}

// A payload of JSON text, stored byte for byte as given: its numbers keep all their digits.
inline cim::persistence::v1::Payload JsonPayload(std::string text) {
  cim::persistence::v1::Payload payload;
  payload.set_content_type("application/json");
  payload.set_data(std::move(text));
  return payload;
}

inline cim::persistence::v1::NewEvent JsonEvent(std::string type, std::string json) {
  cim::persistence::v1::NewEvent event;
  event.set_type(std::move(type));
  *event.mutable_payload() = JsonPayload(std::move(json));
  return event;
}

}  // namespace persistd::client
