// From the words on the command line to the requests they ask for. All errors are INVALID_ARGUMENT, in words for the
// user: the command was typed wrongly or names a file that cannot be read.
#pragma once

#include <istream>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cim/persistence/v1/aggregates.pb.h"
#include "client/cli/arguments.h"

namespace persistd::cli {

// The flags of the commands, besides the global ones.
const std::vector<FlagSpec>& SaveFlags();
const std::vector<FlagSpec>& LoadFlags();
const std::vector<FlagSpec>& HistoryFlags();
const std::vector<FlagSpec>& SaveAllFlags();
const std::vector<FlagSpec>& DeleteFlags();
const std::vector<FlagSpec>& SnapshotFlags();
const std::vector<FlagSpec>& ListFlags();

// `context/aggregate/entity`; the entity id is all that follows the second slash.
absl::StatusOr<cim::persistence::v1::AggregateRef> ParseRef(absl::string_view text);

// The request, always with a request_id. `in` is read for `--file -`.
absl::StatusOr<cim::persistence::v1::SaveRequest> BuildSave(const Arguments& arguments, std::istream& in);

absl::StatusOr<cim::persistence::v1::LoadRequest> BuildLoad(const Arguments& arguments);

// The request, always with a request_id. `in` is read for `--file -`.
absl::StatusOr<cim::persistence::v1::SaveAllRequest> BuildSaveAll(const Arguments& arguments, std::istream& in);
absl::StatusOr<cim::persistence::v1::DeleteAggregateRequest> BuildDelete(const Arguments& arguments);

// `create`, `list` or `delete`, then the aggregate.
absl::StatusOr<std::variant<cim::persistence::v1::CreateSnapshotRequest, cim::persistence::v1::ListSnapshotsRequest,
                            cim::persistence::v1::DeleteSnapshotRequest>>
BuildSnapshot(const Arguments& arguments);

absl::StatusOr<cim::persistence::v1::ListAggregatesRequest> BuildList(const Arguments& arguments);

absl::StatusOr<cim::persistence::v1::GetHistoryRequest> BuildHistory(const Arguments& arguments);

}  // namespace persistd::cli
