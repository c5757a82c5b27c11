#include "tests/server/jetstream/samples.h"

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/domain/subject.h"
#include "tests/testing/files.h"
#include "tests/testing/must.h"
#include "tests/testing/runfiles.h"

namespace persistd::jetstream {
namespace {

base::WallTime At(int64_t nanos) { return base::WallTime(std::chrono::nanoseconds(nanos)); }

EventPlace Stored(uint64_t sequence) { return {.in_batch = false, .number = sequence}; }
EventPlace InBatch(uint64_t index) { return {.in_batch = true, .number = index}; }

domain::AggregateRef Order() { return {.context = "sales", .aggregate = "order", .entity_id = "4711"}; }

// The first event of an aggregate, with no more than it needs.
EventSample Minimal() {
  EventSample sample;
  sample.golden = "event_minimal";
  sample.event.ref = Order();
  sample.event.version = 1;
  sample.event.event_id = "0199d3f0-0000-7000-8000-000000000001";
  sample.event.type = "placed";
  sample.event.time = At(1'795'341'600'000'000'000);
  sample.event.recorded_time = At(1'795'341'600'250'000'000);
  sample.event.commit_id = "0199d3f0-0000-7000-8000-00000000000a";
  sample.event.sequence = 17;
  return sample;
}

// Every header there is, with values that need care: quotes, percent signs, line breaks, bytes beyond ASCII.
EventSample Full() {
  EventSample sample = Minimal();
  sample.golden = "event_full";
  domain::RecordedEvent& event = sample.event;
  event.ref.entity_id = "A.1 \xC3\xA9\xF0\x9F\x98\x80\r\n*>";
  event.version = 34'000;
  event.event_id = "evt:34000/\"x\"";
  event.schema_version = 12;
  event.payload = {.content_type = "application/json; charset=utf-8",
                   .data = "{\"total\": 12.50,\n \"note\": \"50 % \xE2\x82\xAC\"}\n"};
  event.metadata.correlation_id = "order 4711";
  event.metadata.causation_id = "cmd-9%";
  event.metadata.actor = "Zo\xC3\xAB \"Z\" \xF0\x9F\xA6\x8A";
  event.metadata.traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  event.metadata.custom = {{"", "empty key"},
                           {"crlf", "a\r\nNats-Rollup: all\r\n\r\nb"},
                           {"emoji \xF0\x9F\x98\x80", " spaces at both ends "},
                           {"quote\"back\\slash", "100 % \"sure\""},
                           {"zero", ""}};
  event.time = At(-1);
  event.recorded_time = At(1'795'341'600'123'456'789);
  event.commit_index = 2;
  event.commit_size = 3;
  event.cid = "bafyreiescalgh2pxmdsyi6joellvr6jvivhmamygmsa2wukobj7azbpsu4";
  event.payload_cid = "bafkreibwde53v7ywymlkpjmtsulz66pfzm6yjihkcjzgolrpemjr4tp3ze";
  event.prev_cid = "bafyreib6nm2y5s3kxv3nbxkp2cjrgqnkpnzvmpqkmz7yz4dlhwovyl6jxi";
  event.sequence = 90'002;
  sample.batch_index = 2;
  sample.places.back = {InBatch(1), InBatch(0)};
  sample.pointers.back = {90'001, 90'000};
  for (uint64_t i = 0; i < 30; ++i) {
    const uint64_t sequence = i < 10 ? 80'500 - i : 80'491 - 13 * (i - 9);
    sample.places.back.push_back(Stored(sequence));
    sample.pointers.back.push_back(sequence);
  }
  sample.places.skip = {{.version = 33'792, .place = Stored(70'000)}, {.version = 32'768, .place = Stored(65'000)}};
  sample.pointers.skip = {{.version = 33'792, .sequence = 70'000}, {.version = 32'768, .sequence = 65'000}};
  sample.has_labels = true;
  sample.labels.tags = {
      "gr\xC3\xB6\xC3\x9F"
      "e",
      "a,b", "\"q\""};
  sample.labels.metadata = {{"owner", "J\xC3\xB6rg"}, {"limit", "5%"}};
  return sample;
}

