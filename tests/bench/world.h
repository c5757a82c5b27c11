// What a measurement runs against: nats-server (one, or three), persistd, an echo server, and clients of them, all in
// processes of their own on 127.0.0.1, with their data in a temporary folder.
//
// Parts are made when they are first asked for. For one thread. Throws when something does not start.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "grpcpp/channel.h"
#include "server/base/process.h"
#include "tests/bench/entities.h"
#include "tests/bench/process_meter.h"
#include "tests/bench/raw_nats.h"
#include "tests/testing/daemon.h"
#include "tests/testing/nats_cluster.h"
#include "tests/testing/nats_server.h"
#include "tests/testing/temp_dir.h"

namespace persistd::bench {

class Dataset;
struct DatasetOptions;

enum class Mode {
  kR1,        // One nats-server, which fsyncs every two minutes.
  kR1Always,  // One, which fsyncs before each answer.
  kR3,        // Three, streams with three replicas, fsync every two minutes.
};
const char* NameOf(Mode mode);

// Writes one line of progress to standard error.
void Progress(const std::string& text);

class World {
 public:
  struct Options {
    Mode mode = Mode::kR1;
    uint64_t entities = 100'000;         // That exist before saves are measured.
    std::vector<std::string> sets = {};  // More for persistd's --set.
  };

  explicit World(Options options);
  ~World();

  Mode mode() const { return options_.mode; }
  int replicas() const { return options_.mode == Mode::kR3 ? 3 : 1; }
  bool fsyncs_always() const { return options_.mode == Mode::kR1Always; }
  const Options& options() const { return options_; }
  std::mt19937_64& random() { return random_; }

  std::string nats_urls() const;
  std::vector<pid_t> nats_pids() const;
  testing::Daemon& daemon();
  // Another one over the same streams.
  testing::Daemon& second_daemon();
  // Others should not be measured beside it.
  void StopSecondDaemon();
  // To the daemon, one connection. A new one after the daemon was restarted.
  std::shared_ptr<grpc::Channel> channel();
  std::shared_ptr<grpc::Channel> second_channel();
  std::shared_ptr<grpc::Channel> echo_channel();
  // With empty caches afterwards. Waits for its index, whose building would be measured otherwise.
  void RestartDaemon();
  // Another one in its place, with more for --set, once its index is built.
  void ReplaceDaemon(const std::vector<std::string>& sets);

  // One connection each; see RawNats.
  RawNats& raw(bool send_asap);

  // For ProcessMeter.
  std::vector<NamedProcess> processes_with_daemon();
  std::vector<NamedProcess> processes_with_nats() const;
  std::vector<NamedProcess> processes_with_echo();

  // A stream like persistd's for events, for the raw client alone: under `<prefix>.>`.
  void MakeRawStream(const std::string& name, const std::string& prefix);
  // Makes the streams of an aggregate type by a save through persistd.
  void MakeStreams(const std::string& aggregate);

  // Aggregates of type "item", one event each, stored behind persistd's back in its format.
  EntityPool& items();
  // As many for the raw client, in a stream of its own; the "version" is the sequence of the last message.
  EntityPool& raw_items();
  // Made by `options` the first time that it is asked for by their name.
  const Dataset& dataset(const DatasetOptions& options);
  // An id that no entity had before.
  std::string FreshId() { return EntityId('f', next_fresh_++); }

 private:
  std::unique_ptr<testing::Daemon> StartDaemon(const std::vector<std::string>& more = {}) const;
  void AwaitIndex();

  const Options options_;
  std::mt19937_64 random_;
  const testing::TempDir dir_;
  std::unique_ptr<testing::NatsServer> server_;
  std::unique_ptr<testing::NatsCluster> cluster_;
  std::unique_ptr<testing::Daemon> daemon_;
  std::unique_ptr<testing::Daemon> second_daemon_;
  std::unique_ptr<base::Process> echo_;
  std::string echo_address_;
  std::shared_ptr<grpc::Channel> channel_;
  std::shared_ptr<grpc::Channel> second_channel_;
  std::shared_ptr<grpc::Channel> echo_channel_;
  std::map<bool, std::unique_ptr<RawNats>> raw_;
  std::unique_ptr<EntityPool> items_;
  std::unique_ptr<EntityPool> raw_items_;
  std::map<std::string, std::unique_ptr<Dataset>> datasets_;
  uint64_t next_fresh_ = 0;
};

}  // namespace persistd::bench
