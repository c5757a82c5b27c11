#include "server/ipld/cid.h"

#include <rapidcheck.h>

#include <string>

#include "tests/testing/catch.h"
#include "tests/testing/properties.h"

namespace persistd::ipld {
namespace {

// Computed with Python's hashlib and base64; the first two are the ones that IPFS tools show for these bytes.
TEST_CASE("Raw CIDs of known bytes are the known ones", "[ipld]") {
  CHECK(RawCid("").ToString() == "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku");
  CHECK(RawCid("hello world").ToString() == "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e");
  CHECK(RawCid(std::string(512 * 1024, 'a')).ToString() ==
        "bafkreiefvbfhlcdorjjg3pwe4fxdg5p2umd3jlvnphe62mteybdxu33oxi");
}

TEST_CASE("Other codecs are written and read", "[ipld]") {
  Cid cid = RawCid("\xA0");
  cid.codec = 0x71;
  CHECK(cid.ToString() == "bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua");
  cid = RawCid("x");
  cid.codec = 0xB2;  // Two bytes as a varint.
  CHECK(cid.ToString() == "bagzacerafvyrmqvxe2yeialcpsu7xlbs6xefgd5rsa6mjwycewdrpeq2jcaq");
  CHECK(Cid::Parse(cid.ToString()) == cid);
}

TEST_CASE("Texts that are no canonical CID are refused", "[ipld]") {
  const std::string good = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku";
  REQUIRE(Cid::Parse(good).has_value());
  for (const std::string& text : {
           std::string(),
           std::string("b"),
           std::string("QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG"),
           std::string("BAFKREIHDWDCEFGH4DQKJV67UZCMW7OJEE6XEDZDETOJUZJEVTENXQUVYKU"),
           good.substr(1),
           good + "a",
           good.substr(0, good.size() - 1),
           good.substr(0, good.size() - 1) + "v",  // A bit after the last byte.
           good.substr(0, 20) + "1" + good.substr(21),
           good.substr(0, 20) + "." + good.substr(21),
           std::string("bagkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"),  // Codec byte 0x95 goes on.
           std::string("baj"),
           std::string("baiaaaaaa"),
       }) {
    INFO(text);
    CHECK_FALSE(Cid::Parse(text).has_value());
  }
}

TEST_CASE("Every CID is read back from its text, and every other text is refused", "[ipld]") {
  testing::CheckProperty([] {
    Cid cid = RawCid(*testing::AnyBytes());
    cid.codec = *rc::gen::inRange<uint64_t>(0, uint64_t{1} << *rc::gen::inRange(1, 62));
    const std::string text = cid.ToString();
    RC_ASSERT(Cid::Parse(text) == cid);
    std::string other = text;
    const auto at = *rc::gen::inRange<size_t>(0, other.size());
    other[at] = *rc::gen::arbitrary<char>();
    const std::optional<Cid> parsed = Cid::Parse(other);
    if (parsed.has_value()) RC_ASSERT(parsed->ToString() == other);
  });
}

}  // namespace
}  // namespace persistd::ipld
