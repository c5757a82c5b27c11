#include "server/readmodel/document.h"

#include <chrono>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "server/domain/errors.h"

namespace persistd::readmodel {
namespace {

using jetstream::Headers;
using jetstream::KvEntry;

constexpr absl::string_view kContentType = "content-type";
constexpr absl::string_view kSchemaVersion = "persistd-schema-version";
constexpr absl::string_view kSource = "persistd-source";
constexpr absl::string_view kRequestId = "persistd-request-id";
constexpr absl::string_view kTtl = "Nats-TTL";
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

}  // namespace

jetstream::KvWrite Encode(const Write& write, std::string bucket_key, const domain::Position& source, uint64_t revision,
                          const std::string& request_id) {
  jetstream::KvWrite encoded;
  encoded.key = std::move(bucket_key);
  encoded.revision = revision;
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
  headers.Add(kRequestId, request_id);
  if (write.ttl.has_value()) headers.Add(kTtl, absl::StrCat(write.ttl->count(), "s"));
  return encoded;
}

Entry EntryOf(const std::optional<KvEntry>& stored) {
  Entry entry;
  if (!stored.has_value()) return entry;
  entry.revision = stored->revision;
  entry.deleted = stored->operation == KvEntry::Operation::kDelete;
  entry.source = SourceOf(stored->headers);
  if (const std::string* id = stored->headers.Find(kRequestId)) entry.request_id = *id;
  return entry;
}

absl::StatusOr<ReadModel> Decode(domain::ReadModelKey key, const std::string& stream, KvEntry entry) {
  ReadModel model;
  model.key = std::move(key);
  model.revision = entry.revision;
  model.updated = entry.time;
  model.payload.data = std::move(entry.value);
  const std::string* type = entry.headers.Find(kContentType);
  model.payload.content_type = type != nullptr ? *type : kUntyped;
  if (const std::string* version = entry.headers.Find(kSchemaVersion)) {
    if (!absl::SimpleAtoi(*version, &model.schema_version)) {
      return domain::CorruptData(stream, model.revision, absl::StrCat(kSchemaVersion, " is no number"));
    }
  }
  model.source = SourceOf(entry.headers);
  if (const auto ttl = TtlOf(entry.headers)) model.expires = entry.time + *ttl;
  return model;
}

}  // namespace persistd::readmodel
