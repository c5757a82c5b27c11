// The daemon's configuration as plain structs. Every member's initialiser is its default; what each key means to an
// operator is told in config/persistd.yaml, and which values are allowed in server/config/keys.cc.
//
// Plain data: copy it freely, share it const between threads. Nothing here depends on YAML.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace persistd::config {

inline constexpr std::uint64_t kKiB = 1024;
inline constexpr std::uint64_t kMiB = 1024 * kKiB;
inline constexpr std::uint64_t kGiB = 1024 * kMiB;
inline constexpr std::uint64_t kTiB = 1024 * kGiB;

// The gRPC side.
struct Server {
  std::string listen_address = "127.0.0.1:7443";  // HOST:PORT; port 0 picks a free one
  std::chrono::milliseconds shutdown_grace = std::chrono::seconds(10);
  std::chrono::milliseconds default_deadline = std::chrono::seconds(30);  // of calls that set none
  int threads = 1;

  bool operator==(const Server&) const = default;
};

struct Log {
  std::string level = "info";  // as base::SetUpLogging takes it

  bool operator==(const Log&) const = default;
};

// For Prometheus.
struct Metrics {
  std::string listen_address;  // HOST:PORT; port 0 picks a free one; empty: off

  bool operator==(const Metrics&) const = default;
};

// TLS to an external NATS. A URL that begins with tls:// turns it on as well: a loaded configuration then says so here.
struct NatsTls {
  bool enabled = false;
  std::string ca_file;
  std::string cert_file;  // with key_file, or neither
  std::string key_file;

  bool operator==(const NatsTls&) const = default;
};

// The nats-server that the daemon runs itself.
struct Embedded {
  bool enabled = true;
  int port = 0;                              // 0: a free one
  std::string binary;                        // empty: found by the daemon
  std::string sync_interval = "always";      // or a duration, in a form that nats-server reads too
  std::uint64_t max_file_store_bytes = 0;    // 0: nats-server's own default
  std::uint64_t max_memory_store_bytes = 0;  // 0: nats-server's own default

  bool operator==(const Embedded&) const = default;
};

// A loaded configuration has either `urls` or `embedded.enabled`, and at most one way of authenticating.
struct Nats {
  std::vector<std::string> urls;  // may carry credentials: never log them as they are
  std::string user;
  std::string password;  // once loaded: also what password_file held
  std::string password_file;
  std::string token;  // once loaded: also what token_file held
  std::string token_file;
  std::string nkey_seed_file;
  std::string creds_file;
  int connections = 3;
  std::chrono::milliseconds connect_timeout = std::chrono::seconds(2);
  std::chrono::milliseconds ping_interval = std::chrono::seconds(10);
  std::string monitoring_url;  // one or several, with commas; empty: the fsync mode of an external NATS stays unknown
  NatsTls tls;
  Embedded embedded;

  bool operator==(const Nats&) const = default;
};

enum class EventStreams { kPerAggregateType, kPerContext, kSingle };
enum class Storage { kFile, kMemory };
enum class Compression { kNone, kS2 };
enum class Retention { kNone, kTruncateBeforeSnapshot };

// Which servers of a NATS cluster may hold a stream. Empty: any.
struct Placement {
  std::string cluster;
  std::vector<std::string> tags;  // A server must have them all.

  bool operator==(const Placement&) const = default;
};

// How the daemon's streams are made. A stream that exists follows each of these that is not the default.
struct Stream {
  int replicas = 1;
  Storage storage = Storage::kFile;
  Compression compression = Compression::kNone;
  Placement placement;
  std::uint64_t max_bytes = 0;  // 0: no limit

  bool operator==(const Stream&) const = default;
};

// When the states of a type are kept as snapshots. None of the three: only on request.
struct SnapshotPolicy {
  std::uint64_t every_events = 0;         // 0: never
  std::chrono::milliseconds max_age{0};   // 0: never
  std::vector<std::string> after_events;  // event types
  std::uint64_t keep = 10;                // snapshots

  bool operator==(const SnapshotPolicy&) const = default;
};

