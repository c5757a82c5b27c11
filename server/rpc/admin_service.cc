#include "server/rpc/admin_service.h"

#include "absl/status/status.h"
#include "server/base/status_macros.h"
#include "server/base/task.h"
#include "server/rpc/admin_mapping.h"

namespace persistd::rpc {

namespace pb = cim::persistence::v1;

Service AdminService::MakeService() {
  using Self = AdminService;
  Service service("cim.persistence.v1.AdminService");
  // Always admitted: an operator must be able to look at a daemon that is overloaded.
  service.AddUnary<pb::GetServerInfoRequest, pb::GetServerInfoResponse>(
      "GetServerInfo",
      [this](const CallContext&, const pb::GetServerInfoRequest&,
             pb::GetServerInfoResponse& response) -> base::Task<absl::Status> {
        response = info_();
        co_return absl::OkStatus();
      },
      {.always_admitted = true});
  service.AddUnary<pb::CreateAggregateTypeRequest, pb::CreateAggregateTypeResponse>(
      "CreateAggregateType", std::bind_front(&Self::CreateAggregateType, this));
  service.AddUnary<pb::ListAggregateTypesRequest, pb::ListAggregateTypesResponse>(
      "ListAggregateTypes", std::bind_front(&Self::ListAggregateTypes, this));
  service.AddUnary<pb::DescribeAggregateTypeRequest, pb::DescribeAggregateTypeResponse>(
      "DescribeAggregateType", std::bind_front(&Self::DescribeAggregateType, this));
  return service;
}

base::Task<absl::Status> AdminService::CreateAggregateType(const CallContext& context,
                                                           const pb::CreateAggregateTypeRequest& request,
                                                           pb::CreateAggregateTypeResponse& response) {
  CO_ASSIGN_OR_RETURN(repository::TypeName type, ToTypeName(request.context(), request.aggregate()));
  CO_ASSIGN_OR_RETURN(jetstream::StreamSettings settings, ToSettings(request.settings()));
  CO_ASSIGN_OR_RETURN(const repository::AggregateTypes::Created created,
                      co_await types_->Create(std::move(type), std::move(settings), context.deadline()));
  ToProto(created.info, *response.mutable_type());
  response.set_created(created.created);
  co_return absl::OkStatus();
}

base::Task<absl::Status> AdminService::ListAggregateTypes(const CallContext& context,
                                                          const pb::ListAggregateTypesRequest& request,
                                                          pb::ListAggregateTypesResponse& response) {
  CO_ASSIGN_OR_RETURN(repository::AggregateTypes::ListQuery query, ToListQuery(request));
  CO_ASSIGN_OR_RETURN(const repository::TypePage page, co_await types_->List(std::move(query), context.deadline()));
  for (const repository::TypeInfo& info : page.types) ToProto(info, *response.add_types());
  response.set_next_page_token(page.next_page_token);
  co_return absl::OkStatus();
}

base::Task<absl::Status> AdminService::DescribeAggregateType(const CallContext& context,
                                                             const pb::DescribeAggregateTypeRequest& request,
                                                             pb::DescribeAggregateTypeResponse& response) {
  CO_ASSIGN_OR_RETURN(repository::TypeName type, ToTypeName(request.context(), request.aggregate()));
  CO_ASSIGN_OR_RETURN(const repository::TypeDescription description,
                      co_await types_->Describe(std::move(type), context.deadline()));
  ToProto(description, response);
  co_return absl::OkStatus();
}

}  // namespace persistd::rpc
