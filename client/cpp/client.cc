#include "client/cpp/client.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "grpc/grpc.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/support/channel_arguments.h"

namespace persistd::client {
namespace {

namespace pb = cim::persistence::v1;

grpc::ChannelArguments ChannelArguments() {
  grpc::ChannelArguments arguments;
  // An aggregate with a long tail of events is larger than gRPC's default of 4 MiB.
  arguments.SetMaxReceiveMessageSize(160 << 20);
  // A restarted daemon is found soon; gRPC's default waits up to two minutes.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  // Despite its name, how long one attempt to connect may take: busy machines and long ways need more than the wait.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 5'000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2'000);
  // A peer that vanished without a word is noticed while calls wait for it.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 20'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5'000);
  // The daemon is reached directly: a proxy set up for web traffic must not catch calls to 127.0.0.1.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return arguments;
}

// Runs `attempt` until it succeeds or `retry` gives up.
template <typename Attempt>
auto Repeat(RetryLoop retry, Attempt attempt) -> decltype(attempt()) {
  while (true) {
    auto result = attempt();
    if (result.ok()) return result;
    if (retry.WaitToRetry(result.status())) continue;
    if (retry.attempts() == 1) return result;
    return Annotate(result.status(), absl::StrCat("after ", retry.attempts(), " attempts"));
  }
}

}  // namespace

absl::Status Options::Validate() const {
  if (address.empty()) return absl::InvalidArgumentError("address must not be empty");
  if (default_timeout.count() <= 0 || default_timeout > std::chrono::hours(24)) {
    return absl::InvalidArgumentError("default_timeout must be more than 0 and at most 24 hours");
  }
  return retry.Validate();
}

absl::StatusOr<Client> Client::Connect(Options options) {
  if (absl::Status status = options.Validate(); !status.ok()) return status;
  const auto credentials = options.credentials ? options.credentials : grpc::InsecureChannelCredentials();
  auto channel = grpc::CreateCustomChannel(options.address, credentials, ChannelArguments());
  return Client(NewGrpcStub(channel), std::move(options));
}

Client::Client(std::shared_ptr<Stub> stub, Options options, std::shared_ptr<Clock> clock)
    : stub_(std::move(stub)), clock_(std::move(clock)), timeout_(options.default_timeout), retry_(options.retry) {}

absl::StatusOr<pb::SaveResponse> Client::Save(pb::SaveRequest request) const {
  return RepeatSave(std::move(request), &Stub::Save);
}

absl::StatusOr<pb::SaveAllResponse> Client::SaveAll(pb::SaveAllRequest request) const {
  return RepeatSave(std::move(request), &Stub::SaveAll);
}

absl::StatusOr<pb::DeleteAggregateResponse> Client::DeleteAggregate(pb::DeleteAggregateRequest request) const {
  return RepeatSave(std::move(request), &Stub::DeleteAggregate);
}

template <typename Request, typename Response>
absl::StatusOr<Response> Client::RepeatSave(Request request,
                                            absl::StatusOr<Response> (Stub::*save)(const Request&,
                                                                                   Stub::Deadline)) const {
  if (request.request_id().empty()) request.set_request_id(NewRequestId());
  const Clock::TimePoint deadline = clock_->Now() + timeout_;
  // The last attempt that may have stored the save. Later attempts that got nowhere do not undo it, so it must not be
  // hidden behind an error that says "nothing was stored".
  absl::Status open;
  auto result = Repeat(RetryLoop(retry_, *clock_, deadline), [&] {
    auto attempt = (stub_.get()->*save)(request, deadline);
    if (MayHaveBeenStored(attempt.status())) open = attempt.status();
    return attempt;
  });
  const absl::Status& last = result.status();
  // A daemon that was configured anew refuses before it looks for an earlier result.
  const bool tells_of_itself_only =
      absl::IsUnavailable(last) || absl::IsResourceExhausted(last) || absl::IsFailedPrecondition(last);
  if (open.ok() || MayHaveBeenStored(last) || !tells_of_itself_only) return result;
  return Annotate(open, absl::StrCat("then: ", last.message()));
}

std::unique_ptr<SaveStream> Client::OpenSaveStream(size_t window) const {
  return std::make_unique<SaveStream>(stub_, clock_, SaveStream::Options{.window = window, .retry = retry_});
}

absl::StatusOr<pb::Snapshot> Client::CreateSnapshot(const pb::CreateSnapshotRequest& request) const {
  const Clock::TimePoint deadline = clock_->Now() + timeout_;
  return Repeat(RetryLoop(retry_, *clock_, deadline), [&] { return stub_->CreateSnapshot(request, deadline); });
}

absl::StatusOr<pb::ListSnapshotsResponse> Client::ListSnapshots(const pb::AggregateRef& ref) const {
  pb::ListSnapshotsRequest request;
  *request.mutable_ref() = ref;
  const Clock::TimePoint deadline = clock_->Now() + timeout_;
  return Repeat(RetryLoop(retry_, *clock_, deadline), [&] { return stub_->ListSnapshots(request, deadline); });
}

absl::Status Client::DeleteSnapshot(const pb::DeleteSnapshotRequest& request) const {
  const Clock::TimePoint deadline = clock_->Now() + timeout_;
  return Repeat(RetryLoop(retry_, *clock_, deadline), [&] { return stub_->DeleteSnapshot(request, deadline); })
      .status();
}

absl::StatusOr<std::vector<pb::BatchLoadResponse>> Client::BatchLoad(
    const std::vector<pb::LoadRequest>& requests) const {
  const Clock::TimePoint deadline = clock_->Now() + timeout_;
  return Repeat(RetryLoop(retry_, *clock_, deadline), [&] { return stub_->BatchLoad(requests, deadline); });
}

absl::StatusOr<pb::ListAggregatesResponse> Client::ListAggregates(const pb::ListAggregatesRequest& request) const {
  const Clock::TimePoint deadline = clock_->Now() + timeout_;
  return Repeat(RetryLoop(retry_, *clock_, deadline), [&] { return stub_->ListAggregates(request, deadline); });
}

absl::StatusOr<pb::LoadResponse> Client::Load(const pb::LoadRequest& request) const {
  const Clock::TimePoint deadline = clock_->Now() + timeout_;
  return Repeat(RetryLoop(retry_, *clock_, deadline), [&] { return stub_->Load(request, deadline); });
}

absl::StatusOr<pb::LoadResponse> Client::Load(const pb::AggregateRef& ref) const {
  pb::LoadRequest request;
  *request.mutable_ref() = ref;
  return Load(request);
}

absl::StatusOr<pb::LoadResponse> Client::GetAtVersion(const pb::GetAtVersionRequest& request) const {
  const Clock::TimePoint deadline = clock_->Now() + timeout_;
  return Repeat(RetryLoop(retry_, *clock_, deadline), [&] { return stub_->GetAtVersion(request, deadline); });
}

absl::StatusOr<pb::AggregateMetadata> Client::GetMetadata(const pb::AggregateRef& ref) const {
  pb::GetMetadataRequest request;
  *request.mutable_ref() = ref;
  const Clock::TimePoint deadline = clock_->Now() + timeout_;
  return Repeat(RetryLoop(retry_, *clock_, deadline), [&] { return stub_->GetMetadata(request, deadline); });
}

absl::StatusOr<pb::GetServerInfoResponse> Client::GetServerInfo() const {
  const Clock::TimePoint deadline = clock_->Now() + timeout_;
  return Repeat(RetryLoop(retry_, *clock_, deadline), [&] { return stub_->GetServerInfo({}, deadline); });
}

absl::StatusOr<pb::CreateAggregateTypeResponse> Client::CreateAggregateType(
    const pb::CreateAggregateTypeRequest& request) const {
  const Clock::TimePoint deadline = clock_->Now() + timeout_;
  return Repeat(RetryLoop(retry_, *clock_, deadline), [&] { return stub_->CreateAggregateType(request, deadline); });
}

absl::StatusOr<pb::ListAggregateTypesResponse> Client::ListAggregateTypes(
    const pb::ListAggregateTypesRequest& request) const {
  const Clock::TimePoint deadline = clock_->Now() + timeout_;
  return Repeat(RetryLoop(retry_, *clock_, deadline), [&] { return stub_->ListAggregateTypes(request, deadline); });
}

absl::StatusOr<pb::DescribeAggregateTypeResponse> Client::DescribeAggregateType(
    const pb::DescribeAggregateTypeRequest& request) const {
  const Clock::TimePoint deadline = clock_->Now() + timeout_;
  return Repeat(RetryLoop(retry_, *clock_, deadline), [&] { return stub_->DescribeAggregateType(request, deadline); });
}

absl::StatusOr<pb::AppendToChainResponse> Client::AppendToChain(pb::AppendToChainRequest request) const {
  return RepeatSave(std::move(request), &Stub::AppendToChain);
}

ChainReader Client::Chain(pb::GetChainRequest request) const {
  return ChainReader(stub_, clock_, {.timeout = timeout_, .retry = retry_}, std::move(request));
}

absl::StatusOr<pb::ChainVerification> Client::VerifyChain(
    const pb::VerifyChainRequest& request, const std::function<void(const pb::VerifyProgress&)>& on_progress) const {
  const Clock::TimePoint deadline = clock_->Now() + timeout_;
  return Repeat(RetryLoop(retry_, *clock_, deadline), [&]() -> absl::StatusOr<pb::ChainVerification> {
    const std::unique_ptr<VerifyStream> stream = stub_->VerifyChain(request, deadline);
    while (true) {
      absl::StatusOr<std::optional<pb::VerifyChainResponse>> answer = stream->Next();
      if (!answer.ok()) return answer.status();
      if (!answer->has_value()) return absl::InternalError("the daemon ended a verification without a result");
      if ((*answer)->has_result()) return std::move(*(*answer)->mutable_result());
      if (on_progress) on_progress((*answer)->progress());
    }
  });
}

absl::Status Client::ExportCar(const pb::ExportCarRequest& request,
                               const std::function<bool(const std::string&)>& sink) const {
  const std::unique_ptr<CarStream> stream = stub_->ExportCar(request, clock_->Now() + timeout_);
  while (true) {
    absl::StatusOr<std::optional<pb::ExportCarResponse>> answer = stream->Next();
    if (!answer.ok()) return answer.status();
    if (!answer->has_value()) return absl::OkStatus();
    if (!sink((*answer)->data())) return absl::CancelledError("stopped by its reader");
  }
}

absl::StatusOr<pb::PutBlockResponse> Client::PutBlock(const pb::PutBlockRequest& request) const {
  const Clock::TimePoint deadline = clock_->Now() + timeout_;
  return Repeat(RetryLoop(retry_, *clock_, deadline), [&] { return stub_->PutBlock(request, deadline); });
}

absl::StatusOr<pb::GetBlockResponse> Client::GetBlock(const std::string& cid) const {
  pb::GetBlockRequest request;
  request.set_cid(cid);
  const Clock::TimePoint deadline = clock_->Now() + timeout_;
  return Repeat(RetryLoop(retry_, *clock_, deadline), [&] { return stub_->GetBlock(request, deadline); });
}

absl::StatusOr<pb::SaveReadModelResponse> Client::SaveReadModel(pb::SaveReadModelRequest request) const {
  return RepeatSave(std::move(request), &Stub::SaveReadModel);
}

absl::StatusOr<pb::SaveReadModelsResponse> Client::SaveReadModels(pb::SaveReadModelsRequest request) const {
  return RepeatSave(std::move(request), &Stub::SaveReadModels);
}

absl::StatusOr<pb::DeleteReadModelResponse> Client::DeleteReadModel(pb::DeleteReadModelRequest request) const {
  return RepeatSave(std::move(request), &Stub::DeleteReadModel);
}

absl::StatusOr<pb::ReadModel> Client::GetReadModel(const pb::GetReadModelRequest& request) const {
  const Clock::TimePoint deadline = clock_->Now() + timeout_;
  auto response = Repeat(RetryLoop(retry_, *clock_, deadline), [&] { return stub_->GetReadModel(request, deadline); });
  if (!response.ok()) return response.status();
  return std::move(*response->mutable_read_model());
}

absl::StatusOr<pb::BatchGetReadModelsResponse> Client::BatchGetReadModels(
    const pb::BatchGetReadModelsRequest& request) const {
  const Clock::TimePoint deadline = clock_->Now() + timeout_;
  return Repeat(RetryLoop(retry_, *clock_, deadline), [&] { return stub_->BatchGetReadModels(request, deadline); });
}

absl::StatusOr<pb::ListReadModelsResponse> Client::ListReadModels(const pb::ListReadModelsRequest& request) const {
  const Clock::TimePoint deadline = clock_->Now() + timeout_;
  return Repeat(RetryLoop(retry_, *clock_, deadline), [&] { return stub_->ListReadModels(request, deadline); });
}

HistoryReader Client::History(pb::GetHistoryRequest request) const {
  return HistoryReader(stub_, clock_, {.timeout = timeout_, .retry = retry_}, std::move(request));
}

}  // namespace persistd::client
