// One save at a time for each aggregate of this daemon, first come first served. Thread-safe.
//
// This is for speed, not for safety (JetStream's check gives that): saves of one aggregate that race each other to the
// stream would only conflict.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/executor.h"
#include "server/base/future.h"
#include "server/base/mutex.h"
#include "server/base/task.h"
#include "server/domain/aggregate_ref.h"

namespace persistd::repository {

class AggregateLocks {
 public:
  // Holds the lock until destroyed. The locks must outlive it.
  class Guard {
   public:
    Guard(AggregateLocks* locks, domain::AggregateRef ref) : locks_(locks), ref_(std::move(ref)) {}
    Guard(Guard&& other) noexcept : locks_(std::exchange(other.locks_, nullptr)), ref_(std::move(other.ref_)) {}
    Guard& operator=(Guard&&) = delete;
    ~Guard() {
      if (locks_ != nullptr) locks_->Release(ref_);
    }

   private:
    AggregateLocks* locks_;
    domain::AggregateRef ref_;
  };

  // `executor` keeps deadlines and wakes waiters, so that a long queue does not grow one thread's stack.
  explicit AggregateLocks(base::Executor* executor) : executor_(executor) {}

  // The lock, if nobody holds it.
  std::optional<Guard> TryAcquire(const domain::AggregateRef& ref);
  // RESOURCE_EXHAUSTED (OVERLOADED) when the lock is not free by the deadline: nothing was done yet.
  base::Task<absl::StatusOr<Guard>> Acquire(domain::AggregateRef ref, base::SteadyTime deadline);

  bool IsHeld(const domain::AggregateRef& ref) const {
    base::MutexLock lock(mutex_);
    return locked_.contains(ref);
  }

 private:
  struct Waiter {
    uint64_t ticket;
    base::Promise<bool> promise;  // True: has the lock. False: waited too long.
  };

  void Release(const domain::AggregateRef& ref);
  // Takes a waiter that gave up out of the queue, if it still is in it.
  void Leave(const domain::AggregateRef& ref, uint64_t ticket);

  base::Executor* const executor_;
  mutable base::Mutex mutex_;
  uint64_t next_ticket_ GUARDED_BY(mutex_) = 0;
  // Locked aggregates, and who waits for them.
  std::map<domain::AggregateRef, std::list<Waiter>> locked_ GUARDED_BY(mutex_);
};

}  // namespace persistd::repository
