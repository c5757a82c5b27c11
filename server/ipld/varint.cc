#include "server/ipld/varint.h"

namespace persistd::ipld {
namespace {

constexpr size_t kMaxVarintBytes = 9;  // Seven bits each: 63.

}  // namespace

void AppendVarint(uint64_t value, std::string& out) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>((value & 0x7F) | 0x80);
  out += static_cast<char>(value);
}

Varint ReadVarint(absl::string_view bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < kMaxVarintBytes; ++i) {
    if (i == bytes.size()) return {.state = Varint::State::kIncomplete};
    const auto byte = static_cast<uint8_t>(bytes[i]);
    value |= static_cast<uint64_t>(byte & 0x7F) << (7 * i);
    if ((byte & 0x80) != 0) continue;
    // A last byte of zero adds nothing, unless the number is zero.
    if (byte == 0 && i > 0) return {.state = Varint::State::kMalformed};
    return {.state = Varint::State::kComplete, .value = value, .size = i + 1};
  }
  return {.state = Varint::State::kMalformed};
}

}  // namespace persistd::ipld
