// The daemon: builds every part from the configuration, starts them in order and stops them in the reverse order.
//
// Start: the data folder is locked, gRPC listens (health NOT_SERVING), and so does the metrics endpoint where it is on,
// nats-server is started where it is embedded, the connections are made; once they are up and the streams were looked
// at, health says SERVING. It says NOT_SERVING again while NATS is away. Owned by main; its methods belong to one
// thread, but for Cancel.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cim/persistence/v1/admin.pb.h"
#include "server/app/block_collection.h"
#include "server/app/metrics_endpoint.h"
#include "server/app/scrubber.h"
#include "server/app/stream_watch.h"
#include "server/base/clock.h"
#include "server/base/executor.h"
#include "server/base/file_lock.h"
#include "server/base/mutex.h"
#include "server/config/config.h"
#include "server/index/follower.h"
#include "server/jetstream/connection.h"
#include "server/jetstream/embedded_server.h"
#include "server/jetstream/kv.h"
#include "server/jetstream/monitoring.h"
#include "server/jetstream/server_probe.h"
#include "server/readmodel/store.h"
#include "server/repository/repository.h"
#include "server/rpc/admin_service.h"
#include "server/rpc/aggregate_service.h"
#include "server/rpc/chain_service.h"
#include "server/rpc/read_model_service.h"
#include "server/rpc/server.h"
#include "server/transform/runner.h"

namespace persistd::app {

class Daemon {
 public:
  // Checks what can be checked without side effects.
  static absl::StatusOr<std::unique_ptr<Daemon>> Create(config::Config config, const base::Clock* clock);
  ~Daemon();

  // Returns when gRPC listens and, where nats-server is embedded, when that runs. NATS may not be reachable yet:
  // `on_serving` is called once, on any thread, when health first says SERVING.
  absl::Status Start(std::function<void()> on_serving);

  // Makes a Start that waits for nats-server give up. Thread-safe.
  void Cancel() { cancelled_ = true; }

  // Ends everything: new calls are refused, running ones get server.shutdown_grace.
  void Stop();

  // host:port that gRPC listens on; valid after Start.
  std::string address() const;

 private:
  Daemon(config::Config config, const base::Clock* clock);

  absl::Status LockDataDir();
  absl::Status StartMetrics();
  absl::Status StartEmbedded();
  std::unique_ptr<jetstream::Connection> MakeConnection();
  void MakeFollower();
  void MakeCollector();
  absl::Status PassGate(jetstream::RawConnection& connection);
  // look: the connections changed, so the streams should be looked at.
  void UpdateHealth(bool look);
  // All that there are.
  std::vector<jetstream::Connection*> connections() const;
  uint64_t NatsMemory() const;
  void AddStreams(cim::persistence::v1::GetServerInfoResponse& info) const;
  // What is known of streams with so many replicas.
  jetstream::FsyncMode FsyncMode(int replicas) const;
  cim::persistence::v1::GetServerInfoResponse ServerInfo() const;

  const config::Config config_;
  const size_t monitored_servers_;  // Whose monitoring ports are known.
  const base::WallTime started_at_;

  base::Executor executor_{"persistd-timer"};
  std::optional<base::FileLock> data_lock_;
  std::unique_ptr<jetstream::EmbeddedServer> embedded_;
  std::unique_ptr<jetstream::Connection> writes_;
  std::unique_ptr<jetstream::Connection> reads_;  // nullptr: `writes_` does both.
  std::unique_ptr<jetstream::Connection> tails_;  // nullptr: what does the reads does this as well.
  std::unique_ptr<index::Follower> follower_;
  std::unique_ptr<transform::Runner> transforms_;  // nullptr: no type has a program.
  std::unique_ptr<repository::Repository> repository_;
  std::unique_ptr<StreamWatch> watch_;
  std::unique_ptr<repository::BlockCollector> collector_;
  std::unique_ptr<BlockCollection> collection_;
  std::unique_ptr<Scrubber> scrubber_;
  std::unique_ptr<rpc::AggregateService> aggregates_;
  std::unique_ptr<rpc::ChainService> chains_;
  std::unique_ptr<jetstream::Kv> read_model_bucket_;
  std::unique_ptr<readmodel::Store> read_models_;
  std::unique_ptr<rpc::ReadModelService> read_model_service_;
  std::unique_ptr<rpc::AdminService> admin_;
  std::unique_ptr<rpc::Server> server_;
  std::unique_ptr<MetricsEndpoint> metrics_;  // nullptr: off. Reads all of the above.

  mutable base::Mutex mutex_;
  std::atomic<bool> doubt_batches_ = false;  // Of the NATS server that was accepted last.
  jetstream::ServerFacts facts_ GUARDED_BY(mutex_);
  jetstream::FsyncMode fsync_ GUARDED_BY(mutex_) = jetstream::FsyncMode::kUnknown;
  std::string why_fsync_unknown_ GUARDED_BY(mutex_) = "not connected to NATS yet";
  bool serving_ GUARDED_BY(mutex_) = false;
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::function<void()> on_serving_ GUARDED_BY(mutex_);
  std::atomic<bool> cancelled_ = false;
};

}  // namespace persistd::app
