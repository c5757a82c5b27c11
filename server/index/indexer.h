// Feeds the index's file from what the tails bring, on a thread of its own.
//
// The queue before it is bounded by the windows of the tails, which are told (`done`) what was dealt with: so an index
// that cannot keep up slows the tails. Thread-safe.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "server/base/clock.h"
#include "server/base/future.h"
#include "server/base/mutex.h"
#include "server/index/entry.h"
#include "server/index/store.h"
#include "server/jetstream/tail.h"

namespace persistd::index {

// How far the index has got with a stream. What it says is in the file.
struct IndexedStream {
  uint64_t incarnation = 0;
  uint64_t sequence = 0;  // Everything up to here is in the index.
  bool built = false;     // It was read to its end once.
  uint64_t foreign_messages = 0;
  uint64_t damaged_messages = 0;
};

struct IndexStatus {
  // True when the streams are known and each was read to its end once.
  bool ready = false;
  std::map<std::string, IndexedStream> streams;
  uint64_t queued = 0;  // Messages that came, but are not in the file yet.
  uint64_t file = 0;    // Changes when the file is another one.
};

class Indexer {
 public:
  struct Options {
    std::string path;
    uint64_t cache_bytes = 16u << 20;
  };
  // What it asks of the tails. Neither may block; both are called on the index's thread.
  struct Tails {
    std::function<void(const std::string& stream, uint64_t count)> done;
    std::function<void()> begin_again;
  };

  explicit Indexer(Options options) : options_(std::move(options)) {}
  ~Indexer();  // Stops.

  // Opens the file, or makes it.
  absl::Status Open();
  // After Open.
  void Start(Tails tails);
  // Writes what it has, and ends its thread.
  void Stop();

  // What the tails bring, see jetstream::TailsSink.
  jetstream::TailPosition StartOf(const std::string& stream);
  void OnEntry(const std::string& stream, Entry entry, uint64_t pending);
  void OnReset(const std::string& stream, uint64_t incarnation);
  void OnCaughtUp(const std::string& stream);
  void OnGone(const std::string& stream);
  void OnStreams(const std::vector<std::string>& streams);

  // Done when everything that came before this call is in the file.
  base::Future<bool> Flush();

  IndexStatus status() const;
  const std::string& path() const { return options_.path; }

 private:
  struct Item {
    enum class Kind { kBegin, kEntry, kReset, kCaughtUp, kGone, kStreams, kFlush };
    Kind kind = Kind::kEntry;
    std::string stream;
    Entry entry{};
    uint64_t number = 0;  // Pending messages with kEntry, the incarnation with kReset.
    std::vector<std::string> streams{};
    std::optional<base::Promise<bool>> flushed{};
  };
  // What the thread knows of a stream.
  struct Stream {
    StoredStream stored;
    bool active = false;   // What comes follows `stored`. Otherwise it is left over from before a failure.
    bool changed = false;  // `stored` is not in the file yet.
    bool gone = false;
    SaveAssembler assembler{};
    std::vector<CidPlace> cids{};  // Of the events of this transaction.
    uint64_t foreign = 0;
    uint64_t damaged = 0;
  };
  using AggregateKey = std::pair<int64_t, std::string>;  // Type and entity: the order of the table.

  void Push(Item item);
  void Run();
  bool WaitForItems(std::vector<Item>& items);
  absl::Status Apply(Item& item);
  absl::Status ApplyEntry(const std::string& name, Stream& stream, Entry entry, uint64_t pending);
  absl::Status ApplyReset(const std::string& name, uint64_t incarnation);
  absl::Status ApplyStreams(const std::vector<std::string>& streams);
  absl::Status BeginIfNeeded();
  absl::Status CommitNow();
  bool CommitIsDue(bool idle) const;
  void Recover(const absl::Status& why);
  void Publish();

  const Options options_;
  Tails tails_;

  // Of the thread.
  std::unique_ptr<Store> store_;
  std::map<std::string, Stream> streams_;
  std::map<AggregateKey, Entry> latest_;  // Aggregates that changed in this transaction.
  bool in_transaction_ = false;
  base::SteadyTime began_;
  uint64_t events_in_transaction_ = 0;
  bool listed_ = false;
  std::vector<std::string> existing_;
  uint64_t file_ = 0;  // Counts the files that were opened.

  mutable base::Mutex mutex_;
  base::CondVar changed_;
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::vector<Item> queue_ GUARDED_BY(mutex_);
  std::map<std::string, jetstream::TailPosition> starts_ GUARDED_BY(mutex_);
  IndexStatus status_ GUARDED_BY(mutex_);
  uint64_t unwritten_ GUARDED_BY(mutex_) = 0;  // Messages taken from the queue since the last commit.
  std::thread thread_;
};

}  // namespace persistd::index
