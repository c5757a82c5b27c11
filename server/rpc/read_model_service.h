// The ReadModelService of the API over a store: each handler validates, calls, maps. Thread-safe.
#pragma once

#include "absl/status/status.h"
#include "cim/persistence/v1/read_models.pb.h"
#include "server/base/task.h"
#include "server/readmodel/store.h"
#include "server/rpc/request_mapping.h"
#include "server/rpc/service.h"

namespace persistd::rpc {

class ReadModelService {
 public:
  // The store must outlive it.
  ReadModelService(readmodel::Store* store, RequestLimits limits) : store_(*store), limits_(limits) {}

  // The service calls this object.
  Service MakeService();

 private:
  base::Task<absl::Status> SaveReadModel(const CallContext& context,
                                         const cim::persistence::v1::SaveReadModelRequest& request,
                                         cim::persistence::v1::SaveReadModelResponse& response);
  base::Task<absl::Status> SaveReadModels(const CallContext& context,
                                          const cim::persistence::v1::SaveReadModelsRequest& request,
                                          cim::persistence::v1::SaveReadModelsResponse& response);
  base::Task<absl::Status> GetReadModel(const CallContext& context,
                                        const cim::persistence::v1::GetReadModelRequest& request,
                                        cim::persistence::v1::GetReadModelResponse& response);
  base::Task<absl::Status> BatchGetReadModels(const CallContext& context,
                                              const cim::persistence::v1::BatchGetReadModelsRequest& request,
                                              cim::persistence::v1::BatchGetReadModelsResponse& response);
  base::Task<absl::Status> DeleteReadModel(const CallContext& context,
                                           const cim::persistence::v1::DeleteReadModelRequest& request,
                                           cim::persistence::v1::DeleteReadModelResponse& response);
  base::Task<absl::Status> ListReadModels(const CallContext& context,
                                          const cim::persistence::v1::ListReadModelsRequest& request,
                                          cim::persistence::v1::ListReadModelsResponse& response);

  readmodel::Store& store_;
  const RequestLimits limits_;
};

}  // namespace persistd::rpc
