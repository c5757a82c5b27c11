// The local index: lists aggregates, and hints where saves and blocks are. Thread-safe; its reads run on a thread of
// its own.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/base/executor.h"
#include "server/base/task.h"
#include "server/index/aggregate_list.h"
#include "server/index/indexer.h"
#include "server/index/list_reader.h"
#include "server/ipld/cid.h"
#include "server/repository/block_hints.h"
#include "server/repository/commit_hints.h"

namespace persistd::index {

class LocalIndex final : public AggregateList, public repository::CommitHints, public repository::BlockHints {
 public:
  struct Options {
    std::string path;
    uint64_t reader_cache_bytes = 4u << 20;
  };

  // nudge: makes the daemon look for new streams. indexer and timers must outlive it.
  LocalIndex(Options options, Indexer* indexer, std::function<void()> nudge, base::Executor* timers);
  ~LocalIndex() override;  // Stops.

  base::Task<absl::StatusOr<ListPage>> List(ListQuery query, base::SteadyTime deadline) override;
  base::Task<std::optional<uint64_t>> FirstVersion(domain::AggregateRef ref, std::string commit_id,
                                                   base::SteadyTime deadline) override;

  base::Task<absl::StatusOr<std::vector<repository::MessagePlace>>> FindBlock(ipld::Cid cid, bool up_to_date,
                                                                              base::SteadyTime deadline) override;

  // Ends its thread; reads that wait for it fail.
  void Stop();

 private:
  base::Task<absl::Status> WaitUntilReady(base::SteadyTime deadline);
  base::Task<absl::Status> WaitFor(domain::Position position, base::SteadyTime deadline);
  // Goes on, on the thread for reads.
  base::Future<bool> OnReader();
  void ReopenIfOther();

  Indexer* const indexer_;
  const std::function<void()> nudge_;
  base::Executor* const timers_;

  // Of the executor's thread.
  ListReader reader_;
  uint64_t file_ = 0;

  base::Executor executor_{"persistd-list"};
};

}  // namespace persistd::index
