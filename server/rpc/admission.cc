#include "server/rpc/admission.h"

#include <algorithm>

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
    if (closed_) {
      last_refusal_ = std::chrono::steady_clock::now();
      return domain::ShuttingDown();
    }
  }
  const uint64_t limit = static_cast<uint64_t>(max_running_);
  return domain::Overloaded(
      absl::StrCat(limit, " calls are running already (limits.max_concurrent_calls)"),
      domain::LimitExceeded{
          .name = "running calls", .limit = limit, .value = limit + 1, .config_key = "limits.max_concurrent_calls"});
}

void Admission::Leave() {
  base::MutexLock lock(mutex_);
  if (--running_ == 0) changed_.NotifyAll();
}

void Admission::Close() {
  base::MutexLock lock(mutex_);
  closed_ = true;
  last_refusal_ = std::chrono::steady_clock::now();
}

bool Admission::WaitUntilIdle(base::SteadyTime deadline) {
  base::MutexLock lock(mutex_);
  while (running_ > 0) {
    if (!changed_.WaitUntil(mutex_, deadline)) return running_ == 0;
  }
  return true;
}

void Admission::WaitUntilQuiet(std::chrono::milliseconds quiet, base::SteadyTime deadline) {
  base::MutexLock lock(mutex_);
  while (true) {
    const base::SteadyTime until = std::min(last_refusal_ + quiet, deadline);
    if (std::chrono::steady_clock::now() >= until) return;
    changed_.WaitUntil(mutex_, until);
  }
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
