#include "tests/integration/api.h"

#include "client/cpp/errors.h"
#include "client/cpp/requests.h"
#include "grpc/grpc.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "tests/testing/must.h"
#include "tests/testing/poll.h"

namespace persistd::integration {
namespace {

constexpr int kMaxAnswerBytes = 64 << 20;

void Prepare(grpc::ClientContext& context, const CallOptions& options) {
  context.set_deadline(std::chrono::system_clock::now() + options.timeout);
  for (const auto& [key, value] : options.metadata) context.AddMetadata(key, value);
}

template <typename Stub, typename Request, typename Response>
absl::StatusOr<Response> Call(Stub& stub, grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                              const Request& request, const CallOptions& options, bool wait_for_ready = false) {
  grpc::ClientContext context;
  Prepare(context, options);
  context.set_wait_for_ready(wait_for_ready);
  Response response;
  const grpc::Status status = (stub.*method)(&context, request, &response);
  if (!status.ok()) return client::FromGrpcStatus(status);
  return response;
}

std::shared_ptr<grpc::Channel> Connect(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxAnswerBytes);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 200);
  // A connection of its own for each Api, as separate clients have.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

}  // namespace

HistoryCall::HistoryCall(pb::AggregateService::Stub& service, const pb::GetHistoryRequest& request,
                         const CallOptions& options) {
  Prepare(context_, options);
  reader_ = service.GetHistory(&context_, request);
}

HistoryCall::~HistoryCall() {
  if (finished_) return;
  context_.TryCancel();
  (void)reader_->Finish();  // gRPC wants every call finished.
}

absl::StatusOr<std::optional<pb::RecordedEvent>> HistoryCall::Next() {
  pb::RecordedEvent event;
  if (reader_->Read(&event)) return event;
  finished_ = true;
  const grpc::Status status = reader_->Finish();
  if (!status.ok()) return client::FromGrpcStatus(status);
  return std::nullopt;
}

pb::RecordedEvent HistoryCall::MustNext() {
  std::optional<pb::RecordedEvent> event = testing::Must(Next());
  if (!event.has_value()) testing::Must(absl::NotFoundError("the history ended too early"));
  return *std::move(event);
}

Api::Api(const std::string& address)
    : channel_(Connect(address)),
      aggregates_(pb::AggregateService::NewStub(channel_)),
      chains_(pb::ChainService::NewStub(channel_)),
      read_models_(pb::ReadModelService::NewStub(channel_)),
      admin_(pb::AdminService::NewStub(channel_)),
      health_(grpc::health::v1::Health::NewStub(channel_)) {}

absl::StatusOr<pb::SaveResponse> Api::Save(const pb::SaveRequest& request, const CallOptions& options) {
  return Call(*aggregates_, &pb::AggregateService::Stub::Save, request, options);
}

absl::StatusOr<pb::LoadResponse> Api::Load(const pb::AggregateRef& ref, const CallOptions& options) {
  pb::LoadRequest request;
  *request.mutable_ref() = ref;
  return Load(request, options);
}

absl::StatusOr<pb::LoadResponse> Api::Load(const pb::LoadRequest& request, const CallOptions& options) {
  return Call(*aggregates_, &pb::AggregateService::Stub::Load, request, options);
}

absl::StatusOr<pb::LoadResponse> Api::GetAtVersion(const pb::GetAtVersionRequest& request, const CallOptions& options) {
  return Call(*aggregates_, &pb::AggregateService::Stub::GetAtVersion, request, options);
}

absl::StatusOr<pb::AggregateMetadata> Api::GetMetadata(const pb::AggregateRef& ref, const CallOptions& options) {
  pb::GetMetadataRequest request;
  *request.mutable_ref() = ref;
  return Call(*aggregates_, &pb::AggregateService::Stub::GetMetadata, request, options);
}

absl::StatusOr<pb::GetServerInfoResponse> Api::GetServerInfo(const CallOptions& options) {
  return Call(*admin_, &pb::AdminService::Stub::GetServerInfo, pb::GetServerInfoRequest(), options);
}

std::unique_ptr<HistoryCall> Api::StartHistory(const pb::GetHistoryRequest& request, const CallOptions& options) {
  return std::make_unique<HistoryCall>(*aggregates_, request, options);
}

absl::StatusOr<std::vector<pb::RecordedEvent>> Api::History(const pb::GetHistoryRequest& request,
                                                            const CallOptions& options) {
  const auto call = StartHistory(request, options);
  std::vector<pb::RecordedEvent> events;
  while (true) {
    absl::StatusOr<std::optional<pb::RecordedEvent>> event = call->Next();
    if (!event.ok()) return event.status();
    if (!event->has_value()) return events;
    events.push_back(**std::move(event));
  }
}

absl::StatusOr<std::vector<pb::RecordedEvent>> Api::History(const pb::AggregateRef& ref) {
  return History(HistoryOf(ref));
}

absl::StatusOr<pb::AppendToChainResponse> Api::AppendToChain(const pb::AppendToChainRequest& request,
                                                             const CallOptions& options) {
  return Call(*chains_, &pb::ChainService::Stub::AppendToChain, request, options);
}

absl::StatusOr<std::vector<pb::GetChainResponse>> Api::GetChain(const pb::GetChainRequest& request,
                                                                const CallOptions& options) {
  grpc::ClientContext context;
  Prepare(context, options);
  const auto reader = chains_->GetChain(&context, request);
  std::vector<pb::GetChainResponse> entries;
  pb::GetChainResponse entry;
  while (reader->Read(&entry)) entries.push_back(entry);
  const grpc::Status status = reader->Finish();
  if (!status.ok()) return client::FromGrpcStatus(status);
  return entries;
}

