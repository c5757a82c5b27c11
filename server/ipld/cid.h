// Content identifiers: CIDv1, sha2-256, written in base32 lower case (https://github.com/multiformats/cid). Pure,
// thread-safe.
//
//   text   = "b" base32-lower-without-padding(bytes)
//   bytes  = 0x01  codec (varint)  0x12 0x20  sha2-256 digest (32 bytes)
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace persistd::ipld {

inline constexpr uint64_t kRawCodec = 0x55;
inline constexpr uint64_t kDagCborCodec = 0x71;

struct Cid {
  uint64_t codec = kRawCodec;
  std::array<uint8_t, 32> digest{};  // sha2-256 of the content.

  // Canonical text; for the codecs below 0x80 it has 59 characters.
  std::string ToString() const;
  // The inverse: nullopt for every text that ToString does not make.
  static std::optional<Cid> Parse(absl::string_view text);

  // As in links and CAR files.
  std::string ToBytes() const;
  // The inverse: nullopt for every bytes that ToBytes does not make.
  static std::optional<Cid> FromBytes(absl::string_view bytes);

  bool operator==(const Cid&) const = default;
};

std::array<uint8_t, 32> Sha256(absl::string_view bytes);

// Of `bytes` as they are, codec raw.
Cid RawCid(absl::string_view bytes);
// Of a block in canonical DAG-CBOR.
Cid DagCborCid(absl::string_view block);

}  // namespace persistd::ipld
