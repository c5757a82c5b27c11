#include "server/rpc/admin_service.h"

#include "absl/status/status.h"
#include "server/base/task.h"

namespace persistd::rpc {

namespace pb = cim::persistence::v1;

Service AdminService::MakeService() {
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
  return service;
}

}  // namespace persistd::rpc
