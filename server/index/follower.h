// Follows the event streams: the tails, what is told of each saved event, the local index, and its reads. What the
// daemon makes of this folder.
//
// Made before it is known where the file is to be; Open and Start follow. Thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "server/base/executor.h"
#include "server/index/feed.h"
#include "server/index/indexer.h"
#include "server/index/local_index.h"
#include "server/jetstream/connection.h"
#include "server/jetstream/tails.h"

namespace persistd::index {

class Follower {
 public:
  struct Options {
    std::string path;                  // Of the index's file.
    uint64_t cache_bytes = 16u << 20;  // Pages of it in memory.
    jetstream::Tails::Options tails;
  };

  // connection: for the tails. Both must outlive it.
  Follower(Options options, jetstream::Connection* connection, base::Executor* executor, Feed::Observer observer);
  ~Follower();  // Stops.

  absl::Status Open() { return indexer_.Open(); }
  void Start();
  // Blocks until nothing runs any more, but for calls of the observer, which end with the connection. The connection
  // may be closed before, but the executor must still run.
  // Reads that wait for the index to be written fail now.
  void CancelReads() { index_.Cancel(); }
  void Stop();

  LocalIndex& index() { return index_; }
  IndexStatus status() const { return indexer_.status(); }
  // Messages of a stream that are known to be there, but did not come yet.
  uint64_t pending(const std::string& stream) const { return tails_.pending(stream); }

 private:
  Indexer indexer_;
  Feed feed_;
  jetstream::Tails tails_;
  LocalIndex index_;
  bool started_ = false;
};

}  // namespace persistd::index
