// How a read model is written into the bucket: its payload is the value, everything else is in headers. README.md of
// this folder has them. Pure, thread-safe.
#pragma once

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "server/domain/position.h"
#include "server/jetstream/kv.h"
#include "server/readmodel/read_model.h"

namespace persistd::readmodel {

// What the last message of a key says.
struct Entry {
  uint64_t revision = 0;  // 0: there is none.
  bool deleted = true;
  domain::Position source{};
  std::string request_id{};  // Of the call that wrote it.
};

// source: what is known of it once this is written.
jetstream::KvWrite Encode(const Write& write, std::string bucket_key, const domain::Position& source, uint64_t revision,
                          const std::string& request_id);

Entry EntryOf(const std::optional<jetstream::KvEntry>& stored);

// What somebody else has put into the bucket is a document as well, of schema version 1 and from no source.
// CORRUPT_DATA where a header is none that we write.
absl::StatusOr<ReadModel> Decode(domain::ReadModelKey key, const std::string& stream, jetstream::KvEntry entry);

}  // namespace persistd::readmodel
