// The AggregateService of the API over a repository: each handler validates, calls, maps. Thread-safe.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cim/persistence/v1/aggregates.pb.h"
#include "server/base/clock.h"
#include "server/base/task.h"
#include "server/index/aggregate_list.h"
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
    // Null: there is no list.
    index::AggregateList* list = nullptr;
    // What each request of a stream has, where the stream itself lasts longer.
    std::chrono::milliseconds item_deadline = std::chrono::seconds(30);
    int max_stream_saves = 1024;  // Under way on one SaveStream: commit.max_stream_saves.
    const base::Clock* clock = &base::Clock::System();
  };

  // The repository, the list and the clock must outlive it.
  AggregateService(repository::Repository* repository, Options options)
      : repository_(repository), options_(std::move(options)) {}

  // The service calls this object.
  Service MakeService();

 private:
  struct SaveSession;
  struct LoadSession;

  base::Task<absl::Status> Save(const CallContext& context, const cim::persistence::v1::SaveRequest& request,
                                cim::persistence::v1::SaveResponse& response);
  base::Task<absl::Status> SaveAll(const CallContext& context, const cim::persistence::v1::SaveAllRequest& request,
                                   cim::persistence::v1::SaveAllResponse& response);
  base::Task<absl::Status> DeleteAggregate(const CallContext& context,
                                           const cim::persistence::v1::DeleteAggregateRequest& request,
                                           cim::persistence::v1::DeleteAggregateResponse& response);
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
  base::Task<absl::Status> ListAggregates(const CallContext& context,
                                          const cim::persistence::v1::ListAggregatesRequest& request,
                                          cim::persistence::v1::ListAggregatesResponse& response);
  base::Task<absl::Status> CreateSnapshot(const CallContext& context,
                                          const cim::persistence::v1::CreateSnapshotRequest& request,
                                          cim::persistence::v1::Snapshot& response);
  base::Task<absl::Status> ListSnapshots(const CallContext& context,
                                         const cim::persistence::v1::ListSnapshotsRequest& request,
                                         cim::persistence::v1::ListSnapshotsResponse& response);
  base::Task<absl::Status> DeleteSnapshot(const CallContext& context,
                                          const cim::persistence::v1::DeleteSnapshotRequest& request,
                                          cim::persistence::v1::DeleteSnapshotResponse& response);

  // In aggregate_streams.cc. The tasks of single requests refer to a session that waits for all of them.
  base::Task<absl::Status> SaveStream(const CallContext& context,
                                      StreamReader<cim::persistence::v1::SaveStreamRequest>& reader,
                                      StreamWriter<cim::persistence::v1::SaveStreamResponse>& writer);
  base::Task<void> SaveOne(SaveSession& session, uint64_t id, uint64_t bytes,
                           absl::StatusOr<repository::SaveCommand> command, base::SteadyTime deadline);
  base::Task<absl::Status> BatchLoad(const CallContext& context,
                                     StreamReader<cim::persistence::v1::LoadRequest>& reader,
                                     StreamWriter<cim::persistence::v1::BatchLoadResponse>& writer);
  base::Task<void> LoadOne(LoadSession& session, uint64_t index, cim::persistence::v1::PayloadView view,
                           absl::StatusOr<repository::LoadCommand> command, uint64_t expected_bytes,
                           base::SteadyTime deadline);

  SaveContext NewSaveContext(const CallContext& context) const {
    return {.now = options_.clock->WallNow(), .traceparent = context.metadata("traceparent")};
  }
  base::SteadyTime ItemDeadline(const CallContext& context) const {
    const base::SteadyTime own = options_.clock->SteadyNow() + options_.item_deadline;
    return context.has_own_deadline() ? std::min(context.deadline(), own) : own;
  }

  repository::Repository* const repository_;
  const Options options_;
};

}  // namespace persistd::rpc
