#include "server/index/entry.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/strings/string_view.h"
#include "server/base/decimal.h"
#include "server/base/rfc3339.h"
#include "server/domain/event.h"
#include "server/domain/subject.h"
#include "server/index/cid_key.h"
#include "server/jetstream/commit_place.h"
#include "server/jetstream/event_codec.h"

namespace persistd::index {
namespace {

constexpr absl::string_view kTombstoneType = "_deleted";

// False when it is missing, or is none.
bool ReadPlace(const jetstream::Headers& headers, absl::string_view name, uint32_t& place, uint32_t& places) {
  const std::string* value = headers.Find(name);
  if (value == nullptr) return false;
  const std::optional<jetstream::CommitPlace> read = jetstream::ParseCommitPlace(*value);
  if (!read.has_value()) return false;
  place = read->place;
  places = read->places;
  return true;
}

// False when it is there, but not percent-encoded, or missing though required.
bool ReadText(const jetstream::Headers& headers, absl::string_view name, bool required, std::string& text) {
  const std::string* value = headers.Find(name);
  if (value == nullptr) return !required;
  std::optional<std::string> decoded = jetstream::PercentDecode(*value);
  if (!decoded.has_value()) return false;
  text = *std::move(decoded);
  return true;
}

// SQLite refuses a whole query for one text that is not.
bool IsJson(const std::string& text) { return text.empty() || nlohmann::json::accept(text); }

bool ReadEvent(const jetstream::Message& message, Entry& entry) {
  const jetstream::Headers& headers = message.headers;
  std::optional<domain::ParsedEventSubject> subject = domain::ParseEventSubject(message.subject);
  const std::string* version = headers.Find("ce-aggregateversion");
  const std::string* recorded = headers.Find("ce-recordedtime");
  if (!subject.has_value() || version == nullptr || recorded == nullptr) return false;
  entry.ref = std::move(subject->ref);
  entry.tombstone = subject->type == kTombstoneType;
  entry.version = base::ParseDecimal(*version).value_or(0);
  const std::optional<base::WallTime> time = base::ParseRfc3339(*recorded);
  if (entry.version == 0 || !time.has_value()) return false;
  entry.recorded_time = *time;
  if (const std::string* cid = headers.Find("ce-cid")) entry.cid_key = CidKey(*cid);
  if (const std::string* cid = headers.Find("ce-datacid")) entry.payload_key = CidKey(*cid);
  return ReadText(headers, "ce-commitid", true, entry.commit_id) &&
         ReadPlace(headers, "ce-commitpart", entry.part, entry.parts) && entry.part <= entry.version &&
         ReadText(headers, "ce-cid", false, entry.cid) && ReadText(headers, "ce-tags", false, entry.tags) &&
         ReadText(headers, "ce-aggregatemetadata", false, entry.metadata) && IsJson(entry.tags) &&
         IsJson(entry.metadata);
}

}  // namespace

Entry ToEntry(const jetstream::Message& message) {
  Entry entry;
  entry.sequence = message.sequence;
  entry.fingerprint = jetstream::Fingerprint(message);
  const bool grouped = ReadPlace(message.headers, "ce-commitgroup", entry.group_place, entry.group_size);
  if (domain::IsCheckSubject(message.subject)) {
    const bool ours = grouped && ReadText(message.headers, "ce-commitid", true, entry.commit_id);
    entry.kind = ours ? Entry::Kind::kCarrier : Entry::Kind::kForeign;
    return entry;
  }
  if (!jetstream::IsOurs(message)) return entry;
  entry.kind = ReadEvent(message, entry) ? Entry::Kind::kEvent : Entry::Kind::kDamaged;
  return entry;
}

bool SaveAssembler::Continues(const Entry& entry) const {
  if (open_.empty()) return false;
  const Entry& last = open_.back();
  if (entry.commit_id != last.commit_id) return false;
  if (last.group_size > 0) {
    // Events in between may have been removed after a snapshot of their aggregate; the places tell that it is the same
    // commit.
    return entry.group_size == last.group_size && entry.group_place > last.group_place &&
           entry.group_place - last.group_place == entry.sequence - last.sequence;
  }
  return entry.sequence == last.sequence + 1 && entry.group_size == 0 && entry.ref == last.ref &&
         entry.parts == last.parts && entry.part == last.part + 1;
}

std::vector<Entry> SaveAssembler::Add(Entry entry) {
  std::vector<Entry> complete;
  // What cannot be continued any more was torn, and is repeated elsewhere or was never acknowledged.
  if (!Continues(entry)) open_.clear();
  if (entry.kind != Entry::Kind::kEvent && entry.kind != Entry::Kind::kCarrier) return complete;
  const bool ends = entry.group_size > 0 ? entry.group_place == entry.group_size : entry.part == entry.parts;
  open_.push_back(std::move(entry));
  if (!ends) return complete;
  complete.swap(open_);
  const auto carriers = std::remove_if(complete.begin(), complete.end(),
                                       [](const Entry& added) { return added.kind == Entry::Kind::kCarrier; });
  complete.erase(carriers, complete.end());
  return complete;
}

}  // namespace persistd::index
