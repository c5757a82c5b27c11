#include "server/rpc/call_context.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "grpcpp/server_context.h"

namespace persistd::rpc {
namespace {

// A handler that runs out of time has something to say (that a save may be stored, for one), and the caller stops to
// listen at its deadline. So the handler's deadline is earlier: by a tenth of the time left, and at most this.
constexpr std::chrono::system_clock::duration kMostAnswerTime = std::chrono::milliseconds(100);

}  // namespace

std::string CallContext::metadata(absl::string_view key) const {
  const auto& all = grpc_context_->client_metadata();
  const auto found = all.find(grpc::string_ref(key.data(), key.size()));
  return found == all.end() ? std::string() : std::string(found->second.data(), found->second.size());
}

void CallContext::OnCancelled(std::function<void()> callback) const {
  {
    base::MutexLock lock(mutex_);
    if (!cancelled()) {
      on_cancelled_.swap(callback);
      return;
    }
  }
  callback();
}

void CallContext::Begin(const grpc::ServerContext* grpc_context, base::SteadyTime default_deadline) {
  using System = std::chrono::system_clock;
  grpc_context_ = grpc_context;
  const System::time_point deadline = grpc_context->deadline();
  if (deadline == System::time_point::max()) {
    deadline_ = default_deadline;
    return;
  }
  const System::duration left = deadline - System::now();
  deadline_ = std::chrono::steady_clock::now() + left - std::clamp(left / 10, System::duration(0), kMostAnswerTime);
}

void CallContext::Cancel() {
  std::function<void()> callback;
  {
    base::MutexLock lock(mutex_);
    cancelled_.store(true, std::memory_order_release);
    callback.swap(on_cancelled_);
  }
  if (callback) callback();
}

void CallContext::End() {
  std::function<void()> dropped;  // Destroyed after the lock is released: it may own anything.
  base::MutexLock lock(mutex_);
  dropped.swap(on_cancelled_);
}

}  // namespace persistd::rpc
