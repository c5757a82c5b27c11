// Counts the calls of one method: how they ended and how long they took. Thread-safe.
//
// Cheap enough for every call: five atomic additions, no lock, no look-up. What is read while calls end may count such
// a call in one number and not yet in another.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <tuple>

#include "absl/status/status.h"

namespace persistd::rpc {

// The upper bounds of the buckets that durations are counted in.
inline constexpr std::array<std::chrono::microseconds, 16> kDurationBounds = {{
    std::chrono::microseconds(250),
    std::chrono::microseconds(500),
    std::chrono::milliseconds(1),
    std::chrono::microseconds(2500),
    std::chrono::milliseconds(5),
    std::chrono::milliseconds(10),
    std::chrono::milliseconds(25),
    std::chrono::milliseconds(50),
    std::chrono::milliseconds(100),
    std::chrono::milliseconds(250),
    std::chrono::milliseconds(500),
    std::chrono::seconds(1),
    std::chrono::milliseconds(2500),
    std::chrono::seconds(5),
    std::chrono::seconds(10),
    std::chrono::seconds(30),
}};

struct CallCounts {
  // Ended calls by absl::StatusCode, whose numbers are gRPC's.
  std::array<uint64_t, 17> by_code{};
  // Ended calls by duration: over the bound before, up to the bound of the same index; the last: over all bounds.
  std::array<uint64_t, kDurationBounds.size() + 1> by_duration{};
  std::chrono::nanoseconds total_duration{};  // Of the ended calls.
  uint64_t running = 0;
};

// Of one method, by name.
struct MethodCalls {
  std::string service;  // With its package.
  std::string method;
  CallCounts counts;
};

// On cache lines of its own, so that methods do not slow down each other.
class alignas(64) CallStats {
 public:
  // Each Begin is followed by one End.
  void Begin() { running_.fetch_add(1, std::memory_order_relaxed); }
  // A code that gRPC does not have counts as UNKNOWN.
  void End(absl::StatusCode code, std::chrono::nanoseconds duration);
  CallCounts Read() const;

 private:
  std::atomic<uint64_t> running_ = 0;
  std::atomic<int64_t> total_ns_ = 0;
  std::array<std::atomic<uint64_t>, std::tuple_size_v<decltype(CallCounts::by_code)>> by_code_{};
  std::array<std::atomic<uint64_t>, std::tuple_size_v<decltype(CallCounts::by_duration)>> by_duration_{};
};

}  // namespace persistd::rpc
