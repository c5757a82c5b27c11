// Values of the IPLD data model, and their one encoding in DAG-CBOR (https://ipld.io/specs/codecs/dag-cbor/spec/).
// Pure, thread-safe.
//
// Only the canonical encoding is read: the shortest heads, definite lengths, maps sorted as KeyOrder says, doubles in
// 64 bits, links as tag 42 over a byte string 0x00 CID. So a block that is read is written back bit for bit, and equal
// values have equal CIDs. A link may be any CID, because blocks of others point to what is none of ours.
#pragma once

#include <concepts>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/ipld/any_cid.h"
#include "server/ipld/dag_cbor_writer.h"

namespace persistd::ipld {

// Arrays and maps within each other, at most.
inline constexpr int kMaxDagCborDepth = 128;

struct Null {
  bool operator==(const Null&) const = default;
};

// The number -1 - argument, as CBOR has it: down to -2^64, where int64_t ends at half of that.
struct NegativeInteger {
  uint64_t argument = 0;
  bool operator==(const NegativeInteger&) const = default;
};

struct Bytes {
  std::string bytes{};
  bool operator==(const Bytes&) const = default;
};

// Of the keys of a map.
struct KeyOrder {
  using is_transparent = void;
  bool operator()(absl::string_view a, absl::string_view b) const { return KeyComesBefore(a, b); }
};

class Value {
 public:
  using Array = std::vector<Value>;
  using Map = std::map<std::string, Value, KeyOrder>;
  // A string is a text; a CID is a link.
  using Data = std::variant<Null, bool, uint64_t, NegativeInteger, double, Bytes, std::string, Array, Map, AnyCid>;

  Value() = default;  // Null.
  // Of exactly the types of Data: an int, or a pointer to characters, would become something else than was meant.
  template <typename T>
  requires(std::same_as<T, Null> || std::same_as<T, bool> || std::same_as<T, uint64_t> ||
           std::same_as<T, NegativeInteger> || std::same_as<T, double> || std::same_as<T, Bytes> ||
           std::same_as<T, std::string> || std::same_as<T, Array> || std::same_as<T, Map> || std::same_as<T, AnyCid>)
      Value(T value)
      : data_(std::move(value)) {}  // NOLINT(google-explicit-constructor)
  static Value Integer(int64_t value);

  const Data& data() const { return data_; }
  // nullptr when it is of another type.
  template <typename T>
  const T* As() const {
    return std::get_if<T>(&data_);
  }
  // nullopt when it is no integer, or one that int64_t does not hold.
  std::optional<int64_t> AsInt64() const;

  friend bool operator==(const Value& a, const Value& b) { return a.data_ == b.data_; }

 private:
  Data data_{};
};

// INVALID_ARGUMENT for what DAG-CBOR does not have: NaN and infinities, texts and keys that are not UTF-8, values
// deeper than kMaxDagCborDepth.
absl::StatusOr<std::string> EncodeDagCbor(const Value& value);

// The value of a block. INVALID_ARGUMENT for every `block` that EncodeDagCbor does not make; the message names the
// offset of the byte and what was expected there. Lengths in `block` are believed only as far as bytes follow, but
// small items take more room as a Value: up to about 150 bytes each.
absl::StatusOr<Value> DecodeDagCbor(absl::string_view block);

// The links of a block, in its order, each as often as it is there. The errors of DecodeDagCbor, but makes no Value, so
// that it takes no more memory than the links.
absl::StatusOr<std::vector<AnyCid>> LinksOfDagCbor(absl::string_view block);

}  // namespace persistd::ipld