absl::StatusOr<std::vector<pb::GetChainResponse>> Api::GetChain(const std::string& chain) {
  pb::GetChainRequest request;
  request.set_chain(chain);
  return GetChain(request);
}

absl::StatusOr<pb::PutBlockResponse> Api::PutBlock(const pb::PutBlockRequest& request, const CallOptions& options) {
  return Call(*chains_, &pb::ChainService::Stub::PutBlock, request, options);
}

absl::StatusOr<pb::GetBlockResponse> Api::GetBlock(const std::string& cid, const CallOptions& options) {
  pb::GetBlockRequest request;
  request.set_cid(cid);
  return Call(*chains_, &pb::ChainService::Stub::GetBlock, request, options);
}

absl::StatusOr<pb::SaveReadModelResponse> Api::SaveReadModel(const pb::SaveReadModelRequest& request,
                                                             const CallOptions& options) {
  return Call(*read_models_, &pb::ReadModelService::Stub::SaveReadModel, request, options);
}

absl::StatusOr<pb::SaveReadModelsResponse> Api::SaveReadModels(const pb::SaveReadModelsRequest& request,
                                                               const CallOptions& options) {
  return Call(*read_models_, &pb::ReadModelService::Stub::SaveReadModels, request, options);
}

absl::StatusOr<pb::ReadModel> Api::GetReadModel(const pb::GetReadModelRequest& request, const CallOptions& options) {
  auto response = Call(*read_models_, &pb::ReadModelService::Stub::GetReadModel, request, options);
  if (!response.ok()) return response.status();
  return std::move(*response->mutable_read_model());
}

absl::StatusOr<pb::BatchGetReadModelsResponse> Api::BatchGetReadModels(const pb::BatchGetReadModelsRequest& request,
                                                                       const CallOptions& options) {
  return Call(*read_models_, &pb::ReadModelService::Stub::BatchGetReadModels, request, options);
}

absl::StatusOr<pb::DeleteReadModelResponse> Api::DeleteReadModel(const pb::DeleteReadModelRequest& request,
                                                                 const CallOptions& options) {
  return Call(*read_models_, &pb::ReadModelService::Stub::DeleteReadModel, request, options);
}

absl::StatusOr<pb::ListReadModelsResponse> Api::ListReadModels(const pb::ListReadModelsRequest& request,
                                                               const CallOptions& options) {
  return Call(*read_models_, &pb::ReadModelService::Stub::ListReadModels, request, options);
}

absl::StatusOr<bool> Api::IsServing(const CallOptions& options) {
  using grpc::health::v1::HealthCheckResponse;
  const absl::StatusOr<HealthCheckResponse> answer =
      Call(*health_, &grpc::health::v1::Health::Stub::Check, grpc::health::v1::HealthCheckRequest(), options, true);
  if (!answer.ok()) return answer.status();
  return answer->status() == HealthCheckResponse::SERVING;
}

bool Api::WaitUntilServing(bool serving, std::chrono::milliseconds timeout) {
  return testing::PollUntil(
      [&] {
        const absl::StatusOr<bool> now = IsServing({.timeout = 1s});
        return now.ok() && *now == serving;
      },
      timeout);
}

pb::ErrorDetail DetailOf(const absl::Status& status) {
  return client::GetErrorDetail(status).value_or(pb::ErrorDetail());
}

pb::ErrorReason ReasonOf(const absl::Status& status) { return DetailOf(status).reason(); }

pb::AggregateRef Order(const std::string& entity_id) { return client::Ref("sales", "order", entity_id); }

pb::SaveRequest SaveOf(const pb::AggregateRef& ref, int events, const std::string& data) {
  pb::SaveRequest request;
  *request.mutable_ref() = ref;
  for (int i = 0; i < events; ++i) *request.add_events() = client::JsonEvent("happened", data);
  return request;
}

pb::SaveRequest SaveOf(const pb::AggregateRef& ref, uint64_t expected_version, int events, const std::string& data) {
  pb::SaveRequest request = SaveOf(ref, events, data);
  request.set_expected_version(expected_version);
  return request;
}

pb::SaveReadModelRequest WriteOf(const std::string& type, const std::string& id, const std::string& data) {
  pb::SaveReadModelRequest request;
  request.mutable_write()->mutable_key()->set_type(type);
  request.mutable_write()->mutable_key()->set_id(id);
  request.mutable_write()->mutable_payload()->set_content_type("application/json");
  request.mutable_write()->mutable_payload()->set_data(data);
  return request;
}

pb::GetReadModelRequest GetOf(const std::string& type, const std::string& id) {
  pb::GetReadModelRequest request;
  request.mutable_key()->set_type(type);
  request.mutable_key()->set_id(id);
  return request;
}

pb::AppendToChainRequest AppendTo(const std::string& chain, const std::string& data) {
  pb::AppendToChainRequest request;
  request.set_chain(chain);
  request.mutable_content()->set_content_type("application/json");
  request.mutable_content()->set_data(data);
  return request;
}

pb::GetHistoryRequest HistoryOf(const pb::AggregateRef& ref, bool reverse) {
  pb::GetHistoryRequest request;
  *request.mutable_ref() = ref;
  request.set_reverse(reverse);
  return request;
}

}  // namespace persistd::integration
