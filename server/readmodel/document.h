// How a read model is written into the bucket: its payload is the value, everything else is in headers. README.md of
// this folder has them. Pure, thread-safe.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "server/domain/position.h"
#include "server/jetstream/kv.h"
#include "server/readmodel/read_model.h"

namespace persistd::readmodel {

// So many calls a document remembers.
inline constexpr size_t kMarksKept = 8;

// What a call left in a document that it wrote.
struct Mark {
  std::string request_id{};
  size_t place = 1;  // Among the `count` documents that it wrote together, from 1.
  size_t count = 1;
  bool existed = false;   // There was a document before.
  uint64_t revision = 0;  // That it made.
};

// What the last message of a key says.
struct Entry {
  uint64_t revision = 0;  // 0: there is none.
  bool deleted = true;
  domain::Position source{};
  std::vector<Mark> marks{};  // Of the last calls that wrote it, the latest first.

  // nullptr: none of them was this call.
  const Mark* Find(const std::string& request_id) const;
};

// Over what is there, whose marks it hands on. source: what is known of it once this is written; mark: of the call.
jetstream::KvWrite Encode(const Write& write, std::string bucket_key, const domain::Position& source,
                          const Entry& there, const Mark& mark);

Entry EntryOf(const std::optional<jetstream::KvEntry>& stored);

// What somebody else has put into the bucket is a document as well: where a header is none that we write, it is of
// schema version 1 and from no source. bucket_ttl: of all that is in the bucket; 0: it stays.
ReadModel Decode(domain::ReadModelKey key, jetstream::KvEntry entry, std::chrono::milliseconds bucket_ttl);

}  // namespace persistd::readmodel
