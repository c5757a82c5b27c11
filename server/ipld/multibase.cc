#include "server/ipld/multibase.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace persistd::ipld {
namespace {

constexpr char kBase32[] = "abcdefghijklmnopqrstuvwxyz234567";  // RFC 4648 in lower case.
constexpr char kBase58[] = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

int Base32Value(char c) {
  if (c >= 'a' && c <= 'z') return c - 'a';
  if (c >= '2' && c <= '7') return c - '2' + 26;
  return -1;
}

}  // namespace

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
      text += kBase32[buffer >> bits & 31];
    }
  }
  if (bits > 0) text += kBase32[buffer << (5 - bits) & 31];
  return text;
}

std::optional<std::string> DecodeBase32(absl::string_view text) {
  std::string bytes;
  bytes.reserve(text.size() * 5 / 8);
  uint32_t buffer = 0;
  int bits = 0;
  for (const char c : text) {
    const int digit = Base32Value(c);
    if (digit < 0) return std::nullopt;
    buffer = (buffer << 5 | static_cast<uint32_t>(digit)) & 0xFFFF;
    bits += 5;
    if (bits < 8) continue;
    bits -= 8;
    bytes.push_back(static_cast<char>(buffer >> bits & 0xFF));
  }
  // A length that no bytes have, or bits after the last byte that are not zero.
  const uint32_t rest = buffer & ((1U << bits) - 1);
  if (bits >= 5 || rest != 0) return std::nullopt;
  return bytes;
}

std::string EncodeBase58(absl::string_view bytes) {
  const auto zeros = static_cast<size_t>(
      std::find_if(bytes.begin(), bytes.end(), [](char byte) { return byte != '\0'; }) - bytes.begin());
  std::string digits;  // As numbers, the lowest first.
  for (const char byte : bytes.substr(zeros)) {
    uint32_t carry = static_cast<uint8_t>(byte);
    for (char& digit : digits) {
      carry += static_cast<uint32_t>(digit) * 256;
      digit = static_cast<char>(carry % 58);
      carry /= 58;
    }
    for (; carry > 0; carry /= 58) digits += static_cast<char>(carry % 58);
  }
  std::string text(zeros, kBase58[0]);  // Zero bytes in front have no weight, so each is a digit of its own.
  for (auto digit = digits.rbegin(); digit != digits.rend(); ++digit) text += kBase58[static_cast<size_t>(*digit)];
  return text;
}

}  // namespace persistd::ipld
