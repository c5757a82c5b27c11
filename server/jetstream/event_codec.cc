#include "server/jetstream/event_codec.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/base/decimal.h"
#include "server/base/rfc3339.h"
#include "server/base/status_macros.h"
#include "server/domain/subject.h"
#include "server/ipld/cid.h"
#include "server/jetstream/commit_place.h"

namespace persistd::jetstream {
namespace {

using nlohmann::json;

constexpr size_t kEventHeaders = 26;  // With the two of its check. Some more are rare.
constexpr absl::string_view kMarker = "ce-persistd";
constexpr absl::string_view kStateType = "state";
constexpr absl::string_view kSnapshotType = "snapshot";
constexpr absl::string_view kSchemaVersion = "ce-schemaversion";
constexpr absl::string_view kChunkedSize = "ce-chunkedsize";
constexpr absl::string_view kChunkedType = "ce-chunkedtype";
constexpr absl::string_view kChunksContentType = "application/vnd.persistd.chunks+json";

int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

bool NeedsNoEncoding(char c) { return c > 0x20 && c < 0x7F && c != '"' && c != '%'; }

// Header values are never empty: nats.c cannot carry those.
void AddText(Headers& headers, absl::string_view name, absl::string_view text) {
  if (!text.empty()) headers.Add(name, PercentEncode(text));
}

void AddPayload(const domain::Payload& payload, OutgoingMessage& message) {
  if (!payload.content_type.empty()) message.headers.Add("content-type", payload.content_type);
  message.data = payload.data;
}

std::string Source(const domain::AggregateRef& ref) { return absl::StrCat("/", ref.context, "/", ref.aggregate); }

bool IsSource(absl::string_view text, const domain::AggregateRef& ref) {
  return absl::ConsumePrefix(&text, "/") && absl::ConsumePrefix(&text, ref.context) &&
         absl::ConsumePrefix(&text, "/") && text == ref.aggregate;
}

void AddStateHeaders(const domain::StateRecord& state, absl::string_view type, Headers& headers) {
  headers.Add("ce-specversion", "1.0");
  headers.Add(kMarker, std::string(kFormatVersion));
  // CloudEvents wants ids to be unique within a source: the aggregate and its version identify a state.
  headers.Add("ce-id", absl::StrCat(domain::EncodeEntity(state.ref.entity_id), ".", type, ".", state.version));
  headers.Add("ce-source", Source(state.ref));
  headers.Add("ce-type", std::string(type));
  AddText(headers, "ce-subject", state.ref.entity_id);
  headers.Add("ce-time", base::FormatRfc3339(state.recorded_time));
  headers.Add("ce-aggregateversion", absl::StrCat(state.version));
  AddText(headers, "ce-commitid", state.commit_id);
  AddText(headers, "ce-cid", state.cid);
}

// The content of a state, or the list of the blocks that hold it.
void AddContent(const domain::StateRecord& state, OutgoingMessage& message) {
  if (!state.chunks.has_value()) return AddPayload(state.payload, message);
  message.headers.Add(kChunkedSize, absl::StrCat(state.chunks->size));
  if (!state.payload.content_type.empty()) message.headers.Add(kChunkedType, state.payload.content_type);
  message.headers.Add("content-type", std::string(kChunksContentType));
  message.data = json{{"chunks", state.chunks->cids}}.dump();
}

std::string MetadataJson(const domain::CustomMetadata& metadata) {
  return metadata.empty() ? "" : json(metadata).dump(-1, ' ', /*ensure_ascii=*/false);
}

void AddGroup(const domain::RecordedEvent& event, Headers& headers) {
  if (event.group_size > 0) headers.Add("ce-commitgroup", absl::StrCat(event.group_place, "/", event.group_size));
}

// The parts of a message, each step noting the first thing that is wrong.
class FieldReader {
 public:
  explicit FieldReader(const Headers& headers) : headers_(headers) {}

