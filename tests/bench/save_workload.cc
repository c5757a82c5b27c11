#include "tests/bench/save_workload.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/wire_format_lite.h"
#include "server/base/clock.h"
#include "server/base/uuid.h"
#include "server/domain/subject.h"

namespace persistd::bench {
namespace {

namespace pb = cim::persistence::v1;

constexpr char kSave[] = "/cim.persistence.v1.AggregateService/Save";
constexpr char kSaveStream[] = "/cim.persistence.v1.AggregateService/SaveStream";

std::string NewId() { return base::NewUuidV7(base::Clock::System().WallNow()); }

domain::AggregateRef Raw(std::string id) {
  return {.context = kContext, .aggregate = "rawi", .entity_id = std::move(id)};
}

// As EventSubject and EventFilter, but outside of persistd's subjects and of the same length.
std::string RawSubject(const std::string& id) { return absl::StrCat("raw.events.bench.rawi.", id, ".happened.v1"); }
std::string RawFilter(const std::string& id) { return absl::StrCat("raw.events.bench.rawi.", id, ".>"); }

jetstream::OutgoingMessage SecondEvent() {
  jetstream::PlacePointers pointers;
  pointers.back.push_back({.in_batch = false, .number = 123'456});
  return EventMessage(Raw(EntityId('r', 0)), 2, pointers, NewId());
}

}  // namespace

SaveSource::SaveSource(World* world, uint32_t slots, Options options)
    : world_(world), pool_(world->items()), options_(options), random_(world->random()()), slots_(slots, kNew) {
  request_.mutable_ref()->set_context(kContext);
  request_.mutable_ref()->set_aggregate("item");
  for (int i = 0; i < options_.events; ++i) {
    pb::NewEvent* const event = request_.add_events();
    event->set_type(kEventType);
    event->mutable_payload()->set_content_type("application/json");
    event->mutable_payload()->set_data(PayloadText());
  }
  if (!options_.state) return;
  request_.mutable_state()->set_content_type("application/json");
  request_.mutable_state()->set_data(PayloadText());
}

pb::SaveRequest& SaveSource::Next(uint32_t slot) {
  const bool fresh = options_.only_new || random_() % 2 == 0;
  slots_[slot] = fresh ? kNew : pool_.Take(random_);
  request_.mutable_ref()->set_entity_id(fresh ? world_->FreshId() : EntityId('p', slots_[slot]));
  request_.set_expected_version(fresh ? 0 : pool_.version(slots_[slot]));
  request_.set_request_id(NewId());
  return request_;
}

void SaveSource::Finish(uint32_t slot, bool saved) {
  if (slots_[slot] != kNew) pool_.GiveBack(slots_[slot], saved ? static_cast<uint64_t>(options_.events) : 0);
}

UnarySaves::UnarySaves(World* world, std::shared_ptr<grpc::Channel> channel, uint32_t slots,
                       SaveSource::Options options)
    : source_(world, slots, options), calls_(std::move(channel), kSave, slots) {}

bool UnarySaves::Start(uint32_t slot) {
  calls_.Start(slot, ToBytes(source_.Next(slot)));
  return true;
}

Done UnarySaves::Wait() {
  Done done = calls_.Wait();
  source_.Finish(done.slot, done.failure.empty());
  return done;
}

StreamedSaves::StreamedSaves(World* world, std::shared_ptr<grpc::Channel> channel, uint32_t slots,
                             SaveSource::Options options)
    : source_(world, slots, options), call_(std::move(channel), kSaveStream) {}

bool StreamedSaves::Start(uint32_t slot) {
  request_.set_id(slot);
  pb::SaveRequest& save = source_.Next(slot);
  // Lent for the time of the copy to the wire.
  request_.unsafe_arena_set_allocated_save(&save);
  call_.Write(ToBytes(request_));
  request_.unsafe_arena_release_save();
  return true;
}

Done StreamedSaves::Wait() {
  pb::SaveStreamResponse response;
  FromBytes(call_.Read(), response);
  Done done{.slot = static_cast<uint32_t>(response.id())};
  if (response.has_error()) done.failure = response.error().message();
  source_.Finish(done.slot, done.failure.empty());
  return done;
}

RawPublishes::RawPublishes(World* world, RawNats* raw, uint32_t slots)
    : world_(world),
      raw_(raw),
      random_(world->random()()),
      first_(EventMessage(Raw(EntityId('r', 0)), 1, {}, NewId())),
      second_(SecondEvent()),
      slots_(slots) {
  world->raw_items();
}

bool RawPublishes::Start(uint32_t slot) {
  EntityPool& pool = world_->raw_items();
  Slot& own = slots_[slot];
  own.fresh = random_() % 2 == 0;
  if (!own.fresh) own.number = pool.Take(random_);
  const std::string id = own.fresh ? world_->FreshId() : EntityId('r', own.number);
  raw_->SendChecked({.message = own.fresh ? first_ : second_,
                     .subject = RawSubject(id),
                     .filter = RawFilter(id),
                     .sequence = own.fresh ? 0 : pool.version(own.number)},
                    slot);
  return true;
}

Done RawPublishes::Wait() {
  const RawNats::Answer answer = raw_->Next();
  Done done{.slot = answer.token};
  const uint64_t sequence = SequenceOf(answer.data);
  if (sequence == 0) done.failure = answer.data;
  const Slot& own = slots_[done.slot];
  if (!own.fresh) {
    world_->raw_items().GiveBack(own.number, 0);
    if (sequence != 0) world_->raw_items().set_version(own.number, sequence);
  }
  return done;
}

RawBatches::RawBatches(World* world, RawNats* raw, int events) : world_(world), raw_(raw), events_(events) {
  world->raw_items();
}

bool RawBatches::Start(uint32_t slot) {
  const std::string id = world_->FreshId();
  const std::string batch_id = NewId();
  for (int i = 0; i < events_; ++i) {
    jetstream::OutgoingMessage message = EventMessage(Raw(id), static_cast<uint64_t>(i) + 1, {}, batch_id);
    message.subject = RawSubject(id);
    const bool last = i + 1 == events_;
    AddExpectedLast(RawFilter(id), 0, message);
    AddBatchHeaders(batch_id, static_cast<size_t>(i) + 1, last, message);
    raw_->Send(message, last ? slot : RawNats::kNoReply);
  }
  return true;
}

Done RawBatches::Wait() {
  const RawNats::Answer answer = raw_->Next();
  return {.slot = answer.token, .failure = SequenceOf(answer.data) == 0 ? answer.data : ""};
}

}  // namespace persistd::bench
