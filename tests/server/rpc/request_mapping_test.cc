#include "server/rpc/request_mapping.h"

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "server/base/rfc3339.h"
#include "server/base/uuid.h"
#include "server/domain/errors.h"
#include "server/rpc/request_validation.h"
#include "tests/testing/catch.h"

namespace persistd::rpc {
namespace {

namespace pb = cim::persistence::v1;
using repository::SaveCommand;

constexpr char kTrace[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
constexpr char kOtherTrace[] = "00-11111111111111111111111111111111-2222222222222222-00";
const base::WallTime kNow = *base::ParseRfc3339("2026-05-01T12:00:00.000000001Z");
const RequestLimits kLimits{.max_event_bytes = 1000, .max_state_bytes = 2000};

// The smallest request, then one event more for each test to spoil.
pb::SaveRequest Valid() {
  pb::SaveRequest request;
  request.mutable_ref()->set_context("sales");
  request.mutable_ref()->set_aggregate("order");
  request.mutable_ref()->set_entity_id("42");
  for (const char* type : {"placed", "paid", "shipped"}) request.add_events()->set_type(type);
  return request;
}

absl::StatusOr<SaveCommand> Parse(const pb::SaveRequest& request, const std::string& traceparent = "") {
  return ToSaveCommand(request, kLimits, {.now = kNow, .traceparent = traceparent});
}

void FillCustom(google::protobuf::Map<std::string, std::string>& map, int entries, size_t bytes_each) {
  for (int i = 0; i < entries; ++i) {
    std::string key = std::to_string(1000 + i);
    map[key] = std::string(bytes_each - key.size(), 'x');
  }
}

struct Spoiled {
  std::string field;
  std::function<void(pb::SaveRequest&)> spoil;
};

const std::vector<Spoiled>& SpoiledSaves() {
  static const std::vector<Spoiled> cases{
      {"ref.context", [](auto& r) { r.mutable_ref()->clear_context(); }},
      {"ref.context", [](auto& r) { r.clear_ref(); }},
      {"ref.context", [](auto& r) { r.mutable_ref()->set_context("a.b"); }},
      {"ref.aggregate", [](auto& r) { r.mutable_ref()->set_aggregate("_order"); }},
      {"ref.aggregate", [](auto& r) { r.mutable_ref()->set_aggregate("a\r\nPUB x"); }},
      {"ref.entity_id", [](auto& r) { r.mutable_ref()->clear_entity_id(); }},
      {"ref.entity_id", [](auto& r) { r.mutable_ref()->set_entity_id(std::string(129, 'x')); }},
      {"ref.entity_id", [](auto& r) { r.mutable_ref()->set_entity_id("\xff"); }},
      {"must_exist", [](auto& r) { r.set_must_exist(false); }},
      {"events", [](auto& r) { r.clear_events(); }},
      {"events[2].type", [](auto& r) { r.mutable_events(2)->clear_type(); }},
      {"events[2].type", [](auto& r) { r.mutable_events(2)->set_type("_deleted"); }},
      {"events[0].type", [](auto& r) { r.mutable_events(0)->set_type("a b"); }},
      {"events[1].schema_version", [](auto& r) { r.mutable_events(1)->set_schema_version(1'000'000); }},
      {"events[1].payload", [](auto& r) { r.mutable_events(1)->mutable_payload(); }},
      {"events[1].payload",
       [](auto& r) { r.mutable_events(1)->mutable_payload()->set_content_type("application/json"); }},
      {"events[1].payload.content_type",
       [](auto& r) { r.mutable_events(1)->mutable_payload()->set_content_type(std::string(257, 'x')); }},
      {"events[1].payload.content_type",
       [](auto& r) { r.mutable_events(1)->mutable_payload()->set_content_type("a/b\r\nX: y"); }},
      {"events[1].payload.content_type",
       [](auto& r) { r.mutable_events(1)->mutable_payload()->set_content_type("ä"); }},
      {"events[1].payload.content_type",
       [](auto& r) { r.mutable_events(1)->mutable_payload()->set_content_type(" a/b"); }},
      {"events[1].payload.content_type",
       [](auto& r) { r.mutable_events(1)->mutable_payload()->set_content_type("a/b "); }},
      {"events[1].payload.content_type",
       [](auto& r) {
         r.mutable_events(1)->mutable_payload()->mutable_json();
         r.mutable_events(1)->mutable_payload()->set_content_type("text/plain");
       }},
      {"events[1].payload.json",
       [](auto& r) {
         auto& fields = *r.mutable_events(1)->mutable_payload()->mutable_json()->mutable_fields();
         fields["a"].set_number_value(1.0 / 0.0);
       }},
      {"events[0].event_id", [](auto& r) { r.mutable_events(0)->set_event_id("a b"); }},
      {"events[0].event_id", [](auto& r) { r.mutable_events(0)->set_event_id("a\n"); }},
      {"events[0].event_id", [](auto& r) { r.mutable_events(0)->set_event_id(std::string(129, 'x')); }},
      {"events[2].event_id",
       [](auto& r) {
         r.mutable_events(0)->set_event_id("same");
         r.mutable_events(2)->set_event_id("same");
       }},
      {"events[2].metadata.correlation_id",
       [](auto& r) { r.mutable_events(2)->mutable_metadata()->set_correlation_id(std::string(257, 'x')); }},
      {"events[2].metadata.causation_id",
       [](auto& r) { r.mutable_events(2)->mutable_metadata()->set_causation_id("\xc0\x80"); }},
      {"events[2].metadata.actor",
       [](auto& r) { r.mutable_events(2)->mutable_metadata()->set_actor(std::string(257, 'x')); }},
      {"events[2].metadata.traceparent",
       [](auto& r) { r.mutable_events(2)->mutable_metadata()->set_traceparent("nonsense"); }},
      {"events[2].metadata.custom",
       [](auto& r) { FillCustom(*r.mutable_events(2)->mutable_metadata()->mutable_custom(), 65, 10); }},
      {"events[2].metadata.custom",
       [](auto& r) { FillCustom(*r.mutable_events(2)->mutable_metadata()->mutable_custom(), 9, 1000); }},
      {"events[2].metadata.custom",
       [](auto& r) { (*r.mutable_events(2)->mutable_metadata()->mutable_custom())[""] = "x"; }},
      {"events[2].metadata.custom",
       [](auto& r) { (*r.mutable_events(2)->mutable_metadata()->mutable_custom())["k"] = "\xff"; }},
      {"events[1].time", [](auto& r) { r.mutable_events(1)->mutable_time()->set_seconds(-9'214'560'001); }},
      {"events[1].time", [](auto& r) { r.mutable_events(1)->mutable_time()->set_seconds(9'223'372'036); }},
      {"events[1].time.nanos", [](auto& r) { r.mutable_events(1)->mutable_time()->set_nanos(-1); }},
      {"events[1].time.nanos", [](auto& r) { r.mutable_events(1)->mutable_time()->set_nanos(1'000'000'000); }},
      {"state", [](auto& r) { r.mutable_state(); }},
      {"state.content_type", [](auto& r) { r.mutable_state()->set_content_type("\x7f"); }},
      {"state_schema_version",
       [](auto& r) {
         r.mutable_state()->set_data("x");
         r.set_state_schema_version(1'000'000);
       }},
      {"state_schema_version", [](auto& r) { r.set_state_schema_version(1); }},
      {"options.tags",
       [](auto& r) {
         for (int i = 0; i < 33; ++i) r.mutable_options()->add_tags(std::to_string(i));
       }},
      {"options.tags[0]", [](auto& r) { r.mutable_options()->add_tags(""); }},
      {"options.tags[0]", [](auto& r) { r.mutable_options()->add_tags(std::string(129, 'x')); }},
      {"options.tags[0]", [](auto& r) { r.mutable_options()->add_tags("\xff"); }},
      {"options.tags[1]",
       [](auto& r) {
         r.mutable_options()->add_tags("a");
         r.mutable_options()->add_tags("a");
       }},
      {"options.clear_tags",
       [](auto& r) {
         r.mutable_options()->add_tags("a");
         r.mutable_options()->set_clear_tags(true);
       }},
      {"options.metadata", [](auto& r) { FillCustom(*r.mutable_options()->mutable_metadata(), 65, 10); }},
      {"options.clear_metadata",
       [](auto& r) {
         (*r.mutable_options()->mutable_metadata())["a"] = "b";
         r.mutable_options()->set_clear_metadata(true);
       }},
      {"request_id", [](auto& r) { r.set_request_id("a b"); }},
      {"request_id", [](auto& r) { r.set_request_id(std::string(129, 'x')); }},
  };
  return cases;
}

TEST_CASE("A save with a bad field is refused with the path of the field") {
  REQUIRE(Parse(Valid()).ok());
  for (const Spoiled& spoiled : SpoiledSaves()) {
    pb::SaveRequest request = Valid();
    spoiled.spoil(request);
    CAPTURE(spoiled.field, request.ShortDebugString());
    const auto command = Parse(request);
    REQUIRE_FALSE(command.ok());
    CHECK(command.status().code() == absl::StatusCode::kInvalidArgument);
    const auto detail = domain::GetErrorDetail(command.status());
    REQUIRE(detail.has_value());
    CHECK(detail->reason() == pb::ERROR_REASON_INVALID_FIELD);
    CHECK(detail->field_violation().field() == spoiled.field);
    CHECK_FALSE(detail->field_violation().description().empty());
  }
}

pb::ErrorDetail LimitOf(const absl::Status& status) {
  const pb::ErrorDetail detail = domain::GetErrorDetail(status).value();
  CHECK(detail.reason() == pb::ERROR_REASON_TOO_LARGE);
  return detail;
}

TEST_CASE("What is too large is refused with the limit") {
  pb::SaveRequest event = Valid();
  event.mutable_events(1)->mutable_payload()->set_data(std::string(1000, 'x'));
  CHECK(Parse(event).ok());
  event.mutable_events(1)->mutable_payload()->set_data(std::string(1001, 'x'));
  pb::ErrorDetail detail = LimitOf(Parse(event).status());
  CHECK(detail.limit().name() == "events[1].payload");
  CHECK(detail.limit().limit() == 1000);
  CHECK(detail.limit().value() == 1001);
  CHECK(detail.limit().config_key() == "limits.max_event_size");

  pb::SaveRequest json = Valid();
  auto& fields = *json.mutable_events(0)->mutable_payload()->mutable_json()->mutable_fields();
  fields["a"].set_string_value(std::string(1000 - 8 + 1, 'x'));  // {"a":""} around it.
  CHECK(LimitOf(Parse(json).status()).limit().value() == 1001);

  pb::SaveRequest state = Valid();
  state.mutable_state()->set_data(std::string(2000, 'x'));
  CHECK(Parse(state).ok());
  state.mutable_state()->set_data(std::string(2001, 'x'));
  detail = LimitOf(Parse(state).status());
  CHECK(detail.limit().name() == "state");
  CHECK(detail.limit().config_key() == "limits.max_state_size");

  pb::SaveRequest many = Valid();
  while (many.events_size() < 1000) many.add_events()->set_type("placed");
  CHECK(Parse(many).value().events.size() == 1000);
  many.add_events()->set_type("placed");
  detail = LimitOf(Parse(many).status());
  CHECK(detail.limit().name() == "events");
  CHECK(detail.limit().limit() == 1000);
  CHECK(detail.limit().value() == 1001);
  CHECK(detail.limit().config_key().empty());
}

TEST_CASE("What a save leaves out gets its default") {
  const SaveCommand command = Parse(Valid()).value();
  CHECK(command.expectation.kind == repository::Expectation::Kind::kAny);
  CHECK(command.request_id.empty());
  CHECK_FALSE(command.state.has_value());
  CHECK_FALSE(command.tags.has_value());
  CHECK_FALSE(command.metadata.has_value());
  const repository::SaveEvent& event = command.events.at(0);
  CHECK_FALSE(event.has_event_id);
  CHECK_FALSE(event.has_time);
  CHECK(base::UuidV7Time(event.event.event_id).has_value());
  CHECK(event.event.event_id != command.events.at(1).event.event_id);
  CHECK(event.event.time == kNow);
  CHECK(event.event.schema_version == 1);
  CHECK(event.event.payload == domain::Payload{});
  CHECK(event.event.metadata == domain::EventMetadata{});
}

TEST_CASE("What a save says arrives") {
  pb::SaveRequest request = Valid();
  request.set_expected_version(3);
  request.set_request_id("request-1");
  pb::NewEvent& event = *request.mutable_events(0);
  event.set_event_id("event-1");
  event.set_schema_version(2);
  event.mutable_time()->set_seconds(-1);
  event.mutable_time()->set_nanos(5);
  event.mutable_payload()->set_content_type("application/protobuf");
  event.mutable_payload()->set_data(std::string("\0\xff", 2));
  event.mutable_metadata()->set_correlation_id("c");
  event.mutable_metadata()->set_causation_id("d");
  event.mutable_metadata()->set_actor("é");
  event.mutable_metadata()->set_traceparent(kTrace);
  (*event.mutable_metadata()->mutable_custom())["k"] = "v";
  request.mutable_state()->mutable_json();
  request.set_state_schema_version(4);
  request.mutable_options()->add_tags("t");
  (*request.mutable_options()->mutable_metadata())["m"] = "n";

  const SaveCommand command = Parse(request, kOtherTrace).value();
  CHECK(command.ref == domain::AggregateRef{.context = "sales", .aggregate = "order", .entity_id = "42"});
  CHECK(command.expectation.kind == repository::Expectation::Kind::kExact);
  CHECK(command.expectation.version == 3);
  CHECK(command.request_id == "request-1");
  REQUIRE(command.events.size() == 3);
  const repository::SaveEvent& saved = command.events[0];
  CHECK(saved.has_event_id);
  CHECK(saved.has_time);
  CHECK(saved.event.event_id == "event-1");
  CHECK(saved.event.type == "placed");
  CHECK(saved.event.schema_version == 2);
  CHECK(saved.event.time == base::WallTime(std::chrono::nanoseconds(-1'000'000'000 + 5)));
  CHECK(saved.event.payload == domain::Payload{"application/protobuf", std::string("\0\xff", 2)});
  CHECK(saved.event.metadata == domain::EventMetadata{"c", "d", "é", kTrace, {{"k", "v"}}});
  CHECK(command.events[1].event.metadata.traceparent == kOtherTrace);
  REQUIRE(command.state.has_value());
  CHECK(command.state->schema_version == 4);
  CHECK(command.state->payload == domain::Payload{"application/json", "{}"});
  CHECK(command.tags == std::vector<std::string>{"t"});
  CHECK(command.metadata == domain::CustomMetadata{{"m", "n"}});
}

TEST_CASE("Expectations, cleared options and empty payloads keep their meaning") {
  pb::SaveRequest request = Valid();
  request.set_must_exist(true);
  request.mutable_options()->set_clear_tags(true);
  request.mutable_options()->set_clear_metadata(true);
  request.mutable_events(0)->mutable_payload()->set_data("");
  const SaveCommand command = Parse(request).value();
  CHECK(command.expectation.kind == repository::Expectation::Kind::kMustExist);
  CHECK(command.tags == std::vector<std::string>{});
  CHECK(command.metadata == domain::CustomMetadata{});
  CHECK(command.events[0].event.payload == domain::Payload{"application/octet-stream", ""});
  CHECK(command.events[1].event.payload == domain::Payload{});
}

TEST_CASE("A bad traceparent in the call's metadata is ignored") {
  CHECK(Parse(Valid(), "nonsense").value().events[0].event.metadata.traceparent.empty());
  CHECK(Parse(Valid(), kTrace).value().events[0].event.metadata.traceparent == kTrace);
}

TEST_CASE("A traceparent follows the W3C rules") {
  CHECK(IsTraceparent(kTrace));
  CHECK(IsTraceparent("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what.comes.later"));
  for (const std::string& bad : {
           std::string(),
           std::string(kTrace) + "-more",                                            // Version 00 has no more.
           std::string("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01x"),  //
           std::string("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),   //
           std::string("00-00000000000000000000000000000000-b7ad6b7169203331-01"),   //
           std::string("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01"),   //
           std::string("00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),   //
           std::string("00-0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331-01"),   //
           std::string("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0"),    //
           std::string("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-") + std::string(300, 'x'),
       }) {
    CAPTURE(bad);
    CHECK_FALSE(IsTraceparent(bad));
  }
}

void CheckField(const absl::Status& status, const std::string& field) {
  const auto detail = domain::GetErrorDetail(status);
  REQUIRE(detail.has_value());
  CHECK(detail->field_violation().field() == field);
}

TEST_CASE("A load is checked and mapped") {
  pb::LoadRequest request;
  CheckField(ToLoadCommand(request).status(), "ref.context");
  *request.mutable_ref() = Valid().ref();
  CHECK(ToLoadCommand(request).value().consistency == repository::Consistency::kStrong);
  request.mutable_options()->set_consistency(pb::CONSISTENCY_CACHED);
  CHECK(ToLoadCommand(request).value().consistency == repository::Consistency::kCached);
  request.mutable_options()->set_consistency(static_cast<pb::Consistency>(77));
  CheckField(ToLoadCommand(request).status(), "options.consistency");
  request.clear_options();
  request.set_payload_view(static_cast<pb::PayloadView>(77));
  CheckField(ToLoadCommand(request).status(), "payload_view");
}

TEST_CASE("A version or a time is checked and mapped") {
  pb::GetAtVersionRequest request;
  request.set_version(1);
  CheckField(ToLoadCommand(request).status(), "ref.context");
  *request.mutable_ref() = Valid().ref();
  CHECK(std::get<uint64_t>(ToLoadCommand(request).value().at) == 1);
  request.set_version(0);
  CheckField(ToLoadCommand(request).status(), "version");
  request.clear_at();
  CheckField(ToLoadCommand(request).status(), "version");
  request.mutable_as_of()->set_seconds(7);
  CHECK(std::get<base::WallTime>(ToLoadCommand(request).value().at) == base::WallTime(std::chrono::seconds(7)));
  request.mutable_as_of()->set_seconds(INT64_MAX);
  CheckField(ToLoadCommand(request).status(), "as_of");
  request.mutable_as_of()->set_seconds(INT64_MIN);
  CheckField(ToLoadCommand(request).status(), "as_of");
  request.set_version(1);
  request.set_payload_view(static_cast<pb::PayloadView>(77));
  CheckField(ToLoadCommand(request).status(), "payload_view");
}

TEST_CASE("A history is checked and mapped") {
  pb::GetHistoryRequest request;
  CheckField(ToHistoryQuery(request).status(), "ref.context");
  *request.mutable_ref() = Valid().ref();
  CHECK_FALSE(ToHistoryQuery(request).value().to_version.has_value());
  request.set_from_version(5);
  request.set_to_version(4);
  CheckField(ToHistoryQuery(request).status(), "to_version");
  request.set_to_version(5);
  request.set_reverse(true);
  request.add_event_types("placed");
  request.add_event_types("_deleted");
  const repository::HistoryQuery query = ToHistoryQuery(request).value();
  CHECK(query.from_version == 5);
  CHECK(query.to_version == 5);
  CHECK(query.reverse);
  CHECK(query.types == std::vector<std::string>{"placed", "_deleted"});
  request.add_event_types("a.b");
  CheckField(ToHistoryQuery(request).status(), "event_types[2]");
  while (request.event_types_size() <= kMaxEventTypes) request.add_event_types("x");
  CHECK(LimitOf(ToHistoryQuery(request).status()).limit().name() == "event_types");
  request.clear_event_types();
  request.set_payload_view(static_cast<pb::PayloadView>(77));
  CheckField(ToHistoryQuery(request).status(), "payload_view");
}

}  // namespace
}  // namespace persistd::rpc