  std::string Text(absl::string_view name, bool required) {
    const std::string* value = headers_.Find(name);
    if (value == nullptr) {
      if (required) Fail(name, "is missing");
      return "";
    }
    std::optional<std::string> text = PercentDecode(*value);
    if (!text.has_value()) {
      Fail(name, "is not percent-encoded");
      return "";
    }
    return *std::move(text);
  }

  uint64_t Version(absl::string_view name) {
    const uint64_t version = base::ParseDecimal(Text(name, true)).value_or(0);
    if (version == 0) Fail(name, "is no number from 1 up");
    return version;
  }

  base::WallTime Time(absl::string_view name) {
    const std::optional<base::WallTime> time = base::ParseRfc3339(Text(name, true));
    if (!time.has_value()) Fail(name, "is no RFC 3339 time");
    return time.value_or(base::WallTime());
  }

  domain::CustomMetadata Map(absl::string_view name) {
    const std::string text = Text(name, false);
    domain::CustomMetadata map;
    if (text.empty()) return map;
    const json parsed = json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!parsed.is_object()) {
      Fail(name, "is no JSON object");
      return map;
    }
    for (const auto& [key, value] : parsed.items()) {
      if (value.is_string()) {
        map.emplace(key, value.get<std::string>());
      } else {
        Fail(name, "holds a value that is no string");
      }
    }
    return map;
  }

  std::vector<std::string> List(absl::string_view name) {
    const std::string text = Text(name, false);
    std::vector<std::string> list;
    if (text.empty()) return list;
    const json parsed = json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!parsed.is_array()) Fail(name, "is no JSON array");
    for (const json& value : parsed) {
      if (value.is_string()) {
        list.push_back(value.get<std::string>());
      } else {
        Fail(name, "holds a value that is no string");
      }
    }
    return list;
  }

  // `1/3`: index 0 of 3.
  void CommitPart(absl::string_view name, uint32_t& index, uint32_t& size) {
    if (Fraction(name, Text(name, true), index, size)) --index;
  }

  // `1/3`, if it is there.
  void CommitGroup(absl::string_view name, uint32_t& place, uint32_t& size) {
    const std::string text = Text(name, false);
    if (!text.empty()) Fraction(name, text, place, size);
  }

  // What the subject says already, if it is there: the subject alone is read, but the CIDs cover only that, so nobody
  // else may be told something different. Called for each event that is read: nothing is copied but what is encoded.
  void Repeats(const domain::RecordedEvent& event) {
    if (const std::string* type = headers_.Find("ce-type"); type != nullptr && *type != event.type) {
      Fail("ce-type", "is not the type that the subject names");
    }
    if (const std::string* source = headers_.Find("ce-source"); source != nullptr && !IsSource(*source, event.ref)) {
      Fail("ce-source", "names another aggregate type than the subject");
    }
    if (const std::string* entity = headers_.Find("ce-subject"); entity != nullptr) {
      const bool plain = !absl::StrContains(*entity, '%');
      if (plain ? *entity != event.ref.entity_id : PercentDecode(*entity) != event.ref.entity_id) {
        Fail("ce-subject", "names another aggregate than the subject");
      }
    }
  }

  void Fail(absl::string_view name, absl::string_view what) {
    if (status_.ok()) status_ = absl::DataLossError(absl::StrCat("header ", name, " ", what));
  }

  const absl::Status& status() const { return status_; }

 private:
  // Changes nothing when `text` is no place in a commit.
  bool Fraction(absl::string_view name, const std::string& text, uint32_t& number, uint32_t& count) {
    const std::optional<CommitPlace> place = ParseCommitPlace(text);
    if (!place.has_value()) {
      Fail(name, "is no `part/parts`");
      return false;
    }
    number = place->place;
    count = place->places;
    return true;
  }

  const Headers& headers_;
  absl::Status status_;
};

domain::Payload TakePayload(Message& message) {
  domain::Payload payload;
  if (const std::string* type = message.headers.Find("content-type")) payload.content_type = *type;
  payload.data = std::move(message.data);
  return payload;
}

