#include "server/rpc/call_context.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "grpc/support/time.h"
#include "grpcpp/server_context.h"

namespace persistd::rpc {
namespace {

// A handler that runs out of time has something to say (that a save may be stored, for one), and the caller stops to
// listen at its deadline. So the handler's deadline is earlier: by a tenth of the time left, and at most this.
constexpr std::chrono::milliseconds kMostAnswerTime{100};
constexpr std::chrono::milliseconds kNone{0};
// A call with a later deadline has this one.
constexpr std::chrono::milliseconds kLongest = std::chrono::hours(24 * 365);

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
  grpc_context_ = grpc_context;
  const gpr_timespec deadline = grpc_context->raw_deadline();
  if (gpr_time_cmp(deadline, gpr_inf_future(deadline.clock_type)) == 0) {
    deadline_ = default_deadline;
    return;
  }
  has_own_deadline_ = true;
  // In whole milliseconds, and bounded: a caller may give any time, centuries from now or ago.
  const gpr_timespec left_spec = gpr_time_sub(deadline, gpr_now(deadline.clock_type));
  const std::chrono::milliseconds left =
      std::clamp(std::chrono::milliseconds(gpr_time_to_millis(left_spec)), -kLongest, kLongest);
  deadline_ = std::chrono::steady_clock::now() + left - std::clamp(left / 10, kNone, kMostAnswerTime);
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
