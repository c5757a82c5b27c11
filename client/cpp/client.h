// The C++ client of persistd.
//
//   absl::StatusOr<Client> client = Client::Connect({.address = "127.0.0.1:7443"});
//   cim::persistence::v1::SaveRequest request;
//   *request.mutable_ref() = Ref("sales", "order", "42");
//   request.set_expected_version(0);
//   *request.add_events() = JsonEvent("placed", R"({"total": 12})");
//   absl::StatusOr<cim::persistence::v1::SaveResponse> saved = client->Save(request);
//
// A Client is a thin, copyable handle; copies share one connection. All its methods block, are thread-safe, and may run
// at the same time. Errors carry an ErrorDetail (errors.h).
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "cim/persistence/v1/admin.pb.h"
#include "cim/persistence/v1/aggregates.pb.h"
#include "cim/persistence/v1/chains.pb.h"
#include "cim/persistence/v1/read_models.pb.h"
#include "client/cpp/errors.h"
#include "client/cpp/history.h"
#include "client/cpp/request_id.h"
#include "client/cpp/requests.h"
#include "client/cpp/retry.h"
#include "client/cpp/save_stream.h"
#include "client/cpp/stub.h"
#include "grpcpp/security/credentials.h"

namespace persistd::client {

struct Options {
  // Any gRPC target, for example `127.0.0.1:7443` or `dns:///persistd.internal:7443`.
  std::string address = "127.0.0.1:7443";
  // Null: an unencrypted connection.
  std::shared_ptr<grpc::ChannelCredentials> credentials = nullptr;
  // How long a call may take with all its repeats; for a history, how long each event may take. At most a day.
  std::chrono::milliseconds default_timeout{30'000};
  RetryPolicy retry = {};

  // INVALID_ARGUMENT naming the option that makes no sense.
  absl::Status Validate() const;
};

class Client {
 public:
  // Does not wait for the daemon: calls connect when they need to, and connect again after the daemon was away.
  static absl::StatusOr<Client> Connect(Options options);

  // A client over a stub of one's own, for tests. `options` must be valid; its address and credentials are not used.
  explicit Client(std::shared_ptr<Stub> stub, Options options = {}, std::shared_ptr<Clock> clock = Clock::Real());

  // Saves events. A request without `request_id` gets a fresh one. While the daemon is unavailable or overloaded the
  // save is repeated with the same id, so it is stored at most once; a version conflict (ABORTED) is never repeated.
  //
  // An error for which MayHaveBeenStored() is true leaves the outcome open. A caller that wants to settle it later sets
  // `request_id` itself (NewRequestId) and calls again with the same request.
  absl::StatusOr<cim::persistence::v1::SaveResponse> Save(cim::persistence::v1::SaveRequest request) const;

  // Saves several aggregates in one commit: all or none. Repeated as Save is.
  absl::StatusOr<cim::persistence::v1::SaveAllResponse> SaveAll(cim::persistence::v1::SaveAllRequest request) const;

  // Deletes an aggregate. Repeated as Save is.
  absl::StatusOr<cim::persistence::v1::DeleteAggregateResponse> DeleteAggregate(
      cim::persistence::v1::DeleteAggregateRequest request) const;

  // For many saves, pipelined over one call. window: how many are under way at once.
  std::unique_ptr<SaveStream> OpenSaveStream(size_t window = 256) const;

  // Snapshots: kept states. All can be repeated.
  absl::StatusOr<cim::persistence::v1::Snapshot> CreateSnapshot(
      const cim::persistence::v1::CreateSnapshotRequest& request) const;
  absl::StatusOr<cim::persistence::v1::ListSnapshotsResponse> ListSnapshots(
      const cim::persistence::v1::AggregateRef& ref) const;
  absl::Status DeleteSnapshot(const cim::persistence::v1::DeleteSnapshotRequest& request) const;