// The list of blocks in a message's body.
absl::StatusOr<domain::ChunkList> ParseChunks(absl::string_view size, const std::string& body) {
  domain::ChunkList list;
  list.size = base::ParseDecimal(size).value_or(0);
  if (list.size == 0) return absl::DataLossError(absl::StrCat("header ", kChunkedSize, " is no number from 1 up"));
  const json parsed = json::parse(body, nullptr, /*allow_exceptions=*/false);
  const bool well_formed = parsed.is_object() && parsed.contains("chunks") && parsed["chunks"].is_array();
  if (!well_formed) return absl::DataLossError("the body is no list of chunks");
  for (const json& cid : parsed["chunks"]) {
    if (!cid.is_string() || !ipld::Cid::Parse(cid.get_ref<const std::string&>()).has_value()) {
      return absl::DataLossError("the list of chunks holds something that is no CID");
    }
    list.cids.push_back(cid.get<std::string>());
  }
  if (list.cids.size() != (list.size - 1) / domain::kChunkBytes + 1) {
    return absl::DataLossError(absl::StrCat(list.cids.size(), " chunks cannot hold ", list.size, " bytes"));
  }
  return list;
}

// The inverse of AddContent.
absl::Status TakeContent(Message& message, domain::StateRecord& state) {
  const std::string* size = message.headers.Find(kChunkedSize);
  if (size == nullptr) {
    state.payload = TakePayload(message);
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(state.chunks, ParseChunks(*size, message.data));
  if (const std::string* type = message.headers.Find(kChunkedType)) state.payload.content_type = *type;
  return absl::OkStatus();
}

void ReadStateHeaders(const Message& message, FieldReader& reader, domain::StateRecord& state) {
  if (reader.Text(kMarker, true) != kFormatVersion) reader.Fail(kMarker, "is not a format that this version can read");
  state.sequence = message.sequence;
  state.recorded_time = reader.Time("ce-time");
  state.version = reader.Version("ce-aggregateversion");
  state.commit_id = reader.Text("ce-commitid", true);
  state.cid = reader.Text("ce-cid", false);
}

}  // namespace

std::string PercentEncode(absl::string_view text) {
  constexpr char kHex[] = "0123456789ABCDEF";
  if (std::all_of(text.begin(), text.end(), NeedsNoEncoding)) return std::string(text);
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    if (NeedsNoEncoding(c)) {
      out += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      out += '%';
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    }
  }
  return out;
}

std::optional<std::string> PercentDecode(absl::string_view text) {
  if (!absl::StrContains(text, '%')) return std::string(text);
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    if (i + 2 >= text.size()) return std::nullopt;
    const int high = HexValue(text[i + 1]);
    const int low = HexValue(text[i + 2]);
    if (high < 0 || low < 0) return std::nullopt;
    out += static_cast<char>(high << 4 | low);
    i += 2;
  }
  return out;
}

