// Writes a canonical DAG-CBOR block piece by piece (https://ipld.io/specs/codecs/dag-cbor/spec/). Thread-compatible.
//
// The caller sees to it that what was begun is filled, and that the keys of a map come in canonical order: shorter ones
// first, those of the same length by their bytes.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "server/ipld/any_cid.h"

namespace persistd::ipld {

inline constexpr uint64_t kLinkTag = 42;

// True when `a` comes before `b` among the keys of a map.
bool KeyComesBefore(absl::string_view a, absl::string_view b);

class DagCborWriter {
 public:
  // Appends to `out`, which must outlive it.
  explicit DagCborWriter(std::string* out) : out_(*out) {}

  void Null() { out_ += static_cast<char>(0xF6); }
  void Bool(bool value) { out_ += static_cast<char>(value ? 0xF5 : 0xF4); }
  void Uint(uint64_t value) { Head(0, value); }
  void Int(int64_t value);
  void Negative(uint64_t argument) { Head(1, argument); }  // The number -1 - argument.
  void Double(double value);                               // Finite.
  void Bytes(absl::string_view bytes);
  void Text(absl::string_view text);  // UTF-8.
  void Link(const AnyCid& cid);
  void BeginArray(uint64_t items) { Head(4, items); }
  void BeginMap(uint64_t entries) { Head(5, entries); }
  // Of a map, before each value.
  void Key(absl::string_view key) { Text(key); }

 private:
  // The major type with its argument, in the shortest form.
  void Head(int major, uint64_t argument);

  std::string& out_;
};

}  // namespace persistd::ipld
