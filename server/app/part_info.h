// What GetServerInfo tells of caches, the local index and the scrubber.
#pragma once

#include "cim/persistence/v1/admin.pb.h"
#include "server/app/scrubber.h"
#include "server/index/follower.h"
#include "server/repository/repository.h"

namespace persistd::app {

void AddCaches(const repository::RepositoryStats& stats, cim::persistence::v1::GetServerInfoResponse& info);
void AddIndex(const index::Follower& follower, cim::persistence::v1::GetServerInfoResponse& info);
void AddScrubber(const Scrubber& scrubber, cim::persistence::v1::GetServerInfoResponse& info);

}  // namespace persistd::app
