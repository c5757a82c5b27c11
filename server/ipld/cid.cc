#include "server/ipld/cid.h"

#include <openssl/sha.h>

#include <algorithm>

#include "server/ipld/multibase.h"
#include "server/ipld/varint.h"

namespace persistd::ipld {
namespace {

constexpr char kVersion = 0x01;
constexpr absl::string_view kMultihash = "\x12\x20";  // sha2-256, 32 bytes.

Cid CidOf(uint64_t codec, absl::string_view bytes) { return {.codec = codec, .digest = Sha256(bytes)}; }

}  // namespace

std::array<uint8_t, 32> Sha256(absl::string_view bytes) {
  std::array<uint8_t, 32> digest;
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), digest.data());
  return digest;
}

std::string Cid::ToBytes() const {
  std::string bytes;
  bytes.reserve(4 + digest.size());
  bytes += kVersion;
  AppendVarint(codec, bytes);
  bytes.append(kMultihash.data(), kMultihash.size());
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
  bytes.remove_prefix(1);
  const Varint codec = ReadVarint(bytes);
  if (codec.state != Varint::State::kComplete) return std::nullopt;
  bytes.remove_prefix(codec.size);
  Cid cid{.codec = codec.value};
  if (bytes.size() != kMultihash.size() + cid.digest.size()) return std::nullopt;
  if (bytes.substr(0, kMultihash.size()) != kMultihash) return std::nullopt;
  bytes.remove_prefix(kMultihash.size());
  std::copy(bytes.begin(), bytes.end(), reinterpret_cast<char*>(cid.digest.data()));
  return cid;
}

Cid RawCid(absl::string_view bytes) { return CidOf(kRawCodec, bytes); }

Cid DagCborCid(absl::string_view block) { return CidOf(kDagCborCodec, block); }

}  // namespace persistd::ipld
