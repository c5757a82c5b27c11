#include "server/jetstream/nkey.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"

namespace persistd::jetstream {
namespace {

constexpr absl::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
constexpr uint8_t kSeedPrefix = 18 << 3;  // 'S'
constexpr uint8_t kUserPrefix = 20 << 3;  // 'U'
constexpr size_t kKeyBytes = 32;
constexpr size_t kSeedBytes = 2 + kKeyBytes + 2;

uint16_t Crc16(const uint8_t* data, size_t size) {
  uint16_t crc = 0;
  for (size_t i = 0; i < size; ++i) {
    crc = static_cast<uint16_t>(crc ^ (data[i] << 8));
    for (int bit = 0; bit < 8; ++bit) {
      crc = static_cast<uint16_t>(crc & 0x8000 ? crc << 1 ^ 0x1021 : crc << 1);
    }
  }
  return crc;
}

std::vector<uint8_t> DecodeBase32(absl::string_view text) {
  std::vector<uint8_t> bytes;
  uint32_t buffer = 0;
  int bits = 0;
  for (const char c : text) {
    const size_t value = kAlphabet.find(c);
    if (value == absl::string_view::npos) return {};
    buffer = (buffer << 5 | static_cast<uint32_t>(value)) & 0xFFFF;
    bits += 5;
    if (bits >= 8) {
      bits -= 8;
      bytes.push_back(static_cast<uint8_t>(buffer >> bits));
    }
  }
  // What is left over is less than a character and must be padding.
  if (bits >= 5 || (buffer & ((1u << bits) - 1)) != 0) return {};
  return bytes;
}

std::string EncodeBase32(const std::vector<uint8_t>& bytes) {
  std::string text;
  uint32_t buffer = 0;
  int bits = 0;
  for (const uint8_t byte : bytes) {
    buffer = (buffer << 8 | byte) & 0xFFFF;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      text += kAlphabet[buffer >> bits & 31];
    }
  }
  if (bits > 0) text += kAlphabet[buffer << (5 - bits) & 31];
  return text;
}

}  // namespace

absl::StatusOr<std::string> NkeyPublicKey(absl::string_view seed) {
  std::vector<uint8_t> raw = DecodeBase32(absl::StripAsciiWhitespace(seed));
  const bool well_formed = raw.size() == kSeedBytes && (raw[0] & 0xF8) == kSeedPrefix &&
                           Crc16(raw.data(), kSeedBytes - 2) == (raw[kSeedBytes - 2] | raw[kSeedBytes - 1] << 8);
  // The key's kind is spread over the low bits of the first and the high bits of the second byte.
  if (!well_formed || ((raw[0] & 7) << 5 | raw[1] >> 3) != kUserPrefix) {
    OPENSSL_cleanse(raw.data(), raw.size());
    return absl::InvalidArgumentError("is not a user nkey seed (58 characters starting with SU)");
  }
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
      EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, raw.data() + 2, kKeyBytes), EVP_PKEY_free);
  OPENSSL_cleanse(raw.data(), raw.size());
  std::array<uint8_t, kKeyBytes> public_key;
  size_t size = public_key.size();
  if (key == nullptr || EVP_PKEY_get_raw_public_key(key.get(), public_key.data(), &size) != 1) {
    return absl::InternalError("OpenSSL could not derive the public key");
  }
  std::vector<uint8_t> encoded = {kUserPrefix};
  encoded.insert(encoded.end(), public_key.begin(), public_key.end());
  const uint16_t crc = Crc16(encoded.data(), encoded.size());
  encoded.push_back(static_cast<uint8_t>(crc & 0xFF));
  encoded.push_back(static_cast<uint8_t>(crc >> 8));
  return EncodeBase32(encoded);
}

}  // namespace persistd::jetstream
