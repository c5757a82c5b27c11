// Random values of the IPLD data model, for property tests.
#pragma once

#include <rapidcheck.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "server/ipld/any_cid.h"
#include "server/ipld/cid.h"
#include "server/ipld/dag_cbor.h"
#include "server/ipld/varint.h"
#include "tests/testing/properties.h"

namespace persistd::ipld {

struct ValueOptions {
  int depth = 4;
  // Only what JavaScript gives back: a double without a fraction becomes an integer there, and a byte order mark at the
  // start of a text is lost.
  bool for_javascript = false;
};

// Of all lengths alike, the ends of each length in CBOR often.
inline rc::Gen<uint64_t> AnyUint64() {
  return rc::gen::oneOf(
      rc::gen::elementOf(std::vector<uint64_t>{0, 23, 24, 0xFF, 0x100, 0xFFFF, 0x10000, 0xFFFFFFFF, 0x100000000,
                                               0x7FFFFFFFFFFFFFFF, 0x8000000000000000, 0xFFFFFFFFFFFFFFFF}),
      rc::gen::map(
          rc::gen::pair(rc::gen::resize(rc::kNominalSize, rc::gen::arbitrary<uint64_t>()), rc::gen::inRange(0, 64)),
          [](const std::pair<uint64_t, int>& p) { return p.first >> p.second; }));
}

inline rc::Gen<double> AnyFiniteDouble(const ValueOptions& options) {
  const auto bits = rc::gen::resize(rc::kNominalSize, rc::gen::arbitrary<uint64_t>());
  return rc::gen::suchThat(
      rc::gen::oneOf(rc::gen::elementOf(std::vector<double>{0.0, -0.0, 1.0, 0.1, -1.5, 5e-324, 1.7976931348623157e308}),
                     rc::gen::map(bits, [](uint64_t value) { return std::bit_cast<double>(value); })),
      [options](double value) {
        return std::isfinite(value) && !(options.for_javascript && std::trunc(value) == value);
      });
}

inline rc::Gen<std::string> AnyText(const ValueOptions& options) {
  return rc::gen::suchThat(testing::Utf8Text(200), [options](const std::string& text) {
    return !(options.for_javascript && text.substr(0, 3) == "\xEF\xBB\xBF");
  });
}

// Of version 0 and 1, our own and foreign hash functions.
inline rc::Gen<AnyCid> GenerateAnyCid() {
  const auto digest = rc::gen::map(testing::AnyBytes(), [](const std::string& bytes) { return RawCid(bytes).digest; });
  const auto own = rc::gen::map(rc::gen::pair(rc::gen::inRange<uint64_t>(0, 1 << 20), digest),
                                [](const std::pair<uint64_t, std::array<uint8_t, 32>>& p) {
                                  return AnyCid(Cid{.codec = p.first, .digest = p.second});
                                });
  const auto version0 = rc::gen::map(digest, [](const std::array<uint8_t, 32>& d) {
    return *AnyCid::FromBytes("\x12\x20" + std::string(reinterpret_cast<const char*>(d.data()), d.size()));
  });
  const auto foreign = rc::gen::map(rc::gen::tuple(rc::gen::inRange<uint64_t>(0, 1 << 20),
                                                   rc::gen::inRange<uint64_t>(0, 1 << 20), testing::AnyBytes()),
                                    [](const std::tuple<uint64_t, uint64_t, std::string>& parts) {
                                      const auto& [codec, hash_function, bytes] = parts;
                                      std::string cid = "\x01";
                                      for (const uint64_t number : {codec, hash_function, uint64_t{bytes.size()}})
                                        AppendVarint(number, cid);
                                      return *AnyCid::FromBytes(cid + bytes);
                                    });
  return rc::gen::oneOf(own, version0, foreign);
}

inline rc::Gen<Value> AnyValue(const ValueOptions& options = {}) {
  const auto value_of = [](auto generator) {
    return rc::gen::map(std::move(generator), [](auto part) { return Value(std::move(part)); });
  };
  const auto scalar = rc::gen::oneOf(
      rc::gen::just(Value()), value_of(rc::gen::arbitrary<bool>()), value_of(AnyUint64()),
      rc::gen::map(AnyUint64(), [](uint64_t argument) { return Value(NegativeInteger{argument}); }),
      value_of(AnyFiniteDouble(options)), value_of(AnyText(options)), value_of(GenerateAnyCid()),
      rc::gen::map(testing::AnyBytes(), [](std::string bytes) { return Value(Bytes{std::move(bytes)}); }));
  if (options.depth == 0) return scalar;

  const auto inner = AnyValue({.depth = options.depth - 1, .for_javascript = options.for_javascript});
  // Smaller on each level, so that the whole does not explode.
  const auto array = rc::gen::scale(0.3, value_of(rc::gen::container<Value::Array>(inner)));
  const auto map = rc::gen::scale(0.3, rc::gen::map(rc::gen::container<std::vector<std::pair<std::string, Value>>>(
                                                        rc::gen::pair(AnyText(options), inner)),
                                                    [](std::vector<std::pair<std::string, Value>> entries) {
                                                      Value::Map result;
                                                      for (auto& [key, value] : entries)
                                                        result.insert_or_assign(std::move(key), std::move(value));
                                                      return Value(std::move(result));
                                                    }));
  return rc::gen::weightedOneOf<Value>({{2, scalar}, {1, array}, {1, map}});
}

}  // namespace persistd::ipld
