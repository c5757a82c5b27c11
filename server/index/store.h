// The index's file: its tables, and what the feeding thread writes there. README.md of this folder tells the schema.
//
// For one thread. Everything here can be rebuilt from the streams: a file that cannot be used is removed.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/index/cid_segments.h"
#include "server/index/database.h"
#include "server/index/entry.h"
#include "server/jetstream/tail.h"

namespace persistd::index {

struct StoredStream {
  int64_t id = 0;
  jetstream::TailPosition position;  // Before which everything is in the tables.
  bool built = false;                // It was read to its end once.
};

// The key of a save whose id carries no time: see CommitHints.
int64_t CommitKey(const domain::AggregateRef& ref, const std::string& commit_id);

class Store {
 public:
  struct Options {
    std::string path;
    uint64_t cache_bytes = 16u << 20;
  };

  // Makes the file, or makes it anew when it is damaged or of another version.
  static absl::StatusOr<std::unique_ptr<Store>> Open(const Options& options);
  // Removes the file and all that belongs to it.
  static absl::Status Remove(const std::string& path);

  absl::StatusOr<std::map<std::string, StoredStream>> ReadStreams();

  // Between the two, everything is one transaction. Abandon undoes what came after Begin.
  absl::Status Begin();
  absl::Status Commit();
  void Abandon();

  // Adds the stream or, when it is there, removes all that came from it.
  absl::StatusOr<StoredStream> ResetStream(const std::string& name, uint64_t incarnation);
  absl::Status RemoveStream(const std::string& name);
  absl::Status PutPosition(const StoredStream& stream);

  absl::StatusOr<int64_t> TypeId(const std::string& context, const std::string& aggregate, int64_t stream);
  absl::Status PutEvent(int64_t stream, int64_t type, const Entry& event);
  // The aggregate as the last event of a save made it.
  absl::Status PutAggregate(int64_t type, const Entry& last);
  absl::Status PutCommit(const Entry& last);
  // Where events and payloads of the stream are.
  absl::Status PutCids(int64_t stream, std::vector<CidPlace> places) { return cids_->Add(stream, std::move(places)); }

 private:
  Store() = default;
  absl::Status Prepare();
  absl::Status EmptyStream(int64_t id);

  std::unique_ptr<Database> database_;
  Statement put_position_;
  Statement put_event_;
  Statement put_aggregate_;
  Statement put_commit_;
  std::optional<CidSegments> cids_;
  std::map<std::pair<std::string, std::string>, int64_t> types_;
};

}  // namespace persistd::index
