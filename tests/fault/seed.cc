#include "tests/fault/seed.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>

namespace persistd::fault {

uint64_t Seed() {
  static const uint64_t seed = [] {
    const char* given = std::getenv("FAULT_SEED");
    const uint64_t value = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device()();
    std::fprintf(stderr, "FAULT_SEED=%llu\n", static_cast<unsigned long long>(value));
    return value;
  }();
  return seed;
}

int Scale() {
  const char* given = std::getenv("FAULT_SCALE");
  return given != nullptr ? std::max(1, std::atoi(given)) : 1;
}

}  // namespace persistd::fault
