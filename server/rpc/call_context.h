// What a handler may ask about the call it answers. Thread-safe; lives as long as the handler runs.
#pragma once

#include <atomic>
#include <functional>
#include <string>

#include "absl/strings/string_view.h"
#include "server/base/clock.h"
#include "server/base/mutex.h"

namespace grpc {
class ServerContext;
}

namespace persistd::rpc {

class CallContext {
 public:
  CallContext() = default;
  CallContext(const CallContext&) = delete;
  CallContext& operator=(const CallContext&) = delete;

  // The caller's deadline, less the time that an answer takes to get there, or the server's default where the caller
  // set none.
  base::SteadyTime deadline() const { return deadline_; }
  // False: deadline() is the server's default.
  bool has_own_deadline() const { return has_own_deadline_; }
  // True once nobody waits for the answer any more: the caller cancelled, went away or reached its deadline, or the
  // server ran out of patience while it shut down.
  bool cancelled() const { return cancelled_.load(std::memory_order_acquire); }
  // The first value of a key of the call's metadata; empty where there is none. key: lower case.
  std::string metadata(absl::string_view key) const;

  // Runs `callback` once when the call is cancelled, at once when it is already; for handlers that wait for something
  // else. Replaces the one given before; dropped when the handler ends. It runs on another thread, perhaps while the
  // handler ends: it must own what it touches and must not block.
  void OnCancelled(std::function<void()> callback) const;

 private:
  friend class Call;

  void Begin(const grpc::ServerContext* grpc_context, base::SteadyTime default_deadline);
  void Cancel();
  void End();

  const grpc::ServerContext* grpc_context_ = nullptr;
  base::SteadyTime deadline_;
  bool has_own_deadline_ = false;
  std::atomic<bool> cancelled_ = false;
  mutable base::Mutex mutex_;
  mutable std::function<void()> on_cancelled_ GUARDED_BY(mutex_);
};

}  // namespace persistd::rpc
