// `persistctl chain` and `persistctl block`: from their words to the requests they ask for. All errors are
// INVALID_ARGUMENT, in words for the user.
#pragma once

#include <istream>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "cim/persistence/v1/chains.pb.h"
#include "client/cli/arguments.h"

namespace persistd::cli {

const std::vector<FlagSpec>& ChainFlags();
const std::vector<FlagSpec>& BlockFlags();

// append NAME (always with a request_id), get NAME. `in` is read for `--file -`.
absl::StatusOr<std::variant<cim::persistence::v1::AppendToChainRequest, cim::persistence::v1::GetChainRequest>>
BuildChain(const Arguments& arguments, std::istream& in);

// put FILE (`-`: `in`), get CID
absl::StatusOr<std::variant<cim::persistence::v1::PutBlockRequest, cim::persistence::v1::GetBlockRequest>> BuildBlock(
    const Arguments& arguments, std::istream& in);

// REF or --chain NAME.
const std::vector<FlagSpec>& VerifyFlags();
const std::vector<FlagSpec>& ExportFlags();
absl::StatusOr<cim::persistence::v1::VerifyChainRequest> BuildVerify(const Arguments& arguments);
absl::StatusOr<cim::persistence::v1::ExportCarRequest> BuildExport(const Arguments& arguments);

}  // namespace persistd::cli
