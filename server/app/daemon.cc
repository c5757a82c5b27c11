#include "server/app/daemon.h"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <map>
#include <random>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/app/metrics.h"
#include "server/app/options.h"
#include "server/app/part_info.h"
#include "server/app/type_rules.h"
#include "server/app/version.h"
#include "server/app/warnings.h"
#include "server/base/logging.h"
#include "server/base/status_macros.h"
#include "server/jetstream/server_version.h"
#include "server/rpc/admin_mapping.h"

namespace persistd::app {
namespace {

namespace pb = cim::persistence::v1;

constexpr int kDurableReplicas = 3;
// A daemon that was just killed needs a moment until the system has closed its files.
constexpr std::chrono::seconds kLockPatience{2};

constexpr const char* kFeatures[] = {
    "save",      "load",         "history",    "get_at_version", "get_metadata",    "idempotent_save",
    "save_all",  "save_stream",  "batch_load", "delete",         "aggregate_types", "list_aggregates",
    "snapshots", "large_states", "chains",     "blocks",         "scrubber",        "metrics",
    "read_models"};

}  // namespace

Daemon::Daemon(config::Config config, const base::Clock* clock)
    : config_(std::move(config)),
      monitored_servers_(MonitoringUrlsOf(config_.nats).size()),
      started_at_(clock->WallNow()) {}

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Create(config::Config config, const base::Clock* clock) {
  if (config.nats.tls.enabled) RETURN_IF_ERROR(jetstream::CheckTlsUsable());
  std::unique_ptr<Daemon> daemon(new Daemon(std::move(config), clock));
  Daemon* self = daemon.get();
  daemon->writes_ = daemon->MakeConnection();
  if (self->config_.nats.connections > 1) daemon->reads_ = daemon->MakeConnection();
  if (self->config_.nats.connections > 2) daemon->tails_ = daemon->MakeConnection();
  daemon->MakeFollower();
  const repository::Connections connections{
      .writes = self->writes_.get(), .reads = self->reads_ != nullptr ? self->reads_.get() : self->writes_.get()};
  repository::RepositoryOptions options = RepositoryOptionsOf(self->config_);
  options.storage.commit.group_single = [self](const jetstream::Stream& stream) {
    return self->FsyncMode(stream.replicas) == jetstream::FsyncMode::kAlways;
  };
  options.storage.commit.doubt_batches = [self] { return self->doubt_batches_.load(std::memory_order_relaxed); };
  options.fsync_always = [self](int replicas) { return self->FsyncMode(replicas) == jetstream::FsyncMode::kAlways; };
  options.hints = &self->follower_->index();
  options.block_hints = &self->follower_->index();
  if (HasPrograms(self->config_)) {
    daemon->transforms_ = std::make_unique<transform::Runner>(RunnerOptionsOf(self->config_));
    ASSIGN_OR_RETURN(options.rules, CompileTypeRules(self->config_.repository, *daemon->transforms_));
    options.transforms = daemon->transforms_.get();
  }
  daemon->repository_ = repository::Repository::Create(std::move(options), connections, &self->executor_, clock);
  daemon->aggregates_ = std::make_unique<rpc::AggregateService>(
      self->repository_.get(),
      rpc::AggregateService::Options{.limits = RequestLimitsOf(self->config_.limits),
                                     .fsync = [self](int replicas) { return FsyncOf(self->FsyncMode(replicas)); },
                                     .list = &self->follower_->index(),
                                     .item_deadline = self->config_.server.default_deadline,
                                     .max_stream_saves = self->config_.commit.max_stream_saves,
                                     .clock = clock});
  daemon->chains_ = std::make_unique<rpc::ChainService>(
      self->repository_.get(), self->repository_->blocks(),
      rpc::ChainService::Options{.limits = RequestLimitsOf(self->config_.limits),
                                 .fsync = [self](int replicas) { return FsyncOf(self->FsyncMode(replicas)); },
                                 .enable_ipld = self->config_.repository.enable_ipld,
                                 .clock = clock});
  daemon->read_model_bucket_ = std::make_unique<jetstream::Kv>(ReadModelBucketOf(self->config_), connections.writes,
                                                               connections.reads, &self->executor_);
  daemon->read_models_ = std::make_unique<readmodel::Store>(
      self->read_model_bucket_.get(), connections.writes, &self->executor_,
      readmodel::Store::Options{.max_load_bytes = static_cast<size_t>(self->config_.limits.max_load_size)});
  daemon->read_model_service_ =
      std::make_unique<rpc::ReadModelService>(self->read_models_.get(), RequestLimitsOf(self->config_.limits));
  daemon->watch_ =
      std::make_unique<StreamWatch>(StreamWatch::Options{.memory = [self] { return self->NatsMemory(); },
                                                         .on_looked = [self] { self->UpdateHealth(/*look=*/false); }},
                                    self->repository_->types());
  daemon->MakeCollector();
  daemon->scrubber_ = std::make_unique<Scrubber>(
      Scrubber::Options{.rate = self->config_.scrubber.rate,
                        .path = (std::filesystem::path(self->config_.data_dir) / "scrubber.json").string()},
      &self->follower_->index(), self->repository_.get(), &self->executor_, clock);
  daemon->admin_ =
      std::make_unique<rpc::AdminService>([self] { return self->ServerInfo(); }, self->repository_->types());
  return daemon;
}

std::unique_ptr<jetstream::Connection> Daemon::MakeConnection() {
  auto connection = std::make_unique<jetstream::Connection>(
      ConnectOptionsOf(config_.nats), [this](jetstream::RawConnection& raw) { return PassGate(raw); }, &executor_);
  connection->OnChange([this] { UpdateHealth(/*look=*/true); });
  return connection;
}

void Daemon::MakeFollower() {
  index::Follower::Options options;
  options.path = (std::filesystem::path(config_.data_dir) / "index.db").string();
  options.cache_bytes = config_.repository.index_cache_bytes;
  options.tails.event_stream_name = config_.repository.event_stream_name;
  // The tails begin when there is a repository, and end before it goes.
  follower_ = std::make_unique<index::Follower>(
      std::move(options), connections().back(), &executor_,
      [this](const index::Entry& last, const jetstream::Message& message) {
        repository_->NoteSave(last.ref, last.version, message);
      });
}

void Daemon::MakeCollector() {
  const std::chrono::milliseconds interval = config_.repository.block_collection.interval;
  std::random_device device;
  const double random = std::uniform_real_distribution<double>(0, 1)(device);
  collector_ = std::make_unique<repository::BlockCollector>(CollectorOptionsOf(config_), connections().back(),
                                                            writes_.get(), &executor_);
  collection_ = std::make_unique<BlockCollection>(
      BlockCollection::Options{.interval = interval,
                               .first_after = BlockCollection::FirstRun(interval, random),
                               .run = [this] { return collector_->Run(); },
                               .cancel = [this] { collector_->Cancel(); }});
}

std::vector<jetstream::Connection*> Daemon::connections() const {
  std::vector<jetstream::Connection*> all = {writes_.get()};
  if (reads_ != nullptr) all.push_back(reads_.get());
  if (tails_ != nullptr) all.push_back(tails_.get());
  return all;
}

Daemon::~Daemon() { Stop(); }

absl::Status Daemon::Start(std::function<void()> on_serving) {
  {
    base::MutexLock lock(mutex_);
    on_serving_ = std::move(on_serving);
  }
  RETURN_IF_ERROR(LockDataDir());
  RETURN_IF_ERROR(follower_->Open());
  std::vector<rpc::Service> services;
  services.push_back(aggregates_->MakeService());
  services.push_back(chains_->MakeService());
  services.push_back(read_model_service_->MakeService());
  services.push_back(admin_->MakeService());
  ASSIGN_OR_RETURN(server_, rpc::Server::Create(ServerOptionsOf(config_), std::move(services)));
  RETURN_IF_ERROR(StartMetrics());
  server_->Start();
  base::LogInfo("listening", {{"address", address()}});
  if (config_.nats.embedded.enabled) RETURN_IF_ERROR(StartEmbedded());
  watch_->Start();
  collection_->Start();
  for (jetstream::Connection* connection : connections()) connection->Start();
  follower_->Start();
  scrubber_->Start();
  return absl::OkStatus();
}

absl::Status Daemon::LockDataDir() {
  std::error_code error;
  std::filesystem::create_directories(config_.data_dir, error);
  if (error) {
    return absl::FailedPreconditionError(
        absl::StrCat("data_dir ", config_.data_dir, " cannot be created: ", error.message()));
  }
  const std::string path = (std::filesystem::path(config_.data_dir) / "LOCK").string();
  ASSIGN_OR_RETURN(data_lock_, base::FileLock::Acquire(path, kLockPatience));
  return absl::OkStatus();
}

absl::Status Daemon::StartMetrics() {
  const std::string& address = config_.metrics.listen_address;
  if (address.empty()) return absl::OkStatus();
  absl::StatusOr<std::unique_ptr<MetricsEndpoint>> endpoint = MetricsEndpoint::Create(address, [this] {
    std::vector<prometheus::MetricFamily> families = ToMetrics(ServerInfo());
    std::vector<prometheus::MetricFamily> calls = ToMetrics(server_->calls());
    std::move(calls.begin(), calls.end(), std::back_inserter(families));
    return families;
  });
  if (!endpoint.ok()) {
    return absl::Status(endpoint.status().code(),
                        absl::StrCat("metrics.listen_address: ", endpoint.status().message()));
  }
  metrics_ = *std::move(endpoint);
  base::LogInfo("metrics", {{"address", metrics_->address()}});
  return absl::OkStatus();
}

absl::Status Daemon::StartEmbedded() {
  const config::Embedded& from = config_.nats.embedded;
  jetstream::EmbeddedServer::Options options;
  options.binary = from.binary;
  options.dir = (std::filesystem::path(config_.data_dir) / "nats").string();
  options.port = from.port;
  options.sync_interval = from.sync_interval;
  options.max_file_store_bytes = from.max_file_store_bytes;
  options.max_memory_store_bytes = from.max_memory_store_bytes;
  options.cancelled = [this] { return cancelled_.load(); };
  ASSIGN_OR_RETURN(std::unique_ptr<jetstream::EmbeddedServer> embedded,
                   jetstream::EmbeddedServer::Create(std::move(options)));
  jetstream::ConnectOptions connect = ConnectOptionsOf(config_.nats);
  connect.urls = {embedded->url()};
  connect.user = embedded->user();
  connect.password = embedded->password();
  {
    // GetServerInfo may be running by now.
    base::MutexLock lock(mutex_);
    embedded_ = std::move(embedded);
  }
  for (jetstream::Connection* connection : connections()) connection->UseServer(connect);
  return absl::OkStatus();
}

absl::Status Daemon::PassGate(jetstream::RawConnection& connection) {
  ASSIGN_OR_RETURN(jetstream::ServerFacts facts, jetstream::ProbeServer(connection));
  jetstream::FsyncMode fsync = jetstream::FsyncMode::kUnknown;
  std::string why_unknown = "nats.monitoring_url is not set";
  if (config_.nats.embedded.enabled) {
    fsync = config_.nats.embedded.sync_interval == "always" ? jetstream::FsyncMode::kAlways
                                                            : jetstream::FsyncMode::kInterval;
  } else if (!config_.nats.monitoring_url.empty()) {
    const absl::StatusOr<jetstream::FsyncMode> answer = jetstream::AskFsyncModes(MonitoringUrlsOf(config_.nats));
    if (answer.ok()) {
      fsync = *answer;
    } else {
      base::LogWarn("fsync mode not known", {{"reason", answer.status()}});
      why_unknown = std::string(answer.status().message());
    }
  }
  base::LogInfo("nats server accepted", {{"version", facts.version}, {"api_level", facts.api_level}});
  doubt_batches_.store(jetstream::MayAcknowledgeTornBatch(facts.version), std::memory_order_relaxed);
  base::MutexLock lock(mutex_);
  facts_ = std::move(facts);
  fsync_ = fsync;
  why_fsync_unknown_ = std::move(why_unknown);
  return absl::OkStatus();
}

void Daemon::UpdateHealth(bool look) {
  std::function<void()> announce;
  {
    base::MutexLock lock(mutex_);
    if (stopping_) return;
    // Nothing that must be right depends on what follows the streams.
    const bool connected = writes_->status().ok() && (reads_ == nullptr || reads_->status().ok());
    // The first look at the streams comes before the first call, so that these find them as they are configured.
    const bool ready = connected && watch_->looked();
    if (look && connected && !serving_) watch_->Wake();
    if (ready == serving_) return;
    serving_ = ready;
    // Under the lock, so that two connections that change at once cannot leave health at the older of two answers.
    server_->SetServing(ready);
    if (ready) announce = std::exchange(on_serving_, nullptr);
  }
  if (announce) announce();
}

void Daemon::Stop() {
  {
    base::MutexLock lock(mutex_);
    if (stopping_) return;
    stopping_ = true;
  }
  // Not everything was made where Create refused the configuration.
  if (server_ != nullptr) {
    base::LogInfo("stopping", {{"grace_ms", config_.server.shutdown_grace.count()}});
    // Calls that wait for NATS when the grace is over would wait on until their own deadlines.
    server_->Shutdown(config_.server.shutdown_grace, [this] {
      for (jetstream::Connection* connection : connections()) connection->Close();
      follower_->CancelReads();
    });
  }
  metrics_ = nullptr;  // Before anything that it reads.
  for (jetstream::Connection* connection : connections()) connection->Close();
  // Before the index ends, which it reads.
  follower_->CancelReads();
  if (scrubber_ != nullptr) scrubber_->Stop();
  follower_->Stop();
  if (collection_ != nullptr) collection_->Stop();
  for (jetstream::Connection* connection : connections()) connection->Stop();
  if (watch_ != nullptr) watch_->Stop();
  // What waits for a program goes on here, and may wait for NATS or a time then, which fails or is dropped.
  if (transforms_ != nullptr) transforms_->Stop();
  executor_.Stop();
  if (embedded_ != nullptr) embedded_->Stop();
  base::LogInfo("stopped");
}

std::string Daemon::address() const {
  const std::string& address = config_.server.listen_address;
  return absl::StrCat(address.substr(0, address.rfind(':')), ":", server_->port());
}

jetstream::FsyncMode Daemon::FsyncMode(int replicas) const {
  base::MutexLock lock(mutex_);
  const bool all_asked = config_.nats.embedded.enabled || static_cast<size_t>(replicas) <= monitored_servers_;
  // Some server calling fsync late is known from one; that all call it at once only from all.
  return fsync_ == jetstream::FsyncMode::kAlways && !all_asked ? jetstream::FsyncMode::kUnknown : fsync_;
}

pb::GetServerInfoResponse Daemon::ServerInfo() const {
  pb::GetServerInfoResponse info;
  info.set_version(kVersion);
  for (const char* feature : kFeatures) info.add_features(feature);
  const int64_t started = started_at_.time_since_epoch().count();
  info.mutable_started_at()->set_seconds(started / 1'000'000'000);
  info.mutable_started_at()->set_nanos(static_cast<int32_t>(started % 1'000'000'000));
  pb::NatsInfo& nats = *info.mutable_nats();
  nats.set_connected(writes_->status().ok());
  nats.set_server_url(writes_->server_url());
  nats.set_reconnects(writes_->connects() > 0 ? writes_->connects() - 1 : 0);
  nats.set_embedded(config_.nats.embedded.enabled);
  absl::Status embedded;
  {
    base::MutexLock lock(mutex_);
    nats.set_server_name(facts_.name);
    nats.set_server_version(facts_.version);
    nats.set_api_level(facts_.api_level);
    if (embedded_ != nullptr) embedded = embedded_->health();
  }
  const repository::RepositoryStats stats = repository_->stats();
  AddCaches(stats, info);
  AddIndex(*follower_, info);
  nats.set_memory_bytes(watch_->memory_bytes());
  AddStreams(info);
  int replicas = config_.repository.stream.replicas;
  int most_replicas = replicas;
  for (const pb::StreamInfo& stream : info.streams()) {
    replicas = std::min(replicas, static_cast<int>(stream.replicas()));
    most_replicas = std::max(most_replicas, static_cast<int>(stream.replicas()));
  }
  const jetstream::FsyncMode fsync = FsyncMode(most_replicas);
  const bool in_memory = std::any_of(info.streams().begin(), info.streams().end(), [](const pb::StreamInfo& stream) {
    return stream.settings().storage() == pb::StreamSettings::STORAGE_MEMORY;
  });
  info.mutable_durability()->set_replicas(static_cast<uint32_t>(replicas));
  info.mutable_durability()->set_fsync(in_memory ? pb::Durability::FSYNC_NEVER : FsyncOf(fsync));
  info.set_max_request_bytes(config_.limits.max_request_size);
  info.set_max_event_bytes(config_.limits.max_event_size);
  info.set_max_state_bytes(config_.limits.max_state_size);
  if (!embedded.ok()) info.add_warnings(absl::StrCat("the embedded nats-server: ", embedded.message()));
  if (!nats.connected()) info.add_warnings(absl::StrCat("NATS: ", writes_->status().message()));
  if (fsync == jetstream::FsyncMode::kInterval) {
    info.add_warnings("fsync is not `always`: a power cut may lose the last saves that were acknowledged");
  }
  if (fsync == jetstream::FsyncMode::kUnknown) {
    base::MutexLock lock(mutex_);
    info.add_warnings(
        absl::StrCat("when NATS calls fsync is not known: ", fsync_ == jetstream::FsyncMode::kUnknown
                                                                 ? why_fsync_unknown_
                                                                 : "nats.monitoring_url does not name all servers"));
  }
  if (replicas < kDurableReplicas) {
    info.add_warnings(
        absl::StrCat("streams have ", replicas, " replica", replicas == 1 ? "" : "s",
                     ": the loss of a disk may lose data; repository.stream.replicas: 3 needs a cluster"));
  }
  for (const pb::StreamInfo& stream : info.streams()) {
    if (stream.foreign_messages() == 0) continue;
    info.add_warnings(absl::StrCat("stream ", stream.name(),
                                   " holds messages that persistd did not write (met: ", stream.foreign_messages(),
                                   "); the log names them. Allow nobody else to publish there"));
  }
  const repository::SnapshotStats snapshots = repository_->stats().snapshots;
  if (snapshots.damaged > 0) {
    info.add_warnings(absl::StrCat("snapshots that are damaged or missing were met (", snapshots.damaged,
                                   "); the log names them. Loads do without them"));
  }
  if (snapshots.dropped > 0) {
    info.add_warnings(absl::StrCat("more snapshots were due than can be taken: ", snapshots.dropped,
                                   " were not. Make the policies in repository.aggregates rarer"));
  }
  if (const std::string problem = collection_->problem(); !problem.empty()) {
    info.add_warnings(absl::StrCat("blocks that nothing lists any more are not removed: ", problem));
  }
  AddScrubber(*scrubber_, info);
  for (std::string& warning : StreamWarnings(repository_->types()->report(), config_.limits.max_subjects_warning)) {
    info.add_warnings(std::move(warning));
  }
  return info;
}

void Daemon::AddStreams(pb::GetServerInfoResponse& info) const {
  const repository::StreamsReport report = repository_->types()->report();
  std::map<std::string, pb::StreamInfo> streams;
  for (const jetstream::StreamFacts& facts : report.streams) rpc::ToProto(facts, streams[facts.name]);
  // What was used since the last look is newer than that.
  for (const jetstream::StreamPtr& stream : repository_->streams()) {
    streams[stream->name].set_replicas(static_cast<uint32_t>(stream->replicas));
  }
  for (const auto& [name, count] : repository_->stats().foreign_messages) {
    if (const auto met = streams.find(name); met != streams.end()) met->second.set_foreign_messages(count);
  }
  for (const auto& [name, complaint] : report.complaints) {
    if (const auto known = streams.find(name); known != streams.end()) known->second.set_problem(complaint);
  }
  for (auto& [name, stream] : streams) {
    stream.set_name(name);
    *info.add_streams() = std::move(stream);
  }
}

uint64_t Daemon::NatsMemory() const {
  if (!config_.nats.embedded.enabled) return jetstream::AskMemory(MonitoringUrlsOf(config_.nats));
  pid_t pid = 0;
  {
    base::MutexLock lock(mutex_);
    if (embedded_ != nullptr) pid = embedded_->pid();
  }
  return jetstream::MemoryOfProcess(pid);
}

}  // namespace persistd::app
