#include "server/ipld/any_cid.h"

#include "server/ipld/multibase.h"
#include "server/ipld/varint.h"

namespace persistd::ipld {
namespace {

constexpr uint64_t kVersion1 = 1;
constexpr size_t kVersion0Bytes = 34;

bool IsVersion0(absl::string_view bytes) {
  return bytes.size() >= kVersion0Bytes && bytes[0] == 0x12 && bytes[1] == 0x20;
}

// Takes the varint that `bytes` begin with off them.
std::optional<uint64_t> TakeVarint(absl::string_view& bytes) {
  const Varint varint = ReadVarint(bytes);
  if (varint.state != Varint::State::kComplete) return std::nullopt;
  bytes.remove_prefix(varint.size);
  return varint.value;
}

}  // namespace

AnyCid::AnyCid(const Cid& cid)
    : bytes_(cid.ToBytes()),
      codec_(cid.codec),
      hash_function_(kSha256Hash),
      digest_at_(bytes_.size() - cid.digest.size()) {}

std::optional<AnyCid> AnyCid::AtStartOf(absl::string_view bytes) {
  AnyCid cid;
  if (IsVersion0(bytes)) {
    cid.bytes_ = std::string(bytes.substr(0, kVersion0Bytes));
    cid.version_ = 0;
    cid.codec_ = kDagPbCodec;
    cid.hash_function_ = kSha256Hash;
    cid.digest_at_ = 2;
    return cid;
  }
  absl::string_view rest = bytes;
  if (TakeVarint(rest) != kVersion1) return std::nullopt;
  const std::optional<uint64_t> codec = TakeVarint(rest);
  const std::optional<uint64_t> hash_function = TakeVarint(rest);
  const std::optional<uint64_t> digest_bytes = TakeVarint(rest);
  if (!codec || !hash_function || !digest_bytes || *digest_bytes > rest.size()) return std::nullopt;
  cid.codec_ = *codec;
  cid.hash_function_ = *hash_function;
  cid.digest_at_ = bytes.size() - rest.size();
  cid.bytes_ = std::string(bytes.substr(0, cid.digest_at_ + *digest_bytes));
  return cid;
}

std::optional<AnyCid> AnyCid::FromBytes(absl::string_view bytes) {
  std::optional<AnyCid> cid = AtStartOf(bytes);
  if (cid.has_value() && cid->bytes_.size() != bytes.size()) return std::nullopt;
  return cid;
}

std::string AnyCid::ToString() const { return version_ == 0 ? EncodeBase58(bytes_) : "b" + EncodeBase32(bytes_); }

}  // namespace persistd::ipld
