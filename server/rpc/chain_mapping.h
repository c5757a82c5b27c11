// Requests of ChainService as the repository takes them, and its results as answers. Pure but for fresh ids;
// thread-safe.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "cim/persistence/v1/chains.pb.h"
#include "cim/persistence/v1/types.pb.h"
#include "server/domain/aggregate_ref.h"
#include "server/ipld/cid.h"
#include "server/repository/block_store.h"
#include "server/repository/repository.h"
#include "server/rpc/field_path.h"
#include "server/rpc/request_mapping.h"

namespace persistd::rpc {

// The chain of this name.
absl::StatusOr<domain::AggregateRef> ToChainRef(const std::string& name, const FieldPath& path = FieldPath("chain"));
absl::StatusOr<ipld::Cid> ToCid(const std::string& text, const FieldPath& path);

absl::StatusOr<repository::SaveCommand> ToSaveCommand(const cim::persistence::v1::AppendToChainRequest& request,
                                                      const RequestLimits& limits, const SaveContext& context);
absl::StatusOr<repository::HistoryQuery> ToHistoryQuery(const cim::persistence::v1::GetChainRequest& request);
absl::StatusOr<repository::VerifyCommand> ToVerifyCommand(const cim::persistence::v1::VerifyChainRequest& request);
// What is to be verified before it is exported.
absl::StatusOr<repository::VerifyCommand> ToVerifyCommand(const cim::persistence::v1::ExportCarRequest& request);
// The CID of a block that may be stored.
absl::StatusOr<ipld::Cid> ToBlockCid(const cim::persistence::v1::PutBlockRequest& request, const RequestLimits& limits);

// result: of one event.
void ToProto(const repository::SaveResult& result, cim::persistence::v1::Durability::Fsync fsync,
             cim::persistence::v1::AppendToChainResponse& message);
void ToProto(repository::Event entry, cim::persistence::v1::PayloadView view,
             cim::persistence::v1::GetChainResponse& message);
void ToProto(const repository::Verification& verification, cim::persistence::v1::ChainVerification& message);
void ToProto(repository::FoundBlock block, cim::persistence::v1::GetBlockResponse& message);

// An error of the repository, which knows a chain as an aggregate, as callers know it: CHAIN_NOT_FOUND where `ref` is a
// chain that nothing was appended to.
absl::Status NamedAsChain(absl::Status status, const domain::AggregateRef& ref);

}  // namespace persistd::rpc
