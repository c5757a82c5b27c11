#include "server/rpc/outbox.h"

#include <utility>

namespace persistd::rpc {

Outbox::Outbox(Transport* transport) : transport_(transport), starter_(std::make_shared<Starter>(this)) {}

void Outbox::Push(grpc::ByteBuffer& message) {
  queued_bytes_ += message.Length();
  queue_.emplace_back().Swap(&message);  // A ByteBuffer cannot be moved.
}

bool Outbox::Add(PendingWrite& write) {
  {
    base::MutexLock lock(mutex_);
    if (broken_) {
      write.accepted = false;
      return false;
    }
    if (first_waiting_ != nullptr || !HasRoom()) {
      (first_waiting_ == nullptr ? first_waiting_ : last_waiting_->next) = &write;
      last_waiting_ = &write;
      return true;
    }
    write.accepted = true;
    Push(write.message);
    if (writing_ || starting_) return false;
    starting_ = true;
  }
  // Not under the lock: outside of a burst it starts the write here and now. Nothing of this object ends before.
  base::Burst::AtEnd(starter_);
  return false;
}

void Outbox::OnBurstEnd() {
  Next next;
  std::coroutine_handle<> drained;
  {
    base::MutexLock lock(mutex_);
    starting_ = false;
    TakeNext(next);
    drained = TakeDrained();
  }
  if (next.there) transport_->StartWrite(next.message, next.more);
  if (drained) drained.resume();
}

void Outbox::OnWritten(bool ok) {
  Next next;
  PendingWrite* admitted = nullptr;
  std::coroutine_handle<> drained;
  {
    base::MutexLock lock(mutex_);
    writing_ = false;
    if (!ok) Break();
    TakeNext(next);
    admitted = TakeAdmitted();
    if (!next.there) TakeNext(next);  // The queue was empty, for the last message alone had filled it.
    drained = TakeDrained();
  }
  if (next.there) transport_->StartWrite(next.message, next.more);
  while (admitted != nullptr) {
    // Once resumed, it is gone.
    std::exchange(admitted, admitted->next)->waiting.resume();
  }
  if (drained) drained.resume();
}

void Outbox::Break() {
  broken_ = true;
  queue_.clear();
  queued_bytes_ = 0;
}

PendingWrite* Outbox::TakeAdmitted() {
  PendingWrite* const first = first_waiting_;
  PendingWrite* last = nullptr;
  while (first_waiting_ != nullptr && (broken_ || HasRoom())) {
    last = std::exchange(first_waiting_, first_waiting_->next);
    last->accepted = !broken_;
    if (!broken_) Push(last->message);
  }
  if (last == nullptr) return nullptr;
  last->next = nullptr;
  return first;
}

void Outbox::TakeNext(Next& next) {
  if (writing_ || queue_.empty()) return;
  writing_ = true;
  next.there = true;
  next.message.Swap(&queue_.front());
  queue_.pop_front();
  queued_bytes_ -= next.message.Length();
  next.more = ending_ || !queue_.empty() || first_waiting_ != nullptr;
}

std::coroutine_handle<> Outbox::TakeDrained() { return Idle() ? std::exchange(drained_, nullptr) : nullptr; }

bool Outbox::StartDrain(std::coroutine_handle<> handle) {
  base::MutexLock lock(mutex_);
  ending_ = true;
  if (Idle()) return false;
  drained_ = handle;
  return true;
}

}  // namespace persistd::rpc
