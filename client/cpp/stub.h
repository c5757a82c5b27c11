// The calls of persistd's API, one attempt each, without retries: the seam at which tests replace the network.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "cim/persistence/v1/admin.pb.h"
#include "cim/persistence/v1/aggregates.pb.h"
#include "cim/persistence/v1/chains.pb.h"
#include "cim/persistence/v1/read_models.pb.h"
#include "client/cpp/retry.h"
#include "grpcpp/channel.h"

namespace persistd::client {

// What one call streams. Not thread-safe. Destroying it ends the call.
template <typename Item>
class ItemStream {
 public:
  virtual ~ItemStream() = default;

  // The next item, nullopt after the last one, or why the stream broke. Not to be called again after the last two.
  virtual absl::StatusOr<std::optional<Item>> Next() = 0;
};
using HistoryStream = ItemStream<cim::persistence::v1::RecordedEvent>;
using ChainStream = ItemStream<cim::persistence::v1::GetChainResponse>;
using VerifyStream = ItemStream<cim::persistence::v1::VerifyChainResponse>;
using CarStream = ItemStream<cim::persistence::v1::ExportCarResponse>;

// One SaveStream call. One thread writes while another one reads.
class SaveStreamCall {
 public:
  virtual ~SaveStreamCall() = default;

  // more: another Write or WritesDone follows at once. False when the call has ended.
  virtual bool Write(const cim::persistence::v1::SaveStreamRequest& request, bool more) = 0;
  virtual void WritesDone() = 0;
  // False after the last answer.
  virtual bool Read(cim::persistence::v1::SaveStreamResponse& response) = 0;
  // How the call ended; once, after Read was false and when nobody writes.
  virtual absl::Status Finish() = 0;
  // Makes the call end soon. Any thread.
  virtual void Cancel() = 0;
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
  virtual absl::StatusOr<cim::persistence::v1::SaveAllResponse> SaveAll(
      const cim::persistence::v1::SaveAllRequest& request, Deadline deadline) = 0;
  virtual absl::StatusOr<cim::persistence::v1::DeleteAggregateResponse> DeleteAggregate(
      const cim::persistence::v1::DeleteAggregateRequest& request, Deadline deadline) = 0;
  virtual absl::StatusOr<cim::persistence::v1::Snapshot> CreateSnapshot(
      const cim::persistence::v1::CreateSnapshotRequest& request, Deadline deadline) = 0;
  virtual absl::StatusOr<cim::persistence::v1::ListSnapshotsResponse> ListSnapshots(
      const cim::persistence::v1::ListSnapshotsRequest& request, Deadline deadline) = 0;
  virtual absl::StatusOr<cim::persistence::v1::DeleteSnapshotResponse> DeleteSnapshot(
      const cim::persistence::v1::DeleteSnapshotRequest& request, Deadline deadline) = 0;
  virtual absl::StatusOr<cim::persistence::v1::ListAggregatesResponse> ListAggregates(
      const cim::persistence::v1::ListAggregatesRequest& request, Deadline deadline) = 0;
  // All requests at once; an answer for each, in their order. Not OK when the call broke off.
  virtual absl::StatusOr<std::vector<cim::persistence::v1::BatchLoadResponse>> BatchLoad(
      const std::vector<cim::persistence::v1::LoadRequest>& requests, Deadline deadline) = 0;
  // Without a deadline.
  virtual std::shared_ptr<SaveStreamCall> SaveStream() = 0;
  virtual absl::StatusOr<cim::persistence::v1::AppendToChainResponse> AppendToChain(
      const cim::persistence::v1::AppendToChainRequest& request, Deadline deadline) = 0;
  virtual std::unique_ptr<ChainStream> GetChain(const cim::persistence::v1::GetChainRequest& request,
                                                Deadline deadline) = 0;
  virtual std::unique_ptr<VerifyStream> VerifyChain(const cim::persistence::v1::VerifyChainRequest& request,
                                                    Deadline deadline) = 0;
  virtual std::unique_ptr<CarStream> ExportCar(const cim::persistence::v1::ExportCarRequest& request,
                                               Deadline deadline) = 0;
  virtual absl::StatusOr<cim::persistence::v1::PutBlockResponse> PutBlock(
      const cim::persistence::v1::PutBlockRequest& request, Deadline deadline) = 0;
  virtual absl::StatusOr<cim::persistence::v1::GetBlockResponse> GetBlock(
      const cim::persistence::v1::GetBlockRequest& request, Deadline deadline) = 0;
  virtual absl::StatusOr<cim::persistence::v1::SaveReadModelResponse> SaveReadModel(
      const cim::persistence::v1::SaveReadModelRequest& request, Deadline deadline) = 0;
  virtual absl::StatusOr<cim::persistence::v1::SaveReadModelsResponse> SaveReadModels(
      const cim::persistence::v1::SaveReadModelsRequest& request, Deadline deadline) = 0;
  virtual absl::StatusOr<cim::persistence::v1::GetReadModelResponse> GetReadModel(
      const cim::persistence::v1::GetReadModelRequest& request, Deadline deadline) = 0;
  virtual absl::StatusOr<cim::persistence::v1::BatchGetReadModelsResponse> BatchGetReadModels(
      const cim::persistence::v1::BatchGetReadModelsRequest& request, Deadline deadline) = 0;
  virtual absl::StatusOr<cim::persistence::v1::DeleteReadModelResponse> DeleteReadModel(
      const cim::persistence::v1::DeleteReadModelRequest& request, Deadline deadline) = 0;
  virtual absl::StatusOr<cim::persistence::v1::ListReadModelsResponse> ListReadModels(
      const cim::persistence::v1::ListReadModelsRequest& request, Deadline deadline) = 0;
  virtual absl::StatusOr<cim::persistence::v1::GetServerInfoResponse> GetServerInfo(
      const cim::persistence::v1::GetServerInfoRequest& request, Deadline deadline) = 0;
  virtual absl::StatusOr<cim::persistence::v1::CreateAggregateTypeResponse> CreateAggregateType(
      const cim::persistence::v1::CreateAggregateTypeRequest& request, Deadline deadline) = 0;
  virtual absl::StatusOr<cim::persistence::v1::ListAggregateTypesResponse> ListAggregateTypes(
      const cim::persistence::v1::ListAggregateTypesRequest& request, Deadline deadline) = 0;
  virtual absl::StatusOr<cim::persistence::v1::DescribeAggregateTypeResponse> DescribeAggregateType(
      const cim::persistence::v1::DescribeAggregateTypeRequest& request, Deadline deadline) = 0;
};

// The stub that calls a daemon over `channel`.
std::shared_ptr<Stub> NewGrpcStub(const std::shared_ptr<grpc::Channel>& channel);

}  // namespace persistd::client
