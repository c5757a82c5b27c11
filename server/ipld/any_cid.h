// A CID of whatever version, codec and hash, as it stands in links and in CAR files that others made. Our own blocks
// have the narrower Cid. Thread-compatible.
//
//   version 1 = 0x01  codec  hash function  digest's length (varints)  digest
//   version 0 = 0x12 0x20  digest (32 bytes): sha2-256 of a block in dag-pb
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "server/ipld/cid.h"

namespace persistd::ipld {

inline constexpr uint64_t kDagPbCodec = 0x70;

// Of the multicodec table.
inline constexpr uint64_t kIdentityHash = 0x00;
inline constexpr uint64_t kSha256Hash = 0x12;

class AnyCid {
 public:
  AnyCid(const Cid& cid);  // NOLINT(google-explicit-constructor): each Cid is one.

  // The CID that `bytes` begin with; what follows it is left out. nullopt when they begin with none: another version, a
  // varint that is not in its shortest form, a digest that is cut off. Whether the digest has the length that its hash
  // function makes is not checked.
  static std::optional<AnyCid> AtStartOf(absl::string_view bytes);
  // nullopt unless `bytes` are one CID and nothing else.
  static std::optional<AnyCid> FromBytes(absl::string_view bytes);

  const std::string& bytes() const { return bytes_; }
  int version() const { return version_; }
  uint64_t codec() const { return codec_; }
  uint64_t hash_function() const { return hash_function_; }
  absl::string_view digest() const { return absl::string_view(bytes_).substr(digest_at_); }

  // The canonical text: base32 lower case for version 1, base58 for version 0.
  std::string ToString() const;

  // As our own kind; nullopt when it is another.
  std::optional<Cid> ToCid() const { return Cid::FromBytes(bytes_); }

  friend bool operator==(const AnyCid& a, const AnyCid& b) { return a.bytes_ == b.bytes_; }
  friend bool operator<(const AnyCid& a, const AnyCid& b) { return a.bytes_ < b.bytes_; }

 private:
  AnyCid() = default;

  std::string bytes_;
  int version_ = 1;
  uint64_t codec_ = 0;
  uint64_t hash_function_ = 0;
  size_t digest_at_ = 0;
};

}  // namespace persistd::ipld
