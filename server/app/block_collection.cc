#include "server/app/block_collection.h"

#include <algorithm>
#include <utility>

#include "server/base/logging.h"

namespace persistd::app {
namespace {

constexpr std::chrono::milliseconds kFirstWithin = std::chrono::hours(1);

}  // namespace

BlockCollection::BlockCollection(Options options) : options_(std::move(options)) {}

BlockCollection::~BlockCollection() { Stop(); }

std::chrono::milliseconds BlockCollection::FirstRun(std::chrono::milliseconds interval, double random) {
  const auto within = static_cast<double>(std::min(interval, kFirstWithin).count());
  return std::chrono::milliseconds(static_cast<int64_t>(within * std::clamp(random, 0.0, 1.0)));
}

void BlockCollection::Start() {
  if (options_.interval.count() == 0) return;
  thread_ = std::thread([this] { Loop(); });
}

void BlockCollection::Stop() {
  {
    base::MutexLock lock(mutex_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  options_.cancel();
  if (thread_.joinable()) thread_.join();
}

std::string BlockCollection::problem() const {
  base::MutexLock lock(mutex_);
  return problem_;
}

void BlockCollection::Loop() {
  std::chrono::milliseconds wait = options_.first_after;
  while (true) {
    {
      const auto next = std::chrono::steady_clock::now() + wait;
      base::MutexLock lock(mutex_);
      while (!stopping_ && std::chrono::steady_clock::now() < next) changed_.WaitUntil(mutex_, next);
      if (stopping_) return;
    }
    RunOnce();
    wait = options_.interval;
  }
}

void BlockCollection::RunOnce() {
  const auto start = std::chrono::steady_clock::now();
  const absl::StatusOr<repository::Collection> done = options_.run();
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - start);
  {
    base::MutexLock lock(mutex_);
    if (stopping_) return;
    problem_ = done.ok() ? "" : std::string(done.status().message());
  }
  if (!done.ok()) {
    base::LogWarn("blocks are not collected", {{"reason", done.status()}});
    return;
  }
  base::LogInfo("blocks collected", {{"old", done->candidates},
                                     {"lists", done->lists},
                                     {"collected", done->collected},
                                     {"bytes", done->collected_bytes},
                                     {"ms", ms.count()}});
}

}  // namespace persistd::app
