#include "tests/bench/entities.h"

#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/clock.h"
#include "server/base/uuid.h"
#include "server/ipld/cid.h"
#include "server/ipld/event_block.h"
#include "server/jetstream/event_codec.h"

namespace persistd::bench {
namespace {

constexpr char kContentType[] = "application/json";

}  // namespace

const std::string& PayloadText() {
  static const std::string* const text = [] {
    std::string json = "{\"text\":\"";
    json.append(kPayloadBytes - json.size() - 2, 'x');
    return new std::string(json + "\"}");
  }();
  return *text;
}

std::string EntityId(char set, uint64_t number) {
  char text[64];
  // Like a UUID in form and length. The number comes first, so that ids differ early, as random ones do.
  std::snprintf(text, sizeof text, "%08x-%04x-7000-8000-00000000000%c", static_cast<unsigned>(number * 2654435761u),
                static_cast<unsigned>(number >> 32) & 0xffff, set);
  return text;
}

std::string EventStream(const std::string& aggregate) { return absl::StrCat("CIM-EVENTS+", kContext, "+", aggregate); }
std::string StateStream(const std::string& aggregate) {
  return absl::StrCat("CIM-AGGREGATES+", kContext, "+", aggregate);
}

jetstream::OutgoingMessage EventMessage(const domain::AggregateRef& ref, uint64_t version,
                                        const jetstream::PlacePointers& pointers, std::string commit_id,
                                        std::string* cid) {
  const base::WallTime now = base::Clock::System().WallNow();
  domain::RecordedEvent event;
  event.ref = ref;
  event.version = version;
  event.event_id = base::NewUuidV7(now);
  event.type = kEventType;
  event.payload = {.content_type = kContentType, .data = PayloadText()};
  event.time = now;
  event.recorded_time = now;
  event.commit_id = std::move(commit_id);
  const domain::AggregateLabels none;
  // Without the true one, one as long.
  if (version > 1) event.prev_cid = cid != nullptr ? *cid : ipld::DagCborCid(ref.entity_id).ToString();
  ipld::AddCids(event, none);
  if (cid != nullptr) *cid = event.cid;
  return jetstream::EncodeEvent(event, pointers, 0, &none);
}

jetstream::OutgoingMessage StateMessage(const domain::AggregateRef& ref, uint64_t version, std::string commit_id) {
  domain::StateRecord state;
  state.ref = ref;
  state.version = version;
  state.payload = {.content_type = kContentType, .data = PayloadText()};
  state.cid = ipld::RawCid(state.payload.data).ToString();
  state.commit_id = std::move(commit_id);
  state.recorded_time = base::Clock::System().WallNow();
  return jetstream::EncodeState(state);
}

}  // namespace persistd::bench
