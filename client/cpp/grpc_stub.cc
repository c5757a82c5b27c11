#include <chrono>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "cim/persistence/v1/admin.grpc.pb.h"
#include "cim/persistence/v1/aggregates.grpc.pb.h"
#include "cim/persistence/v1/chains.grpc.pb.h"
#include "cim/persistence/v1/read_models.grpc.pb.h"
#include "client/cpp/errors.h"
#include "client/cpp/stub.h"
#include "grpcpp/client_context.h"

namespace persistd::client {
namespace {

namespace pb = cim::persistence::v1;

void SetDeadline(grpc::ClientContext& context, Stub::Deadline deadline) {
  // gRPC takes wall time and turns it into monotonic time at once, so a clock that is set later does no harm.
  const auto left = deadline - std::chrono::steady_clock::now();
  context.set_deadline(std::chrono::system_clock::now() + left);
}

template <typename Service, typename Request, typename Response>
absl::StatusOr<Response> Call(Service& service,
                              grpc::Status (Service::*method)(grpc::ClientContext*, const Request&, Response*),
                              const Request& request, Stub::Deadline deadline) {
  grpc::ClientContext context;
  SetDeadline(context, deadline);
  Response response;
  const grpc::Status status = (service.*method)(&context, request, &response);
  if (!status.ok()) return FromGrpcStatus(status);
  return response;
}

// `Service` is kept as long as the call.
template <typename Service, typename Item>
class GrpcItemStream final : public ItemStream<Item> {
 public:
  template <typename Method, typename Request>
  GrpcItemStream(std::shared_ptr<Service> service, Method method, const Request& request, Stub::Deadline deadline)
      : service_(std::move(service)) {
    SetDeadline(context_, deadline);
    reader_ = (service_.get()->*method)(&context_, request);
  }

  ~GrpcItemStream() override {
    if (finished_) return;
    context_.TryCancel();
    // gRPC wants every call finished; a reader that was left in the middle has no use for the outcome.
    (void)reader_->Finish();
  }

  absl::StatusOr<std::optional<Item>> Next() override {
    Item item;
    if (reader_->Read(&item)) return item;
    finished_ = true;
    const grpc::Status status = reader_->Finish();
    if (!status.ok()) return FromGrpcStatus(status);
    return std::nullopt;
  }

 private:
  const std::shared_ptr<Service> service_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<Item>> reader_;
  bool finished_ = false;
};

class GrpcSaveStreamCall final : public SaveStreamCall {
 public:
  explicit GrpcSaveStreamCall(std::shared_ptr<pb::AggregateService::Stub> service)
      : service_(std::move(service)), stream_(service_->SaveStream(&context_)) {}

  ~GrpcSaveStreamCall() override {
    if (finished_) return;
    context_.TryCancel();
    (void)stream_->Finish();  // gRPC wants every call finished.
  }

  bool Write(const pb::SaveStreamRequest& request, bool more) override {
    grpc::WriteOptions options;
    if (more) options.set_buffer_hint();
    return stream_->Write(request, options);
  }
  void WritesDone() override { stream_->WritesDone(); }
  bool Read(pb::SaveStreamResponse& response) override { return stream_->Read(&response); }
  absl::Status Finish() override {
    finished_ = true;
    return FromGrpcStatus(stream_->Finish());
  }
  void Cancel() override { context_.TryCancel(); }

 private:
  const std::shared_ptr<pb::AggregateService::Stub> service_;
  grpc::ClientContext context_;
  const std::unique_ptr<grpc::ClientReaderWriter<pb::SaveStreamRequest, pb::SaveStreamResponse>> stream_;
  bool finished_ = false;
};

class GrpcStub final : public Stub {
 public:
  explicit GrpcStub(const std::shared_ptr<grpc::Channel>& channel)
      : aggregates_(pb::AggregateService::NewStub(channel)),
        chains_(pb::ChainService::NewStub(channel)),
        read_models_(pb::ReadModelService::NewStub(channel)),
        admin_(pb::AdminService::NewStub(channel)) {}

