#include "server/ipld/any_cid.h"

#include <string>

#include "absl/strings/escaping.h"
#include "tests/server/ipld/values.h"
#include "tests/testing/catch.h"
#include "tests/testing/properties.h"

namespace persistd::ipld {
namespace {

std::string Hex(const std::string& hex) { return absl::HexStringToBytes(hex); }

// The empty directory of IPFS, known to everyone who ever listed one: its block in dag-pb is 0a020801.
constexpr char kEmptyDirectory[] = "122059948439065f29619ef41280cbb932be52c56d99c5966b65e0111239f098bbef";

TEST_CASE("A CID of version 0 is read and written as IPFS does", "[ipld]") {
  const auto cid = AnyCid::FromBytes(Hex(kEmptyDirectory));
  REQUIRE(cid.has_value());
  CHECK(cid->ToString() == "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn");
  CHECK(cid->version() == 0);
  CHECK(cid->codec() == kDagPbCodec);
  CHECK(cid->hash_function() == kSha256Hash);
  CHECK(absl::BytesToHexString(cid->digest()) == std::string(kEmptyDirectory).substr(4));
  CHECK_FALSE(cid->ToCid().has_value());
}

TEST_CASE("A CID by another hash function keeps its parts", "[ipld]") {
  const auto cid = AnyCid::FromBytes(Hex("0155000401020304"));  // Raw, identity.
  REQUIRE(cid.has_value());
  CHECK(cid->ToString() == "bafkqababaibqi");
  CHECK(cid->version() == 1);
  CHECK(cid->codec() == kRawCodec);
  CHECK(cid->hash_function() == kIdentityHash);
  CHECK(absl::BytesToHexString(cid->digest()) == "01020304");
  CHECK_FALSE(cid->ToCid().has_value());
}

TEST_CASE("Our own CID is one of any kind", "[ipld]") {
  const Cid own = DagCborCid("\xA0");
  const AnyCid cid = own;
  CHECK(cid == AnyCid::FromBytes(own.ToBytes()));
  CHECK(cid.ToString() == own.ToString());
  CHECK(cid.codec() == kDagCborCodec);
  CHECK(cid.hash_function() == kSha256Hash);
  CHECK(cid.digest() == own.ToBytes().substr(4));
  CHECK(cid.ToCid() == own);
}

TEST_CASE("Bytes that are no CID are refused", "[ipld]") {
  const std::string digest(64, '0');
  for (const std::string& hex : {
           std::string(), std::string("01"), std::string("0155"), std::string("015512"),
           "01551220" + digest.substr(2),  // A byte too few,
           "01551220" + digest + "00",     // too many.
           "1220" + digest.substr(2),      // The same for version 0.
           "1220" + digest + "00",
           "1320" + digest,      // Version 0 is sha2-256 alone.
           "00701220" + digest,  // Its number is never written.
           "02551220" + digest,  // Reserved.
           "03551220" + digest,
           "8100551220" + digest,  // Varints in a form that is too long.
           "01d5001220" + digest, "0155920020" + digest, "015512a000" + digest,
           "01ffffffffffffffffff011220" + digest,  // A codec beyond 2^63.
           "015512ffffffffffffffff7f" + digest,    // A digest longer than memory.
       }) {
    INFO(hex);
    CHECK_FALSE(AnyCid::FromBytes(Hex(hex)).has_value());
  }
}

TEST_CASE("A CID is found at the start of bytes, whatever follows", "[ipld]") {
  testing::CheckProperty([] {
    const AnyCid cid = *GenerateAnyCid();
    const std::string more = *testing::AnyBytes();
    RC_ASSERT(AnyCid::AtStartOf(cid.bytes() + more) == cid);
    RC_ASSERT(AnyCid::FromBytes(cid.bytes()) == cid);
    RC_ASSERT(AnyCid::FromBytes(cid.bytes() + more).has_value() == more.empty());
    const auto cut = *rc::gen::inRange<size_t>(0, cid.bytes().size());
    RC_ASSERT(!AnyCid::FromBytes(cid.bytes().substr(0, cut)).has_value());
  });
}

}  // namespace
}  // namespace persistd::ipld
