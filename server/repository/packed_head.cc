#include "server/repository/packed_head.h"

#include <algorithm>
#include <array>
#include <optional>

#include "absl/strings/string_view.h"
#include "server/ipld/cid.h"

namespace persistd::repository {
namespace {

constexpr size_t kUuidChars = 36;
constexpr size_t kUuidBytes = 16;
constexpr size_t kAllocationBytes = 16;  // About, of what an allocation takes beside its bytes.

constexpr uint64_t kDeleted = 1;
constexpr uint64_t kForeignTail = 2;
constexpr uint64_t kUuid = 4;  // The commit id is one, and takes 16 bytes.
constexpr uint64_t kCid = 8;   // The CID is that of an event, and takes 32 bytes.

// Seven bits a byte, the lowest first; the top bit says that more follow.
void Put(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}

void Put(std::string& out, absl::string_view text) {
  Put(out, text.size());
  out.append(text.data(), text.size());
}

// Reads what Put wrote, in the same order.
class Unpacker {
 public:
  explicit Unpacker(absl::string_view bytes) : rest_(bytes) {}

  uint64_t Number() {
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      const auto byte = static_cast<unsigned char>(rest_.front());
      rest_.remove_prefix(1);
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
  }
  absl::string_view Bytes(size_t count) {
    const absl::string_view bytes = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return bytes;
  }
  std::string Text() { return std::string(Bytes(Number())); }

 private:
  absl::string_view rest_;
};

bool IsDash(size_t place) { return place == 8 || place == 13 || place == 18 || place == 23; }

int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

// Appends the bytes of a UUID in the spelling that UnpackUuid gives. False, and nothing: it is none.
bool PackUuid(absl::string_view text, std::string& out) {
  if (text.size() != kUuidChars) return false;
  std::array<char, kUuidBytes> bytes;
  size_t digits = 0;
  for (size_t i = 0; i < kUuidChars; ++i) {
    if (IsDash(i)) {
      if (text[i] != '-') return false;
      continue;
    }
    const int value = HexValue(text[i]);
    if (value < 0) return false;
    char& byte = bytes[digits / 2];
    byte = static_cast<char>(digits % 2 == 0 ? value << 4 : static_cast<unsigned char>(byte) | value);
    ++digits;
  }
  out.append(bytes.data(), bytes.size());
  return true;
}

std::string UnpackUuid(absl::string_view bytes) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string text(kUuidChars, '-');
  size_t digits = 0;
  for (size_t i = 0; i < kUuidChars; ++i) {
    if (IsDash(i)) continue;
    const auto byte = static_cast<unsigned char>(bytes[digits / 2]);
    text[i] = kHex[digits % 2 == 0 ? byte >> 4 : byte & 15];
    ++digits;
  }
  return text;
}

}  // namespace

PackedHead::PackedHead(const Head& head)
    : stream_(head.stream),
      labels_(head.labels == domain::AggregateLabels() ? nullptr
                                                       : std::make_shared<const domain::AggregateLabels>(head.labels)),
      last_sequence_(head.last_sequence) {
  std::string uuid;
  const bool packed = PackUuid(head.commit_id, uuid);
  const std::optional<ipld::Cid> cid = ipld::Cid::Parse(head.cid);
  const bool packed_cid = cid.has_value() && cid->codec == ipld::kDagCborCodec;
  std::string out;
  Put(out, (head.deleted ? kDeleted : 0) | (head.foreign_tail ? kForeignTail : 0) | (packed ? kUuid : 0) |
               (packed_cid ? kCid : 0));
  Put(out, head.version);
  Put(out, head.sequence);
  Put(out, static_cast<uint64_t>(head.recorded_time.time_since_epoch().count()));
  if (packed) {
    out += uuid;
  } else {
    Put(out, head.commit_id);
  }
  if (packed_cid) {
    out.append(reinterpret_cast<const char*>(cid->digest.data()), cid->digest.size());
  } else {
    Put(out, head.cid);
  }
  Put(out, head.torn_commit_id);
  // Each as its distance from the one before, which is small; unsigned numbers wrap, so any would do.
  uint64_t before = head.sequence;
  Put(out, head.pointers.back.size());
  for (const uint64_t sequence : head.pointers.back) {
    Put(out, before - sequence);
    before = sequence;
  }
  Put(out, head.pointers.skip.size());
  for (const jetstream::SkipPointer& skip : head.pointers.skip) {
    Put(out, skip.version);
    Put(out, skip.sequence);
  }
  rest_.assign(out.data(), out.size());  // Without the room to grow.
}

Head PackedHead::Unpack() const {
  Head head;
  head.stream = stream_;
  if (labels_ != nullptr) head.labels = *labels_;
  head.last_sequence = last_sequence_;
  Unpacker in(rest_);
  const uint64_t flags = in.Number();
  head.deleted = (flags & kDeleted) != 0;
  head.foreign_tail = (flags & kForeignTail) != 0;
  head.version = in.Number();
  head.sequence = in.Number();
  head.recorded_time = base::WallTime(base::WallTime::duration(static_cast<int64_t>(in.Number())));
  head.commit_id = (flags & kUuid) != 0 ? UnpackUuid(in.Bytes(kUuidBytes)) : in.Text();
  if ((flags & kCid) != 0) {
    ipld::Cid cid{.codec = ipld::kDagCborCodec};
    const absl::string_view digest = in.Bytes(cid.digest.size());
    std::copy(digest.begin(), digest.end(), reinterpret_cast<char*>(cid.digest.data()));
    head.cid = cid.ToString();
  } else {
    head.cid = in.Text();
  }
  head.torn_commit_id = in.Text();
  uint64_t before = head.sequence;
  head.pointers.back.resize(in.Number());
  for (uint64_t& sequence : head.pointers.back) sequence = before -= in.Number();
  head.pointers.skip.resize(in.Number());
  for (jetstream::SkipPointer& skip : head.pointers.skip) {
    skip.version = in.Number();
    skip.sequence = in.Number();
  }
  return head;
}

size_t PackedHead::extra_bytes() const {
  size_t bytes = rest_.size() + kAllocationBytes;
  if (labels_ == nullptr) return bytes;
  bytes += sizeof(*labels_) + kAllocationBytes;
  for (const std::string& tag : labels_->tags) bytes += tag.size() + sizeof(tag) + kAllocationBytes;
  for (const auto& [key, value] : labels_->metadata) bytes += key.size() + value.size() + 8 * kAllocationBytes;
  return bytes;
}

}  // namespace persistd::repository
