#include "server/ipld/dag_cbor.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/domain/utf8.h"

namespace persistd::ipld {
namespace {

// The first byte of an item: a major type in the upper three bits, and its argument, or where that is, in the rest.
enum MajorType { kUnsigned, kNegative, kBytes, kText, kArray, kMap, kTag, kSimple };
constexpr int kFirstLongArgument = 24;  // 24, 25, 26, 27: the argument is in the next 1, 2, 4, 8 bytes.
constexpr int kLastLongArgument = 27;
constexpr int kIndefiniteLength = 31;

constexpr uint8_t kFalse = 0xF4;
constexpr uint8_t kTrue = 0xF5;
constexpr uint8_t kNull = 0xF6;
constexpr uint8_t kDouble = 0xFB;

// How much room an array gets before its items are known to be there; more is only a matter of speed.
constexpr uint64_t kFirstItems = 16;

std::string TooDeep() { return absl::StrCat("at most ", kMaxDagCborDepth, " arrays and maps within each other"); }

class Encoder {
 public:
  absl::Status Write(const Value& value) { return std::visit(*this, value.data()); }

  std::string Finish() && { return std::move(out_); }

  absl::Status operator()(Null) { return writer_.Null(), absl::OkStatus(); }
  absl::Status operator()(bool value) { return writer_.Bool(value), absl::OkStatus(); }
  absl::Status operator()(uint64_t value) { return writer_.Uint(value), absl::OkStatus(); }
  absl::Status operator()(NegativeInteger value) { return writer_.Negative(value.argument), absl::OkStatus(); }
  absl::Status operator()(double value) {
    if (!std::isfinite(value)) return absl::InvalidArgumentError("DAG-CBOR has no NaN and no infinities");
    return writer_.Double(value), absl::OkStatus();
  }
  absl::Status operator()(const Bytes& value) { return writer_.Bytes(value.bytes), absl::OkStatus(); }
  absl::Status operator()(const std::string& text) {
    if (!domain::IsUtf8(text)) return absl::InvalidArgumentError("a text or key for DAG-CBOR is not valid UTF-8");
    return writer_.Text(text), absl::OkStatus();
  }
  absl::Status operator()(const Value::Array& array) {
    RETURN_IF_ERROR(Enter());
    writer_.BeginArray(array.size());
    for (const Value& item : array) RETURN_IF_ERROR(Write(item));
    --depth_;
    return absl::OkStatus();
  }
  absl::Status operator()(const Value::Map& map) {
    RETURN_IF_ERROR(Enter());
    writer_.BeginMap(map.size());
    for (const auto& [key, value] : map) {
      RETURN_IF_ERROR((*this)(key));
      RETURN_IF_ERROR(Write(value));
    }
    --depth_;
    return absl::OkStatus();
  }
  absl::Status operator()(const AnyCid& cid) { return writer_.Link(cid), absl::OkStatus(); }

 private:
  absl::Status Enter() {
    if (++depth_ <= kMaxDagCborDepth) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("a value for DAG-CBOR may have ", TooDeep()));
  }

  std::string out_;
  DagCborWriter writer_{&out_};
  int depth_ = 0;
};

// Reads one block. Where a `Value* out` is null, items are only checked.
class Decoder {
 public:
  // links: where the links of the block are added to; may be null.
  Decoder(absl::string_view block, std::vector<AnyCid>* links) : block_(block), links_(links) {}

  absl::Status Block(Value* out) {
    RETURN_IF_ERROR(Item(out, 0));
    return at_ == block_.size() ? absl::OkStatus() : Expected("the end of the block", at_);
  }

 private:
  struct Head {
    int major = 0;
    uint64_t argument = 0;
    size_t at = 0;  // Of its first byte.
  };

  static absl::Status Expected(absl::string_view what, size_t at) {
    return absl::InvalidArgumentError(absl::StrCat("DAG-CBOR, byte ", at, ": expected ", what));
  }

