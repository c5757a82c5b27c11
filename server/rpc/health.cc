#include "server/rpc/health.h"

#include <functional>
#include <utility>

#include "server/domain/errors.h"

namespace persistd::rpc {

namespace pb = grpc::health::v1;

namespace {

// The health protocol asks for NOT_FOUND, where any other wrong field is INVALID_ARGUMENT.
absl::Status UnknownService() {
  const absl::Status invalid = domain::InvalidField("service", "this server has no service of that name");
  absl::Status status = absl::NotFoundError(invalid.message());
  status.SetPayload(domain::kErrorDetailUrl, *invalid.GetPayload(domain::kErrorDetailUrl));
  return status;
}

}  // namespace

void Health::SetServing(bool serving) { Change(serving, /*shut_down=*/false); }

void Health::Shutdown() { Change(/*serving=*/false, /*shut_down=*/true); }

Service Health::MakeService() {
  Service service("grpc.health.v1.Health");
  service.AddUnary<pb::HealthCheckRequest, pb::HealthCheckResponse>("Check", std::bind_front(&Health::Check, this),
                                                                    {.always_admitted = true});
  service.AddServerStreaming<pb::HealthCheckRequest, pb::HealthCheckResponse>("Watch",
                                                                              std::bind_front(&Health::Watch, this));
  return service;
}

base::Task<absl::Status> Health::Check(const CallContext& /*context*/, const pb::HealthCheckRequest& request,
                                       pb::HealthCheckResponse& response) {
  if (!Knows(request.service())) co_return UnknownService();
  response.set_status(state().serving ? pb::HealthCheckResponse::SERVING : pb::HealthCheckResponse::NOT_SERVING);
  co_return absl::OkStatus();
}

base::Task<absl::Status> Health::Watch(const CallContext& context, const pb::HealthCheckRequest& request,
                                       StreamWriter<pb::HealthCheckResponse>& writer) {
  pb::HealthCheckResponse sent;  // UNKNOWN, which is never sent.
  while (!context.cancelled()) {
    const State now = state();
    pb::HealthCheckResponse next;
    next.set_status(!Knows(request.service()) ? pb::HealthCheckResponse::SERVICE_UNKNOWN
                    : now.serving             ? pb::HealthCheckResponse::SERVING
                                              : pb::HealthCheckResponse::NOT_SERVING);
    if (next.status() != sent.status()) {
      if (!co_await writer.Write(next)) break;
      sent = next;
    }
    if (now.shut_down) co_return domain::ShuttingDown();
    co_await WaitForChange(now.changes, context);
  }
  co_return absl::CancelledError("the watcher went away");
}

Health::State Health::state() const {
  base::MutexLock lock(mutex_);
  return state_;
}

void Health::Change(bool serving, bool shut_down) {
  std::map<uint64_t, base::Promise<bool>> woken;
  {
    base::MutexLock lock(mutex_);
    if (state_.shut_down) return;
    state_ = {.serving = serving, .shut_down = shut_down, .changes = state_.changes + 1};
    woken.swap(waiting_);
  }
  for (const auto& [id, promise] : woken) promise.TrySet(true);
}

base::Task<bool> Health::WaitForChange(uint64_t seen, const CallContext& context) {
  const base::Promise<bool> promise;
  uint64_t id = 0;
  {
    base::MutexLock lock(mutex_);
    if (state_.changes != seen) co_return true;
    id = next_waiting_++;
    waiting_.emplace(id, promise);
  }
  context.OnCancelled([promise] { promise.TrySet(false); });
  const bool changed = co_await promise.future();
  base::MutexLock lock(mutex_);
  waiting_.erase(id);
  co_return changed;
}

}  // namespace persistd::rpc