// The second of three events of one save.
EventSample Middle() {
  EventSample sample = Minimal();
  sample.golden = "event_middle_of_save";
  sample.event.version = 4;
  sample.event.event_id = "0199d3f0-0000-7000-8000-000000000004";
  sample.event.type = "item-added";
  sample.event.payload = {.content_type = "text/plain", .data = "second of three"};
  sample.event.commit_index = 1;
  sample.event.commit_size = 3;
  sample.event.sequence = 31;
  sample.batch_index = 1;
  sample.places.back = {InBatch(0), Stored(20), Stored(17)};
  sample.pointers.back = {30, 20, 17};
  return sample;
}

// In the middle of a long save whose start made an event with a multiple of 1024 as version.
EventSample SkipInsideSave() {
  EventSample sample = Minimal();
  sample.golden = "event_skip_inside_save";
  sample.event.version = 1100;
  sample.event.commit_index = 80;
  sample.event.commit_size = 90;
  sample.event.sequence = 5080;
  sample.batch_index = 80;
  for (uint64_t i = 0; i < 32; ++i) {
    sample.places.back.push_back(InBatch(79 - i));
    sample.pointers.back.push_back(5079 - i);
  }
  sample.places.skip = {{.version = 1024, .place = InBatch(4)}};
  sample.pointers.skip = {{.version = 1024, .sequence = 5004}};
  return sample;
}

// The reserved event that deletes an aggregate.
EventSample Tombstone() {
  EventSample sample = Minimal();
  sample.golden = "event_tombstone";
  sample.event.version = 2;
  sample.event.event_id = "0199d3f0-0000-7000-8000-000000000002";
  sample.event.type = "_deleted";
  sample.event.sequence = 18;
  sample.places.back = {Stored(17)};
  sample.pointers.back = {17};
  sample.has_labels = true;
  return sample;
}

// The first event of a chain, in a commit of several aggregates.
EventSample ChainedInGroup() {
  EventSample sample = Minimal();
  sample.golden = "event_chained_in_group";
  sample.event.payload = {.content_type = "application/json", .data = "{}"};
  sample.event.group_place = 2;
  sample.event.group_size = 5;
  sample.event.cid = "bafyreie5jlvgsaccvyxxcdvjkq6wdylxa4lodk736pfjegyulevwbhokse";
  sample.event.payload_cid = "bafkreicecnx2gvntm6fbcrvnc336qze6st5u7qq7457igegamd3bzkx7ri";
  return sample;
}

// The last event of a chain, without payload.
EventSample ChainedTombstone() {
  EventSample sample = Tombstone();
  sample.golden = "event_chained_tombstone";
  sample.event.cid = "bafyreigca7jibjhv6xggdrgkk37byhemefda4rbuvekrkcpafumyeibjui";
  sample.event.prev_cid = "bafyreie5jlvgsaccvyxxcdvjkq6wdylxa4lodk736pfjegyulevwbhokse";
  return sample;
}

// The second entry of a named chain.
EventSample ChainEntry() {
  EventSample sample = ChainedTombstone();
  sample.golden = "chain_entry";
  domain::RecordedEvent& event = sample.event;
  event.ref = domain::ChainRef("audit 2026");
  event.type = domain::kChainEntryType;
  event.payload = {.content_type = "application/json", .data = "{\"seal\":1}"};
  event.metadata.actor = "auditor";
  event.cid = "bafyreie7344uh7ghb7sfcoda5n5gruhhl5xyhxwci4hngwx4vomtgkd6ni";
  event.payload_cid = "bafkreieiw2kxdwbm3wpcw45rx4oi3jtvmdrmntg7i4dkhf7oc7amgdzxey";
  return sample;
}