  size_t BytesLeft() const { return block_.size() - at_; }
  uint8_t Peek() const { return static_cast<uint8_t>(block_[at_]); }

  // The `size` bytes from here on as a number.
  absl::StatusOr<uint64_t> BigEndian(size_t size) {
    if (BytesLeft() < size) return Expected(absl::StrCat("a number of ", size, " bytes"), block_.size());
    uint64_t value = 0;
    for (const size_t end = at_ + size; at_ < end; ++at_) value = value << 8 | Peek();
    return value;
  }

  // Of any major type but kSimple.
  absl::StatusOr<Head> ReadHead() {
    Head head{.major = Peek() >> 5, .at = at_};
    const int low = Peek() & 31;
    if (low == kIndefiniteLength) return Expected("a definite length", at_);
    if (low > kLastLongArgument) return Expected("a head with an argument", at_);
    ++at_;
    if (low < kFirstLongArgument) {
      head.argument = static_cast<uint64_t>(low);
      return head;
    }
    const int size_log2 = low - kFirstLongArgument;
    ASSIGN_OR_RETURN(head.argument, BigEndian(size_t{1} << size_log2));
    // The smallest number that a form half as long cannot hold.
    const uint64_t least = size_log2 == 0 ? kFirstLongArgument : uint64_t{1} << (4 << size_log2);
    if (head.argument < least) return Expected("the shortest form of a number", head.at);
    return head;
  }

  absl::StatusOr<absl::string_view> Content(const Head& head) {
    if (head.argument > BytesLeft()) return Expected(absl::StrCat(head.argument, " bytes of a string"), at_);
    const absl::string_view content = block_.substr(at_, head.argument);
    at_ += content.size();
    return content;
  }

  absl::StatusOr<absl::string_view> Text(const Head& head) {
    ASSIGN_OR_RETURN(const absl::string_view text, Content(head));
    return domain::IsUtf8(text) ? absl::StatusOr<absl::string_view>(text) : Expected("valid UTF-8", at_ - text.size());
  }

  // depth: how many arrays and maps it is in.
  absl::Status Item(Value* out, int depth) {
    if (BytesLeft() == 0) return Expected("an item", at_);
    if (Peek() >> 5 == kSimple) return Simple(out);
    ASSIGN_OR_RETURN(const Head head, ReadHead());
    switch (head.major) {
      case kUnsigned:
        return Put(head.argument, out);
      case kNegative:
        return Put(NegativeInteger{head.argument}, out);
      case kBytes: {
        ASSIGN_OR_RETURN(const absl::string_view bytes, Content(head));
        if (out != nullptr) *out = Bytes{std::string(bytes)};
        return absl::OkStatus();
      }
      case kText: {
        ASSIGN_OR_RETURN(const absl::string_view text, Text(head));
        if (out != nullptr) *out = std::string(text);
        return absl::OkStatus();
      }
      case kArray:
        return Array(head, out, depth + 1);
      case kMap:
        return Map(head, out, depth + 1);
      default:
        return Link(head, out);
    }
  }

  absl::Status Simple(Value* out) {
    const size_t at = at_;
    switch (Peek()) {
      case kFalse:
      case kTrue:
        return Put(block_[at_++] == static_cast<char>(kTrue), out);
      case kNull:
        ++at_;
        return Put(Null{}, out);
      case kDouble: {
        ++at_;
        ASSIGN_OR_RETURN(const uint64_t bits, BigEndian(sizeof(double)));
        const auto value = std::bit_cast<double>(bits);
        return std::isfinite(value) ? Put(value, out) : Expected("a finite number", at);
      }
      default:
        return Expected("false, true, null or a number of 64 bits", at);
    }
  }

