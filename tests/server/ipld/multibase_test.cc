#include "server/ipld/multibase.h"

#include <string>

#include "tests/testing/catch.h"

namespace persistd::ipld {
namespace {

TEST_CASE("Base 32 is the one of RFC 4648, in lower case and without padding", "[ipld]") {
  CHECK(EncodeBase32("") == "");
  CHECK(EncodeBase32("f") == "my");
  CHECK(EncodeBase32("fo") == "mzxq");
  CHECK(EncodeBase32("foo") == "mzxw6");
  CHECK(EncodeBase32("foob") == "mzxw6yq");
  CHECK(EncodeBase32("fooba") == "mzxw6ytb");
  CHECK(EncodeBase32("foobar") == "mzxw6ytboi");
  CHECK(DecodeBase32("mzxw6ytboi") == "foobar");
  CHECK_FALSE(DecodeBase32("mzxw6ytboI").has_value());
}

// The first three are in the Internet draft of base 58, the last is its definition of leading zeros.
TEST_CASE("Base 58 is the one of Bitcoin", "[ipld]") {
  CHECK(EncodeBase58("") == "");
  CHECK(EncodeBase58("Hello World!") == "2NEpo7TZRRrLZSi2U");
  CHECK(EncodeBase58("The quick brown fox jumps over the lazy dog.") ==
        "USm3fpXnKG5EUBx2ndxBDMPVciP5hGey2Jh4NDv6gmeo1LkMeiKrLJUUBk6Z");
  CHECK(EncodeBase58(std::string("\0\0\x28\x7F\xB4\xCD", 6)) == "11233QC4");
  CHECK(EncodeBase58(std::string(3, '\0')) == "111");
}

}  // namespace
}  // namespace persistd::ipld
