// Waits for something that another process does and nobody announces (a file, an answer over HTTP).
#pragma once

#include <chrono>
#include <thread>

namespace persistd::testing {

// Asks `condition` every few milliseconds; false when it still did not hold after `timeout`. For what happens in this
// process wait on a condition variable or a future instead.
template <typename Condition>
[[nodiscard]] bool PollUntil(Condition condition, std::chrono::milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  while (!condition()) {
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return true;
}

}  // namespace persistd::testing
