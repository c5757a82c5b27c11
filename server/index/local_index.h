// The local index: lists aggregates, and hints where saves and blocks are. Thread-safe; its reads run on threads of its
// own.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/base/executor.h"
#include "server/base/future.h"
#include "server/base/mutex.h"
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

  // Reads that wait for the index to be written fail now, and later ones at once.
  void Cancel();
  // Ends its threads; reads that wait for them fail.
  void Stop();

 private:
  base::Task<absl::Status> WaitUntilReady(base::SteadyTime deadline);
  base::Task<absl::Status> WaitFor(domain::Position position, base::SteadyTime deadline);
  // Done when everything that has come is in the file.
  base::Task<absl::Status> Flush(base::SteadyTime deadline);
  bool cancelled() const;

  Indexer* const indexer_;
  const std::function<void()> nudge_;
  base::Executor* const timers_;

  // A connection to the file, and the thread that uses it.
  struct Reads {
    Reads(const std::string& name, Options options)
        : reader({.path = options.path, .cache_bytes = options.reader_cache_bytes}), executor(name) {}

    ListReader reader;
    uint64_t file = 0;  // Of the index, that `reader` has open.
    base::Executor executor;
  };
  // Goes on, on the thread of `reads`; false: not before the deadline.
  base::Future<bool> On(Reads& reads, base::SteadyTime deadline);
  void ReopenIfOther(Reads& reads);

  mutable base::Mutex mutex_;
  bool cancelled_ GUARDED_BY(mutex_) = false;
  std::list<base::Promise<bool>> flushing_ GUARDED_BY(mutex_);

  // Lists may take long, and a save waits for its hint.
  Reads lists_;
  Reads hints_;
};

}  // namespace persistd::index
