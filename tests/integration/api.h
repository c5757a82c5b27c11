// The API of one daemon as tests use it: blocking calls, one attempt each, nothing filled in and nothing repeated, so
// that what a test sees is what the daemon did. Errors carry their ErrorDetail (client/cpp/errors.h). Thread-safe.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cim/persistence/v1/admin.grpc.pb.h"
#include "cim/persistence/v1/aggregates.grpc.pb.h"
#include "cim/persistence/v1/chains.grpc.pb.h"
#include "cim/persistence/v1/errors.pb.h"
#include "cim/persistence/v1/read_models.grpc.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"

namespace persistd::integration {

namespace pb = cim::persistence::v1;

using std::chrono_literals::operator""s;
using std::chrono_literals::operator""ms;

inline constexpr std::chrono::milliseconds kPatience = 30s;

struct CallOptions {
  std::chrono::milliseconds timeout = kPatience;
  std::vector<std::pair<std::string, std::string>> metadata = {};
};

// A GetHistory call. For one thread. Destroying it ends the call.
class HistoryCall {
 public:
  HistoryCall(pb::AggregateService::Stub& service, const pb::GetHistoryRequest& request, const CallOptions& options);
  ~HistoryCall();

  // nullopt after the last event.
  absl::StatusOr<std::optional<pb::RecordedEvent>> Next();
  // The next event, which must be there.
  pb::RecordedEvent MustNext();

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<pb::RecordedEvent>> reader_;
  bool finished_ = false;
};

class Api {
 public:
  explicit Api(const std::string& address);

  absl::StatusOr<pb::SaveResponse> Save(const pb::SaveRequest& request, const CallOptions& options = {});
  absl::StatusOr<pb::LoadResponse> Load(const pb::AggregateRef& ref, const CallOptions& options = {});
  absl::StatusOr<pb::LoadResponse> Load(const pb::LoadRequest& request, const CallOptions& options = {});
  absl::StatusOr<pb::LoadResponse> GetAtVersion(const pb::GetAtVersionRequest& request,
                                                const CallOptions& options = {});
  absl::StatusOr<pb::AggregateMetadata> GetMetadata(const pb::AggregateRef& ref, const CallOptions& options = {});
  absl::StatusOr<pb::GetServerInfoResponse> GetServerInfo(const CallOptions& options = {});
  std::unique_ptr<HistoryCall> StartHistory(const pb::GetHistoryRequest& request, const CallOptions& options = {});
  absl::StatusOr<std::vector<pb::RecordedEvent>> History(const pb::GetHistoryRequest& request,
                                                         const CallOptions& options = {});
  absl::StatusOr<std::vector<pb::RecordedEvent>> History(const pb::AggregateRef& ref);
  absl::StatusOr<pb::AppendToChainResponse> AppendToChain(const pb::AppendToChainRequest& request,
                                                          const CallOptions& options = {});
  absl::StatusOr<std::vector<pb::GetChainResponse>> GetChain(const pb::GetChainRequest& request,
                                                             const CallOptions& options = {});
  absl::StatusOr<std::vector<pb::GetChainResponse>> GetChain(const std::string& chain);
  absl::StatusOr<pb::PutBlockResponse> PutBlock(const pb::PutBlockRequest& request, const CallOptions& options = {});
  absl::StatusOr<pb::GetBlockResponse> GetBlock(const std::string& cid, const CallOptions& options = {});
  absl::StatusOr<pb::SaveReadModelResponse> SaveReadModel(const pb::SaveReadModelRequest& request,
                                                          const CallOptions& options = {});
  absl::StatusOr<pb::SaveReadModelsResponse> SaveReadModels(const pb::SaveReadModelsRequest& request,
                                                            const CallOptions& options = {});
  absl::StatusOr<pb::ReadModel> GetReadModel(const pb::GetReadModelRequest& request, const CallOptions& options = {});
  absl::StatusOr<pb::BatchGetReadModelsResponse> BatchGetReadModels(const pb::BatchGetReadModelsRequest& request,
                                                                    const CallOptions& options = {});
  absl::StatusOr<pb::DeleteReadModelResponse> DeleteReadModel(const pb::DeleteReadModelRequest& request,
                                                              const CallOptions& options = {});
  absl::StatusOr<pb::ListReadModelsResponse> ListReadModels(const pb::ListReadModelsRequest& request,
                                                            const CallOptions& options = {});
  // Waits for the daemon to listen, if need be.
  absl::StatusOr<bool> IsServing(const CallOptions& options = {});
  // True once IsServing says `serving`.
  [[nodiscard]] bool WaitUntilServing(bool serving, std::chrono::milliseconds timeout = kPatience);

 private:
  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<pb::AggregateService::Stub> aggregates_;
  const std::unique_ptr<pb::ChainService::Stub> chains_;
  const std::unique_ptr<pb::ReadModelService::Stub> read_models_;
  const std::unique_ptr<pb::AdminService::Stub> admin_;
  const std::unique_ptr<grpc::health::v1::Health::Stub> health_;
};

// The reason that the daemon gave; UNSPECIFIED when there is none.
pb::ErrorReason ReasonOf(const absl::Status& status);
// The whole detail; an empty one when there is none.
pb::ErrorDetail DetailOf(const absl::Status& status);

// Requests in one line. Types: sales/order unless told otherwise.
pb::AggregateRef Order(const std::string& entity_id);
pb::SaveRequest SaveOf(const pb::AggregateRef& ref, int events = 1, const std::string& data = "{}");
pb::SaveRequest SaveOf(const pb::AggregateRef& ref, uint64_t expected_version, int events, const std::string& data);
pb::AppendToChainRequest AppendTo(const std::string& chain, const std::string& data = "{}");
pb::SaveReadModelRequest WriteOf(const std::string& type, const std::string& id, const std::string& data = "{}");
pb::GetReadModelRequest GetOf(const std::string& type, const std::string& id);
pb::GetHistoryRequest HistoryOf(const pb::AggregateRef& ref, bool reverse = false);

}  // namespace persistd::integration
