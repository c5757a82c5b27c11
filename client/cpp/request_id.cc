#include "client/cpp/request_id.h"

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <random>

namespace persistd::client {

std::string NewRequestId() {
  const auto since_epoch = std::chrono::system_clock::now().time_since_epoch();
  const auto millis = static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(since_epoch).count());
  // The kernel's generator, asked anew each time: processes forked from one parent must not share a sequence.
  std::random_device random;
  const uint32_t a = random(), b = random(), c = random();

  char text[37];
  std::snprintf(text, sizeof text, "%08x-%04x-7%03x-%04x-%04x%08x", static_cast<uint32_t>(millis >> 16 & 0xffffffff),
                static_cast<uint32_t>(millis & 0xffff), a & 0xfff, 0x8000 | (a >> 12 & 0x3fff), b & 0xffff, c);
  return text;
}

}  // namespace persistd::client
