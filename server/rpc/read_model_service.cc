#include "server/rpc/read_model_service.h"

#include <optional>
#include <utility>
#include <vector>

#include "server/base/status_macros.h"
#include "server/domain/errors.h"
#include "server/rpc/read_model_mapping.h"
#include "server/rpc/request_validation.h"

namespace persistd::rpc {

namespace pb = cim::persistence::v1;

Service ReadModelService::MakeService() {
  using Self = ReadModelService;
  Service service("cim.persistence.v1.ReadModelService");
  service.AddUnary<pb::SaveReadModelRequest, pb::SaveReadModelResponse>("SaveReadModel",
                                                                        std::bind_front(&Self::SaveReadModel, this));
  service.AddUnary<pb::SaveReadModelsRequest, pb::SaveReadModelsResponse>("SaveReadModels",
                                                                          std::bind_front(&Self::SaveReadModels, this));
  service.AddUnary<pb::GetReadModelRequest, pb::GetReadModelResponse>("GetReadModel",
                                                                      std::bind_front(&Self::GetReadModel, this));
  service.AddUnary<pb::BatchGetReadModelsRequest, pb::BatchGetReadModelsResponse>(
      "BatchGetReadModels", std::bind_front(&Self::BatchGetReadModels, this));
  service.AddUnary<pb::DeleteReadModelRequest, pb::DeleteReadModelResponse>(
      "DeleteReadModel", std::bind_front(&Self::DeleteReadModel, this));
  service.AddUnary<pb::ListReadModelsRequest, pb::ListReadModelsResponse>("ListReadModels",
                                                                          std::bind_front(&Self::ListReadModels, this));
  return service;
}

base::Task<absl::Status> ReadModelService::SaveReadModel(const CallContext& context,
                                                         const pb::SaveReadModelRequest& request,
                                                         pb::SaveReadModelResponse& response) {
  CO_ASSIGN_OR_RETURN(readmodel::WriteCommand command, ToWriteCommand(request, limits_));
  CO_ASSIGN_OR_RETURN(const std::vector<readmodel::Written> written,
                      co_await store_.Save(std::move(command), context.deadline()));
  ToProto(written.front(), response);
  co_return absl::OkStatus();
}

base::Task<absl::Status> ReadModelService::SaveReadModels(const CallContext& context,
                                                          const pb::SaveReadModelsRequest& request,
                                                          pb::SaveReadModelsResponse& response) {
  CO_ASSIGN_OR_RETURN(readmodel::WriteCommand command, ToWriteCommand(request, limits_));
  CO_ASSIGN_OR_RETURN(const std::vector<readmodel::Written> written,
                      co_await store_.Save(std::move(command), context.deadline()));
  for (const readmodel::Written& one : written) ToProto(one, *response.add_results());
  co_return absl::OkStatus();
}

base::Task<absl::Status> ReadModelService::GetReadModel(const CallContext& context,
                                                        const pb::GetReadModelRequest& request,
                                                        pb::GetReadModelResponse& response) {
  CO_ASSIGN_OR_RETURN(domain::ReadModelKey key, ToKey(request.key(), FieldPath("key")));
  CO_RETURN_IF_ERROR(CheckView(request.payload_view()));
  CO_ASSIGN_OR_RETURN(readmodel::ReadModel model, co_await store_.Get(std::move(key), context.deadline()));
  if (request.schema_version() != 0 && request.schema_version() != model.schema_version) {
    co_return domain::SchemaVersionDiffers(model.key, request.schema_version(), model.schema_version);
  }
  ToProto(std::move(model), request.payload_view(), *response.mutable_read_model());
  co_return absl::OkStatus();
}

base::Task<absl::Status> ReadModelService::BatchGetReadModels(const CallContext& context,
                                                              const pb::BatchGetReadModelsRequest& request,
                                                              pb::BatchGetReadModelsResponse& response) {
  CO_ASSIGN_OR_RETURN(std::vector<domain::ReadModelKey> keys, ToKeys(request));
  CO_ASSIGN_OR_RETURN(std::vector<std::optional<readmodel::ReadModel>> models,
                      co_await store_.GetMany(std::move(keys), context.deadline()));
  for (size_t i = 0; i < models.size(); ++i) {
    pb::BatchGetReadModelsResponse::Result& result = *response.add_results();
    *result.mutable_key() = request.keys(static_cast<int>(i));
    std::optional<readmodel::ReadModel>& model = models[i];
    if (!model.has_value()) continue;
    if (request.schema_version() != 0 && request.schema_version() != model->schema_version) continue;
    ToProto(*std::move(model), request.payload_view(), *result.mutable_read_model());
  }
  co_return absl::OkStatus();
}

base::Task<absl::Status> ReadModelService::DeleteReadModel(const CallContext& context,
                                                           const pb::DeleteReadModelRequest& request,
                                                           pb::DeleteReadModelResponse& response) {
  CO_ASSIGN_OR_RETURN(readmodel::WriteCommand command, ToWriteCommand(request));
  CO_ASSIGN_OR_RETURN(const std::vector<readmodel::Written> written,
                      co_await store_.Save(std::move(command), context.deadline()));
  ToProto(written.front(), response);
  co_return absl::OkStatus();
}

base::Task<absl::Status> ReadModelService::ListReadModels(const CallContext& context,
                                                          const pb::ListReadModelsRequest& request,
                                                          pb::ListReadModelsResponse& response) {
  CO_ASSIGN_OR_RETURN(readmodel::ListQuery query, ToListQuery(request));
  CO_ASSIGN_OR_RETURN(readmodel::ListPage page, co_await store_.List(std::move(query), context.deadline()));
  ToProto(std::move(page), request, response);
  co_return absl::OkStatus();
}

}  // namespace persistd::rpc
