// The AdminService of the API. Thread-safe.
#pragma once

#include <functional>
#include <utility>

#include "cim/persistence/v1/admin.pb.h"
#include "server/repository/types.h"
#include "server/rpc/service.h"

namespace persistd::rpc {

class AdminService {
 public:
  // Called for each call, on any thread; must not block.
  using InfoProvider = std::function<cim::persistence::v1::GetServerInfoResponse()>;

  // types: must outlive it.
  AdminService(InfoProvider info, repository::AggregateTypes* types) : info_(std::move(info)), types_(types) {}

  // The service calls this object.
  Service MakeService();

 private:
  base::Task<absl::Status> CreateAggregateType(const CallContext& context,
                                               const cim::persistence::v1::CreateAggregateTypeRequest& request,
                                               cim::persistence::v1::CreateAggregateTypeResponse& response);
  base::Task<absl::Status> ListAggregateTypes(const CallContext& context,
                                              const cim::persistence::v1::ListAggregateTypesRequest& request,
                                              cim::persistence::v1::ListAggregateTypesResponse& response);
  base::Task<absl::Status> DescribeAggregateType(const CallContext& context,
                                                 const cim::persistence::v1::DescribeAggregateTypeRequest& request,
                                                 cim::persistence::v1::DescribeAggregateTypeResponse& response);

  const InfoProvider info_;
  repository::AggregateTypes* const types_;
};

}  // namespace persistd::rpc