// A declared aggregate type; what it does not say itself, repository.stream says. Its streams follow what it says.
struct AggregateType {
  std::string context;
  std::string aggregate;
  std::optional<int> replicas{};
  std::optional<Compression> compression{};
  std::optional<Storage> storage{};
  std::optional<Placement> placement{};
  std::optional<std::uint64_t> max_bytes{};
  std::string fold{};       // a jq program; or fold_file, or neither
  std::string fold_file{};  // the path of one
  std::optional<std::uint32_t> state_schema_version{};
  std::optional<SnapshotPolicy> snapshots{};
  std::optional<Retention> retention{};

  bool operator==(const AggregateType&) const = default;
};

// How a key-value bucket is made.
struct KvBucket {
  int replicas = 0;  // 0: as repository.stream
  Storage storage = Storage::kFile;
  int history = 1;                   // revisions of a key
  std::chrono::milliseconds ttl{0};  // 0: values stay
  std::uint64_t max_bytes = 0;       // 0: no limit

  bool operator==(const KvBucket&) const = default;
};

// By their default names.
struct KvBuckets {
  KvBucket read_models;
  KvBucket snapshots;
  KvBucket blocks;
  KvBucket control;

  bool operator==(const KvBuckets&) const = default;
};

// How blocks of large values that nothing lists any more are removed.
struct BlockCollection {
  std::chrono::milliseconds interval = std::chrono::hours(24);  // 0: never
  std::chrono::milliseconds min_age = std::chrono::hours(24);

  bool operator==(const BlockCollection&) const = default;
};

// What is stored, under which names, and what of it is kept in memory.
struct Repository {
  std::string event_stream_name = "CIM-EVENTS";
  std::string aggregate_stream_name = "CIM-AGGREGATES";
  std::string read_model_bucket = "cim-read-models";
  std::string snapshot_bucket = "cim-snapshots";
  std::size_t cache_size = 1000;  // states; 0: none
  std::uint64_t cache_bytes = 64 * kMiB;
  std::chrono::milliseconds cache_ttl = std::chrono::seconds(5);
  std::uint64_t head_cache_bytes = 64 * kMiB;
  std::uint64_t index_cache_bytes = 16 * kMiB;  // of the local index's file
  bool enable_ipld = true;
  EventStreams event_streams = EventStreams::kPerAggregateType;
  bool auto_create = true;
  int max_streams = 200;
  std::chrono::milliseconds truncation_min_age = std::chrono::minutes(10);
  BlockCollection block_collection;
  Stream stream;
  KvBuckets kv;
  std::vector<AggregateType> aggregates;

  bool operator==(const Repository&) const = default;
};

// How saves are sent to JetStream.
struct Commit {
  int max_batch_messages = 1000;
  std::uint64_t max_batch_bytes = 4 * kMiB;
  int max_inflight = 2;  // batches of one stream
  std::chrono::milliseconds max_delay{0};
  int max_stream_saves = 1024;  // under way of one SaveStream call

  bool operator==(const Commit&) const = default;
};

// What a single call may ask for, in bytes unless said otherwise.
struct Limits {
  std::uint64_t max_request_size = 4 * kMiB;
  std::uint64_t max_event_size = 512 * kKiB;
  std::uint64_t max_state_size = 512 * kKiB;
  std::uint64_t max_load_size = 4 * kMiB;
  int max_concurrent_calls = 10'000;               // calls
  std::uint64_t max_subjects_warning = 5'000'000;  // subjects; no limit, but worth a warning

  bool operator==(const Limits&) const = default;
};

// How stored histories are verified in the background.
struct Scrubber {
  std::uint64_t rate = 0;  // events a second; 0: never

  bool operator==(const Scrubber&) const = default;
};

// The processes that run jq programs.
struct Transform {
  int workers = 2;
  std::chrono::milliseconds time_limit = std::chrono::seconds(2);
  std::uint64_t max_memory = 256 * kMiB;  // of each

  bool operator==(const Transform&) const = default;
};

struct Config {
  Server server;
  std::string data_dir = "/var/lib/persistd";
  Log log;
  Metrics metrics;
  Nats nats;
  Repository repository;
  Commit commit;
  Scrubber scrubber;
  Transform transform;
  Limits limits;

  bool operator==(const Config&) const = default;
};

}  // namespace persistd::config
