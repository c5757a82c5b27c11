// The AggregateService of the API over a repository: each handler validates, calls, maps. Thread-safe.
#pragma once

#include <functional>

#include "absl/status/status.h"
#include "cim/persistence/v1/aggregates.pb.h"
#include "server/base/clock.h"
#include "server/base/task.h"
#include "server/repository/repository.h"
#include "server/rpc/request_mapping.h"
#include "server/rpc/service.h"

namespace persistd::rpc {

class AggregateService {
 public:
  struct Options {
    RequestLimits limits = {};
    // When what a stream with so many replicas acknowledged has reached the disk, as known at present. Called for each
    // save, on any thread.
    std::function<cim::persistence::v1::Durability::Fsync(int replicas)> fsync = [](int) {
      return cim::persistence::v1::Durability::FSYNC_UNKNOWN;
    };
    const base::Clock* clock = &base::Clock::System();
  };

  // The repository and the clock must outlive it.
  AggregateService(repository::Repository* repository, Options options)
      : repository_(repository), options_(std::move(options)) {}

  // The service calls this object.
  Service MakeService();

 private:
  base::Task<absl::Status> Save(const CallContext& context, const cim::persistence::v1::SaveRequest& request,
                                cim::persistence::v1::SaveResponse& response);
  base::Task<absl::Status> Load(const CallContext& context, const cim::persistence::v1::LoadRequest& request,
                                cim::persistence::v1::LoadResponse& response);
  base::Task<absl::Status> GetHistory(const CallContext& context,
                                      const cim::persistence::v1::GetHistoryRequest& request,
                                      StreamWriter<cim::persistence::v1::RecordedEvent>& writer);
  base::Task<absl::Status> GetAtVersion(const CallContext& context,
                                        const cim::persistence::v1::GetAtVersionRequest& request,
                                        cim::persistence::v1::LoadResponse& response);
  base::Task<absl::Status> GetMetadata(const CallContext& context,
                                       const cim::persistence::v1::GetMetadataRequest& request,
                                       cim::persistence::v1::AggregateMetadata& response);

  repository::Repository* const repository_;
  const Options options_;
};

}  // namespace persistd::rpc
