// Finds messages by the CIDs of their events and payloads, in the index's file: tables cid_segments and cid_pages.
//
// CIDs come in no order, so a B-tree over them would change a page for each event. Instead those of one transaction are
// sorted and written one after the other as a segment; small segments of a stream are merged into larger ones, so that
// a lookup looks into few. For one thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/index/database.h"

namespace persistd::index {

struct CidPlace {
  uint64_t key = 0;  // See cid_key.h.
  uint64_t sequence = 0;

  auto operator<=>(const CidPlace&) const = default;
};

class CidSegments {
 public:
  static const char* Schema();

  // database: must outlive it.
  static absl::StatusOr<CidSegments> Open(Database* database);

  // Inside a transaction. After one that was undone it is to be opened anew. Of the same CID only the last place in the
  // stream is kept for certain.
  absl::Status Add(int64_t stream, std::vector<CidPlace> places);
  absl::Status Remove(int64_t stream);

  struct Found {
    std::string stream{};
    uint64_t sequence = 0;
  };
  // Where the key is, at most once for each segment.
  static absl::StatusOr<std::vector<Found>> Find(Database& database, uint64_t key);

 private:
  struct Segment {
    int64_t id = 0;
    size_t size = 0;  // Places.
  };
  explicit CidSegments(Database* database) : database_(database) {}

  // places: sorted.
  absl::StatusOr<Segment> Write(int64_t stream, const std::vector<CidPlace>& places);
  absl::Status Read(const Segment& segment, std::vector<CidPlace>& places);
  absl::Status Drop(const Segment& segment);
  // Merges where there are many of about one size; false: there are not.
  absl::StatusOr<bool> MergeSome(int64_t stream);

  Database* database_;
  Statement put_segment_;
  Statement put_page_;
  Statement read_pages_;
  Statement drop_pages_;
  Statement drop_segment_;
  int64_t last_id_ = 0;
  std::map<int64_t, std::vector<Segment>> segments_;  // By stream.
};

}  // namespace persistd::index
