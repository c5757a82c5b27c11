#include "server/jetstream/nkey.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "tests/server/jetstream/nats_keys.h"
#include "tests/testing/catch.h"

namespace persistd::jetstream {
namespace {

using ::persistd::testing::NewNkey;
using ::persistd::testing::Nkey;

TEST_CASE("The public key of a user seed is derived", "[jetstream]") {
  for (int i = 0; i < 20; ++i) {
    const Nkey key = NewNkey('U');
    REQUIRE(key.seed.substr(0, 2) == "SU");
    REQUIRE(key.seed.size() == 58);
    REQUIRE(key.public_key[0] == 'U');
    for (const std::string& text : {key.seed, absl::StrCat(key.seed, "\n"), absl::StrCat("  ", key.seed, "\r\n")}) {
      const absl::StatusOr<std::string> public_key = NkeyPublicKey(text);
      REQUIRE(public_key.ok());
      CHECK(*public_key == key.public_key);
    }
  }
}

TEST_CASE("Texts that are no user seed are refused without repeating them", "[jetstream]") {
  const Nkey user = NewNkey('U');
  std::string changed = user.seed;
  changed[30] = changed[30] == 'A' ? 'B' : 'A';  // The checksum no longer fits.
  for (const std::string& text : {std::string(), std::string("SU"), changed, user.seed.substr(0, 57), user.seed + "A",
                                  user.public_key, NewNkey('A').seed, NewNkey('O').seed, std::string(58, 'A'),
                                  std::string(58, '!'), std::string("su") + user.seed.substr(2)}) {
    const absl::StatusOr<std::string> public_key = NkeyPublicKey(text);
    CHECK(absl::IsInvalidArgument(public_key.status()));
    CHECK(public_key.status().message() == "is not a user nkey seed (58 characters starting with SU)");
  }
}

}  // namespace
}  // namespace persistd::jetstream
