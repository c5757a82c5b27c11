// Unsigned varints as multiformats have them (https://github.com/multiformats/unsigned-varint): seven bits a byte, the
// low ones first, numbers below 2^63, always in the shortest form. Pure, thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace persistd::ipld {

// value: below 2^63.
void AppendVarint(uint64_t value, std::string& out);

struct Varint {
  enum class State {
    kComplete,
    kIncomplete,  // The bytes end within the number.
    kMalformed,   // 2^63 or more, or longer than it need be.
  };
  State state = State::kIncomplete;
  uint64_t value = 0;  // When complete.
  size_t size = 0;     // How many bytes it takes, when complete.
};

// The number that `bytes` begin with.
Varint ReadVarint(absl::string_view bytes);

}  // namespace persistd::ipld
