#include "server/app/part_info.h"

#include <string>

#include "absl/strings/str_cat.h"

namespace persistd::app {

namespace pb = cim::persistence::v1;

void AddCaches(const repository::RepositoryStats& stats, pb::GetServerInfoResponse& info) {
  for (const auto& [name, cache] : stats.caches) {
    pb::CacheInfo& listed = *info.add_caches();
    listed.set_name(name);
    listed.set_entries(cache.entries);
    listed.set_bytes(cache.bytes);
    listed.set_hits(cache.hits);
    listed.set_misses(cache.misses);
    listed.set_evictions(cache.evictions);
    listed.set_outdated(cache.outdated);
  }
}

void AddIndex(const index::Follower& follower, pb::GetServerInfoResponse& info) {
  const index::IndexStatus status = follower.status();
  pb::IndexInfo& index = *info.mutable_index();
  index.set_ready(status.ready);
  uint64_t behind = status.queued;
  std::string position;
  for (const auto& [name, stream] : status.streams) {
    behind += follower.pending(name);
    absl::StrAppend(&position, position.empty() ? "" : ",", name, ":", stream.incarnation, ":", stream.sequence);
    if (stream.damaged_messages > 0) {
      info.add_warnings(absl::StrCat("stream ", name, " holds messages that cannot be read (met: ",
                                     stream.damaged_messages, "); lists do not have them"));
    }
  }
  index.set_events_behind(behind);
  if (!position.empty()) index.mutable_position()->set_token(position);
}

void AddScrubber(const Scrubber& scrubber, pb::GetServerInfoResponse& info) {
  pb::ScrubberInfo& told = *info.mutable_scrubber();
  told = scrubber.info();
  if (!told.damaged().empty()) {
    info.add_warnings(absl::StrCat("histories do not match their CIDs, or are not whole (", told.damaged_size(),
                                   told.damaged_not_listed() == 0 ? "" : " and more",
                                   "); `scrubber.damaged` and the log name them. Restore their streams from a backup"));
  }
  if (!told.problem().empty()) info.add_warnings(absl::StrCat("histories are not verified: ", told.problem()));
}

}  // namespace persistd::app
