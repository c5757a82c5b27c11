#include "server/ipld/varint.h"

#include <string>

#include "tests/testing/catch.h"

namespace persistd::ipld {
namespace {

using State = Varint::State;

std::string Append(uint64_t value) {
  std::string bytes;
  AppendVarint(value, bytes);
  return bytes;
}

// From the specification of multiformats.
TEST_CASE("Varints are written seven bits a byte, the low ones first", "[ipld]") {
  CHECK(Append(0) == std::string(1, '\0'));
  CHECK(Append(1) == "\x01");
  CHECK(Append(127) == "\x7F");
  CHECK(Append(128) == "\x80\x01");
  CHECK(Append(255) == "\xFF\x01");
  CHECK(Append(300) == "\xAC\x02");
  CHECK(Append(16384) == "\x80\x80\x01");
  CHECK(Append((uint64_t{1} << 63) - 1) == "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F");
}

TEST_CASE("Varints are read back, whatever follows, and not before they are all there", "[ipld]") {
  for (int shift = 0; shift < 63; ++shift) {
    for (const uint64_t value : {uint64_t{1} << shift, (uint64_t{1} << shift) - 1}) {
      const std::string bytes = Append(value);
      const Varint read = ReadVarint(bytes + "\x80");
      CHECK(read.state == State::kComplete);
      CHECK(read.value == value);
      CHECK(read.size == bytes.size());
      CHECK(ReadVarint(bytes.substr(0, bytes.size() - 1)).state == State::kIncomplete);
    }
  }
}

TEST_CASE("Varints that are too long or too large are refused", "[ipld]") {
  CHECK(ReadVarint(absl::string_view("\x80\x00", 2)).state == State::kMalformed);
  CHECK(ReadVarint(absl::string_view("\xFF\x80\x00", 3)).state == State::kMalformed);
  CHECK(ReadVarint("\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01").state == State::kMalformed);
  CHECK(ReadVarint("\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF").state == State::kMalformed);
}

}  // namespace
}  // namespace persistd::ipld