  absl::StatusOr<pb::SaveResponse> Save(const pb::SaveRequest& request, Deadline deadline) override {
    return Call(*aggregates_, &pb::AggregateService::Stub::Save, request, deadline);
  }
  absl::StatusOr<pb::LoadResponse> Load(const pb::LoadRequest& request, Deadline deadline) override {
    return Call(*aggregates_, &pb::AggregateService::Stub::Load, request, deadline);
  }
  absl::StatusOr<pb::LoadResponse> GetAtVersion(const pb::GetAtVersionRequest& request, Deadline deadline) override {
    return Call(*aggregates_, &pb::AggregateService::Stub::GetAtVersion, request, deadline);
  }
  absl::StatusOr<pb::AggregateMetadata> GetMetadata(const pb::GetMetadataRequest& request, Deadline deadline) override {
    return Call(*aggregates_, &pb::AggregateService::Stub::GetMetadata, request, deadline);
  }
  std::unique_ptr<HistoryStream> GetHistory(const pb::GetHistoryRequest& request, Deadline deadline) override {
    return std::make_unique<GrpcItemStream<pb::AggregateService::Stub, pb::RecordedEvent>>(
        aggregates_, &pb::AggregateService::Stub::GetHistory, request, deadline);
  }
  absl::StatusOr<pb::SaveAllResponse> SaveAll(const pb::SaveAllRequest& request, Deadline deadline) override {
    return Call(*aggregates_, &pb::AggregateService::Stub::SaveAll, request, deadline);
  }
  absl::StatusOr<pb::DeleteAggregateResponse> DeleteAggregate(const pb::DeleteAggregateRequest& request,
                                                              Deadline deadline) override {
    return Call(*aggregates_, &pb::AggregateService::Stub::DeleteAggregate, request, deadline);
  }
  absl::StatusOr<pb::Snapshot> CreateSnapshot(const pb::CreateSnapshotRequest& request, Deadline deadline) override {
    return Call(*aggregates_, &pb::AggregateService::Stub::CreateSnapshot, request, deadline);
  }
  absl::StatusOr<pb::ListSnapshotsResponse> ListSnapshots(const pb::ListSnapshotsRequest& request,
                                                          Deadline deadline) override {
    return Call(*aggregates_, &pb::AggregateService::Stub::ListSnapshots, request, deadline);
  }
  absl::StatusOr<pb::DeleteSnapshotResponse> DeleteSnapshot(const pb::DeleteSnapshotRequest& request,
                                                            Deadline deadline) override {
    return Call(*aggregates_, &pb::AggregateService::Stub::DeleteSnapshot, request, deadline);
  }
  absl::StatusOr<pb::ListAggregatesResponse> ListAggregates(const pb::ListAggregatesRequest& request,
                                                            Deadline deadline) override {
    return Call(*aggregates_, &pb::AggregateService::Stub::ListAggregates, request, deadline);
  }
  absl::StatusOr<std::vector<pb::BatchLoadResponse>> BatchLoad(const std::vector<pb::LoadRequest>& requests,
                                                               Deadline deadline) override {
    grpc::ClientContext context;
    SetDeadline(context, deadline);
    const auto stream = aggregates_->BatchLoad(&context);
    std::thread writer([&] {
      for (const pb::LoadRequest& request : requests) {
        grpc::WriteOptions options;
        options.set_buffer_hint();  // The end of the requests follows.
        if (!stream->Write(request, options)) break;
      }
      stream->WritesDone();
    });
    std::vector<pb::BatchLoadResponse> answers;
    pb::BatchLoadResponse answer;
    while (stream->Read(&answer)) answers.push_back(std::move(answer));
    writer.join();
    const grpc::Status status = stream->Finish();
    if (!status.ok()) return FromGrpcStatus(status);
    for (size_t i = 0; i < answers.size(); ++i) {
      if (answers[i].index() != i) return absl::InternalError("the daemon answered loads out of order");
    }
    if (answers.size() != requests.size()) return absl::InternalError("the daemon did not answer every load");
    return answers;
  }
  std::shared_ptr<SaveStreamCall> SaveStream() override { return std::make_shared<GrpcSaveStreamCall>(aggregates_); }
  absl::StatusOr<pb::AppendToChainResponse> AppendToChain(const pb::AppendToChainRequest& request,
                                                          Deadline deadline) override {
    return Call(*chains_, &pb::ChainService::Stub::AppendToChain, request, deadline);
  }
  std::unique_ptr<ChainStream> GetChain(const pb::GetChainRequest& request, Deadline deadline) override {
    return std::make_unique<GrpcItemStream<pb::ChainService::Stub, pb::GetChainResponse>>(
        chains_, &pb::ChainService::Stub::GetChain, request, deadline);
  }
  std::unique_ptr<VerifyStream> VerifyChain(const pb::VerifyChainRequest& request, Deadline deadline) override {
    return std::make_unique<GrpcItemStream<pb::ChainService::Stub, pb::VerifyChainResponse>>(
        chains_, &pb::ChainService::Stub::VerifyChain, request, deadline);
  }
  std::unique_ptr<CarStream> ExportCar(const pb::ExportCarRequest& request, Deadline deadline) override {
    return std::make_unique<GrpcItemStream<pb::ChainService::Stub, pb::ExportCarResponse>>(
        chains_, &pb::ChainService::Stub::ExportCar, request, deadline);
  }
  absl::StatusOr<pb::PutBlockResponse> PutBlock(const pb::PutBlockRequest& request, Deadline deadline) override {
    return Call(*chains_, &pb::ChainService::Stub::PutBlock, request, deadline);
  }
  absl::StatusOr<pb::GetBlockResponse> GetBlock(const pb::GetBlockRequest& request, Deadline deadline) override {
    return Call(*chains_, &pb::ChainService::Stub::GetBlock, request, deadline);
  }
  absl::StatusOr<pb::SaveReadModelResponse> SaveReadModel(const pb::SaveReadModelRequest& request,
                                                          Deadline deadline) override {
    return Call(*read_models_, &pb::ReadModelService::Stub::SaveReadModel, request, deadline);
  }
  absl::StatusOr<pb::SaveReadModelsResponse> SaveReadModels(const pb::SaveReadModelsRequest& request,
                                                            Deadline deadline) override {
    return Call(*read_models_, &pb::ReadModelService::Stub::SaveReadModels, request, deadline);
  }
  absl::StatusOr<pb::GetReadModelResponse> GetReadModel(const pb::GetReadModelRequest& request,
                                                        Deadline deadline) override {
    return Call(*read_models_, &pb::ReadModelService::Stub::GetReadModel, request, deadline);
  }
  absl::StatusOr<pb::BatchGetReadModelsResponse> BatchGetReadModels(const pb::BatchGetReadModelsRequest& request,
                                                                    Deadline deadline) override {
    return Call(*read_models_, &pb::ReadModelService::Stub::BatchGetReadModels, request, deadline);
  }
  absl::StatusOr<pb::DeleteReadModelResponse> DeleteReadModel(const pb::DeleteReadModelRequest& request,
                                                              Deadline deadline) override {
    return Call(*read_models_, &pb::ReadModelService::Stub::DeleteReadModel, request, deadline);
  }
  absl::StatusOr<pb::ListReadModelsResponse> ListReadModels(const pb::ListReadModelsRequest& request,
                                                            Deadline deadline) override {
    return Call(*read_models_, &pb::ReadModelService::Stub::ListReadModels, request, deadline);
  }
  absl::StatusOr<pb::GetServerInfoResponse> GetServerInfo(const pb::GetServerInfoRequest& request,
                                                          Deadline deadline) override {
    return Call(*admin_, &pb::AdminService::Stub::GetServerInfo, request, deadline);
  }
  absl::StatusOr<pb::CreateAggregateTypeResponse> CreateAggregateType(const pb::CreateAggregateTypeRequest& request,
                                                                      Deadline deadline) override {
    return Call(*admin_, &pb::AdminService::Stub::CreateAggregateType, request, deadline);
  }
  absl::StatusOr<pb::ListAggregateTypesResponse> ListAggregateTypes(const pb::ListAggregateTypesRequest& request,
                                                                    Deadline deadline) override {
    return Call(*admin_, &pb::AdminService::Stub::ListAggregateTypes, request, deadline);
  }
  absl::StatusOr<pb::DescribeAggregateTypeResponse> DescribeAggregateType(
      const pb::DescribeAggregateTypeRequest& request, Deadline deadline) override {
    return Call(*admin_, &pb::AdminService::Stub::DescribeAggregateType, request, deadline);
  }

 private:
  const std::shared_ptr<pb::AggregateService::Stub> aggregates_;
  const std::shared_ptr<pb::ChainService::Stub> chains_;
  const std::shared_ptr<pb::ReadModelService::Stub> read_models_;
  const std::unique_ptr<pb::AdminService::Stub> admin_;
};

}  // namespace

std::shared_ptr<Stub> NewGrpcStub(const std::shared_ptr<grpc::Channel>& channel) {
  return std::make_shared<GrpcStub>(channel);
}

}  // namespace persistd::client
