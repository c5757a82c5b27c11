#include "server/ipld/cid.h"

#include <openssl/sha.h>

#include <algorithm>

namespace persistd::ipld {
namespace {

constexpr char kAlphabet[] = "abcdefghijklmnopqrstuvwxyz234567";  // RFC 4648 in lower case.
constexpr uint8_t kVersion = 0x01;
constexpr uint8_t kSha256 = 0x12;
constexpr uint8_t kSha256Bytes = 32;
constexpr int kMaxVarintBytes = 9;  // As the multiformats varint says: numbers below 2^63.

int DigitValue(char c) {
  if (c >= 'a' && c <= 'z') return c - 'a';
  if (c >= '2' && c <= '7') return c - '2' + 26;
  return -1;
}

std::string EncodeBase32(absl::string_view bytes) {
  std::string text;
  text.reserve((bytes.size() * 8 + 4) / 5);
  uint32_t buffer = 0;
  int bits = 0;
  for (const char byte : bytes) {
    buffer = (buffer << 8 | static_cast<uint8_t>(byte)) & 0xFFFF;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      text += kAlphabet[buffer >> bits & 31];
    }
  }
  if (bits > 0) text += kAlphabet[buffer << (5 - bits) & 31];
  return text;
}

// nullopt for other characters, for a length that no bytes have, and for bits after the last byte that are not zero.
std::optional<std::string> DecodeBase32(absl::string_view text) {
  std::string bytes;
  bytes.reserve(text.size() * 5 / 8);
  uint32_t buffer = 0;
  int bits = 0;
  for (const char c : text) {
    const int digit = DigitValue(c);
    if (digit < 0) return std::nullopt;
    buffer = (buffer << 5 | static_cast<uint32_t>(digit)) & 0xFFFF;
    bits += 5;
    if (bits < 8) continue;
    bits -= 8;
    bytes.push_back(static_cast<char>(buffer >> bits & 0xFF));
  }
  const uint32_t rest = buffer & ((1U << bits) - 1);
  if (bits >= 5 || rest != 0) return std::nullopt;
  return bytes;
}

Cid CidOf(uint64_t codec, absl::string_view bytes) {
  Cid cid{.codec = codec};
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), cid.digest.data());
  return cid;
}

}  // namespace

std::string Cid::ToBytes() const {
  std::string bytes;
  bytes.reserve(4 + digest.size());
  bytes += static_cast<char>(kVersion);
  uint64_t number = codec;
  for (; number >= 0x80; number >>= 7) bytes += static_cast<char>((number & 0x7F) | 0x80);
  bytes += static_cast<char>(number);
  bytes += static_cast<char>(kSha256);
  bytes += static_cast<char>(kSha256Bytes);
  bytes.append(reinterpret_cast<const char*>(digest.data()), digest.size());
  return bytes;
}

std::string Cid::ToString() const { return "b" + EncodeBase32(ToBytes()); }

std::optional<Cid> Cid::Parse(absl::string_view text) {
  if (text.empty() || text.front() != 'b') return std::nullopt;
  const std::optional<std::string> bytes = DecodeBase32(text.substr(1));
  return bytes.has_value() ? FromBytes(*bytes) : std::nullopt;
}

std::optional<Cid> Cid::FromBytes(absl::string_view bytes) {
  if (bytes.empty() || bytes.front() != kVersion) return std::nullopt;
  Cid cid;
  cid.codec = 0;
  size_t at = 1;
  for (int i = 0;; ++i, ++at) {
    if (i == kMaxVarintBytes || at == bytes.size()) return std::nullopt;
    const auto byte = static_cast<uint8_t>(bytes[at]);
    cid.codec |= static_cast<uint64_t>(byte & 0x7F) << (7 * i);
    if ((byte & 0x80) != 0) continue;
    if (byte == 0 && i > 0) return std::nullopt;  // Longer than it need be.
    ++at;
    break;
  }
  if (bytes.size() != at + 2 + kSha256Bytes) return std::nullopt;
  if (bytes[at] != kSha256 || bytes[at + 1] != kSha256Bytes) return std::nullopt;
  std::copy(bytes.end() - kSha256Bytes, bytes.end(), reinterpret_cast<char*>(cid.digest.data()));
  return cid;
}

Cid RawCid(absl::string_view bytes) { return CidOf(kRawCodec, bytes); }

Cid DagCborCid(absl::string_view block) { return CidOf(kDagCborCodec, block); }

}  // namespace persistd::ipld
