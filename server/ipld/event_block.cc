#include "server/ipld/event_block.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/base/rfc3339.h"
#include "server/ipld/dag_cbor_writer.h"

namespace persistd::ipld {
namespace {

// Entries of a map whose keys are written down here in canonical order; those without text are left out.
struct TextEntry {
  absl::string_view key;
  const std::string* text;
};

template <size_t N>
uint64_t CountPresent(const std::array<TextEntry, N>& entries) {
  return static_cast<uint64_t>(
      std::count_if(entries.begin(), entries.end(), [](const TextEntry& entry) { return !entry.text->empty(); }));
}

void WriteText(DagCborWriter& writer, const TextEntry& entry) {
  if (entry.text->empty()) return;
  writer.Key(entry.key);
  writer.Text(*entry.text);
}

void WriteMap(DagCborWriter& writer, const domain::CustomMetadata& map) {
  std::vector<const domain::CustomMetadata::value_type*> entries;
  entries.reserve(map.size());
  for (const auto& entry : map) entries.push_back(&entry);
  std::sort(entries.begin(), entries.end(),
            [](const auto* a, const auto* b) { return KeyComesBefore(a->first, b->first); });
  writer.BeginMap(entries.size());
  for (const auto* entry : entries) {
    writer.Key(entry->first);
    writer.Text(entry->second);
  }
}

void WriteCommit(DagCborWriter& writer, const domain::RecordedEvent& event) {
  const bool in_group = event.group_size > 0;
  writer.Key("commit");
  writer.BeginMap(in_group ? 5 : 3);
  writer.Key("id");
  writer.Text(event.commit_id);
  writer.Key("part");
  writer.Uint(event.commit_index + 1);
  writer.Key("parts");
  writer.Uint(event.commit_size);
  if (!in_group) return;
  writer.Key("place");
  writer.Uint(event.group_place);
  writer.Key("places");
  writer.Uint(event.group_size);
}

bool HasLabels(const domain::AggregateLabels& labels) { return !labels.tags.empty() || !labels.metadata.empty(); }

void WriteLabels(DagCborWriter& writer, const domain::AggregateLabels& labels) {
  if (!HasLabels(labels)) return;
  writer.Key("labels");
  writer.BeginMap((labels.tags.empty() ? 0 : 1) + (labels.metadata.empty() ? 0 : 1));
  if (!labels.tags.empty()) {
    writer.Key("tags");
    writer.BeginArray(labels.tags.size());
    for (const std::string& tag : labels.tags) writer.Text(tag);
  }
  if (!labels.metadata.empty()) {
    writer.Key("metadata");
    WriteMap(writer, labels.metadata);
  }
}

bool HasMetadata(const domain::EventMetadata& metadata) { return metadata != domain::EventMetadata(); }

void WriteMetadata(DagCborWriter& writer, const domain::EventMetadata& metadata) {
  if (!HasMetadata(metadata)) return;
  const std::array<TextEntry, 3> ids = {{{"causation", &metadata.causation_id},
                                         {"correlation", &metadata.correlation_id},
                                         {"traceparent", &metadata.traceparent}}};
  const std::array<TextEntry, 1> actor = {{{"actor", &metadata.actor}}};
  writer.Key("metadata");
  writer.BeginMap(CountPresent(actor) + (metadata.custom.empty() ? 0 : 1) + CountPresent(ids));
  WriteText(writer, actor[0]);
  if (!metadata.custom.empty()) {
    writer.Key("custom");
    WriteMap(writer, metadata.custom);
  }
  for (const TextEntry& entry : ids) WriteText(writer, entry);
}

void WriteLink(DagCborWriter& writer, absl::string_view key, const std::optional<Cid>& cid) {
  writer.Key(key);
  if (cid.has_value()) {
    writer.Link(*cid);
  } else {
    writer.Null();
  }
}

bool HasPayload(const domain::Payload& payload) { return !payload.content_type.empty() || !payload.data.empty(); }

std::string Block(const domain::RecordedEvent& event, const domain::AggregateLabels& labels,
                  const std::optional<Cid>& data, const std::optional<Cid>& previous) {
  std::string block;
  block.reserve(512);
  DagCborWriter writer(&block);
  const TextEntry content_type{"contentType", &event.payload.content_type};
  writer.BeginMap(13 + (HasLabels(labels) ? 1 : 0) + (HasMetadata(event.metadata) ? 1 : 0) +
                  (content_type.text->empty() ? 0 : 1));
  writer.Key("id");
  writer.Text(event.event_id);
  WriteLink(writer, "data", data);
  WriteLink(writer, "prev", previous);
  writer.Key("time");
  writer.Text(base::FormatRfc3339(event.time));
  writer.Key("type");
  writer.Text(event.type);
  WriteCommit(writer, event);
  writer.Key("entity");
  writer.Text(event.ref.entity_id);
  WriteLabels(writer, labels);
  writer.Key("context");
  writer.Text(event.ref.context);
  writer.Key("version");
  writer.Uint(event.version);
  WriteMetadata(writer, event.metadata);
  writer.Key("persistd");
  writer.Uint(kEventBlockFormat);
  writer.Key("recorded");
  writer.Text(base::FormatRfc3339(event.recorded_time));
  writer.Key("aggregate");
  writer.Text(event.ref.aggregate);
  WriteText(writer, content_type);
  writer.Key("schemaVersion");
  writer.Uint(event.schema_version);
  return block;
}

}  // namespace

std::optional<std::string> EventBlock(const domain::RecordedEvent& event, const domain::AggregateLabels& labels) {
  const std::optional<Cid> data = Cid::Parse(event.payload_cid);
  const std::optional<Cid> previous = Cid::Parse(event.prev_cid);
  if (!data.has_value() && !event.payload_cid.empty()) return std::nullopt;
  if (!previous.has_value() && !event.prev_cid.empty()) return std::nullopt;
  return Block(event, labels, data, previous);
}

void AddCids(domain::RecordedEvent& event, const domain::AggregateLabels& labels) {
  std::optional<Cid> data;
  if (HasPayload(event.payload)) data = RawCid(event.payload.data);
  event.payload_cid = data.has_value() ? data->ToString() : "";
  event.cid = DagCborCid(Block(event, labels, data, Cid::Parse(event.prev_cid))).ToString();
}

bool HeadersMatch(const domain::RecordedEvent& event, const domain::AggregateLabels& labels) {
  if (event.cid.empty()) return true;
  const std::optional<std::string> block = EventBlock(event, labels);
  return block.has_value() && DagCborCid(*block).ToString() == event.cid;
}

std::optional<Mismatch> CheckCids(const domain::RecordedEvent& event, const domain::AggregateLabels& labels) {
  if (event.cid.empty()) return std::nullopt;
  const std::optional<std::string> block = EventBlock(event, labels);
  const std::string cid = block.has_value() ? DagCborCid(*block).ToString() : "";
  if (cid != event.cid) return Mismatch{.part = Mismatch::Part::kMetadata, .expected = event.cid, .actual = cid};
  const std::string payload_cid = HasPayload(event.payload) ? RawCid(event.payload.data).ToString() : "";
  if (payload_cid == event.payload_cid) return std::nullopt;
  return Mismatch{.part = Mismatch::Part::kPayload, .expected = event.payload_cid, .actual = payload_cid};
}

}  // namespace persistd::ipld
