#include "server/ipld/car.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "server/ipld/cid.h"
#include "server/ipld/varint.h"
#include "tests/testing/catch.h"
#include "tests/testing/must.h"
#include "tests/testing/properties.h"

namespace persistd::ipld {
namespace {

using ::persistd::testing::ContainsText;
using ::persistd::testing::Must;

std::string Hex(const std::string& hex) { return absl::HexStringToBytes(hex); }

std::string WithLength(const std::string& section) {
  std::string bytes;
  AppendVarint(section.size(), bytes);
  return bytes + section;
}

struct Read {
  std::vector<AnyCid> roots{};
  std::vector<std::pair<AnyCid, std::string>> blocks{};
  absl::Status status{};
};

// Everything in `car`, which the reader gets in pieces of `piece_bytes`.
Read ReadAll(const std::string& car, size_t piece_bytes = std::string::npos,
             size_t max_section_bytes = CarReader::kMaxSectionBytes) {
  CarReader reader(max_section_bytes);
  Read read;
  for (size_t at = 0; at < car.size(); at += std::min(piece_bytes, car.size() - at)) {
    reader.Add(car.substr(at, piece_bytes));
    for (;;) {
      const auto block = reader.Next();
      if (!block.ok()) {
        CHECK(reader.Next().status() == block.status());  // It stays.
        CHECK(reader.Finish() == block.status());
        return {.roots = reader.roots(), .blocks = std::move(read.blocks), .status = block.status()};
      }
      if (!block->has_value()) break;
      read.blocks.emplace_back((*block)->cid, std::string((*block)->bytes));
    }
  }
  read.roots = reader.roots();
  read.status = reader.Finish();
  return read;
}

void CheckRefused(const std::string& car, const std::string& message,
                  absl::StatusCode code = absl::StatusCode::kInvalidArgument) {
  INFO(absl::BytesToHexString(car.substr(0, 200)));
  for (const size_t piece_bytes : {std::string::npos, size_t{1}}) {
    const Read read = ReadAll(car, piece_bytes);
    CHECK(read.status.code() == code);
    CHECK_THAT(std::string(read.status.message()), ContainsText(message));
  }
}

std::string Section(const std::string& block) { return CarSection(RawCid(block), block); }

TEST_CASE("A header and a section have the bytes that the specification says", "[ipld]") {
  const Cid cid = RawCid("hello world");
  const std::string digest = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9";
  // 58 bytes: {"roots": [42(0x00 CID)], "version": 1}.
  CHECK(absl::BytesToHexString(CarHeader(cid)) ==
        "3aa265726f6f747381d82a5825000155"
        "1220" +
            digest + "6776657273696f6e01");
  CHECK(absl::BytesToHexString(CarSection(cid, "hello world")) == "2f01551220" + digest + "68656c6c6f20776f726c64");
}

TEST_CASE("What was written is read, in pieces of any size", "[ipld]") {
  const std::vector<std::string> blocks = {"one", "", std::string(300, 'x'), std::string(70000, 'y'), "one"};
  const Cid root = RawCid(blocks[2]);
  std::string car = CarHeader(root);
  for (const std::string& block : blocks) car += Section(block);
  for (const size_t piece_bytes : {std::string::npos, size_t{1}, size_t{2}, size_t{7}, size_t{4096}}) {
    const Read read = ReadAll(car, piece_bytes);
    Must(read.status);
    CHECK(read.roots == std::vector<AnyCid>{root});
    REQUIRE(read.blocks.size() == blocks.size());
    for (size_t i = 0; i < blocks.size(); ++i) {
      CHECK(read.blocks[i].first == AnyCid(RawCid(blocks[i])));
      CHECK(read.blocks[i].second == blocks[i]);
    }
  }
}

TEST_CASE("A block is there as soon as its last byte is, and not before", "[ipld]") {
  CarReader reader;
  const std::string section = Section("block");
  const std::string header = CarHeader(RawCid("block"));
  reader.Add(header.substr(0, header.size() - 1));
  CHECK_FALSE(Must(reader.Next()).has_value());
  CHECK(reader.roots().empty());
  reader.Add(header.substr(header.size() - 1));
  CHECK_FALSE(Must(reader.Next()).has_value());
  CHECK(reader.roots().size() == 1);
  reader.Add(section.substr(0, section.size() - 1));
  CHECK_FALSE(Must(reader.Next()).has_value());
  reader.Add(section.substr(section.size() - 1));
  CHECK(Must(reader.Next())->bytes == "block");
  CHECK_FALSE(Must(reader.Next()).has_value());
  Must(reader.Finish());
}

TEST_CASE("A CAR may hold nothing but its header", "[ipld]") {
  const Read read = ReadAll(CarHeader(RawCid("elsewhere")));
  Must(read.status);
  CHECK(read.blocks.empty());
}

TEST_CASE("A block that is not what its CID says is an error that names the CID", "[ipld]") {
  const Cid cid = RawCid("right");
  const std::string car = CarHeader(cid) + Section("before");
  CheckRefused(car + CarSection(cid, "wrong"), "block " + cid.ToString() + " is not what its CID says");
  CheckRefused(car + CarSection(cid, "wrong"), "byte " + std::to_string(car.size()) + ":");
  CHECK(ReadAll(car + CarSection(cid, "wrong")).blocks.size() == 1);
}

TEST_CASE("Blocks by other CIDs are checked where we know the hash function, and refused where not", "[ipld]") {
  const AnyCid version0 =
      *AnyCid::FromBytes(Hex("122059948439065f29619ef41280cbb932be52c56d99c5966b65e0111239f098bbef"));
  const AnyCid identity = *AnyCid::FromBytes(Hex("0155000401020304"));
  const std::string header = CarHeader(version0);
  const Read read = ReadAll(header + CarSection(version0, Hex("0a020801")) + CarSection(identity, "\x01\x02\x03\x04"));
  Must(read.status);
  CHECK(read.roots == std::vector<AnyCid>{version0});
  CHECK(read.blocks.size() == 2);
  CheckRefused(header + CarSection(version0, Hex("0a020802")),
               "block QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn is not what its CID says");
  CheckRefused(header + CarSection(identity, "\x01\x02\x03\x05"), "block bafkqababaibqi is not what its CID says");
  const AnyCid blake3 = *AnyCid::FromBytes(Hex("01551e20") + std::string(32, 'd'));
  CheckRefused(header + CarSection(blake3, "block"), "uses hash function 0x1e");
  // Of a digest that was shortened, who knows what was left out.
  const AnyCid shortened = *AnyCid::FromBytes(Hex("01551204") + RawCid("block").ToBytes().substr(4, 4));
  CheckRefused(header + CarSection(shortened, "block"), "is not what its CID says");
}

TEST_CASE("A header that is malformed is refused", "[ipld]") {
  const auto with_header = [](const std::string& hex) { return WithLength(Hex(hex)) + Section("block"); };
  const std::string link = "d82a49000155000401020304";
  Must(ReadAll(with_header("a265726f6f747381" + link + "6776657273696f6e01")).status);
  Must(ReadAll(with_header("a265726f6f747382" + link + link + "6776657273696f6e01")).status);

  CheckRefused(with_header("a265726f6f7473806776657273696f6e01"), "byte 0: the header has no roots");
  for (const std::string& hex : {
           "a265726f6f747381" + link + "6776657273696f6e02",                  // Another version,
           "a265726f6f747381" + link + "6776657273696f6efb3ff0000000000000",  // a double,
           "a265726f6f747381" + link + "6776657273696f6e6131",                // a text.
           "a165726f6f747381" + link,
           std::string("a16776657273696f6e01"),
           std::string("a16776657273696f6e02"),                 // What version 2 begins with.
           "a265726f6f7473" + link + "6776657273696f6e01",      // Roots are an array
           "a265726f6f74738181" + link + "6776657273696f6e01",  // of links.
           std::string("a265726f6f747381016776657273696f6e01"),
           "a365726f6f747381" + link + "65737061636501" + "6776657273696f6e01",
           "81" + link,
           std::string("01"),
       }) {
    CheckRefused(with_header(hex), "byte 0: the header is not of version 1");
  }
  CheckRefused(with_header("a26776657273696f6e0165726f6f747381" + link), "the header is no DAG-CBOR");  // Unsorted.
  CheckRefused(with_header(""), "the header is no DAG-CBOR");
  CheckRefused("\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01", "byte 0: its length is no varint");
}

TEST_CASE("A section that is malformed is refused", "[ipld]") {
  const std::string header = CarHeader(RawCid("block"));
  CheckRefused(header + std::string(1, '\0'), "byte 59: the section does not begin with a CID");
  CheckRefused(header + WithLength("not a CID"), "byte 59: the section does not begin with a CID");
  CheckRefused(header + WithLength(RawCid("block").ToBytes().substr(0, 35)), "does not begin with a CID");
  CheckRefused(header + std::string("\x81\x00", 2), "byte 59: its length is no varint");
}

TEST_CASE("Input that ends too early is refused, wherever it ends", "[ipld]") {
  const std::string header = CarHeader(RawCid("block"));
  const std::string car = header + Section("one") + Section(std::string(200, 'x'));
  for (size_t size = 0; size < car.size(); ++size) {
    if (size == header.size() || size == header.size() + Section("one").size()) {
      Must(ReadAll(car.substr(0, size)).status);
    } else {
      const std::string message = size < header.size() ? "the input ends within the header" : "ends within a section";
      CheckRefused(car.substr(0, size), message);
    }
  }
}

TEST_CASE("A section beyond the bound is refused by its length alone", "[ipld]") {
  const std::string header = CarHeader(RawCid("block"));
  CheckRefused(header + "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F", "a section of 9223372036854775807 bytes",
               absl::StatusCode::kResourceExhausted);
  CheckRefused("\xFF\xFF\xFF\xFF\x7F", "byte 0: a section of", absl::StatusCode::kResourceExhausted);
  const std::string car = header + Section(std::string(64, 'x'));
  CHECK(ReadAll(car, 1, 100).status.ok());
  const Read read = ReadAll(car, 1, 99);
  CHECK(read.status.code() == absl::StatusCode::kResourceExhausted);
  CHECK_THAT(std::string(read.status.message()), ContainsText("a section of 100 bytes, where at most 99 are allowed"));
}

TEST_CASE("Blocks are the same however the CAR is cut into pieces", "[ipld]") {
  testing::CheckProperty([] {
    const auto blocks = *rc::gen::container<std::vector<std::string>>(testing::AnyBytes());
    std::string car = CarHeader(RawCid("root"));
    for (const std::string& block : blocks) car += Section(block);
    const Read read = ReadAll(car, *rc::gen::inRange<size_t>(1, car.size() + 1));
    RC_ASSERT(read.status.ok());
    RC_ASSERT(read.blocks.size() == blocks.size());
    for (size_t i = 0; i < blocks.size(); ++i) RC_ASSERT(read.blocks[i].second == blocks[i]);
  });
}

}  // namespace
}  // namespace persistd::ipld
