#include "server/app/stream_watch.h"

#include <utility>

#include "absl/status/status.h"
#include "server/base/future.h"
#include "server/base/logging.h"

namespace persistd::app {

StreamWatch::StreamWatch(Options options, repository::Types* types) : options_(std::move(options)), types_(types) {}

StreamWatch::~StreamWatch() { Stop(); }

void StreamWatch::Start() {
  thread_ = std::thread([this] { Run(); });
}

void StreamWatch::Wake() {
  base::MutexLock lock(mutex_);
  awake_ = true;
  changed_.NotifyAll();
}

void StreamWatch::Stop() {
  {
    base::MutexLock lock(mutex_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

bool StreamWatch::looked() const {
  base::MutexLock lock(mutex_);
  return looked_;
}

uint64_t StreamWatch::memory_bytes() const {
  base::MutexLock lock(mutex_);
  return memory_bytes_;
}

void StreamWatch::Run() {
  // Until NATS is there for the first time there is nothing to look at.
  base::SteadyTime next = base::SteadyTime::max();
  while (true) {
    {
      base::MutexLock lock(mutex_);
      while (!stopping_ && !awake_ && std::chrono::steady_clock::now() < next) {
        if (next == base::SteadyTime::max()) {
          changed_.Wait(mutex_);
        } else {
          changed_.WaitUntil(mutex_, next);
        }
      }
      if (stopping_) return;
      awake_ = false;
    }
    const absl::Status status = base::BlockOn(types_->Refresh(std::chrono::steady_clock::now() + options_.patience));
    if (!status.ok()) base::LogWarn("streams could not be looked at", {{"reason", status}});
    const uint64_t memory = options_.memory();
    bool first = false;
    {
      base::MutexLock lock(mutex_);
      if (stopping_) return;
      first = !std::exchange(looked_, true);
      memory_bytes_ = memory;
    }
    if (first) options_.on_looked();
    next = std::chrono::steady_clock::now() + (status.ok() ? options_.interval : options_.retry);
  }
}

}  // namespace persistd::app