OutgoingMessage EncodeEvent(const domain::RecordedEvent& event, const PlacePointers& pointers, uint64_t batch_index,
                            const domain::AggregateLabels* labels) {
  OutgoingMessage message;
  message.subject = domain::EventSubject(event.ref, event.type, event.schema_version);
  Headers& headers = message.headers;
  headers.Reserve(kEventHeaders);
  headers.Add("ce-specversion", "1.0");
  headers.Add(kMarker, std::string(kFormatVersion));
  AddText(headers, "ce-id", event.event_id);
  headers.Add("ce-source", Source(event.ref));
  headers.Add("ce-type", event.type);
  AddText(headers, "ce-subject", event.ref.entity_id);
  headers.Add("ce-time", base::FormatRfc3339(event.time));
  headers.Add("ce-recordedtime", base::FormatRfc3339(event.recorded_time));
  headers.Add("ce-aggregateversion", absl::StrCat(event.version));
  AddText(headers, "ce-commitid", event.commit_id);
  headers.Add("ce-commitpart", absl::StrCat(event.commit_index + 1, "/", event.commit_size));
  AddGroup(event, headers);
  AddText(headers, "ce-correlationid", event.metadata.correlation_id);
  AddText(headers, "ce-causationid", event.metadata.causation_id);
  AddText(headers, "ce-actor", event.metadata.actor);
  AddText(headers, "ce-traceparent", event.metadata.traceparent);
  AddText(headers, "ce-custommetadata", MetadataJson(event.metadata.custom));
  AddText(headers, "ce-cid", event.cid);
  AddText(headers, "ce-datacid", event.payload_cid);
  AddText(headers, "ce-prevcid", event.prev_cid);
  if (std::string back = EncodeBackPointers(pointers, batch_index); !back.empty()) {
    headers.Add("ce-backpointers", std::move(back));
  }
  if (std::string skip = EncodeSkipPointers(pointers, batch_index); !skip.empty()) {
    headers.Add("ce-skippointers", std::move(skip));
  }
  if (labels != nullptr) {
    if (!labels->tags.empty()) AddText(headers, "ce-tags", json(labels->tags).dump(-1, ' ', false));
    AddText(headers, "ce-aggregatemetadata", MetadataJson(labels->metadata));
  }
  AddPayload(event.payload, message);
  return message;
}

OutgoingMessage EncodeCheckCarrier(const domain::AggregateRef& checked, const domain::RecordedEvent& event) {
  OutgoingMessage message;
  message.subject = domain::CheckSubject(checked);
  Headers& headers = message.headers;
  headers.Add("ce-specversion", "1.0");
  headers.Add(kMarker, std::string(kFormatVersion));
  AddText(headers, "ce-id", absl::StrCat(event.commit_id, ".", event.group_place));
  headers.Add("ce-source", absl::StrCat("/", checked.context, "/", checked.aggregate));
  headers.Add("ce-type", "_check");
  AddText(headers, "ce-subject", checked.entity_id);
  headers.Add("ce-time", base::FormatRfc3339(event.recorded_time));
  AddText(headers, "ce-commitid", event.commit_id);
  AddGroup(event, headers);
  return message;
}

bool IsOurs(const Message& message) { return message.headers.Find(kMarker) != nullptr; }

absl::StatusOr<DecodedEvent> DecodeEvent(Message message) {
  ASSIGN_OR_RETURN(DisplacedEvent displaced, DecodeDisplacedEvent(std::move(message)));
  if (displaced.decoded.event.commit_index >= displaced.decoded.event.version) {
    return absl::DataLossError("header ce-commitpart does not fit the event's version");
  }
  if (!displaced.pointers_fit) {
    return absl::DataLossError("header ce-backpointers does not fit the event's version and place");
  }
  return std::move(displaced.decoded);
}

absl::StatusOr<DisplacedEvent> DecodeDisplacedEvent(Message message) {
  DisplacedEvent displaced;
  DecodedEvent& decoded = displaced.decoded;
  domain::RecordedEvent& event = decoded.event;
  FieldReader reader(message.headers);
  if (reader.Text(kMarker, true) != kFormatVersion) reader.Fail(kMarker, "is not a format that this version can read");
  std::optional<domain::ParsedEventSubject> subject = domain::ParseEventSubject(message.subject);
  if (!subject.has_value()) {
    return absl::DataLossError(absl::StrCat("subject ", absl::CHexEscape(message.subject), " is not one of an event"));
  }
  event.ref = std::move(subject->ref);
  event.type = std::move(subject->type);
  event.schema_version = subject->schema_version;
  event.sequence = message.sequence;
  reader.Repeats(event);
  event.event_id = reader.Text("ce-id", true);
  event.time = reader.Time("ce-time");
  event.recorded_time = reader.Time("ce-recordedtime");
  event.version = reader.Version("ce-aggregateversion");
  event.commit_id = reader.Text("ce-commitid", true);
  reader.CommitPart("ce-commitpart", event.commit_index, event.commit_size);
  reader.CommitGroup("ce-commitgroup", event.group_place, event.group_size);
  event.metadata.correlation_id = reader.Text("ce-correlationid", false);
  event.metadata.causation_id = reader.Text("ce-causationid", false);
  event.metadata.actor = reader.Text("ce-actor", false);
  event.metadata.traceparent = reader.Text("ce-traceparent", false);
  event.metadata.custom = reader.Map("ce-custommetadata");
  event.cid = reader.Text("ce-cid", false);
  event.payload_cid = reader.Text("ce-datacid", false);
  event.prev_cid = reader.Text("ce-prevcid", false);
  decoded.labels.tags = reader.List("ce-tags");
  decoded.labels.metadata = reader.Map("ce-aggregatemetadata");
  std::optional<Pointers> pointers = DecodePointers(
      reader.Text("ce-backpointers", false), reader.Text("ce-skippointers", false), event.version, event.sequence);
  displaced.pointers_fit = pointers.has_value();
  if (pointers.has_value()) decoded.pointers = *std::move(pointers);
  RETURN_IF_ERROR(reader.status());
  event.payload = TakePayload(message);
  return displaced;
}

