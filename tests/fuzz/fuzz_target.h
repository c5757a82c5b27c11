// What a fuzz target is made of. libFuzzer calls the first function; driver.cc, which runs in the default tests, both.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

// Feeds the bytes to the code under test, and aborts when it does what it must not. Returns 0.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace persistd::fuzz {

// What to change: at least one input that the code under test accepts. Always the same.
std::vector<std::string> SeedInputs();

// Ends the program when `claim` does not hold; driver.cc then prints the input, libFuzzer stores it.
inline void Require(bool claim, const char* what) {
  if (claim) return;
  std::fprintf(stderr, "fuzz: this does not hold: %s\n", what);
  std::abort();
}

}  // namespace persistd::fuzz
