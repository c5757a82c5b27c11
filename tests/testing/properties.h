// Property tests: a claim that must hold for all inputs, tried on random ones by RapidCheck.
//
//   CheckProperty([] {
//     const std::string text = *Utf8Text(128);
//     RC_ASSERT(Decode(Encode(text)) == text);
//   });
//
// A failure shows the smallest input found. RapidCheck prints its seed to standard error; RC_PARAMS="seed=N" in the
// environment replays it, max_success=N tries harder.
#pragma once

#include <rapidcheck.h>

#include <cstdint>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "tests/testing/catch.h"

namespace persistd::testing {

template <typename Testable>
void CheckProperty(Testable&& testable) {
  const auto result = rc::detail::checkTestable(std::forward<Testable>(testable));
  std::ostringstream text;
  rc::detail::printResultMessage(result, text);
  INFO(text.str());
  REQUIRE(result.template is<rc::detail::SuccessResult>());
}

inline std::string Utf8(uint32_t code) {
  const auto byte = [](uint32_t value) { return static_cast<char>(value); };
  if (code < 0x80) return {byte(code)};
  if (code < 0x800) return {byte(0xC0 | code >> 6), byte(0x80 | (code & 0x3F))};
  if (code < 0x10000) return {byte(0xE0 | code >> 12), byte(0x80 | (code >> 6 & 0x3F)), byte(0x80 | (code & 0x3F))};
  return {byte(0xF0 | code >> 18), byte(0x80 | (code >> 12 & 0x3F)), byte(0x80 | (code >> 6 & 0x3F)),
          byte(0x80 | (code & 0x3F))};
}

// Any code point that is no surrogate, the ones that break protocols and parsers often.
inline rc::Gen<uint32_t> CodePoint() {
  return rc::gen::oneOf(
      rc::gen::inRange<uint32_t>('a', 'z' + 1),
      rc::gen::elementOf(std::vector<uint32_t>{
          0,   '\t', '\r', '\n', ' ',  '.',  '*',   '>',   '=',    '%',    '"',    '\\',   ':',     ';',     ',',
          '/', '_',  '-',  0x7F, 0x80, 0x9B, 0x7FF, 0x800, 0x2028, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x1F600, 0x10FFFF}),
      rc::gen::inRange<uint32_t>(0, 0x80), rc::gen::inRange<uint32_t>(0x80, 0x800),
      rc::gen::inRange<uint32_t>(0x800, 0xD800), rc::gen::inRange<uint32_t>(0xE000, 0x110000));
}

// Valid UTF-8 of at most `max_bytes`, control characters and all.
inline rc::Gen<std::string> Utf8Text(size_t max_bytes) {
  return rc::gen::map(rc::gen::container<std::vector<uint32_t>>(CodePoint()),
                      [max_bytes](const std::vector<uint32_t>& codes) {
                        std::string text;
                        for (const uint32_t code : codes) {
                          const std::string next = Utf8(code);
                          if (text.size() + next.size() > max_bytes) break;
                          text += next;
                        }
                        return text;
                      });
}

// Any bytes.
inline rc::Gen<std::string> AnyBytes() {
  return rc::gen::container<std::string>(
      rc::gen::map(rc::gen::inRange(0, 256), [](int b) { return static_cast<char>(b); }));
}

}  // namespace persistd::testing
