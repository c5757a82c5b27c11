// CAR version 1 (https://ipld.io/specs/transport/car/carv1/): blocks one after the other, each with its CID.
//
//   header  = varint(length)  DAG-CBOR {"roots": [CID, ...], "version": 1}
//   section = varint(length of CID and block)  CID  block
//
// The functions are pure and thread-safe; CarReader is thread-compatible.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/ipld/any_cid.h"

namespace persistd::ipld {

// A CAR is the header, then any number of sections.
std::string CarHeader(const AnyCid& root);
// cid: the one of `block`, which is not checked.
std::string CarSection(const AnyCid& cid, absl::string_view block);

struct CarBlock {
  AnyCid cid;
  absl::string_view bytes{};
};

// Reads a CAR that comes in pieces of any size, and checks each block against its CID. Holds no more than the last
// piece and one section.
//
//   CarReader reader;
//   for each piece {
//     reader.Add(piece);
//     while (there is a block in reader.Next()) use it;
//   }
//   reader.Finish();
//
// Errors are INVALID_ARGUMENT, or RESOURCE_EXHAUSTED for what is larger than `max_section_bytes`; they name the offset
// in the CAR, and a block that is not what its CID says by that CID. An error stays: nothing is read after it.
//
// Blocks are checked by sha2-256 (CIDs of version 0 and 1) and by the identity hash. A block by any other hash is an
// error, because nobody could tell whether it is what it claims to be. Neither are roots looked for among the blocks
// nor blocks that are there twice: both would need memory for the whole CAR.
class CarReader {
 public:
  static constexpr size_t kMaxSectionBytes = size_t{8} << 20;

  // max_section_bytes: of the header, and of a CID with its block.
  explicit CarReader(size_t max_section_bytes = kMaxSectionBytes) : max_section_bytes_(max_section_bytes) {}

  // Takes a copy. To be called when Next has nothing more to give: the reader holds whatever it was given.
  void Add(absl::string_view piece);

  // The next block, whose bytes are valid until the next call of anything; nullopt when it is not there yet.
  absl::StatusOr<std::optional<CarBlock>> Next();

  // At least one, once Next has read the header; empty before.
  const std::vector<AnyCid>& roots() const { return roots_; }

  // To be called at the end of the input, when Next has nothing more to give: an error when the input ends within the
  // header or within a section, or when there was one already.
  absl::Status Finish();

 private:
  // A section without its length; nullopt when it is not all there yet.
  absl::StatusOr<std::optional<absl::string_view>> TakeSection();
  absl::StatusOr<std::vector<AnyCid>> ParseHeader(absl::string_view header) const;
  absl::StatusOr<CarBlock> ParseBlock(absl::string_view section) const;
  absl::StatusOr<std::optional<CarBlock>> ReadNext();

  absl::Status Malformed(absl::string_view what) const;

  const size_t max_section_bytes_;
  absl::Status status_{};
  std::vector<AnyCid> roots_{};
  std::string buffer_{};
  size_t taken_ = 0;         // How much of `buffer_` has been read.
  uint64_t buffer_at_ = 0;   // Where in the CAR `buffer_` begins.
  uint64_t section_at_ = 0;  // Where in the CAR the header or section begins that is being read.
};

}  // namespace persistd::ipld
