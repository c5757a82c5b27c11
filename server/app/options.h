// From the configuration to the options of each part. Pure.
#pragma once

#include <string>
#include <vector>

#include "cim/persistence/v1/types.pb.h"
#include "server/config/config.h"
#include "server/jetstream/monitoring.h"
#include "server/jetstream/raw_connection.h"
#include "server/repository/block_collector.h"
#include "server/repository/repository.h"
#include "server/rpc/aggregate_service.h"
#include "server/rpc/server.h"

namespace persistd::app {

// The servers that nats.monitoring_url names.
std::vector<std::string> MonitoringUrlsOf(const config::Nats& nats);

jetstream::ConnectOptions ConnectOptionsOf(const config::Nats& nats);
repository::RepositoryOptions RepositoryOptionsOf(const config::Config& config);
jetstream::KvOptions ReadModelBucketOf(const config::Config& config);
repository::BlockCollectorOptions CollectorOptionsOf(const config::Config& config);
rpc::Server::Options ServerOptionsOf(const config::Config& config);
rpc::RequestLimits RequestLimitsOf(const config::Limits& limits);
cim::persistence::v1::Durability::Fsync FsyncOf(jetstream::FsyncMode mode);

}  // namespace persistd::app
