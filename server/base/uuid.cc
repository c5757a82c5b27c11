#include "server/base/uuid.h"

#include <openssl/rand.h>

#include <array>
#include <cstdint>
#include <cstdlib>

namespace persistd::base {
namespace {

constexpr char kHex[] = "0123456789abcdef";

int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Asks for those of 64 ids at once, because each call of OpenSSL is a call of the kernel.
std::array<uint8_t, 16> RandomBytes() {
  thread_local std::array<std::array<uint8_t, 16>, 64> pool;
  thread_local size_t left = 0;
  if (left == 0) {
    // Without randomness ids would collide; there is nothing sane to go on with.
    if (RAND_bytes(pool.front().data(), static_cast<int>(sizeof(pool))) != 1) std::abort();
    left = pool.size();
  }
  return pool[--left];
}

}  // namespace

std::string NewUuidV7(WallTime now) {
  std::array<uint8_t, 16> bytes = RandomBytes();
  const auto millis =
      static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count());
  for (int i = 0; i < 6; ++i) bytes[static_cast<size_t>(i)] = static_cast<uint8_t>(millis >> (40 - 8 * i));
  bytes[6] = static_cast<uint8_t>((bytes[6] & 0x0f) | 0x70);
  bytes[8] = static_cast<uint8_t>((bytes[8] & 0x3f) | 0x80);
  std::string text;
  text.reserve(36);
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += kHex[bytes[i] >> 4];
    text += kHex[bytes[i] & 15];
  }
  return text;
}

std::optional<WallTime> UuidV7Time(absl::string_view text) {
  if (text.size() != 36) return std::nullopt;
  uint64_t millis = 0;
  int digits = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (i == 8 || i == 13 || i == 18 || i == 23) {
      if (text[i] != '-') return std::nullopt;
      continue;
    }
    const int value = HexValue(text[i]);
    if (value < 0) return std::nullopt;
    if (digits++ < 12) millis = millis << 4 | static_cast<uint64_t>(value);
  }
  const int variant = HexValue(text[19]);
  if (text[14] != '7' || variant < 8 || variant > 11) return std::nullopt;
  // 48 bits of milliseconds reach past what 64 bits of nanoseconds hold (year 2262).
  constexpr uint64_t kMaxMillis = 9'223'372'036'854;
  if (millis > kMaxMillis) return std::nullopt;
  return WallTime(std::chrono::milliseconds(millis));
}

}  // namespace persistd::base
