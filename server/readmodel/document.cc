#include "server/readmodel/document.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace persistd::readmodel {
namespace {

using jetstream::Headers;
using jetstream::KvEntry;

constexpr absl::string_view kContentType = "content-type";
constexpr absl::string_view kSchemaVersion = "persistd-schema-version";
constexpr absl::string_view kSource = "persistd-source";
constexpr absl::string_view kRequestId = "persistd-request-id";
constexpr absl::string_view kEarlierRequests = "persistd-earlier-requests";
constexpr absl::string_view kOver = "over";
constexpr absl::string_view kNew = "new";
constexpr absl::string_view kTtl = "Nats-TTL";
constexpr absl::string_view kRollup = "Nats-Rollup";
constexpr absl::string_view kOperation = "KV-Operation";
constexpr char kUntyped[] = "application/octet-stream";

// Empty where the header is missing, or is none.
domain::Position SourceOf(const Headers& headers) {
  const std::string* token = headers.Find(kSource);
  if (token == nullptr) return domain::Position();
  return domain::Position::Parse(*token).value_or(domain::Position());
}

std::optional<std::chrono::seconds> TtlOf(const Headers& headers) {
  const std::string* text = headers.Find(kTtl);
  int64_t seconds = 0;
  if (text == nullptr || !absl::SimpleAtoi(absl::StripSuffix(*text, "s"), &seconds) || seconds <= 0) {
    return std::nullopt;
  }
  return std::chrono::seconds(seconds);
}

// `{id} {place}/{count} {over|new}`; ids have no spaces.
std::string ToText(const Mark& mark, bool existed) {
  return absl::StrCat(mark.request_id, " ", mark.place, "/", mark.count, " ", existed ? kOver : kNew);
}

// Of the words of the text; nullopt: nothing that ToText writes.
std::optional<Mark> ToMark(absl::string_view id, absl::string_view place, absl::string_view existed) {
  Mark mark;
  mark.request_id = std::string(id);
  const std::pair<absl::string_view, absl::string_view> parts = absl::StrSplit(place, absl::MaxSplits('/', 1));
  if (!absl::SimpleAtoi(parts.first, &mark.place) || !absl::SimpleAtoi(parts.second, &mark.count)) return std::nullopt;
  mark.existed = existed == kOver;
  return mark;
}

std::vector<Mark> MarksOf(const KvEntry& stored) {
  std::vector<Mark> marks;
  const std::string* last = stored.headers.Find(kRequestId);
  if (last == nullptr) return marks;
  std::vector<absl::string_view> words = absl::StrSplit(*last, ' ');
  const std::string revision = absl::StrCat(stored.revision);
  words.push_back(revision);
  if (const std::string* earlier = stored.headers.Find(kEarlierRequests)) {
    for (const absl::string_view word : absl::StrSplit(*earlier, ' ')) words.push_back(word);
  }
  for (size_t i = 0; i + 4 <= words.size(); i += 4) {
    std::optional<Mark> mark = ToMark(words[i], words[i + 1], words[i + 2]);
    if (!mark.has_value() || !absl::SimpleAtoi(words[i + 3], &mark->revision)) break;
    marks.push_back(*std::move(mark));
  }
  return marks;
}

std::string EarlierOf(const Entry& there) {
  std::string text;
  for (size_t i = 0; i < std::min(there.marks.size(), kMarksKept - 1); ++i) {
    const Mark& mark = there.marks[i];
    absl::StrAppend(&text, text.empty() ? "" : " ", ToText(mark, mark.existed), " ", mark.revision);
  }
  return text;
}

}  // namespace

const Mark* Entry::Find(const std::string& request_id) const {
  const auto found =
      std::find_if(marks.begin(), marks.end(), [&](const Mark& mark) { return mark.request_id == request_id; });
  return found != marks.end() ? &*found : nullptr;
}

jetstream::KvWrite Encode(const Write& write, std::string bucket_key, const domain::Position& source,
                          const Entry& there, const Mark& mark) {
  jetstream::KvWrite encoded;
  encoded.key = std::move(bucket_key);
  encoded.revision = there.revision;
  Headers& headers = encoded.headers;
  if (write.payload.has_value()) {
    encoded.value = write.payload->data;
    headers.Add(kContentType, write.payload->content_type);
    headers.Add(kSchemaVersion, absl::StrCat(write.schema_version));
  } else {
    encoded.operation = KvEntry::Operation::kDelete;
    headers.Add(kOperation, "DEL");
  }
  if (!source.streams().empty()) headers.Add(kSource, source.ToToken());
  headers.Add(kRequestId, ToText(mark, !there.deleted));
  if (std::string earlier = EarlierOf(there); !earlier.empty()) headers.Add(kEarlierRequests, std::move(earlier));
  if (write.ttl.has_value()) {
    headers.Add(kTtl, absl::StrCat(write.ttl->count(), "s"));
    headers.Add(kRollup, "sub");  // Or what was there before would be back when it ends.
  }
  return encoded;
}

Entry EntryOf(const std::optional<KvEntry>& stored) {
  Entry entry;
  if (!stored.has_value()) return entry;
  entry.revision = stored->revision;
  entry.deleted = stored->operation == KvEntry::Operation::kDelete;
  entry.source = SourceOf(stored->headers);
  entry.marks = MarksOf(*stored);
  return entry;
}

ReadModel Decode(domain::ReadModelKey key, KvEntry entry, std::chrono::milliseconds bucket_ttl) {
  ReadModel model;
  model.key = std::move(key);
  model.revision = entry.revision;
  model.updated = entry.time;
  model.payload.data = std::move(entry.value);
  const std::string* type = entry.headers.Find(kContentType);
  model.payload.content_type = type != nullptr ? *type : kUntyped;
  const std::string* version = entry.headers.Find(kSchemaVersion);
  if (version != nullptr && !absl::SimpleAtoi(*version, &model.schema_version)) model.schema_version = 1;
  model.source = SourceOf(entry.headers);
  if (bucket_ttl.count() > 0) model.expires = entry.time + bucket_ttl;
  if (const auto ttl = TtlOf(entry.headers)) {
    model.expires = std::min(model.expires.value_or(base::WallTime::max()), entry.time + *ttl);
  }
  return model;
}

}  // namespace persistd::readmodel