OutgoingMessage EncodeState(const domain::StateRecord& state) {
  OutgoingMessage message;
  message.subject = domain::StateSubject(state.ref, state.schema_version);
  AddStateHeaders(state, kStateType, message.headers);
  AddContent(state, message);
  return message;
}

absl::StatusOr<domain::StateRecord> DecodeState(Message message) {
  domain::StateRecord state;
  FieldReader reader(message.headers);
  std::optional<domain::ParsedStateSubject> subject = domain::ParseStateSubject(message.subject);
  if (!subject.has_value()) {
    return absl::DataLossError(absl::StrCat("subject ", absl::CHexEscape(message.subject), " is not one of a state"));
  }
  state.ref = std::move(subject->ref);
  state.schema_version = subject->schema_version;
  ReadStateHeaders(message, reader, state);
  RETURN_IF_ERROR(reader.status());
  RETURN_IF_ERROR(TakeContent(message, state));
  return state;
}

bool MayList(const Message& message) {
  if (message.headers.Find(kChunkedSize) != nullptr) return true;
  // Who knows how a later version lists blocks?
  const std::string* format = message.headers.Find(kMarker);
  return format != nullptr && *format != kFormatVersion;
}

absl::StatusOr<std::optional<domain::ChunkList>> ListedBlocks(const Message& message) {
  if (!MayList(message)) return std::optional<domain::ChunkList>();
  const std::string* format = message.headers.Find(kMarker);
  if (format == nullptr || *format != kFormatVersion) {
    return absl::DataLossError("its format is not one that this version can read");
  }
  ASSIGN_OR_RETURN(domain::ChunkList list, ParseChunks(*message.headers.Find(kChunkedSize), message.data));
  return std::optional<domain::ChunkList>(std::move(list));
}

OutgoingMessage EncodeSnapshot(const domain::StateRecord& state) {
  OutgoingMessage message;
  AddStateHeaders(state, kSnapshotType, message.headers);
  message.headers.Add(kSchemaVersion, absl::StrCat(state.schema_version));
  AddContent(state, message);
  return message;
}

absl::StatusOr<domain::StateRecord> DecodeSnapshot(const domain::AggregateRef& ref, Message message) {
  domain::StateRecord state;
  state.ref = ref;
  FieldReader reader(message.headers);
  if (reader.Text("ce-subject", true) != ref.entity_id) reader.Fail("ce-subject", "names another aggregate");
  if (reader.Text("ce-source", true) != Source(ref)) reader.Fail("ce-source", "names another aggregate type");
  const uint64_t schema = reader.Version(kSchemaVersion);
  if (schema > domain::kMaxSchemaVersion) reader.Fail(kSchemaVersion, "is too large");
  state.schema_version = static_cast<uint32_t>(schema);
  ReadStateHeaders(message, reader, state);
  RETURN_IF_ERROR(reader.status());
  RETURN_IF_ERROR(TakeContent(message, state));
  return state;
}

}  // namespace persistd::jetstream
