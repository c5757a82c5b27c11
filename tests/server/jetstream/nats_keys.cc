#include "tests/server/jetstream/nats_keys.h"

#include <openssl/evp.h>

#include <array>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace persistd::testing {
namespace {

using nlohmann::json;
using KeyPtr = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
using Bytes = std::vector<uint8_t>;

constexpr char kBase32[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

void Check(bool ok) {
  if (!ok) throw std::runtime_error("OpenSSL failed");
}

int Prefix(char kind) { return (kind - 'A') << 3; }

// With the checksum that every nkey ends with (CRC-16, polynomial 0x1021, little-endian), as base32.
std::string ToText(Bytes bytes) {
  uint32_t crc = 0;
  for (const uint8_t byte : bytes) {
    crc ^= static_cast<uint32_t>(byte) << 8;
    for (int i = 0; i < 8; ++i) crc = (crc << 1 ^ ((crc & 0x8000) != 0 ? 0x1021 : 0)) & 0xFFFF;
  }
  bytes.push_back(static_cast<uint8_t>(crc & 0xFF));
  bytes.push_back(static_cast<uint8_t>(crc >> 8));
  std::string text;
  for (size_t bit = 0; bit < bytes.size() * 8; bit += 5) {
    const uint32_t pair =
        static_cast<uint32_t>(bytes[bit / 8] << 8) | (bit / 8 + 1 < bytes.size() ? bytes[bit / 8 + 1] : 0u);
    text += kBase32[pair >> (11 - bit % 8) & 31];
  }
  return text;
}

// The 32 bytes inside a seed.
Bytes FromSeed(const std::string& seed) {
  Bytes bytes;
  uint32_t buffer = 0;
  int bits = 0;
  for (const char c : seed) {
    buffer = buffer << 5 | static_cast<uint32_t>(std::string(kBase32).find(c));
    if ((bits += 5) >= 8) bytes.push_back(static_cast<uint8_t>(buffer >> (bits -= 8)));
  }
  return Bytes(bytes.begin() + 2, bytes.begin() + 34);
}

std::string Base64Url(const std::string& bytes) {
  std::string text;
  absl::WebSafeBase64Escape(bytes, &text);
  return text;
}

std::string Sign(const Nkey& key, const std::string& text) {
  const Bytes raw = FromSeed(key.seed);
  const KeyPtr pkey(EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, raw.data(), raw.size()), EVP_PKEY_free);
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  std::string signature(64, '\0');
  size_t size = signature.size();
  Check(EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, pkey.get()) == 1);
  Check(EVP_DigestSign(context.get(), reinterpret_cast<uint8_t*>(signature.data()), &size,
                       reinterpret_cast<const uint8_t*>(text.data()), text.size()) == 1);
  return signature;
}

json Account(bool jetstream) {
  json limits = {{"subs", -1},    {"data", -1},        {"payload", -1}, {"imports", -1},
                 {"exports", -1}, {"wildcards", true}, {"conn", -1},    {"leaf", -1}};
  if (jetstream) limits.update({{"mem_storage", -1}, {"disk_storage", -1}, {"streams", -1}, {"consumer", -1}});
  return {{"type", "account"}, {"version", 2}, {"limits", limits}};
}

}  // namespace

Nkey NewNkey(char kind) {
  EVP_PKEY* made = nullptr;
  const std::unique_ptr<EVP_PKEY_CTX, decltype(&EVP_PKEY_CTX_free)> context(
      EVP_PKEY_CTX_new_id(EVP_PKEY_ED25519, nullptr), EVP_PKEY_CTX_free);
  Check(EVP_PKEY_keygen_init(context.get()) == 1 && EVP_PKEY_keygen(context.get(), &made) == 1);
  const KeyPtr key(made, EVP_PKEY_free);
  std::array<uint8_t, 32> secret;
  std::array<uint8_t, 32> open;
  size_t size = 32;
  Check(EVP_PKEY_get_raw_private_key(key.get(), secret.data(), &size) == 1);
  Check(EVP_PKEY_get_raw_public_key(key.get(), open.data(), &size) == 1);
  // A seed starts with 'S' and then the kind, spread over the first two bytes.
  Bytes seed = {static_cast<uint8_t>(Prefix('S') | Prefix(kind) >> 5), static_cast<uint8_t>((Prefix(kind) & 31) << 3)};
  seed.insert(seed.end(), secret.begin(), secret.end());
  Bytes public_key = {static_cast<uint8_t>(Prefix(kind))};
  public_key.insert(public_key.end(), open.begin(), open.end());
  return {.seed = ToText(seed), .public_key = ToText(public_key)};
}

std::string SignJwt(const Nkey& issuer, const std::string& subject, const json& nats) {
  const json claims = {{"jti", "test"},  {"iat", 1'700'000'000}, {"iss", issuer.public_key},
                       {"name", "test"}, {"sub", subject},       {"nats", nats}};
  const std::string text =
      absl::StrCat(Base64Url(R"({"typ":"JWT","alg":"ed25519-nkey"})"), ".", Base64Url(claims.dump()));
  return absl::StrCat(text, ".", Base64Url(Sign(issuer, text)));
}

OperatorSetup NewOperatorSetup() {
  const Nkey op = NewNkey('O');
  const Nkey system = NewNkey('A');
  const Nkey account = NewNkey('A');
  const Nkey user = NewNkey('U');
  OperatorSetup setup;
  setup.server_config =
      absl::StrCat("operator: ", SignJwt(op, op.public_key, {{"type", "operator"}, {"version", 2}}),
                   "\nsystem_account: ", system.public_key, "\nresolver: MEMORY\nresolver_preload: {\n  ",
                   system.public_key, ": ", SignJwt(op, system.public_key, Account(false)), "\n  ", account.public_key,
                   ": ", SignJwt(op, account.public_key, Account(true)), "\n}\n");
  const json permissions = {{"type", "user"}, {"version", 2}, {"subs", -1}, {"data", -1}, {"payload", -1}};
  setup.creds = absl::StrCat("-----BEGIN NATS USER JWT-----\n", SignJwt(account, user.public_key, permissions),
                             "\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n", user.seed,
                             "\n------END USER NKEY SEED------\n");
  return setup;
}

}  // namespace persistd::testing
