// The AdminService of the API. Thread-safe.
#pragma once

#include <functional>
#include <utility>

#include "cim/persistence/v1/admin.pb.h"
#include "server/rpc/service.h"

namespace persistd::rpc {

class AdminService {
 public:
  // Called for each call, on any thread; must not block.
  using InfoProvider = std::function<cim::persistence::v1::GetServerInfoResponse()>;

  explicit AdminService(InfoProvider info) : info_(std::move(info)) {}

  // The service calls this object.
  Service MakeService();

 private:
  const InfoProvider info_;
};

}  // namespace persistd::rpc
