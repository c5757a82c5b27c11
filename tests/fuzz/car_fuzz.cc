// A CAR reads the same whole and in pieces, and what was read of it is written as it was. The first byte of an input
// says how large the pieces are, the rest is the CAR.
#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/ipld/car.h"
#include "server/ipld/cid.h"
#include "tests/fuzz/fuzz_target.h"

namespace {

namespace ipld = persistd::ipld;

constexpr size_t kMaxSectionBytes = 1000;

struct Read {
  std::string sections{};  // As CarSection writes them.
  std::vector<ipld::AnyCid> roots{};
  absl::Status status{};
};

Read ReadInPieces(absl::string_view car, size_t piece_bytes) {
  ipld::CarReader reader(kMaxSectionBytes);
  Read read;
  while (!car.empty()) {
    const absl::string_view piece = car.substr(0, piece_bytes);
    car.remove_prefix(piece.size());
    reader.Add(piece);
    for (;;) {
      const auto block = reader.Next();
      if (!block.ok() || !block->has_value()) break;
      read.sections += ipld::CarSection((*block)->cid, (*block)->bytes);
    }
  }
  read.status = reader.Finish();
  read.roots = reader.roots();
  return read;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using persistd::fuzz::Require;
  if (size == 0) return 0;
  const absl::string_view car(reinterpret_cast<const char*>(data + 1), size - 1);
  const Read whole = ReadInPieces(car, std::max<size_t>(car.size(), 1));
  const Read pieces = ReadInPieces(car, size_t{data[0]} + 1);
  Require(whole.status == pieces.status, "a CAR ends in the same way whole and in pieces");
  Require(whole.roots == pieces.roots && whole.sections == pieces.sections, "a CAR is the same whole and in pieces");
  if (!whole.status.ok()) return 0;
  Require(!whole.roots.empty(), "a CAR has roots");
  Require(car.substr(car.size() - whole.sections.size()) == whole.sections, "a CAR is written as it was");
  if (whole.roots.size() > 1) return 0;
  Require(absl::StrCat(ipld::CarHeader(whole.roots[0]), whole.sections) == car, "a header is written as it was");
  return 0;
}

namespace persistd::fuzz {

std::vector<std::string> SeedInputs() {
  const ipld::Cid root = ipld::DagCborCid("\xA0");
  const auto identity = *ipld::AnyCid::FromBytes(absl::HexStringToBytes("0155000401020304"));
  const auto version0 = *ipld::AnyCid::FromBytes(
      absl::HexStringToBytes("122059948439065f29619ef41280cbb932be52c56d99c5966b65e0111239f098bbef"));
  const std::string large(kMaxSectionBytes - 36, 'x');
  return {
      "\x01" + ipld::CarHeader(root),
      "\x20" + ipld::CarHeader(root) + ipld::CarSection(root, "\xA0"),
      "\x03" + ipld::CarHeader(identity) + ipld::CarSection(identity, "\x01\x02\x03\x04") +
          ipld::CarSection(version0, absl::HexStringToBytes("0a020801")),
      "\xFF" + ipld::CarHeader(version0) + ipld::CarSection(ipld::RawCid(large), large) +
          ipld::CarSection(ipld::RawCid(""), ""),
  };
}

}  // namespace persistd::fuzz
