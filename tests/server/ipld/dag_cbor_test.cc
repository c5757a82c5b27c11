#include "server/ipld/dag_cbor.h"

#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "server/ipld/cid.h"
#include "tests/server/ipld/values.h"
#include "tests/testing/catch.h"
#include "tests/testing/must.h"
#include "tests/testing/properties.h"

namespace persistd::ipld {
namespace {

using ::persistd::testing::ContainsText;
using ::persistd::testing::Must;

std::string Hex(const std::string& hex) { return absl::HexStringToBytes(hex); }

Value Text(const std::string& text) { return Value(text); }
Value Array(Value::Array items) { return Value(std::move(items)); }
Value Map(Value::Map entries) { return Value(std::move(entries)); }

// `levels` arrays, each in the one before.
Value Nested(int levels) {
  Value value = Value::Array();
  for (int i = 1; i < levels; ++i) value = Value::Array{std::move(value)};
  return value;
}

void CheckRefused(const std::string& block, const std::string& message) {
  INFO(absl::BytesToHexString(block));
  const auto value = DecodeDagCbor(block);
  REQUIRE(value.status().code() == absl::StatusCode::kInvalidArgument);
  CHECK_THAT(std::string(value.status().message()), ContainsText(message));
  CHECK(LinksOfDagCbor(block).status() == value.status());
}

// Most are examples of RFC 8949, appendix A; the rest follows from its rules.
TEST_CASE("Values have the encodings that are published for them", "[ipld]") {
  const std::vector<std::pair<std::string, Value>> known = {
      {"f6", Value()},
      {"f4", Value(false)},
      {"f5", Value(true)},
      {"00", Value::Integer(0)},
      {"17", Value::Integer(23)},
      {"1818", Value::Integer(24)},
      {"18ff", Value::Integer(255)},
      {"190100", Value::Integer(256)},
      {"1903e8", Value::Integer(1000)},
      {"19ffff", Value::Integer(65535)},
      {"1a000f4240", Value::Integer(1000000)},
      {"1affffffff", Value::Integer(4294967295)},
      {"1b000000e8d4a51000", Value::Integer(1000000000000)},
      {"1b7fffffffffffffff", Value::Integer(std::numeric_limits<int64_t>::max())},
      {"1bffffffffffffffff", Value(std::numeric_limits<uint64_t>::max())},
      {"20", Value::Integer(-1)},
      {"29", Value::Integer(-10)},
      {"3863", Value::Integer(-100)},
      {"3903e7", Value::Integer(-1000)},
      {"3b7fffffffffffffff", Value::Integer(std::numeric_limits<int64_t>::min())},
      {"3bffffffffffffffff", Value(NegativeInteger{std::numeric_limits<uint64_t>::max()})},
      {"fb0000000000000000", Value(0.0)},
      {"fb8000000000000000", Value(-0.0)},
      {"fb3ff0000000000000", Value(1.0)},
      {"fb3ff199999999999a", Value(1.1)},
      {"fbc010666666666666", Value(-4.1)},
      {"fb7e37e43c8800759c", Value(1.0e+300)},
      {"40", Value(Bytes{})},
      {"4401020304", Value(Bytes{"\x01\x02\x03\x04"})},
      {"60", Text("")},
      {"6449455446", Text("IETF")},
      {"62225c", Text("\"\\")},
      {"62c3bc", Text("\u00fc")},
      {"63e6b0b4", Text("\u6c34")},
      {"64f0908591", Text("\U00010151")},
      {"80", Array({})},
      {"83010203", Array({Value::Integer(1), Value::Integer(2), Value::Integer(3)})},
      {"8301820203820405", Array({Value::Integer(1), Array({Value::Integer(2), Value::Integer(3)}),
                                  Array({Value::Integer(4), Value::Integer(5)})})},
      {"a0", Map({})},
      {"a16568656c6c6f65776f726c64", Map({{"hello", Text("world")}})},
      {"a26161016162820203", Map({{"a", Value::Integer(1)}, {"b", Array({Value::Integer(2), Value::Integer(3)})}})},
      // Shorter keys first, then by their bytes.
      {"a5600061610161620262616103"
       "62c3bc04",
       Map({{"\u00fc", Value::Integer(4)},
            {"aa", Value::Integer(3)},
            {"b", Value::Integer(2)},
            {"a", Value::Integer(1)},
            {"", Value::Integer(0)}})},
      {"d82a49000155000401020304", Value(*AnyCid::FromBytes(Hex("0155000401020304")))},
  };
  for (const auto& [hex, value] : known) {
    INFO(hex);
    CHECK(absl::BytesToHexString(Must(EncodeDagCbor(value))) == hex);
    CHECK(Must(DecodeDagCbor(Hex(hex))) == value);
  }
}

TEST_CASE("Blocks have the CIDs that IPFS tools show for them", "[ipld]") {
  const auto cid = [](const Value& value) { return DagCborCid(Must(EncodeDagCbor(value))).ToString(); };
  CHECK(cid(Map({})) == "bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua");
  CHECK(cid(Map({{"hello", Text("world")}})) == "bafyreidykglsfhoixmivffc5uwhcgshx4j465xwqntbmu43nb2dzqwfvae");
}

TEST_CASE("Strings, arrays and maps of any length are read back", "[ipld]") {
  for (const size_t size : {0, 1, 23, 24, 255, 256, 65535, 65536}) {
    Value::Map map;
    for (size_t i = 0; i < size; ++i) map[std::to_string(i)] = Value();
    for (const Value& value : {Text(std::string(size, 'x')), Value(Bytes{std::string(size, '\xFF')}),
                               Array(Value::Array(size)), Value(map)}) {
      const std::string block = Must(EncodeDagCbor(value));
      CHECK(Must(DecodeDagCbor(block)) == value);
    }
  }
}

TEST_CASE("A number that is longer than it need be is refused", "[ipld]") {
  for (const char* hex : {"1817", "1900ff", "1a0000ffff", "1b00000000ffffffff", "3800", "3900ff", "3a0000ffff",
                          "3b00000000ffffffff", "580161", "59000161", "7800", "5b000000000000000161", "9800", "990000",
                          "b800", "ba00000000", "d9002a49000155000401020304", "d82a5809000155000401020304"}) {
    CheckRefused(Hex(hex), "expected the shortest form of a number");
  }
  CheckRefused(Hex("a1780161"), "byte 1: expected the shortest form of a number");
}

TEST_CASE("Indefinite lengths and reserved heads are refused", "[ipld]") {
  for (const char* hex : {"5f4101ff", "7f6161ff", "9f01ff", "bf616101ff", "1f", "3f", "df"}) {
    CheckRefused(Hex(hex), "byte 0: expected a definite length");
  }
  for (const char* hex : {"1c", "3d", "5e", "7c", "9d", "be", "dc"}) {
    CheckRefused(Hex(hex), "byte 0: expected a head with an argument");
  }
}

TEST_CASE("Simple values that IPLD does not have, and floats of another length, are refused", "[ipld]") {
  for (const char* hex : {"f7", "e0", "f0", "f8ff", "f814", "f93c00", "fa3f800000", "fc", "fd", "fe", "ff"}) {
    CheckRefused(Hex(hex), "byte 0: expected false, true, null or a number of 64 bits");
  }
  for (const char* hex : {"fb7ff8000000000000", "fb7ff0000000000000", "fbfff0000000000000", "fb7ff0000000000001"}) {
    CheckRefused(Hex(hex), "byte 0: expected a finite number");
  }
}

TEST_CASE("Maps whose keys are unsorted, twice there or no texts are refused", "[ipld]") {
  CheckRefused(Hex("a2616201616102"), "byte 4: expected a key that comes after the one before it");
  CheckRefused(Hex("a262616101616202"), "byte 5: expected a key that comes after");  // "aa" before "b".
  CheckRefused(Hex("a2616101616102"), "byte 4: expected a key that comes after");
  CheckRefused(Hex("a260016002"), "byte 3: expected a key that comes after");
  for (const char* hex : {"a10102", "a1416101", "a1f601", "a18001", "a1d82a4900015500040102030401"}) {
    CheckRefused(Hex(hex), "byte 1: expected a text as key");
  }
}

TEST_CASE("Texts and keys that are not UTF-8 are refused", "[ipld]") {
  CheckRefused(Hex("61ff"), "byte 1: expected valid UTF-8");
  CheckRefused(Hex("63eda080"), "byte 1: expected valid UTF-8");  // A surrogate.
  CheckRefused(Hex("62c080"), "byte 1: expected valid UTF-8");    // Overlong.
  CheckRefused(Hex("a161ff00"), "byte 2: expected valid UTF-8");
}

TEST_CASE("Tags that are no link are refused", "[ipld]") {
  CheckRefused(Hex("c074323031332d30332d32315432303a30343a30305a"), "byte 0: expected no other tag than 42");
  CheckRefused(Hex("c24101"), "byte 0: expected no other tag than 42");
  CheckRefused(Hex("d9d9f700"), "byte 0: expected no other tag than 42");
  CheckRefused(Hex("d82a00"), "byte 2: expected a byte string with a CID");
  CheckRefused(Hex("d82a"), "byte 2: expected a byte string with a CID");
  CheckRefused(Hex("d82a6161"), "byte 2: expected a byte string with a CID");
  CheckRefused(Hex("d82ad82a49000155000401020304"), "byte 2: expected a byte string with a CID");
  CheckRefused(Hex("d82a40"), "byte 2: expected a byte string that starts with 0x00");
  CheckRefused(Hex("d82a480155000401020304"), "byte 2: expected a byte string that starts with 0x00");
  CheckRefused(Hex("d82a4100"), "byte 4: expected a CID");
  CheckRefused(Hex("d82a480001550004010203"), "byte 4: expected a CID");
  CheckRefused(Hex("d82a4a00015500040102030405"), "byte 4: expected a CID");
}

TEST_CASE("What is cut off, or goes on, is refused", "[ipld]") {
  CheckRefused("", "byte 0: expected an item");
  CheckRefused(Hex("18"), "byte 1: expected a number of 1 bytes");
  CheckRefused(Hex("1bffffffffffffff"), "byte 8: expected a number of 8 bytes");
  CheckRefused(Hex("fb3ff199999999"), "byte 7: expected a number of 8 bytes");
  CheckRefused(Hex("0000"), "byte 1: expected the end of the block");
  CheckRefused(Hex("a0f6"), "byte 1: expected the end of the block");
  CheckRefused(Hex("826161"), "byte 3: expected an item");
  CheckRefused(Hex("a16161"), "byte 3: expected an item");
  CheckRefused(Hex("a1"), "byte 1: expected 1 items");
}

TEST_CASE("Lengths are not believed before the bytes are there", "[ipld]") {
  for (const std::string major : {"5", "7"}) {
    CheckRefused(Hex(major + "bffffffffffffffff"), "bytes of a string");
    CheckRefused(Hex(major + "a7fffffff00"), "2147483647 bytes of a string");
  }
  for (const std::string major : {"9", "b"}) {
    CheckRefused(Hex(major + "bffffffffffffffff"), "18446744073709551615 items");
    CheckRefused(Hex(major + "a7fffffff00"), "2147483647 items");
  }
  CheckRefused(Hex("836161"), "byte 1: expected 3 items");
  CheckRefused(Hex("a26160f6"), "byte 1: expected 2 items");
}

TEST_CASE("Nesting is bounded, in both directions", "[ipld]") {
  const std::string block = Must(EncodeDagCbor(Nested(kMaxDagCborDepth)));
  CHECK(Must(DecodeDagCbor(block)) == Nested(kMaxDagCborDepth));
  CHECK_THAT(std::string(EncodeDagCbor(Nested(kMaxDagCborDepth + 1)).status().message()),
             ContainsText("at most 128 arrays and maps within each other"));
  CheckRefused("\x81" + block, "byte 128: expected at most 128 arrays and maps within each other");
  CheckRefused(std::string(1 << 20, '\x81'), "byte 128: expected at most 128");
  std::string maps;
  for (int i = 0; i < 1000; ++i) maps += "\xA1\x60";
  CheckRefused(maps + "\xF6", "byte 256: expected at most 128");
}

TEST_CASE("Siblings are not nesting", "[ipld]") {
  const Value wide = Value::Array(1000, Map({{"k", Array({})}}));
  CHECK(Must(DecodeDagCbor(Must(EncodeDagCbor(wide)))) == wide);
}

TEST_CASE("Values that DAG-CBOR does not have are not encoded", "[ipld]") {
  for (const Value& value : {Value(std::nan("")), Value(HUGE_VAL), Value(-HUGE_VAL), Text("\xFF"),
                             Map({{"\xFF", Value()}}), Array({Map({{"a", Value(HUGE_VAL)}})})}) {
    CHECK(EncodeDagCbor(value).status().code() == absl::StatusCode::kInvalidArgument);
  }
}

TEST_CASE("Integers are int64_t as far as it goes", "[ipld]") {
  for (const int64_t value : {int64_t{0}, int64_t{1}, int64_t{-1}, std::numeric_limits<int64_t>::max(),
                              std::numeric_limits<int64_t>::min()}) {
    CHECK(Value::Integer(value).AsInt64() == value);
  }
  CHECK_FALSE(Value(uint64_t{1} << 63).AsInt64().has_value());
  CHECK_FALSE(Value(NegativeInteger{uint64_t{1} << 63}).AsInt64().has_value());
  CHECK_FALSE(Value(1.0).AsInt64().has_value());
}

TEST_CASE("Links are found in the order of the block, wherever they are", "[ipld]") {
  const AnyCid a = RawCid("a");
  const AnyCid b = *AnyCid::FromBytes(Hex("0155000401020304"));
  const Value value = Map({{"z", Value(a)}, {"aa", Array({Value(b), Map({{"x", Value(a)}})})}, {"bb", Value()}});
  CHECK(Must(LinksOfDagCbor(Must(EncodeDagCbor(value)))) == std::vector<AnyCid>{a, b, a});
  CHECK(Must(LinksOfDagCbor("\xA0")).empty());
}

TEST_CASE("Every value is read back from its block, and the block from the value", "[ipld]") {
  testing::CheckProperty([] {
    const Value value = *AnyValue();
    const std::string block = *EncodeDagCbor(value);
    const auto read = DecodeDagCbor(block);
    RC_ASSERT(read.ok());
    RC_ASSERT(*read == value);
    RC_ASSERT(*EncodeDagCbor(*read) == block);
  });
}

TEST_CASE("A block with changed bytes is refused, or is the block of another value", "[ipld]") {
  testing::CheckProperty([] {
    std::string block = *EncodeDagCbor(*AnyValue());
    const int changes = *rc::gen::inRange(1, 4);
    for (int i = 0; i < changes; ++i) {
      const auto at = *rc::gen::inRange<size_t>(0, block.size() + 1);
      const char byte = *rc::gen::arbitrary<char>();
      switch (*rc::gen::inRange(0, 3)) {
        case 0:
          if (at < block.size()) block[at] = byte;
          break;
        case 1:
          block.insert(at, 1, byte);
          break;
        default:
          block.erase(at, 1);
      }
    }
    const auto read = DecodeDagCbor(block);
    RC_ASSERT(LinksOfDagCbor(block).status() == read.status());
    if (read.ok()) RC_ASSERT(*EncodeDagCbor(*read) == block);
  });
}

TEST_CASE("No beginning of a block is a block", "[ipld]") {
  testing::CheckProperty([] {
    const std::string block = *EncodeDagCbor(*AnyValue({.depth = 2}));
    const auto size = *rc::gen::inRange<size_t>(0, block.size());
    RC_ASSERT(!DecodeDagCbor(block.substr(0, size)).ok());
  });
}

}  // namespace
}  // namespace persistd::ipld