  absl::Status Array(const Head& head, Value* out, int depth) {
    RETURN_IF_ERROR(CheckSize(head, 1, depth));
    Value::Array array;
    if (out != nullptr) array.reserve(std::min(head.argument, kFirstItems));
    for (uint64_t i = 0; i < head.argument; ++i) {
      RETURN_IF_ERROR(Item(out != nullptr ? &array.emplace_back() : nullptr, depth));
    }
    return Put(std::move(array), out);
  }

  absl::Status Map(const Head& head, Value* out, int depth) {
    RETURN_IF_ERROR(CheckSize(head, 2, depth));
    Value::Map map;
    absl::string_view last;
    for (uint64_t i = 0; i < head.argument; ++i) {
      const size_t at = at_;
      if (BytesLeft() == 0 || Peek() >> 5 != kText) return Expected("a text as key", at);
      ASSIGN_OR_RETURN(const Head key_head, ReadHead());
      ASSIGN_OR_RETURN(const absl::string_view key, Text(key_head));
      if (i > 0 && !KeyComesBefore(last, key)) return Expected("a key that comes after the one before it", at);
      last = key;
      Value* const value = out != nullptr ? &map.emplace_hint(map.end(), key, Value())->second : nullptr;
      RETURN_IF_ERROR(Item(value, depth));
    }
    return Put(std::move(map), out);
  }

  absl::Status Link(const Head& head, Value* out) {
    if (head.argument != kLinkTag) return Expected("no other tag than 42", head.at);
    const size_t at = at_;
    if (BytesLeft() == 0 || Peek() >> 5 != kBytes) return Expected("a byte string with a CID", at);
    ASSIGN_OR_RETURN(const Head bytes_head, ReadHead());
    ASSIGN_OR_RETURN(const absl::string_view content, Content(bytes_head));
    if (content.empty() || content.front() != '\0') return Expected("a byte string that starts with 0x00", at);
    std::optional<AnyCid> cid = AnyCid::FromBytes(content.substr(1));
    if (!cid.has_value()) return Expected("a CID", at_ - content.size() + 1);
    if (links_ != nullptr) links_->push_back(*cid);
    return Put(*std::move(cid), out);
  }

  // Of an array or a map whose items take at least `item_bytes` each.
  absl::Status CheckSize(const Head& head, size_t item_bytes, int depth) const {
    if (depth > kMaxDagCborDepth) return Expected(TooDeep(), head.at);
    if (head.argument > BytesLeft() / item_bytes) return Expected(absl::StrCat(head.argument, " items"), at_);
    return absl::OkStatus();
  }

  template <typename T>
  static absl::Status Put(T value, Value* out) {
    if (out != nullptr) *out = std::move(value);
    return absl::OkStatus();
  }

  const absl::string_view block_;
  std::vector<AnyCid>* const links_;
  size_t at_ = 0;
};

}  // namespace

Value Value::Integer(int64_t value) {
  if (value < 0) return NegativeInteger{~static_cast<uint64_t>(value)};
  return static_cast<uint64_t>(value);
}

std::optional<int64_t> Value::AsInt64() const {
  constexpr auto kMax = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  if (const auto* value = As<uint64_t>(); value != nullptr && *value <= kMax) return static_cast<int64_t>(*value);
  if (const auto* value = As<NegativeInteger>(); value != nullptr && value->argument <= kMax) {
    return -1 - static_cast<int64_t>(value->argument);
  }
  return std::nullopt;
}

absl::StatusOr<std::string> EncodeDagCbor(const Value& value) {
  Encoder encoder;
  RETURN_IF_ERROR(encoder.Write(value));
  return std::move(encoder).Finish();
}

absl::StatusOr<Value> DecodeDagCbor(absl::string_view block) {
  Value value;
  RETURN_IF_ERROR(Decoder(block, nullptr).Block(&value));
  return value;
}

absl::StatusOr<std::vector<AnyCid>> LinksOfDagCbor(absl::string_view block) {
  std::vector<AnyCid> links;
  RETURN_IF_ERROR(Decoder(block, &links).Block(nullptr));
  return links;
}

}  // namespace persistd::ipld
