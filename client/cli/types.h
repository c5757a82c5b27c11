// `persistctl types`: from its words to the requests they ask for. All errors are INVALID_ARGUMENT, in words for the
// user.
#pragma once

#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "cim/persistence/v1/admin.pb.h"
#include "client/cli/arguments.h"

namespace persistd::cli {

const std::vector<FlagSpec>& TypesFlags();

// list, describe CONTEXT/AGGREGATE, create CONTEXT/AGGREGATE
absl::StatusOr<
    std::variant<cim::persistence::v1::ListAggregateTypesRequest, cim::persistence::v1::DescribeAggregateTypeRequest,
                 cim::persistence::v1::CreateAggregateTypeRequest>>
BuildTypes(const Arguments& arguments);

}  // namespace persistd::cli
