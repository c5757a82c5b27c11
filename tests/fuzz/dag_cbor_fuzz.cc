// A block is refused, or it is exactly what its value is encoded as.
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/string_view.h"
#include "server/ipld/dag_cbor.h"
#include "tests/fuzz/fuzz_target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using persistd::fuzz::Require;
  namespace ipld = persistd::ipld;
  const absl::string_view block(reinterpret_cast<const char*>(data), size);
  const auto value = ipld::DecodeDagCbor(block);
  Require(ipld::LinksOfDagCbor(block).status() == value.status(), "checking and decoding come to the same");
  if (!value.ok()) {
    Require(value.status().code() == absl::StatusCode::kInvalidArgument, "a block is refused as INVALID_ARGUMENT");
    return 0;
  }
  const auto again = ipld::EncodeDagCbor(*value);
  Require(again.ok() && *again == block, "a block is encoded as it was");
  return 0;
}

namespace persistd::fuzz {

std::vector<std::string> SeedInputs() {
  std::vector<std::string> seeds;
  for (const char* hex : {
           "f6",
           "1bffffffffffffffff",
           "3bffffffffffffffff",
           "fb3ff199999999999a",
           "5818000102030405060708090a0b0c0d0e0f1011121314151617",
           "64f0908591",
           "8301820203820405",
           "a5600061610161620262616103"
           "62c3bc04",
           "a26161016162820203",
           // Links: ours, of version 0, by identity.
           "83d82a58250001711220b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"
           "d82a582300122059948439065f29619ef41280cbb932be52c56d99c5966b65e0111239f098bbef"
           "d82a49000155000401020304",
           // {"a": [null, true, {"b": {}}, h'', 24, 256, 65536, -1, 1.5], "long": "...", "prev": null}
           "a3616189f6f5a16162a0401818190100"
           "1a0001000020fb3ff8000000000000646c6f6e67781e"
           "c3a42061206220632064206520662067206820692020e6b0b420f09f9880206a20"
           "6470726576f6",
       }) {
    seeds.push_back(absl::HexStringToBytes(hex));
  }
  return seeds;
}

}  // namespace persistd::fuzz
