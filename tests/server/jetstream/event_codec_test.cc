// The stored form of events and states. It is for ever: a file of testdata/ that has to change means that what daemons
// stored before can no longer be read, or that older daemons cannot read what this one stores. Then the format needs a
// new number (kFormatVersion) beside the old one, and a new golden file, never a changed one.
#include "server/jetstream/event_codec.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/domain/subject.h"
#include "server/ipld/event_block.h"
#include "tests/server/jetstream/samples.h"
#include "tests/testing/catch.h"
#include "tests/testing/properties.h"

namespace persistd::jetstream {
namespace {

using ::persistd::testing::AnyBytes;
using ::persistd::testing::CheckProperty;
using ::persistd::testing::Utf8Text;

TEST_CASE("Events are written as the golden messages", "[jetstream]") {
  for (const EventSample& sample : EventSamples()) {
    INFO(sample.golden);
    CHECK(ToGolden(Encode(sample)) == ReadGolden(sample.golden));
  }
}

TEST_CASE("Golden messages are read as the events they were made of", "[jetstream]") {
  for (const EventSample& sample : EventSamples()) {
    INFO(sample.golden);
    const absl::StatusOr<DecodedEvent> decoded =
        DecodeEvent(Received(ParseGolden(ReadGolden(sample.golden)), sample.event.sequence));
    INFO(decoded.status());
    REQUIRE(decoded.ok());
    CHECK(Fields(decoded->event) == Fields(sample.event));
    CHECK(decoded->pointers == sample.pointers);
    CHECK(decoded->labels == sample.labels);
  }
}

// What their CIDs must be was computed in JavaScript (tests/interop/event_cid.mjs).
TEST_CASE("The CIDs of golden messages are those of their content", "[jetstream]") {
  int chained = 0;
  for (const EventSample& sample : EventSamples()) {
    INFO(sample.golden);
    const std::optional<ipld::Mismatch> mismatch = ipld::CheckCids(sample.event, sample.labels);
    CHECK_FALSE(mismatch.has_value());
    if (mismatch.has_value()) CHECK(mismatch->actual == mismatch->expected);
    if (!sample.event.cid.empty()) ++chained;
  }
  CHECK(chained == 4);
}

TEST_CASE("States are written as the golden messages and read from them", "[jetstream]") {
  for (const StateSample& sample : StateSamples()) {
    INFO(sample.golden);
    CHECK(ToGolden(EncodeState(sample.state)) == ReadGolden(sample.golden));
    const absl::StatusOr<domain::StateRecord> decoded =
        DecodeState(Received(ParseGolden(ReadGolden(sample.golden)), sample.state.sequence));
    INFO(decoded.status());
    REQUIRE(decoded.ok());
    CHECK(Fields(*decoded) == Fields(sample.state));
  }
}

rc::Gen<base::WallTime> AnyTime() {
  return rc::gen::map(rc::gen::arbitrary<int64_t>(),
                      [](int64_t nanos) { return base::WallTime(std::chrono::nanoseconds(nanos)); });
}

rc::Gen<domain::CustomMetadata> AnyMetadata() {
  return rc::gen::map(
      rc::gen::container<std::vector<std::pair<std::string, std::string>>>(rc::gen::pair(Utf8Text(40), Utf8Text(40))),
      [](const auto& pairs) { return domain::CustomMetadata(pairs.begin(), pairs.end()); });
}

std::string NotEmpty(const std::string& text) { return text.empty() ? "x" : text; }

// Fills in pointers that fit: the last `batch_index` events in the batch that starts at `start`, the others before it.
void FillPointers(uint64_t batch_index, uint64_t start, EventSample& sample) {
  const uint64_t version = sample.event.version;
  sample.batch_index = batch_index;
  sample.event.sequence = start + batch_index;
  uint64_t below = start;
  for (uint64_t d = 1; d < version && d <= kMaxBackPointers; ++d) {
    const bool in_batch = d <= batch_index;
    if (!in_batch) below -= *rc::gen::inRange<uint64_t>(1, 50);
    sample.places.back.push_back({.in_batch = in_batch, .number = in_batch ? batch_index - d : below});
    sample.pointers.back.push_back(in_batch ? sample.event.sequence - d : below);
  }
  for (const uint64_t target : SkipTargets(version)) {
    const uint64_t d = version - target;
    const bool in_batch = d <= batch_index;
    if (!in_batch) below -= *rc::gen::inRange<uint64_t>(1, 50);
    sample.places.skip.push_back(
        {.version = target, .place = {.in_batch = in_batch, .number = in_batch ? batch_index - d : below}});
    sample.pointers.skip.push_back({.version = target, .sequence = in_batch ? sample.event.sequence - d : below});
  }
}

EventSample AnyEvent() {
  EventSample sample;
  domain::RecordedEvent& event = sample.event;
  event.ref = {.context = "sales", .aggregate = "order", .entity_id = NotEmpty(*Utf8Text(domain::kMaxEntityBytes))};
  event.type = *rc::gen::element<std::string>("placed", "a-b_C", "_deleted");
  event.schema_version = *rc::gen::inRange<uint32_t>(1, 1'000'000);
  event.event_id = NotEmpty(*Utf8Text(64));
  event.commit_id = NotEmpty(*Utf8Text(64));
  event.payload = {.content_type = *rc::gen::element<std::string>("", "text/plain", "a/b; c=\"d e\"%20"),
                   .data = *AnyBytes()};
  event.metadata = {.correlation_id = *Utf8Text(64),
                    .causation_id = *Utf8Text(64),
                    .actor = *Utf8Text(64),
                    .traceparent = *Utf8Text(64),
                    .custom = *AnyMetadata()};
  event.time = *AnyTime();
  event.recorded_time = *AnyTime();
  event.cid = *rc::gen::element<std::string>("", "bafyx");
  event.prev_cid = *rc::gen::element<std::string>("", "bafyy");
  event.version =
      *rc::gen::weightedElement<uint64_t>({{1, 1}, {3, 2}, {3, 20}, {3, 33}, {3, 1057}, {3, 34'000}, {3, 2'000'000}});
  event.commit_size = *rc::gen::inRange<uint32_t>(1, 1001);
  event.commit_index =
      static_cast<uint32_t>(*rc::gen::inRange<uint64_t>(0, std::min<uint64_t>(event.commit_size, event.version)));
  FillPointers(event.commit_index, 1'000'000'000, sample);
  sample.has_labels = *rc::gen::arbitrary<bool>();
  if (sample.has_labels)
    sample.labels = {.tags = *rc::gen::container<std::vector<std::string>>(Utf8Text(20)), .metadata = *AnyMetadata()};
  return sample;
}

TEST_CASE("Every event survives its message, and no header can break a line", "[jetstream]") {
  CheckProperty([] {
    const EventSample sample = AnyEvent();
    const OutgoingMessage message = Encode(sample);
    for (const auto& [name, value] : message.headers.fields()) {
      RC_ASSERT(!value.empty());
      RC_ASSERT(std::all_of(value.begin(), value.end(), [](char c) { return c >= 0x20 && c < 0x7F; }));
      RC_ASSERT(value.front() != ' ');
      RC_ASSERT(value.back() != ' ');
    }
    const absl::StatusOr<DecodedEvent> decoded = DecodeEvent(Received(message, sample.event.sequence));
    RC_ASSERT(decoded.ok());
    RC_ASSERT(Fields(decoded->event) == Fields(sample.event));
    RC_ASSERT(decoded->pointers == sample.pointers);
    RC_ASSERT(decoded->labels == sample.labels);
  });
}

Headers With(const Headers& headers, absl::string_view name, absl::string_view value) {
  Headers changed;
  for (const auto& [field, old] : headers.fields()) changed.Add(field, field == name ? std::string(value) : old);
  return changed;
}

Headers Without(const Headers& headers, absl::string_view name) {
  Headers changed;
  for (const auto& [field, value] : headers.fields()) {
    if (field != name) changed.Add(field, value);
  }
  return changed;
}

struct BadHeader {
  const char* name;
  std::vector<const char*> values;
  bool required;
};

const std::vector<BadHeader>& BadHeaders() {
  static const std::vector<BadHeader> bad = {
      {"ce-persistd", {"2", "", "1.0", "01", "%"}, true},
      {"ce-id", {"%", "%0", "%zz", "a%"}, true},
      {"ce-time", {"", "yesterday", "2026-11-22", "1795341600", "3000-01-01T00:00:00Z"}, true},
      {"ce-recordedtime", {"", "yesterday", "2026-11-22T10:00:00"}, true},
      {"ce-aggregateversion", {"", "0", "-1", "+4", "04", "4.0", "four", " 4", "18446744073709551616"}, true},
      {"ce-commitid", {"%G0"}, true},
      {"ce-commitpart",
       {"", "1", "/", "1/", "/3", "0/3", "4/3", "1/0", "1/1001", "-1/3", "+1/3", "1/3/3", "01/3", "1 /3", "a/b"},
       true},
      {"ce-correlationid", {"%"}, false},
      {"ce-causationid", {"%1"}, false},
      {"ce-actor", {"%xy"}, false},
      {"ce-traceparent", {"%"}, false},
      {"ce-custommetadata",
       {"%", "x", "[]", "\"a\"", "null", "1", "{", "{\"a\":1}", "{\"a\":null}", "{\"a\":{}}", "{\"a\":\"b\"}x"},
       false},
      {"ce-cid", {"%"}, false},
      {"ce-prevcid", {"%"}, false},
      {"ce-tags",
       {"%", "x", "{}", "{\"a\":\"b\"}", "\"a\"", "null", "[1]", "[null]", "[[]]", "[\"a\"", "[\"a\",]"},
       false},
      {"ce-aggregatemetadata", {"%", "x", "[]", "{\"a\":1}"}, false},
      {"ce-backpointers", {"x", "%", "1;", "90000,1", "1x31;", "90002x32"}, false},
  };
  return bad;
}

TEST_CASE("A header that is missing or malformed is data loss that names it", "[jetstream]") {
  const EventSample sample = EventSamples()[1];
  const Message good = Received(Encode(sample), sample.event.sequence);
  REQUIRE(DecodeEvent(good).ok());
  const auto refused = [](const Message& message, const char* name) {
    const absl::Status status = DecodeEvent(message).status();
    CHECK(absl::IsDataLoss(status));
    CHECK(absl::StrContains(status.message(), absl::StrCat("header ", name, " ")));
  };
  for (const BadHeader& bad : BadHeaders()) {
    INFO(bad.name);
    REQUIRE(good.headers.Find(bad.name) != nullptr);
    Message message = good;
    message.headers = Without(good.headers, bad.name);
    if (bad.required) {
      refused(message, bad.name);
    } else if (std::string(bad.name) != "ce-backpointers") {
      CHECK(DecodeEvent(message).ok());
    }
    for (const char* value : bad.values) {
      INFO(value);
      message.headers = With(good.headers, bad.name, value);
      refused(message, bad.name);
    }
  }
  // Pointers must be those of the version, and of the place it is stored at.
  for (const char* name : {"ce-backpointers", "ce-skippointers"}) {
    Message message = good;
    message.headers = Without(good.headers, name);
    refused(message, "ce-backpointers");
  }
  Message elsewhere = good;
  elsewhere.sequence = 2;
  refused(elsewhere, "ce-backpointers");
  // The third event of a save cannot be the aggregate's second.
  Message early = good;
  early.headers =
      With(With(Without(Without(good.headers, "ce-backpointers"), "ce-skippointers"), "ce-aggregateversion", "1"),
           "ce-commitpart", "2/3");
  refused(early, "ce-commitpart");
}

TEST_CASE("A header that contradicts the subject is data loss that names it", "[jetstream]") {
  std::vector<EventSample> samples = EventSamples();
  EventSample entry = samples[0];
  entry.event.ref = domain::ChainRef("a chain/of ours");
  entry.event.type = domain::kChainEntryType;
  entry.event.schema_version = 1;
  samples.push_back(std::move(entry));
  for (const EventSample& sample : samples) {
    INFO(sample.event.ref.context << " " << sample.event.ref.entity_id);
    const Message good = Received(Encode(sample), sample.event.sequence);
    REQUIRE(DecodeEvent(good).ok());
    const std::string source = *good.headers.Find("ce-source");
    const std::vector<std::pair<std::string, std::vector<std::string>>> bad = {
        {"ce-type", {"", "other", sample.event.type + "x", sample.event.type.substr(1)}},
        {"ce-source", {"", "/", source + "x", source.substr(1), source.substr(0, source.size() - 1), source + "/"}},
        {"ce-subject", {"", "other", *good.headers.Find("ce-subject") + "x", "%"}},
    };
    for (const auto& [name, values] : bad) {
      Message message = good;
      message.headers = Without(good.headers, name);
      CHECK(DecodeEvent(message).ok());
      for (const std::string& value : values) {
        INFO(name << ": " << value);
        message.headers = With(good.headers, name, value);
        const absl::Status status = DecodeEvent(message).status();
        CHECK(absl::IsDataLoss(status));
        CHECK(absl::StrContains(status.message(), absl::StrCat("header ", name, " ")));
      }
    }
  }
}

TEST_CASE("Snapshots are written as the golden messages and read from them", "[jetstream]") {
  for (const StateSample& sample : SnapshotSamples()) {
    INFO(sample.golden);
    CHECK(ToGolden(EncodeSnapshot(sample.state)) == ReadGolden(sample.golden));
    const Message message = Received(ParseGolden(ReadGolden(sample.golden)), sample.state.sequence);
    const absl::StatusOr<domain::StateRecord> decoded = DecodeSnapshot(sample.state.ref, message);
    INFO(decoded.status());
    REQUIRE(decoded.ok());
    CHECK(Fields(*decoded) == Fields(sample.state));
    domain::AggregateRef other = sample.state.ref;
    other.entity_id = "other";
    CHECK(absl::IsDataLoss(DecodeSnapshot(other, message).status()));
    other = sample.state.ref;
    other.aggregate = "other";
    CHECK(absl::IsDataLoss(DecodeSnapshot(other, message).status()));
  }
}

TEST_CASE("A list of chunks that cannot hold the content is data loss", "[jetstream]") {
  const StateSample sample = StateSamples()[2];
  const auto decode = [&](const std::string& size, const std::string& body) {
    OutgoingMessage message = EncodeState(sample.state);
    Headers headers;
    for (const auto& [name, value] : message.headers.fields()) {
      headers.Add(name, name == "ce-chunkedsize" ? size : value);
    }
    message.headers = headers;
    message.data = body;
    return DecodeState(Received(message, 9)).status();
  };
  const std::string good = EncodeState(sample.state).data;
  REQUIRE(decode("1000000", good).ok());
  REQUIRE(decode("524289", good).ok());
  REQUIRE(decode("1048576", good).ok());
  for (const char* size : {"0", "-1", "x", "524288", "1048577", "99999999999999999999"}) {
    INFO(size);
    CHECK(absl::IsDataLoss(decode(size, good)));
  }
  for (const char* body : {"", "{}", "[]", "{\"chunks\":{}}", "{\"chunks\":[1,2]}", "{\"chunks\":[\"bafk\",\"bafk\"]}",
                           "{\"chunks\":[]}", "not JSON"}) {
    INFO(body);
    CHECK(absl::IsDataLoss(decode("1000000", body)));
  }
}

TEST_CASE("The blocks that a message lists are told, or that they cannot be", "[jetstream]") {
  const StateSample sample = StateSamples()[2];
  for (const OutgoingMessage& message : {EncodeState(sample.state), EncodeSnapshot(sample.state)}) {
    const Message good = Received(message, 9);
    CHECK(MayList(good));
    CHECK(ListedBlocks(good).value() == sample.state.chunks);
    Message changed = good;
    changed.data = "{}";
    CHECK(absl::IsDataLoss(ListedBlocks(changed).status()));
    changed = good;
    changed.headers = Without(good.headers, "ce-persistd");
    CHECK(absl::IsDataLoss(ListedBlocks(changed).status()));
  }
  const Message small = Received(EncodeState(StateSamples()[0].state), 9);
  CHECK_FALSE(MayList(small));
  CHECK(ListedBlocks(small).value() == std::nullopt);
  Message later = small;
  later.headers = With(small.headers, "ce-persistd", "2");
  CHECK(MayList(later));
  CHECK(absl::IsDataLoss(ListedBlocks(later).status()));
  CHECK_FALSE(MayList(Message{}));
}

TEST_CASE("A state whose header is missing or malformed is data loss that names it", "[jetstream]") {
  const StateSample sample = StateSamples()[1];
  const Message good = Received(EncodeState(sample.state), 9);
  REQUIRE(DecodeState(good).ok());
  for (const BadHeader& bad : BadHeaders()) {
    if (good.headers.Find(bad.name) == nullptr || std::string(bad.name) == "ce-id") continue;
    INFO(bad.name);
    Message message = good;
    message.headers = Without(good.headers, bad.name);
    CHECK(DecodeState(message).ok() != bad.required);
    for (const char* value : bad.values) {
      INFO(value);
      message.headers = With(good.headers, bad.name, value);
      const absl::Status status = DecodeState(message).status();
      CHECK(absl::IsDataLoss(status));
      CHECK(absl::StrContains(status.message(), absl::StrCat("header ", bad.name, " ")));
    }
  }
}

TEST_CASE("A subject that is none of ours is data loss", "[jetstream]") {
  Message event = Received(Encode(EventSamples()[0]), 17);
  Message state = Received(EncodeState(StateSamples()[0].state), 9);
  std::swap(event.subject, state.subject);
  CHECK(absl::IsDataLoss(DecodeEvent(event).status()));
  CHECK(absl::IsDataLoss(DecodeState(state).status()));
  event.subject = "cim.events.sales.order.\x1B[2J.placed.v1";
  const absl::Status status = DecodeEvent(event).status();
  CHECK(absl::IsDataLoss(status));
  CHECK_FALSE(absl::StrContains(status.message(), "\x1B"));
}

TEST_CASE("Headers that are unknown or repeated do no harm", "[jetstream]") {
  const EventSample sample = EventSamples()[1];
  Message message = Received(Encode(sample), sample.event.sequence);
  for (const char* name :
       {"Nats-Expected-Last-Subject-Sequence", "Nats-Batch-Id", "Nats-Stream", "Nats-Sequence", "ce-future", "Ce-Id",
        "CE-TIME", "ce-id", "ce-aggregateversion", "ce-commitpart", "content-type"}) {
    message.headers.Add(name, "%zz not ours");
  }
  const absl::StatusOr<DecodedEvent> decoded = DecodeEvent(message);
  INFO(decoded.status());
  REQUIRE(decoded.ok());
  CHECK(Fields(decoded->event) == Fields(sample.event));
  CHECK(decoded->labels == sample.labels);
}

TEST_CASE("Only messages with the marker are ours", "[jetstream]") {
  Message message = Received(Encode(EventSamples()[0]), 17);
  CHECK(IsOurs(message));
  CHECK(IsOurs(Received(EncodeState(StateSamples()[0].state), 9)));
  message.headers = Without(message.headers, "ce-persistd");
  CHECK_FALSE(IsOurs(message));
  CHECK_FALSE(IsOurs(Message()));
}

TEST_CASE("Percent-encoding is what the CloudEvents binding for NATS asks for", "[jetstream]") {
  CHECK(PercentEncode("") == "");
  CHECK(PercentEncode("Euro \xE2\x82\xAC \xF0\x9F\x98\x80") == "Euro%20%E2%82%AC%20%F0%9F%98%80");
  CHECK(PercentEncode("\"%\x7F\t\r\n!~:/{}[],") == "%22%25%7F%09%0D%0A!~:/{}[],");
  CHECK(PercentDecode("%e2%82%AC+a b") == "\xE2\x82\xAC+a b");
  for (const char* text : {"%", "a%", "%1", "%1g", "%g1", "%%", "% 1"}) CHECK_FALSE(PercentDecode(text).has_value());
  CheckProperty([] {
    const std::string bytes = *AnyBytes();
    RC_ASSERT(PercentDecode(PercentEncode(bytes)) == bytes);
    PercentDecode(bytes);  // Whatever it is, no crash.
  });
}

TEST_CASE("Messages of garbage are refused or read, never worse", "[jetstream]") {
  const Message good = Received(Encode(EventSamples()[1]), EventSamples()[1].event.sequence);
  CheckProperty([&good] {
    Message message = good;
    const auto& fields = good.headers.fields();
    const std::string name = fields[*rc::gen::inRange<size_t>(0, fields.size())].first;
    const std::string value = *rc::gen::oneOf(
        AnyBytes(), rc::gen::container<std::string>(rc::gen::elementOf(std::string("{}[]\":,0129/%aAx;-"))));
    message.headers = With(good.headers, name, value);
    message.data = *AnyBytes();
    const absl::StatusOr<DecodedEvent> decoded = DecodeEvent(message);
    RC_ASSERT(decoded.ok() || absl::IsDataLoss(decoded.status()));
  });
}

}  // namespace
}  // namespace persistd::jetstream
