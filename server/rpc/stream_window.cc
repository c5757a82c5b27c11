#include "server/rpc/stream_window.h"

#include <utility>

namespace persistd::rpc {

bool StreamWindow::StartWait(std::coroutine_handle<> handle, bool until_idle) {
  base::MutexLock lock(mutex_);
  if (Satisfied(until_idle)) return false;
  waiting_ = handle;
  until_idle_ = until_idle;
  return true;
}

void StreamWindow::Enter(uint64_t bytes) {
  base::MutexLock lock(mutex_);
  ++items_;
  bytes_ += bytes;
}

void StreamWindow::Resize(uint64_t from, uint64_t to) {
  std::coroutine_handle<> waiting;
  {
    base::MutexLock lock(mutex_);
    bytes_ = bytes_ - from + to;
    waiting = TakeWaiting();
  }
  if (waiting) waiting.resume();
}

void StreamWindow::Leave(uint64_t bytes) {
  std::coroutine_handle<> waiting;
  {
    base::MutexLock lock(mutex_);
    --items_;
    bytes_ -= bytes;
    waiting = TakeWaiting();
  }
  if (waiting) waiting.resume();
}

std::coroutine_handle<> StreamWindow::TakeWaiting() {
  return waiting_ && Satisfied(until_idle_) ? std::exchange(waiting_, nullptr) : nullptr;
}

bool InOrder::StartWait(uint64_t number, std::coroutine_handle<> handle) {
  base::MutexLock lock(mutex_);
  if (number == next_) return false;
  waiting_[number % waiting_.size()] = handle;
  return true;
}

void InOrder::Pass() {
  std::coroutine_handle<> waiting;
  {
    base::MutexLock lock(mutex_);
    ++next_;
    waiting = std::exchange(waiting_[next_ % waiting_.size()], nullptr);
  }
  if (waiting) waiting.resume();
}

}  // namespace persistd::rpc
