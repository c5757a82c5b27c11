#include "server/rpc/admission.h"

#include "absl/strings/str_cat.h"
#include "server/domain/errors.h"

namespace persistd::rpc {

absl::Status Admission::Enter() {
  {
    base::MutexLock lock(mutex_);
    if (!closed_ && running_ < max_running_) {
      ++running_;
      return absl::OkStatus();
    }
    if (closed_) return domain::ShuttingDown();
  }
  return domain::Overloaded(absl::StrCat(max_running_, " calls are running already (limits.max_concurrent_calls)"));
}

void Admission::Leave() {
  base::MutexLock lock(mutex_);
  if (--running_ == 0) changed_.NotifyAll();
}

void Admission::Close() {
  base::MutexLock lock(mutex_);
  closed_ = true;
}

bool Admission::WaitUntilIdle(base::SteadyTime deadline) {
  base::MutexLock lock(mutex_);
  while (running_ > 0) {
    if (!changed_.WaitUntil(mutex_, deadline)) return running_ == 0;
  }
  return true;
}

void Admission::ObjectMade() {
  base::MutexLock lock(mutex_);
  ++objects_;
}

void Admission::ObjectGone() {
  base::MutexLock lock(mutex_);
  if (--objects_ == 0) changed_.NotifyAll();
}

bool Admission::WaitUntilGone(base::SteadyTime deadline) {
  base::MutexLock lock(mutex_);
  while (objects_ > 0) {
    if (!changed_.WaitUntil(mutex_, deadline)) return objects_ == 0;
  }
  return true;
}

}  // namespace persistd::rpc
