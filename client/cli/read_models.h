// `persistctl read-model`: from its words to the requests they ask for. All errors are INVALID_ARGUMENT, in words for
// the user.
#pragma once

#include <istream>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "cim/persistence/v1/read_models.pb.h"
#include "client/cli/arguments.h"

namespace persistd::cli {

const std::vector<FlagSpec>& ReadModelFlags();

// save TYPE/ID and delete TYPE/ID (always with a request_id), get TYPE/ID, list TYPE. `in` is read for `--file -`.
absl::StatusOr<std::variant<cim::persistence::v1::SaveReadModelRequest, cim::persistence::v1::DeleteReadModelRequest,
                            cim::persistence::v1::GetReadModelRequest, cim::persistence::v1::ListReadModelsRequest>>
BuildReadModel(const Arguments& arguments, std::istream& in);

}  // namespace persistd::cli