StateSample FullState() {
  StateSample sample;
  sample.golden = "state_full";
  sample.state.ref = {.context = "sales", .aggregate = "order", .entity_id = "caf\xC3\xA9 1"};
  sample.state.version = 34'000;
  sample.state.schema_version = 3;
  sample.state.payload = {.content_type = "application/json", .data = "{\"total\":12.5}"};
  sample.state.commit_id = "0199d3f0-0000-7000-8000-00000000000a";
  sample.state.cid = "bafyreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";
  sample.state.recorded_time = At(1'795'341'600'123'456'789);
  sample.state.sequence = 9;
  return sample;
}

StateSample MinimalState() {
  StateSample sample = FullState();
  sample.golden = "state_minimal";
  sample.state.ref = Order();
  sample.state.version = 1;
  sample.state.schema_version = 1;
  sample.state.payload = {};
  sample.state.cid = "";
  return sample;
}

// One million times the letter a, in two blocks.
StateSample ChunkedState() {
  StateSample sample = FullState();
  sample.golden = "state_chunked";
  sample.state.payload.data = "";
  sample.state.chunks = domain::ChunkList{.size = 1'000'000,
                                          .cids = {"bafkreiefvbfhlcdorjjg3pwe4fxdg5p2umd3jlvnphe62mteybdxu33oxi",
                                                   "bafkreidflb5m3kemxqrlvyftrvevilbloa37ivp7pk3trt2c7nmhrn43iq"}};
  return sample;
}

StateSample FullSnapshot() {
  StateSample sample = FullState();
  sample.golden = "snapshot_full";
  return sample;
}

StateSample ChunkedSnapshot() {
  StateSample sample = ChunkedState();
  sample.golden = "snapshot_chunked";
  sample.state.payload.content_type = "";
  return sample;
}

}  // namespace

std::vector<EventSample> EventSamples() {
  return {Minimal(),   Full(),           Middle(),           SkipInsideSave(),
          Tombstone(), ChainedInGroup(), ChainedTombstone(), ChainEntry()};
}
std::vector<StateSample> StateSamples() { return {MinimalState(), FullState(), ChunkedState()}; }

std::vector<StateSample> SnapshotSamples() { return {FullSnapshot(), ChunkedSnapshot()}; }

OutgoingMessage Encode(const EventSample& sample) {
  return EncodeEvent(sample.event, sample.places, sample.batch_index, sample.has_labels ? &sample.labels : nullptr);
}

std::string ReadGolden(const std::string& name) {
  const std::string path = absl::StrCat("persistd/tests/server/jetstream/testdata/", name);
  return persistd::testing::ReadFile(persistd::testing::Must(persistd::testing::Runfile(path)));
}

std::string ToGolden(const OutgoingMessage& message) {
  std::string text = absl::StrCat(message.subject, "\n");
  for (const auto& [name, value] : message.headers.fields()) absl::StrAppend(&text, name, ": ", value, "\n");
  return absl::StrCat(text, "\n", message.data);
}

OutgoingMessage ParseGolden(const std::string& text) {
  OutgoingMessage message;
  const size_t body = text.find("\n\n");
  const std::vector<std::string> lines = absl::StrSplit(text.substr(0, body), '\n');
  message.subject = lines.front();
  for (size_t i = 1; i < lines.size(); ++i) {
    const std::pair<std::string, std::string> field = absl::StrSplit(lines[i], absl::MaxSplits(": ", 1));
    message.headers.Add(field.first, field.second);
  }
  if (body != std::string::npos) message.data = text.substr(body + 2);
  return message;
}

Message Received(const OutgoingMessage& message, uint64_t sequence) {
  return {
      .subject = message.subject, .headers = message.headers, .data = message.data, .sequence = sequence, .time = {}};
}

}  // namespace persistd::jetstream
