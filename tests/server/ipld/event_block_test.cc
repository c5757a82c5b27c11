#include "server/ipld/event_block.h"

#include <rapidcheck.h>

#include <chrono>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "server/ipld/dag_cbor_writer.h"
#include "tests/testing/catch.h"
#include "tests/testing/properties.h"

namespace persistd::ipld {
namespace {

using domain::AggregateLabels;
using domain::RecordedEvent;

RecordedEvent Placed() {
  RecordedEvent event;
  event.ref = {.context = "sales", .aggregate = "order", .entity_id = "4711"};
  event.version = 1;
  event.event_id = "e1";
  event.type = "placed";
  event.payload = {.content_type = "application/json", .data = "{}"};
  event.time = base::WallTime(std::chrono::seconds(1'795'341'600));
  event.recorded_time = base::WallTime(std::chrono::milliseconds(1'795'341'600'250));
  event.commit_id = "c1";
  return event;
}

RecordedEvent Everything() {
  RecordedEvent event = Placed();
  event.version = 70'000;
  event.schema_version = 300;
  event.metadata = {.correlation_id = "co",
                    .causation_id = "ca",
                    .actor = "me",
                    .traceparent = "00-1",
                    .custom = {{"aa", "1"}, {"b", "2"}, {"", "3"}}};
  event.commit_index = 1;
  event.commit_size = 2;
  event.group_place = 3;
  event.group_size = 4;
  event.prev_cid = RawCid("before").ToString();
  return event;
}

AggregateLabels SomeLabels() { return {.tags = {"vip", "a"}, .metadata = {{"owner", "x"}}}; }

TEST_CASE("The block of an event is the one that its schema says", "[ipld]") {
  RecordedEvent event = Placed();
  AddCids(event, {});
  CHECK(event.payload_cid == RawCid("{}").ToString());
  // By hand, key by key.
  const std::string text = std::string("\xAE") +  // map of 14
                           "\x62id\x62"
                           "e1" +  //
                           "\x64"
                           "data\xD8\x2A\x58\x25" +
                           std::string(1, '\0') + RawCid("{}").ToBytes() +  // tag 42, 37 bytes
                           "\x64prev\xF6" +                                 // null
                           "\x64time\x74"
                           "2026-11-22T10:00:00Z" +  //
                           "\x64type\x66placed" +    //
                           "\x66"
                           "commit\xA3\x62id\x62"
                           "c1\x64part\x01\x65parts\x01" +  //
                           "\x66"
                           "entity\x64"
                           "4711" +  //
                           "\x67"
                           "context\x65sales" +  //
                           "\x67version\x01" +   //
                           "\x68persistd\x01" +  //
                           "\x68recorded\x77"
                           "2026-11-22T10:00:00.25Z" +  //
                           "\x69"
                           "aggregate\x65order" +  //
                           "\x6B"
                           "contentType\x70"
                           "application/json" +  //
                           "\x6DschemaVersion\x01";
  const std::string block = EventBlock(event, {}).value();
  CHECK(absl::BytesToHexString(block) == absl::BytesToHexString(text));
  CHECK(event.cid == DagCborCid(text).ToString());
}

TEST_CASE("An event without payload has no link to one", "[ipld]") {
  RecordedEvent event = Placed();
  event.payload = {};
  AddCids(event, {});
  CHECK(event.payload_cid.empty());
  CHECK(EventBlock(event, {}).value().find(std::string("\x64"
                                                       "data\xF6")) != std::string::npos);
  // An empty one of some type is one.
  RecordedEvent empty = Placed();
  empty.payload = {.content_type = "text/plain", .data = ""};
  AddCids(empty, {});
  CHECK(empty.payload_cid == RawCid("").ToString());
}

TEST_CASE("Whatever is changed in an event is noticed", "[ipld]") {
  RecordedEvent event = Everything();
  AddCids(event, SomeLabels());
  REQUIRE_FALSE(CheckCids(event, SomeLabels()).has_value());
  REQUIRE(HeadersMatch(event, SomeLabels()));
  using Change = std::function<void(RecordedEvent&, AggregateLabels&)>;
  const std::vector<std::pair<std::string, Change>> changes = {
      {"context", [](RecordedEvent& e, AggregateLabels&) { e.ref.context = "s"; }},
      {"aggregate", [](RecordedEvent& e, AggregateLabels&) { e.ref.aggregate = "o"; }},
      {"entity", [](RecordedEvent& e, AggregateLabels&) { e.ref.entity_id = "4712"; }},
      {"version", [](RecordedEvent& e, AggregateLabels&) { ++e.version; }},
      {"id", [](RecordedEvent& e, AggregateLabels&) { e.event_id = "e2"; }},
      {"type", [](RecordedEvent& e, AggregateLabels&) { e.type = "paid"; }},
      {"schema version", [](RecordedEvent& e, AggregateLabels&) { ++e.schema_version; }},
      {"content type", [](RecordedEvent& e, AggregateLabels&) { e.payload.content_type = "text/plain"; }},
      {"payload cid", [](RecordedEvent& e, AggregateLabels&) { e.payload_cid = RawCid("[]").ToString(); }},
      {"payload cid that is none", [](RecordedEvent& e, AggregateLabels&) { e.payload_cid = "x"; }},
      {"no payload cid", [](RecordedEvent& e, AggregateLabels&) { e.payload_cid = ""; }},
      {"previous cid", [](RecordedEvent& e, AggregateLabels&) { e.prev_cid = e.cid; }},
      {"no previous cid", [](RecordedEvent& e, AggregateLabels&) { e.prev_cid = ""; }},
      {"cid", [](RecordedEvent& e, AggregateLabels&) { e.cid = e.prev_cid; }},
      {"time", [](RecordedEvent& e, AggregateLabels&) { e.time += std::chrono::nanoseconds(1); }},
      {"recorded time", [](RecordedEvent& e, AggregateLabels&) { e.recorded_time += std::chrono::nanoseconds(1); }},
      {"commit id", [](RecordedEvent& e, AggregateLabels&) { e.commit_id = "c2"; }},
      {"part", [](RecordedEvent& e, AggregateLabels&) { e.commit_index = 0; }},
      {"parts", [](RecordedEvent& e, AggregateLabels&) { ++e.commit_size; }},
      {"place", [](RecordedEvent& e, AggregateLabels&) { ++e.group_place; }},
      {"places", [](RecordedEvent& e, AggregateLabels&) { ++e.group_size; }},
      {"correlation", [](RecordedEvent& e, AggregateLabels&) { e.metadata.correlation_id = ""; }},
      {"causation", [](RecordedEvent& e, AggregateLabels&) { e.metadata.causation_id = "co"; }},
      {"actor", [](RecordedEvent& e, AggregateLabels&) { e.metadata.actor = "you"; }},
      {"traceparent", [](RecordedEvent& e, AggregateLabels&) { e.metadata.traceparent = "00-2"; }},
      {"custom value", [](RecordedEvent& e, AggregateLabels&) { e.metadata.custom["b"] = "3"; }},
      {"custom key", [](RecordedEvent& e, AggregateLabels&) { e.metadata.custom["c"] = ""; }},
      {"tags", [](RecordedEvent&, AggregateLabels& l) { l.tags.pop_back(); }},
      {"order of tags", [](RecordedEvent&, AggregateLabels& l) { std::swap(l.tags[0], l.tags[1]); }},
      {"metadata", [](RecordedEvent&, AggregateLabels& l) { l.metadata["owner"] = "y"; }},
      {"labels", [](RecordedEvent&, AggregateLabels& l) { l = {}; }},
  };
  for (const auto& [name, change] : changes) {
    INFO(name);
    RecordedEvent other = event;
    AggregateLabels labels = SomeLabels();
    change(other, labels);
    CHECK_FALSE(HeadersMatch(other, labels));
    const std::optional<Mismatch> mismatch = CheckCids(other, labels);
    REQUIRE(mismatch.has_value());
    CHECK(mismatch->part == Mismatch::Part::kMetadata);
    CHECK(mismatch->expected == other.cid);
    CHECK(mismatch->actual != other.cid);
  }
  RecordedEvent other = event;
  other.payload.data = "{ }";
  CHECK(HeadersMatch(other, SomeLabels()));
  const std::optional<Mismatch> mismatch = CheckCids(other, SomeLabels());
  REQUIRE(mismatch.has_value());
  CHECK(mismatch->part == Mismatch::Part::kPayload);
  CHECK(mismatch->expected == RawCid("{}").ToString());
  CHECK(mismatch->actual == RawCid("{ }").ToString());
}

TEST_CASE("Where a message lies is not part of an event's block", "[ipld]") {
  RecordedEvent event = Everything();
  event.sequence = 7;
  AddCids(event, {});
  event.sequence = 8;
  CHECK_FALSE(CheckCids(event, {}).has_value());
}

TEST_CASE("An event without CIDs matches", "[ipld]") {
  CHECK_FALSE(CheckCids(Placed(), SomeLabels()).has_value());
  CHECK(HeadersMatch(Placed(), SomeLabels()));
}

TEST_CASE("The keys of a map come shorter ones first, then by their bytes", "[ipld]") {
  testing::CheckProperty([] {
    const auto a = *rc::gen::arbitrary<std::string>();
    const auto b = *rc::gen::arbitrary<std::string>();
    if (a == b) {
      RC_ASSERT_FALSE(KeyComesBefore(a, b));
      return;
    }
    RC_ASSERT(KeyComesBefore(a, b) != KeyComesBefore(b, a));
    if (a.size() < b.size()) RC_ASSERT(KeyComesBefore(a, b));
  });
}

}  // namespace
}  // namespace persistd::ipld
