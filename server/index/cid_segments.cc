#include "server/index/cid_segments.h"

#include <algorithm>
#include <utility>

#include "absl/strings/string_view.h"
#include "server/base/status_macros.h"

namespace persistd::index {
namespace {

// Segments are of one class when they are within this factor of each other, and so many of a class become one ...
constexpr size_t kFanIn = 8;
// ... unless they are of this size. So a merge takes at most kFanIn times as much (32 MiB), and a place is written
// again at most once for each class. A lookup looks into one segment for about 130,000 events.
constexpr size_t kLargestMerged = size_t{1} << 18;
constexpr size_t kPlaceBytes = 16;
// A page fits into a leaf of SQLite's tree, which keeps at most 1002 bytes of a row in place.
constexpr size_t kPlacesPerPage = 60;

void AppendNumber(uint64_t number, std::string& out) {
  for (int shift = 56; shift >= 0; shift -= 8) out += static_cast<char>(number >> shift);
}

uint64_t NumberAt(absl::string_view bytes, size_t at) {
  uint64_t number = 0;
  for (size_t i = 0; i < 8; ++i) number = number << 8 | static_cast<unsigned char>(bytes[at + i]);
  return number;
}

CidPlace PlaceAt(absl::string_view page, size_t index) {
  return {.key = NumberAt(page, index * kPlaceBytes), .sequence = NumberAt(page, index * kPlaceBytes + 8)};
}

// SQLite's integers in the order of the keys.
int64_t Ordered(uint64_t key) { return static_cast<int64_t>(key ^ uint64_t{1} << 63); }

size_t ClassOf(size_t size) {
  size_t result = 0;
  for (; size >= kFanIn; size /= kFanIn) ++result;
  return result;
}

// Sorts, and keeps the last place of each key.
void Normalise(std::vector<CidPlace>& places) {
  std::sort(places.begin(), places.end(), [](const CidPlace& a, const CidPlace& b) {
    return a.key != b.key ? a.key < b.key : a.sequence > b.sequence;
  });
  const auto same_key = [](const CidPlace& a, const CidPlace& b) { return a.key == b.key; };
  places.erase(std::unique(places.begin(), places.end(), same_key), places.end());
}

}  // namespace

const char* CidSegments::Schema() {
  return R"sql(
CREATE TABLE cid_segments(
  id INTEGER PRIMARY KEY,
  stream INTEGER NOT NULL,
  size INTEGER NOT NULL
);
CREATE TABLE cid_pages(
  segment INTEGER NOT NULL,
  first INTEGER NOT NULL,
  places BLOB NOT NULL,
  PRIMARY KEY(segment, first)
) WITHOUT ROWID;
)sql";
}

absl::StatusOr<CidSegments> CidSegments::Open(Database* database) {
  CidSegments opened(database);
  ASSIGN_OR_RETURN(opened.put_segment_,
                   database->Prepare("INSERT INTO cid_segments(id, stream, size) VALUES(?1, ?2, ?3)"));
  ASSIGN_OR_RETURN(opened.put_page_,
                   database->Prepare("INSERT INTO cid_pages(segment, first, places) VALUES(?1, ?2, ?3)"));
  ASSIGN_OR_RETURN(opened.read_pages_,
                   database->Prepare("SELECT places FROM cid_pages WHERE segment=?1 ORDER BY first"));
  ASSIGN_OR_RETURN(opened.drop_pages_, database->Prepare("DELETE FROM cid_pages WHERE segment=?1"));
  ASSIGN_OR_RETURN(opened.drop_segment_, database->Prepare("DELETE FROM cid_segments WHERE id=?1"));
  ASSIGN_OR_RETURN(Statement query, database->Prepare("SELECT id, stream, size FROM cid_segments ORDER BY id"));
  while (true) {
    ASSIGN_OR_RETURN(const bool row, query.Step());
    if (!row) return opened;
    opened.last_id_ = query.Integer(0);
    opened.segments_[query.Integer(1)].push_back(
        {.id = query.Integer(0), .size = static_cast<size_t>(query.Integer(2))});
  }
}

absl::Status CidSegments::Add(int64_t stream, std::vector<CidPlace> places) {
  if (places.empty()) return absl::OkStatus();
  Normalise(places);
  ASSIGN_OR_RETURN(const Segment added, Write(stream, places));
  segments_[stream].push_back(added);
  bool merged = true;
  while (merged) {
    ASSIGN_OR_RETURN(merged, MergeSome(stream));
  }
  return absl::OkStatus();
}

