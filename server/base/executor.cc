#include "server/base/executor.h"

#include <pthread.h>

#include <utility>

#include "server/base/burst.h"

namespace persistd::base {

Executor::Executor(std::string name) {
  thread_ = std::thread([this] { Run(); });
  pthread_setname_np(thread_.native_handle(), name.c_str());
}

Executor::~Executor() { Stop(); }

void Executor::Post(std::function<void()> function) { RunAt(SteadyTime::min(), std::move(function)); }

Executor::TimerId Executor::RunAt(SteadyTime at, std::function<void()> function) {
  MutexLock lock(mutex_);
  const TimerId id{at, next_number_++};
  timers_.emplace(id, std::move(function));
  if (at < wakes_at_) {
    wakes_at_ = at;
    changed_.NotifyOne();
  }
  return id;
}

bool Executor::Cancel(TimerId id) {
  std::function<void()> dropped;  // Destroyed after the lock is released: it may own anything.
  MutexLock lock(mutex_);
  const auto found = timers_.find(id);
  if (found == timers_.end()) return false;
  dropped = std::move(found->second);
  timers_.erase(found);
  return true;
}

Future<bool> Executor::Sleep(SteadyTime at) {
  Promise<bool> promise;
  Future<bool> future = promise.future();
  RunAt(at, [promise] { promise.TrySet(true); });
  return future;
}

void Executor::Stop() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.NotifyOne();
  }
  if (thread_.joinable()) thread_.join();
}

void Executor::Run() {
  while (true) {
    std::function<void()> due;
    {
      MutexLock lock(mutex_);
      while (true) {
        if (timers_.empty()) {
          if (stopping_) return;
          wakes_at_ = SteadyTime::max();
          changed_.Wait(mutex_);
          continue;
        }
        const auto next = timers_.begin();
        if (next->first.at <= std::chrono::steady_clock::now()) {
          due = std::move(next->second);
          timers_.erase(next);
          wakes_at_ = SteadyTime::min();  // It looks again anyway.
          break;
        }
        if (stopping_) return;
        wakes_at_ = next->first.at;
        changed_.WaitUntil(mutex_, wakes_at_);
      }
    }
    Burst::Begin();
    due();
    Burst::End();
  }
}

}  // namespace persistd::base
