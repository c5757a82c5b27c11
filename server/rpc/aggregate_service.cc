#include "server/rpc/aggregate_service.h"

#include <functional>
#include <utility>
#include <variant>

#include "server/base/status_macros.h"
#include "server/rpc/request_validation.h"
#include "server/rpc/response_mapping.h"

namespace persistd::rpc {

namespace pb = cim::persistence::v1;

Service AggregateService::MakeService() {
  using Self = AggregateService;
  Service service("cim.persistence.v1.AggregateService");
  service.AddUnary<pb::SaveRequest, pb::SaveResponse>("Save", std::bind_front(&Self::Save, this));
  service.AddUnary<pb::LoadRequest, pb::LoadResponse>("Load", std::bind_front(&Self::Load, this));
  service.AddServerStreaming<pb::GetHistoryRequest, pb::RecordedEvent>("GetHistory",
                                                                       std::bind_front(&Self::GetHistory, this));
  service.AddUnary<pb::GetAtVersionRequest, pb::LoadResponse>("GetAtVersion",
                                                              std::bind_front(&Self::GetAtVersion, this));
  service.AddUnary<pb::GetMetadataRequest, pb::AggregateMetadata>("GetMetadata",
                                                                  std::bind_front(&Self::GetMetadata, this));
  return service;
}

base::Task<absl::Status> AggregateService::Save(const CallContext& context, const pb::SaveRequest& request,
                                                pb::SaveResponse& response) {
  const SaveContext save{.now = options_.clock->WallNow(), .traceparent = context.metadata("traceparent")};
  CO_ASSIGN_OR_RETURN(repository::SaveCommand command, ToSaveCommand(request, options_.limits, save));
  CO_ASSIGN_OR_RETURN(const repository::SaveResult result,
                      co_await repository_->Save(std::move(command), context.deadline()));
  ToProto(result, options_.fsync(result.replicas), response);
  co_return absl::OkStatus();
}

base::Task<absl::Status> AggregateService::Load(const CallContext& context, const pb::LoadRequest& request,
                                                pb::LoadResponse& response) {
  CO_ASSIGN_OR_RETURN(repository::LoadCommand command, ToLoadCommand(request));
  CO_ASSIGN_OR_RETURN(repository::LoadResult result,
                      co_await repository_->Load(std::move(command), context.deadline()));
  ToProto(std::move(result), request.payload_view(), response);
  co_return absl::OkStatus();
}

base::Task<absl::Status> AggregateService::GetHistory(const CallContext& context, const pb::GetHistoryRequest& request,
                                                      StreamWriter<pb::RecordedEvent>& writer) {
  CO_ASSIGN_OR_RETURN(repository::HistoryQuery query, ToHistoryQuery(request));
  const pb::PayloadView view = request.payload_view();
  // Lives as long as this call, for this frame waits for the history; so do the references.
  repository::EventSink sink = [&writer, view](repository::Event event) -> base::Task<bool> {
    pb::RecordedEvent message;
    ToProto(std::move(event), view, message);
    co_return co_await writer.Write(message);
  };
  co_return co_await repository_->History(std::move(query), std::move(sink), context.deadline());
}

base::Task<absl::Status> AggregateService::GetAtVersion(const CallContext& context,
                                                        const pb::GetAtVersionRequest& request,
                                                        pb::LoadResponse& response) {
  CO_ASSIGN_OR_RETURN(repository::LoadCommand command, ToLoadCommand(request));
  CO_ASSIGN_OR_RETURN(repository::LoadResult result,
                      co_await repository_->Load(std::move(command), context.deadline()));
  ToProto(std::move(result), request.payload_view(), response);
  co_return absl::OkStatus();
}

base::Task<absl::Status> AggregateService::GetMetadata(const CallContext& context,
                                                       const pb::GetMetadataRequest& request,
                                                       pb::AggregateMetadata& response) {
  CO_ASSIGN_OR_RETURN(domain::AggregateRef ref, ToRef(request.ref()));
  CO_ASSIGN_OR_RETURN(const repository::AggregateInfo info,
                      co_await repository_->Info(std::move(ref), context.deadline()));
  ToProto(info, response);
  co_return absl::OkStatus();
}

}  // namespace persistd::rpc
