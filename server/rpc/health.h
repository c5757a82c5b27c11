// The health service (grpc.health.v1): whether the daemon, and each of its services, can be called. Thread-safe.
//
// It is NOT_SERVING until told otherwise. All services share one state, for they stand on the same storage.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "grpc/health/v1/health.pb.h"
#include "server/base/future.h"
#include "server/base/mutex.h"
#include "server/base/task.h"
#include "server/rpc/service.h"

namespace persistd::rpc {

class Health {
 public:
  // service_names: those asked for beside "", the server as a whole.
  explicit Health(std::set<std::string> service_names) : names_(std::move(service_names)) {}

  void SetServing(bool serving);
  // NOT_SERVING for good; those who watch are told so and their calls end.
  void Shutdown();

  // The service calls this object.
  Service MakeService();

 private:
  struct State {
    bool serving = false;
    bool shut_down = false;
    uint64_t changes = 0;
  };

  base::Task<absl::Status> Check(const CallContext& context, const grpc::health::v1::HealthCheckRequest& request,
                                 grpc::health::v1::HealthCheckResponse& response);
  base::Task<absl::Status> Watch(const CallContext& context, const grpc::health::v1::HealthCheckRequest& request,
                                 StreamWriter<grpc::health::v1::HealthCheckResponse>& writer);
  bool Knows(const std::string& name) const { return name.empty() || names_.count(name) > 0; }
  State state() const;
  void Change(bool serving, bool shut_down);
  // Completes when there were more changes than `seen`, or the call is cancelled.
  base::Task<bool> WaitForChange(uint64_t seen, const CallContext& context);

  const std::set<std::string> names_;
  mutable base::Mutex mutex_;
  State state_ GUARDED_BY(mutex_);
  std::map<uint64_t, base::Promise<bool>> waiting_ GUARDED_BY(mutex_);
  uint64_t next_waiting_ GUARDED_BY(mutex_) = 0;
};

}  // namespace persistd::rpc