  // Reads. They are repeated while the daemon is unavailable or overloaded.
  absl::StatusOr<cim::persistence::v1::LoadResponse> Load(const cim::persistence::v1::LoadRequest& request) const;
  absl::StatusOr<cim::persistence::v1::LoadResponse> Load(const cim::persistence::v1::AggregateRef& ref) const;
  absl::StatusOr<cim::persistence::v1::LoadResponse> GetAtVersion(
      const cim::persistence::v1::GetAtVersionRequest& request) const;
  // An answer for each request, in their order; the call as a whole fails only when the stream breaks.
  absl::StatusOr<std::vector<cim::persistence::v1::BatchLoadResponse>> BatchLoad(
      const std::vector<cim::persistence::v1::LoadRequest>& requests) const;
  absl::StatusOr<cim::persistence::v1::ListAggregatesResponse> ListAggregates(
      const cim::persistence::v1::ListAggregatesRequest& request) const;
  absl::StatusOr<cim::persistence::v1::AggregateMetadata> GetMetadata(
      const cim::persistence::v1::AggregateRef& ref) const;
  absl::StatusOr<cim::persistence::v1::GetServerInfoResponse> GetServerInfo() const;

  absl::StatusOr<cim::persistence::v1::CreateAggregateTypeResponse> CreateAggregateType(
      const cim::persistence::v1::CreateAggregateTypeRequest& request) const;
  // One page.
  absl::StatusOr<cim::persistence::v1::ListAggregateTypesResponse> ListAggregateTypes(
      const cim::persistence::v1::ListAggregateTypesRequest& request) const;
  absl::StatusOr<cim::persistence::v1::DescribeAggregateTypeResponse> DescribeAggregateType(
      const cim::persistence::v1::DescribeAggregateTypeRequest& request) const;

  // The events of an aggregate, one by one. The call is made by the reader's first Next().
  HistoryReader History(cim::persistence::v1::GetHistoryRequest request) const;

  // Appends to a named chain. Repeated as Save is.
  absl::StatusOr<cim::persistence::v1::AppendToChainResponse> AppendToChain(
      cim::persistence::v1::AppendToChainRequest request) const;
  // The entries of a named chain, as History.
  ChainReader Chain(cim::persistence::v1::GetChainRequest request) const;
  // Verifies a history or a chain; OK says that there is a result, not that it is good. on_progress: called about once
  // a second, may be empty. Within the default timeout.
  absl::StatusOr<cim::persistence::v1::ChainVerification> VerifyChain(
      const cim::persistence::v1::VerifyChainRequest& request,
      const std::function<void(const cim::persistence::v1::VerifyProgress&)>& on_progress = {}) const;
  // A history or a chain as a CAR file: `sink` takes its bytes, piece by piece; false stops. Not OK: the file is not
  // complete. Within the default timeout; not repeated.
  absl::Status ExportCar(const cim::persistence::v1::ExportCarRequest& request,
                         const std::function<bool(const std::string&)>& sink) const;
  // Blocks by their CIDs. Both can be repeated.
  absl::StatusOr<cim::persistence::v1::PutBlockResponse> PutBlock(
      const cim::persistence::v1::PutBlockRequest& request) const;
  absl::StatusOr<cim::persistence::v1::GetBlockResponse> GetBlock(const std::string& cid) const;

  // Read models. Writes are repeated as Save is, reads as Load is.
  absl::StatusOr<cim::persistence::v1::SaveReadModelResponse> SaveReadModel(
      cim::persistence::v1::SaveReadModelRequest request) const;
  absl::StatusOr<cim::persistence::v1::SaveReadModelsResponse> SaveReadModels(
      cim::persistence::v1::SaveReadModelsRequest request) const;
  absl::StatusOr<cim::persistence::v1::DeleteReadModelResponse> DeleteReadModel(
      cim::persistence::v1::DeleteReadModelRequest request) const;
  absl::StatusOr<cim::persistence::v1::ReadModel> GetReadModel(
      const cim::persistence::v1::GetReadModelRequest& request) const;
  absl::StatusOr<cim::persistence::v1::BatchGetReadModelsResponse> BatchGetReadModels(
      const cim::persistence::v1::BatchGetReadModelsRequest& request) const;
  // One page.
  absl::StatusOr<cim::persistence::v1::ListReadModelsResponse> ListReadModels(
      const cim::persistence::v1::ListReadModelsRequest& request) const;

 private:
  // Of something that is stored at most once by its request_id.
  template <typename Request, typename Response>
  absl::StatusOr<Response> RepeatSave(Request request,
                                      absl::StatusOr<Response> (Stub::*save)(const Request&, Stub::Deadline)) const;

  std::shared_ptr<Stub> stub_;
  std::shared_ptr<Clock> clock_;
  std::chrono::milliseconds timeout_;
  RetryPolicy retry_;
};

}  // namespace persistd::client
