// A NATS message as plain values, free of nats.h.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/base/clock.h"

namespace persistd::jetstream {

// A handful of headers in the order they are written; names are case-sensitive.
class Headers {
 public:
  void Add(absl::string_view name, std::string value) { fields_.emplace_back(std::string(name), std::move(value)); }

  void Reserve(size_t count) { fields_.reserve(count); }

  // nullptr when absent.
  const std::string* Find(absl::string_view name) const {
    for (const auto& [field, value] : fields_) {
      if (field == name) return &value;
    }
    return nullptr;
  }
  const std::vector<std::pair<std::string, std::string>>& fields() const { return fields_; }

 private:
  std::vector<std::pair<std::string, std::string>> fields_;
};

// Bytes that the headers of a message take on the wire.
inline size_t HeaderBytes(const Headers& headers) {
  constexpr size_t kFrameBytes = 12;     // "NATS/1.0\r\n" and the empty line at the end.
  constexpr size_t kLineExtraBytes = 4;  // ": " and "\r\n".
  size_t bytes = kFrameBytes;
  for (const auto& [name, value] : headers.fields()) bytes += name.size() + value.size() + kLineExtraBytes;
  return bytes;
}

struct OutgoingMessage {
  std::string subject;
  Headers headers;
  std::string data;
};

// The place of a message in an atomic batch (ADR-50), told by headers of its own.
struct BatchPlace {
  std::string_view id;
  size_t number = 0;    // From 1.
  bool commit = false;  // The last one.
};

// A message that was received. Read from a stream, `subject` is the one it is stored under, and sequence and time are
// set; an answer to a request has neither.
struct Message {
  std::string subject;
  Headers headers;
  std::string data;
  uint64_t sequence = 0;
  base::WallTime time;  // When the stream stored it, by the NATS server's clock.
  std::string reply{};  // The subject that an answer would go to; empty: none. A consumer says there what it delivers.
};

}  // namespace persistd::jetstream
