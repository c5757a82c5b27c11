#include "server/repository/aggregate_locks.h"

#include <optional>

#include "server/domain/errors.h"

namespace persistd::repository {

std::optional<AggregateLocks::Guard> AggregateLocks::TryAcquire(const domain::AggregateRef& ref) {
  {
    base::MutexLock lock(mutex_);
    if (!locked_.try_emplace(ref).second) return std::nullopt;
  }
  return Guard(this, ref);
}

base::Task<absl::StatusOr<AggregateLocks::Guard>> AggregateLocks::Acquire(domain::AggregateRef ref,
                                                                          base::SteadyTime deadline) {
  std::optional<Waiter> waiter;
  {
    base::MutexLock lock(mutex_);
    const auto [entry, free] = locked_.try_emplace(ref);
    if (!free) {
      waiter = Waiter{.ticket = next_ticket_++, .promise = {}};
      entry->second.push_back(*waiter);
    }
  }
  if (waiter.has_value()) {
    const base::Promise<bool> timed = waiter->promise;
    const base::Executor::TimerId timer = executor_->RunAt(deadline, [timed] { timed.TrySet(false); });
    base::Future<bool> acquired_later = timed.future();
    const bool acquired = co_await acquired_later;
    executor_->Cancel(timer);
    if (!acquired) {
      Leave(ref, waiter->ticket);
      co_return domain::Overloaded("other saves of this aggregate took all of this call's time");
    }
  }
  co_return Guard(this, std::move(ref));
}

void AggregateLocks::Release(const domain::AggregateRef& ref) {
  std::optional<base::Promise<bool>> next;
  {
    base::MutexLock lock(mutex_);
    const auto entry = locked_.find(ref);
    if (entry->second.empty()) {
      locked_.erase(entry);
      return;
    }
    next = entry->second.front().promise;
    entry->second.pop_front();
  }
  // On another stack: the next holder may release at once, and so may a thousand after it. A waiter whose time ran out
  // in between did not take the lock, so it goes on to the next one.
  executor_->Post([this, waiter = *next, ref] {
    if (!waiter.TrySet(true)) Release(ref);
  });
}

void AggregateLocks::Leave(const domain::AggregateRef& ref, uint64_t ticket) {
  base::MutexLock lock(mutex_);
  const auto entry = locked_.find(ref);
  if (entry != locked_.end())
    std::erase_if(entry->second, [=](const Waiter& waiter) { return waiter.ticket == ticket; });
}

}  // namespace persistd::repository
