#include "server/rpc/chain_service.h"

#include <utility>

#include "server/base/status_macros.h"
#include "server/domain/errors.h"
#include "server/ipld/cid.h"
#include "server/rpc/chain_mapping.h"

namespace persistd::rpc {

namespace pb = cim::persistence::v1;

Service ChainService::MakeService() {
  using Self = ChainService;
  Service service("cim.persistence.v1.ChainService");
  service.AddUnary<pb::AppendToChainRequest, pb::AppendToChainResponse>("AppendToChain",
                                                                        std::bind_front(&Self::AppendToChain, this));
  service.AddUnary<pb::PutBlockRequest, pb::PutBlockResponse>("PutBlock", std::bind_front(&Self::PutBlock, this));
  service.AddUnary<pb::GetBlockRequest, pb::GetBlockResponse>("GetBlock", std::bind_front(&Self::GetBlock, this));
  service.AddServerStreaming<pb::GetChainRequest, pb::GetChainResponse>("GetChain",
                                                                        std::bind_front(&Self::GetChain, this));
  service.AddServerStreaming<pb::VerifyChainRequest, pb::VerifyChainResponse>(
      "VerifyChain", std::bind_front(&Self::VerifyChain, this));
  service.AddServerStreaming<pb::ExportCarRequest, pb::ExportCarResponse>("ExportCar",
                                                                          std::bind_front(&Self::ExportCar, this));
  return service;
}

base::Task<absl::Status> ChainService::AppendToChain(const CallContext& context,
                                                     const pb::AppendToChainRequest& request,
                                                     pb::AppendToChainResponse& response) {
  const SaveContext save{.now = options_.clock->WallNow(), .traceparent = context.metadata("traceparent")};
  CO_ASSIGN_OR_RETURN(repository::SaveCommand command, ToSaveCommand(request, options_.limits, save));
  if (!options_.enable_ipld) co_return domain::ChainsAreOff();
  CO_ASSIGN_OR_RETURN(const repository::SaveResult result,
                      co_await repository_->Save(std::move(command), context.deadline()));
  ToProto(result, options_.fsync(result.replicas), response);
  co_return absl::OkStatus();
}

base::Task<absl::Status> ChainService::GetChain(const CallContext& context, const pb::GetChainRequest& request,
                                                StreamWriter<pb::GetChainResponse>& writer) {
  CO_ASSIGN_OR_RETURN(repository::HistoryQuery query, ToHistoryQuery(request));
  const domain::AggregateRef chain = query.ref;
  const pb::PayloadView view = request.payload_view();
  // Lives as long as this call, for this frame waits for the history; so do the references.
  repository::EventSink sink = [&writer, view](repository::Event entry) -> base::Task<bool> {
    pb::GetChainResponse message;
    ToProto(std::move(entry), view, message);
    co_return co_await writer.Write(message);
  };
  absl::Status status = co_await repository_->History(std::move(query), std::move(sink), context.deadline());
  co_return NamedAsChain(std::move(status), chain);
}

base::Task<absl::Status> ChainService::PutBlock(const CallContext& context, const pb::PutBlockRequest& request,
                                                pb::PutBlockResponse& response) {
  CO_ASSIGN_OR_RETURN(const ipld::Cid cid, ToBlockCid(request, options_.limits));
  CO_ASSIGN_OR_RETURN(const bool existed, co_await blocks_->Put(cid, request.data(), context.deadline()));
  response.set_cid(cid.ToString());
  response.set_existed(existed);
  co_return absl::OkStatus();
}

base::Task<absl::Status> ChainService::GetBlock(const CallContext& context, const pb::GetBlockRequest& request,
                                                pb::GetBlockResponse& response) {
  CO_ASSIGN_OR_RETURN(const ipld::Cid cid, ToCid(request.cid(), FieldPath("cid")));
  CO_ASSIGN_OR_RETURN(repository::FoundBlock block, co_await blocks_->Get(cid, context.deadline()));
  ToProto(std::move(block), response);
  co_return absl::OkStatus();
}

}  // namespace persistd::rpc
