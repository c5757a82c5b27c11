#include "server/app/options.h"

#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_split.h"

namespace persistd::app {
namespace {

namespace pb = cim::persistence::v1;

std::string CompressionOf(config::Compression compression) {
  return compression == config::Compression::kS2 ? "s2" : "none";
}

jetstream::KvOptions BucketOf(const std::string& name, const config::KvBucket& from, const config::Stream& stream,
                              const char* description) {
  jetstream::KvOptions options;
  options.bucket = name;
  options.replicas = from.replicas > 0 ? from.replicas : stream.replicas;
  options.storage = from.storage == config::Storage::kMemory ? "memory" : "file";
  options.compression = CompressionOf(stream.compression);
  options.history = from.history;
  options.ttl = from.ttl;
  options.max_bytes = from.max_bytes;
  options.description = description;
  return options;
}

repository::EventStreams EventStreamsOf(config::EventStreams streams) {
  switch (streams) {
    case config::EventStreams::kPerAggregateType:
      return repository::EventStreams::kPerAggregateType;
    case config::EventStreams::kPerContext:
      return repository::EventStreams::kPerContext;
    case config::EventStreams::kSingle:
      return repository::EventStreams::kSingle;
  }
  return repository::EventStreams::kPerAggregateType;
}

jetstream::Placement PlacementOf(const config::Placement& placement) {
  return {.cluster = placement.cluster, .tags = placement.tags};
}

// A default is not asked of streams that exist: they may have been given something else by hand.
jetstream::StreamSettings DefaultsOf(const config::Stream& stream) {
  const config::Stream built_in;
  jetstream::StreamSettings settings;
  if (stream.replicas != built_in.replicas) settings.replicas = stream.replicas;
  if (stream.compression != built_in.compression) settings.compression = CompressionOf(stream.compression);
  if (stream.placement != built_in.placement) settings.placement = PlacementOf(stream.placement);
  if (stream.max_bytes != built_in.max_bytes) settings.max_bytes = stream.max_bytes;
  return settings;
}

jetstream::StreamSettings SettingsOf(const config::AggregateType& type) {
  jetstream::StreamSettings settings;
  settings.replicas = type.replicas;
  if (type.storage) settings.storage = *type.storage == config::Storage::kMemory ? "memory" : "file";
  if (type.compression) settings.compression = CompressionOf(*type.compression);
  if (type.placement) settings.placement = PlacementOf(*type.placement);
  settings.max_bytes = type.max_bytes;
  return settings;
}

}  // namespace

jetstream::ConnectOptions ConnectOptionsOf(const config::Nats& nats) {
  jetstream::ConnectOptions options;
  options.urls = nats.urls;
  options.user = nats.user;
  options.password = nats.password;
  options.token = nats.token;
  options.nkey_seed_file = nats.nkey_seed_file;
  options.creds_file = nats.creds_file;
  options.tls = nats.tls.enabled;
  options.tls_ca_file = nats.tls.ca_file;
  options.tls_cert_file = nats.tls.cert_file;
  options.tls_key_file = nats.tls.key_file;
  options.connect_timeout = nats.connect_timeout;
  options.ping_interval = nats.ping_interval;
  return options;
}

repository::RepositoryOptions RepositoryOptionsOf(const config::Config& config) {
  const config::Repository& from = config.repository;
  repository::RepositoryOptions options;
  options.enable_ipld = from.enable_ipld;
  options.head_cache_bytes = from.head_cache_bytes;
  options.state_cache_entries = from.cache_size;
  options.state_cache_bytes = from.cache_bytes;
  options.cache_ttl = from.cache_ttl;
  options.max_load_bytes = config.limits.max_load_size;
  options.truncation_min_age = from.truncation_min_age;
  options.snapshot_bucket = BucketOf(from.snapshot_bucket, from.kv.snapshots, from.stream, "snapshots of persistd");
  options.block_bucket =
      BucketOf("cim-blocks", from.kv.blocks, from.stream, "content blocks of persistd; do not change");
  options.control_bucket = BucketOf("cim-control", from.kv.control, from.stream,
                                    "aggregate types and what else all daemons of persistd share");
  repository::StorageOptions& storage = options.storage;
  storage.event_stream_name = from.event_stream_name;
  storage.aggregate_stream_name = from.aggregate_stream_name;
  storage.event_streams = EventStreamsOf(from.event_streams);
  storage.auto_create = from.auto_create;
  storage.max_streams = from.max_streams;
  storage.commit.max_batch_messages = static_cast<size_t>(config.commit.max_batch_messages);
  storage.commit.max_batch_bytes = config.commit.max_batch_bytes;
  storage.commit.max_inflight = config.commit.max_inflight;
  storage.commit.max_delay = config.commit.max_delay;
  storage.defaults = DefaultsOf(from.stream);
  for (const config::AggregateType& type : from.aggregates) {
    storage.types[{type.context, type.aggregate}] = SettingsOf(type);
    if (!type.snapshots.has_value()) continue;
    const bool truncates = type.retention == config::Retention::kTruncateBeforeSnapshot;
    options.snapshot_policies[{type.context, type.aggregate}] = {.every_events = type.snapshots->every_events,
                                                                 .max_age = type.snapshots->max_age,
                                                                 .after_events = type.snapshots->after_events,
                                                                 .keep = type.snapshots->keep,
                                                                 .truncates = truncates};
    if (truncates) storage.truncated.insert({type.context, type.aggregate});
  }
  return options;
}

jetstream::KvOptions ReadModelBucketOf(const config::Config& config) {
  const config::Repository& from = config.repository;
  jetstream::KvOptions options =
      BucketOf(from.read_model_bucket, from.kv.read_models, from.stream, "read models of persistd");
  options.batches = true;
  options.entry_ttl = true;
  return options;
}

repository::BlockCollectorOptions CollectorOptionsOf(const config::Config& config) {
  const repository::RepositoryOptions from = RepositoryOptionsOf(config);
  repository::BlockCollectorOptions options;
  options.block_bucket = from.block_bucket;
  options.control_bucket = from.control_bucket;
  options.snapshot_bucket = from.snapshot_bucket.bucket;
  options.min_age = config.repository.block_collection.min_age;
  return options;
}

rpc::Server::Options ServerOptionsOf(const config::Config& config) {
  rpc::Server::Options options;
  options.listen_address = config.server.listen_address;
  options.threads = config.server.threads;
  options.default_deadline = config.server.default_deadline;
  options.max_request_bytes = config.limits.max_request_size;
  options.max_concurrent_calls = config.limits.max_concurrent_calls;
  return options;
}

rpc::RequestLimits RequestLimitsOf(const config::Limits& limits) {
  rpc::RequestLimits request;
  request.max_event_bytes = limits.max_event_size;
  request.max_state_bytes = limits.max_state_size;
  return request;
}

std::vector<std::string> MonitoringUrlsOf(const config::Nats& nats) {
  std::vector<std::string> urls;
  for (const absl::string_view url : absl::StrSplit(nats.monitoring_url, ',', absl::SkipWhitespace())) {
    urls.emplace_back(absl::StripAsciiWhitespace(url));
  }
  return urls;
}

pb::Durability::Fsync FsyncOf(jetstream::FsyncMode mode) {
  switch (mode) {
    case jetstream::FsyncMode::kAlways:
      return pb::Durability::FSYNC_ALWAYS;
    case jetstream::FsyncMode::kInterval:
      return pb::Durability::FSYNC_INTERVAL;
    case jetstream::FsyncMode::kUnknown:
      break;
  }
  return pb::Durability::FSYNC_UNKNOWN;
}

}  // namespace persistd::app
