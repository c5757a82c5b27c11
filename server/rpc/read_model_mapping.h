// Requests of ReadModelService as the store takes them, and its results as answers. Pure but for fresh ids;
// thread-safe.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "cim/persistence/v1/read_models.pb.h"
#include "server/readmodel/read_model.h"
#include "server/rpc/field_path.h"
#include "server/rpc/request_mapping.h"

namespace persistd::rpc {

absl::StatusOr<domain::ReadModelKey> ToKey(const cim::persistence::v1::ReadModelKey& key, const FieldPath& path);

absl::StatusOr<readmodel::WriteCommand> ToWriteCommand(const cim::persistence::v1::SaveReadModelRequest& request,
                                                       const RequestLimits& limits);
absl::StatusOr<readmodel::WriteCommand> ToWriteCommand(const cim::persistence::v1::SaveReadModelsRequest& request,
                                                       const RequestLimits& limits);
absl::StatusOr<readmodel::WriteCommand> ToWriteCommand(const cim::persistence::v1::DeleteReadModelRequest& request);
absl::StatusOr<std::vector<domain::ReadModelKey>> ToKeys(
    const cim::persistence::v1::BatchGetReadModelsRequest& request);
// The pattern is checked by the store.
absl::StatusOr<readmodel::ListQuery> ToListQuery(const cim::persistence::v1::ListReadModelsRequest& request);

void ToProto(const domain::ReadModelKey& key, cim::persistence::v1::ReadModelKey& message);
void ToProto(const readmodel::Written& written, cim::persistence::v1::SaveReadModelResponse& message);
void ToProto(const readmodel::Written& written, cim::persistence::v1::DeleteReadModelResponse& message);
void ToProto(readmodel::ReadModel model, cim::persistence::v1::PayloadView view,
             cim::persistence::v1::ReadModel& message);
// request: that the page answers.
void ToProto(readmodel::ListPage page, const cim::persistence::v1::ListReadModelsRequest& request,
             cim::persistence::v1::ListReadModelsResponse& message);

}  // namespace persistd::rpc