absl::StatusOr<CidSegments::Segment> CidSegments::Write(int64_t stream, const std::vector<CidPlace>& places) {
  const Segment segment{.id = ++last_id_, .size = places.size()};
  put_segment_.Bind(1, segment.id);
  put_segment_.Bind(2, stream);
  put_segment_.Bind(3, static_cast<int64_t>(segment.size));
  RETURN_IF_ERROR(put_segment_.Run());
  std::string page;
  for (size_t first = 0; first < places.size(); first += kPlacesPerPage) {
    page.clear();
    for (size_t i = first; i < std::min(first + kPlacesPerPage, places.size()); ++i) {
      AppendNumber(places[i].key, page);
      AppendNumber(places[i].sequence, page);
    }
    put_page_.Bind(1, segment.id);
    put_page_.Bind(2, Ordered(places[first].key));
    put_page_.BindBlob(3, page);
    RETURN_IF_ERROR(put_page_.Run());
  }
  return segment;
}

absl::Status CidSegments::Read(const Segment& segment, std::vector<CidPlace>& places) {
  read_pages_.Bind(1, segment.id);
  while (true) {
    const absl::StatusOr<bool> row = read_pages_.Step();
    if (!row.ok() || !*row) {
      read_pages_.Reset();
      return row.status();
    }
    const absl::string_view page = read_pages_.Blob(0);
    for (size_t i = 0; i < page.size() / kPlaceBytes; ++i) places.push_back(PlaceAt(page, i));
  }
}

absl::Status CidSegments::Drop(const Segment& segment) {
  drop_pages_.Bind(1, segment.id);
  RETURN_IF_ERROR(drop_pages_.Run());
  drop_segment_.Bind(1, segment.id);
  return drop_segment_.Run();
}

absl::StatusOr<bool> CidSegments::MergeSome(int64_t stream) {
  std::vector<Segment>& segments = segments_[stream];
  std::map<size_t, size_t> counts;
  for (const Segment& segment : segments) {
    if (segment.size < kLargestMerged) ++counts[ClassOf(segment.size)];
  }
  const auto full =
      std::find_if(counts.begin(), counts.end(), [](const auto& count) { return count.second >= kFanIn; });
  if (full == counts.end()) return false;
  const auto stays = [&](const Segment& segment) {
    return segment.size >= kLargestMerged || ClassOf(segment.size) != full->first;
  };
  const auto merged = std::stable_partition(segments.begin(), segments.end(), stays);
  std::vector<CidPlace> places;
  for (auto segment = merged; segment != segments.end(); ++segment) {
    RETURN_IF_ERROR(Read(*segment, places));
    RETURN_IF_ERROR(Drop(*segment));
  }
  segments.erase(merged, segments.end());
  Normalise(places);
  ASSIGN_OR_RETURN(const Segment written, Write(stream, places));
  segments.push_back(written);
  return true;
}

absl::Status CidSegments::Remove(int64_t stream) {
  for (const Segment& segment : segments_[stream]) RETURN_IF_ERROR(Drop(segment));
  segments_.erase(stream);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<CidSegments::Found>> CidSegments::Find(Database& database, uint64_t key) {
  std::vector<Found> found;
  ASSIGN_OR_RETURN(Statement segments, database.Prepare("SELECT c.id, s.name FROM cid_segments AS c JOIN streams AS s "
                                                        "ON s.id = c.stream ORDER BY c.id DESC"));
  ASSIGN_OR_RETURN(Statement page, database.Prepare("SELECT places FROM cid_pages WHERE segment=?1 AND first<=?2 ORDER "
                                                    "BY first DESC LIMIT 1"));
  page.Bind(2, Ordered(key));
  while (true) {
    ASSIGN_OR_RETURN(const bool segment, segments.Step());
    if (!segment) return found;
    page.Bind(1, segments.Integer(0));
    ASSIGN_OR_RETURN(const bool row, page.Step());
    if (row) {
      const absl::string_view places = page.Blob(0);
      for (size_t i = 0; i < places.size() / kPlaceBytes; ++i) {
        const CidPlace place = PlaceAt(places, i);
        if (place.key == key) found.push_back({.stream = segments.Text(1), .sequence = place.sequence});
      }
    }
    page.Reset();
  }
}

}  // namespace persistd::index
