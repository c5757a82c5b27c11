#include "tests/fault/torn.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/domain/subject.h"
#include "server/jetstream/api.h"
#include "server/jetstream/event_codec.h"
#include "server/jetstream/reader.h"

namespace persistd::fault {

using jetstream::DecodedEvent;
using jetstream::Message;
using jetstream::PlacePointers;
using repository::TestRepository;
using std::chrono_literals::operator""s;
using testing::Must;

namespace {

std::string StreamOf(const domain::AggregateRef& ref) {
  return absl::StrCat("CIM-EVENTS+", ref.context, "+", ref.aggregate);
}

}  // namespace

std::optional<DecodedEvent> LastComplete(TestRepository& repository, const domain::AggregateRef& ref) {
  jetstream::Reader reader(&repository.writes());
  std::optional<Message> message = Must(base::BlockOn(
      reader.Last(StreamOf(ref), domain::EventFilter(ref), jetstream::ReadFrom::kLeader, TestRepository::In(20s))));
  while (message.has_value()) {
    const uint64_t sequence = message->sequence;
    DecodedEvent decoded = Must(jetstream::DecodeEvent(*std::move(message)));
    if (decoded.event.ends_commit()) return decoded;
    if (sequence == 1) break;
    message = Must(
        base::BlockOn(reader.Get(StreamOf(ref), sequence - 1, jetstream::ReadFrom::kLeader, TestRepository::In(20s))));
  }
  return std::nullopt;
}

void PublishTorn(TestRepository& repository, const repository::SaveCommand& command, size_t stored) {
  const std::optional<DecodedEvent> head = LastComplete(repository, command.ref);
  const uint64_t version = head.has_value() ? head->event.version : 0;
  PlacePointers pointers;
  if (head.has_value()) {
    pointers = jetstream::NextPointers(version, {.in_batch = false, .number = head->event.sequence},
                                       jetstream::ToPlaces(head->pointers));
  }
  for (size_t i = 0; i < stored; ++i) {
    const domain::NewEvent& asked = command.events[i].event;
    domain::RecordedEvent event;
    event.ref = command.ref;
    event.version = version + i + 1;
    event.event_id = asked.event_id;
    event.type = asked.type;
    event.schema_version = asked.schema_version;
    event.payload = asked.payload;
    event.metadata = asked.metadata;
    event.time = asked.time;
    event.recorded_time = base::Clock::System().WallNow();
    event.commit_id = command.request_id;
    event.commit_index = static_cast<uint32_t>(i);
    event.commit_size = static_cast<uint32_t>(command.events.size());
    if (i > 0) pointers = jetstream::NextPointers(event.version - 1, {.in_batch = true, .number = i - 1}, pointers);
    repository::PublishRaw(repository.writes(), jetstream::EncodeEvent(event, pointers, i, nullptr));
  }
}

}  // namespace persistd::fault
