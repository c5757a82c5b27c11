// The ChainService of the API over a repository: each handler validates, calls, maps. Thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "cim/persistence/v1/chains.pb.h"
#include "cim/persistence/v1/types.pb.h"
#include "server/base/clock.h"
#include "server/base/task.h"
#include "server/repository/block_store.h"
#include "server/repository/repository.h"
#include "server/rpc/request_mapping.h"
#include "server/rpc/service.h"

namespace persistd::rpc {

class ChainService {
 public:
  struct Options {
    RequestLimits limits = {};
    // As of AggregateService.
    std::function<cim::persistence::v1::Durability::Fsync(int replicas)> fsync = [](int) {
      return cim::persistence::v1::Durability::FSYNC_UNKNOWN;
    };
    bool enable_ipld = true;  // Whether events get CIDs. Without them nothing can be appended.
    const base::Clock* clock = &base::Clock::System();
  };

  // All must outlive it.
  ChainService(repository::Repository* repository, repository::BlockStore* blocks, Options options)
      : repository_(repository), blocks_(blocks), options_(std::move(options)) {}

  // The service calls this object.
  Service MakeService();

 private:
  base::Task<absl::Status> AppendToChain(const CallContext& context,
                                         const cim::persistence::v1::AppendToChainRequest& request,
                                         cim::persistence::v1::AppendToChainResponse& response);
  base::Task<absl::Status> GetChain(const CallContext& context, const cim::persistence::v1::GetChainRequest& request,
                                    StreamWriter<cim::persistence::v1::GetChainResponse>& writer);
  base::Task<absl::Status> VerifyChain(const CallContext& context,
                                       const cim::persistence::v1::VerifyChainRequest& request,
                                       StreamWriter<cim::persistence::v1::VerifyChainResponse>& writer);
  base::Task<absl::Status> ExportCar(const CallContext& context, const cim::persistence::v1::ExportCarRequest& request,
                                     StreamWriter<cim::persistence::v1::ExportCarResponse>& writer);
  base::Task<absl::Status> PutBlock(const CallContext& context, const cim::persistence::v1::PutBlockRequest& request,
                                    cim::persistence::v1::PutBlockResponse& response);
  base::Task<absl::Status> GetBlock(const CallContext& context, const cim::persistence::v1::GetBlockRequest& request,
                                    cim::persistence::v1::GetBlockResponse& response);

  // What of a history can be exported.
  struct ChainedPart {
    uint64_t first = 0;
    uint64_t last = 0;
    std::string root{};
  };
  base::Task<absl::StatusOr<ChainedPart>> FindChainedPart(const CallContext& context,
                                                          repository::VerifyCommand command);

  repository::Repository* const repository_;
  repository::BlockStore* const blocks_;
  const Options options_;
};

}  // namespace persistd::rpc
