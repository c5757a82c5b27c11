#include "server/rpc/aggregate_service.h"

#include <functional>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/base/status_macros.h"
#include "server/domain/errors.h"
#include "server/rpc/request_validation.h"
#include "server/rpc/response_mapping.h"

namespace persistd::rpc {

namespace {

namespace pb = cim::persistence::v1;

template <typename Request, typename Response>
void AddUnary(Service& service, absl::string_view name,
              base::Task<absl::Status> (AggregateService::*handler)(const CallContext&, const Request&, Response&),
              AggregateService* self) {
  service.AddUnary<Request, Response>(name, std::bind_front(handler, self));
}

}  // namespace

Service AggregateService::MakeService() {
  using Self = AggregateService;
  Service service("cim.persistence.v1.AggregateService");
  const auto unary = [&](absl::string_view name, auto handler) { AddUnary(service, name, handler, this); };
  unary("Save", &Self::Save);
  unary("SaveAll", &Self::SaveAll);
  unary("DeleteAggregate", &Self::DeleteAggregate);
  unary("Load", &Self::Load);
  unary("GetAtVersion", &Self::GetAtVersion);
  unary("GetMetadata", &Self::GetMetadata);
  unary("ListAggregates", &Self::ListAggregates);
  unary("CreateSnapshot", &Self::CreateSnapshot);
  unary("ListSnapshots", &Self::ListSnapshots);
  unary("DeleteSnapshot", &Self::DeleteSnapshot);
  service.AddServerStreaming<pb::GetHistoryRequest, pb::RecordedEvent>("GetHistory",
                                                                       std::bind_front(&Self::GetHistory, this));
  service.AddBidiStreaming<pb::SaveStreamRequest, pb::SaveStreamResponse>("SaveStream",
                                                                          std::bind_front(&Self::SaveStream, this));
  service.AddBidiStreaming<pb::LoadRequest, pb::BatchLoadResponse>("BatchLoad",
                                                                   std::bind_front(&Self::BatchLoad, this));
  return service;
}

base::Task<absl::Status> AggregateService::Save(const CallContext& context, const pb::SaveRequest& request,
                                                pb::SaveResponse& response) {
  CO_ASSIGN_OR_RETURN(repository::SaveCommand command,
                      ToSaveCommand(request, options_.limits, NewSaveContext(context)));
  CO_ASSIGN_OR_RETURN(const repository::SaveResult result,
                      co_await repository_->Save(std::move(command), context.deadline()));
  ToProto(result, options_.fsync(result.replicas), response);
  co_return absl::OkStatus();
}

base::Task<absl::Status> AggregateService::SaveAll(const CallContext& context, const pb::SaveAllRequest& request,
                                                   pb::SaveAllResponse& response) {
  CO_ASSIGN_OR_RETURN(repository::SaveAllCommand command,
                      ToSaveAllCommand(request, options_.limits, NewSaveContext(context)));
  CO_ASSIGN_OR_RETURN(const repository::SaveAllResult result,
                      co_await repository_->SaveAll(std::move(command), context.deadline()));
  ToProto(result, options_.fsync, response);
  co_return absl::OkStatus();
}

base::Task<absl::Status> AggregateService::DeleteAggregate(const CallContext& context,
                                                           const pb::DeleteAggregateRequest& request,
                                                           pb::DeleteAggregateResponse& response) {
  CO_ASSIGN_OR_RETURN(repository::SaveCommand command, ToSaveCommand(request, NewSaveContext(context)));
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

base::Task<absl::Status> AggregateService::ListAggregates(const CallContext& context,
                                                          const pb::ListAggregatesRequest& request,
                                                          pb::ListAggregatesResponse& response) {
  CO_ASSIGN_OR_RETURN(index::ListQuery query, ToListQuery(request));
  if (options_.list == nullptr) co_return domain::IndexNotReady("this daemon keeps no index");
  CO_ASSIGN_OR_RETURN(const index::ListPage page, co_await options_.list->List(std::move(query), context.deadline()));
  ToProto(page, response);
  co_return absl::OkStatus();
}

base::Task<absl::Status> AggregateService::CreateSnapshot(const CallContext& context,
                                                          const pb::CreateSnapshotRequest& request,
                                                          pb::Snapshot& response) {
  CO_ASSIGN_OR_RETURN(repository::SnapshotCommand command, ToSnapshotCommand(request, options_.limits));
  CO_ASSIGN_OR_RETURN(const repository::SnapshotInfo info,
                      co_await repository_->CreateSnapshot(std::move(command), context.deadline()));
  ToProto(info, response);
  co_return absl::OkStatus();
}

base::Task<absl::Status> AggregateService::ListSnapshots(const CallContext& context,
                                                         const pb::ListSnapshotsRequest& request,
                                                         pb::ListSnapshotsResponse& response) {
  CO_ASSIGN_OR_RETURN(domain::AggregateRef ref, ToRef(request.ref()));
  CO_ASSIGN_OR_RETURN(const std::vector<repository::SnapshotInfo> snapshots,
                      co_await repository_->ListSnapshots(std::move(ref), context.deadline()));
  for (const repository::SnapshotInfo& info : snapshots) ToProto(info, *response.add_snapshots());
  co_return absl::OkStatus();
}

base::Task<absl::Status> AggregateService::DeleteSnapshot(const CallContext& context,
                                                          const pb::DeleteSnapshotRequest& request,
                                                          pb::DeleteSnapshotResponse& /*response*/) {
  CO_ASSIGN_OR_RETURN(domain::AggregateRef ref, ToRef(request.ref()));
  if (request.version() == 0) co_return domain::InvalidField("version", "must be at least 1");
  co_return co_await repository_->DeleteSnapshot(std::move(ref), request.version(), context.deadline());
}

}  // namespace persistd::rpc
