// The calls of persistd's API, one attempt each, without retries: the seam at which tests replace the network.
#pragma once

#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "cim/persistence/v1/admin.pb.h"
#include "cim/persistence/v1/aggregates.pb.h"
#include "client/cpp/retry.h"
#include "grpcpp/channel.h"

namespace persistd::client {

// The events of one GetHistory call. Not thread-safe. Destroying it ends the call.
class HistoryStream {
 public:
  virtual ~HistoryStream() = default;

  // The next event, nullopt after the last one, or why the stream broke. Not to be called again after the last two.
  virtual absl::StatusOr<std::optional<cim::persistence::v1::RecordedEvent>> Next() = 0;
};

// Errors carry their ErrorDetail as described in errors.h. Implementations are thread-safe.
class Stub {
 public:
  using Deadline = Clock::TimePoint;

  virtual ~Stub() = default;
  virtual absl::StatusOr<cim::persistence::v1::SaveResponse> Save(const cim::persistence::v1::SaveRequest& request,
                                                                  Deadline deadline) = 0;
  virtual absl::StatusOr<cim::persistence::v1::LoadResponse> Load(const cim::persistence::v1::LoadRequest& request,
                                                                  Deadline deadline) = 0;
  virtual absl::StatusOr<cim::persistence::v1::LoadResponse> GetAtVersion(
      const cim::persistence::v1::GetAtVersionRequest& request, Deadline deadline) = 0;
  virtual absl::StatusOr<cim::persistence::v1::AggregateMetadata> GetMetadata(
      const cim::persistence::v1::GetMetadataRequest& request, Deadline deadline) = 0;
  virtual std::unique_ptr<HistoryStream> GetHistory(const cim::persistence::v1::GetHistoryRequest& request,
                                                    Deadline deadline) = 0;
  virtual absl::StatusOr<cim::persistence::v1::GetServerInfoResponse> GetServerInfo(
      const cim::persistence::v1::GetServerInfoRequest& request, Deadline deadline) = 0;
};

// The stub that calls a daemon over `channel`.
std::shared_ptr<Stub> NewGrpcStub(const std::shared_ptr<grpc::Channel>& channel);

}  // namespace persistd::client
