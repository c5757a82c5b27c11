// Time comes only from a Clock, so that tests can choose it.
#pragma once

#include <chrono>

namespace persistd::base {

using SteadyTime = std::chrono::steady_clock::time_point;
// Wall-clock time, UTC, as stored in events: nanosecond resolution.
using WallTime = std::chrono::sys_time<std::chrono::nanoseconds>;

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual WallTime WallNow() const = 0;
  virtual SteadyTime SteadyNow() const = 0;

  // The machine's clock; lives for ever.
  static const Clock& System();
};

// A clock that moves only when told to.
class FakeClock final : public Clock {
 public:
  explicit FakeClock(WallTime start) : wall_(start) {}
  WallTime WallNow() const override { return wall_; }
  SteadyTime SteadyNow() const override { return steady_; }
  void Advance(std::chrono::nanoseconds by) {
    wall_ += by;
    steady_ += std::chrono::duration_cast<std::chrono::steady_clock::duration>(by);
  }

 private:
  WallTime wall_;
  SteadyTime steady_;
};

}  // namespace persistd::base
