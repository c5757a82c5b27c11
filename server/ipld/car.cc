#include "server/ipld/car.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/ipld/cid.h"
#include "server/ipld/dag_cbor.h"
#include "server/ipld/dag_cbor_writer.h"
#include "server/ipld/varint.h"

namespace persistd::ipld {
namespace {

std::string HeaderBlock(const std::vector<AnyCid>& roots) {
  std::string block;
  DagCborWriter writer(&block);
  writer.BeginMap(2);
  writer.Key("roots");
  writer.BeginArray(roots.size());
  for (const AnyCid& root : roots) writer.Link(root);
  writer.Key("version");
  writer.Uint(1);
  return block;
}

// nullopt when we do not know the hash function.
std::optional<bool> Matches(const AnyCid& cid, absl::string_view block) {
  switch (cid.hash_function()) {
    case kIdentityHash:
      return cid.digest() == block;
    case kSha256Hash: {
      const auto digest = Sha256(block);
      return cid.digest() == absl::string_view(reinterpret_cast<const char*>(digest.data()), digest.size());
    }
    default:
      return std::nullopt;
  }
}

}  // namespace

std::string CarHeader(const AnyCid& root) {
  const std::string block = HeaderBlock({root});
  std::string header;
  AppendVarint(block.size(), header);
  return header + block;
}

std::string CarSection(const AnyCid& cid, absl::string_view block) {
  std::string section;
  section.reserve(9 + cid.bytes().size() + block.size());
  AppendVarint(cid.bytes().size() + block.size(), section);
  section += cid.bytes();
  section.append(block.data(), block.size());
  return section;
}

void CarReader::Add(absl::string_view piece) {
  if (!status_.ok()) return;
  buffer_.erase(0, taken_);
  buffer_at_ += taken_;
  taken_ = 0;
  buffer_.append(piece.data(), piece.size());
}

absl::StatusOr<std::optional<CarBlock>> CarReader::Next() {
  RETURN_IF_ERROR(status_);
  absl::StatusOr<std::optional<CarBlock>> block = ReadNext();
  if (!block.ok()) status_ = block.status();
  return block;
}

absl::StatusOr<std::optional<CarBlock>> CarReader::ReadNext() {
  if (roots_.empty()) {
    ASSIGN_OR_RETURN(const std::optional<absl::string_view> header, TakeSection());
    if (!header.has_value()) return std::nullopt;
    ASSIGN_OR_RETURN(roots_, ParseHeader(*header));
  }
  ASSIGN_OR_RETURN(const std::optional<absl::string_view> section, TakeSection());
  if (!section.has_value()) return std::nullopt;
  ASSIGN_OR_RETURN(CarBlock block, ParseBlock(*section));
  return block;
}

absl::StatusOr<std::optional<absl::string_view>> CarReader::TakeSection() {
  section_at_ = buffer_at_ + taken_;
  const absl::string_view rest = absl::string_view(buffer_).substr(taken_);
  const Varint length = ReadVarint(rest);
  if (length.state == Varint::State::kMalformed) return Malformed("its length is no varint");
  if (length.state == Varint::State::kIncomplete) return std::nullopt;
  if (length.value > max_section_bytes_) {
    return absl::ResourceExhaustedError(absl::StrCat("CAR, byte ", section_at_, ": a section of ", length.value,
                                                     " bytes, where at most ", max_section_bytes_, " are allowed"));
  }
  if (length.value > rest.size() - length.size) return std::nullopt;
  taken_ += length.size + length.value;
  return rest.substr(length.size, length.value);
}

absl::StatusOr<std::vector<AnyCid>> CarReader::ParseHeader(absl::string_view header) const {
  absl::StatusOr<std::vector<AnyCid>> roots = LinksOfDagCbor(header);
  if (!roots.ok()) return Malformed(absl::StrCat("the header is no DAG-CBOR: ", roots.status().message()));
  // There is one encoding of a header, so only a header is what we make of its links.
  if (HeaderBlock(*roots) != header) return Malformed("the header is not of version 1: nothing but roots and version");
  if (roots->empty()) return Malformed("the header has no roots");
  return roots;
}

absl::StatusOr<CarBlock> CarReader::ParseBlock(absl::string_view section) const {
  std::optional<AnyCid> cid = AnyCid::AtStartOf(section);
  if (!cid.has_value()) return Malformed("the section does not begin with a CID");
  const absl::string_view bytes = section.substr(cid->bytes().size());
  const std::optional<bool> matches = Matches(*cid, bytes);
  if (!matches.has_value()) {
    return Malformed(absl::StrCat("block ", cid->ToString(), " cannot be checked: its CID uses hash function 0x",
                                  absl::Hex(cid->hash_function()), ", known are sha2-256 and identity"));
  }
  if (!*matches) return Malformed(absl::StrCat("block ", cid->ToString(), " is not what its CID says"));
  return CarBlock{.cid = *std::move(cid), .bytes = bytes};
}

absl::Status CarReader::Finish() {
  if (status_.ok() && roots_.empty()) status_ = Malformed("the input ends within the header");
  if (status_.ok() && taken_ != buffer_.size()) status_ = Malformed("the input ends within a section");
  return status_;
}

absl::Status CarReader::Malformed(absl::string_view what) const {
  return absl::InvalidArgumentError(absl::StrCat("CAR, byte ", section_at_, ": ", what));
}

}  // namespace persistd::ipld
