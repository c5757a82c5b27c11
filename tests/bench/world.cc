#include "tests/bench/world.h"

#include <iostream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cim/persistence/v1/admin.grpc.pb.h"
#include "cim/persistence/v1/aggregates.pb.h"
#include "server/base/clock.h"
#include "server/base/uuid.h"
#include "tests/bench/dataset.h"
#include "tests/bench/grpc_calls.h"
#include "tests/testing/files.h"
#include "tests/testing/must.h"
#include "tests/testing/poll.h"
#include "tests/testing/runfiles.h"

namespace persistd::bench {

namespace pb = cim::persistence::v1;
using testing::Must;

const char* NameOf(Mode mode) {
  switch (mode) {
    case Mode::kR1:
      return "r1";
    case Mode::kR1Always:
      return "r1-always";
    case Mode::kR3:
      return "r3";
  }
  return "";
}

void Progress(const std::string& text) { std::cerr << text << std::endl; }

World::World(Options options) : options_(std::move(options)), random_(std::random_device()()) {
  Progress(absl::StrCat("starting the servers of mode ", NameOf(options_.mode)));
  if (options_.mode == Mode::kR3) {
    cluster_ = Must(testing::NatsCluster::Start({}));
  } else {
    server_ = Must(testing::NatsServer::Start({.sync_always = fsyncs_always()}));
  }
}

World::~World() = default;

std::string World::nats_urls() const { return cluster_ != nullptr ? cluster_->url_list() : server_->url(); }

std::vector<pid_t> World::nats_pids() const {
  if (cluster_ == nullptr) return {server_->pid()};
  std::vector<pid_t> pids;
  for (int i = 0; i < cluster_->size(); ++i) pids.push_back(cluster_->server(i).pid());
  return pids;
}

std::unique_ptr<testing::Daemon> World::StartDaemon(const std::vector<std::string>& more) const {
  std::vector<std::string> monitoring;
  if (cluster_ == nullptr) monitoring.push_back(server_->monitoring_url());
  for (int i = 0; cluster_ != nullptr && i < cluster_->size(); ++i) {
    monitoring.push_back(cluster_->server(i).monitoring_url());
  }
  std::vector<std::string> sets = {absl::StrCat("nats.urls=", nats_urls()),
                                   absl::StrCat("nats.monitoring_url=", absl::StrJoin(monitoring, ",")),
                                   absl::StrCat("repository.stream.replicas=", replicas()), "log.level=warn"};
  sets.insert(sets.end(), options_.sets.begin(), options_.sets.end());
  sets.insert(sets.end(), more.begin(), more.end());
  return Must(testing::Daemon::Start({.sets = std::move(sets)}));
}

testing::Daemon& World::daemon() {
  if (daemon_ == nullptr) daemon_ = StartDaemon();
  return *daemon_;
}

testing::Daemon& World::second_daemon() {
  if (second_daemon_ == nullptr) second_daemon_ = StartDaemon();
  return *second_daemon_;
}

void World::StopSecondDaemon() {
  second_channel_ = nullptr;
  second_daemon_ = nullptr;
}

std::shared_ptr<grpc::Channel> World::channel() {
  if (channel_ == nullptr) channel_ = NewChannel(daemon().address());
  return channel_;
}

std::shared_ptr<grpc::Channel> World::second_channel() {
  if (second_channel_ == nullptr) second_channel_ = NewChannel(second_daemon().address());
  return second_channel_;
}

std::shared_ptr<grpc::Channel> World::echo_channel() {
  if (echo_ == nullptr) {
    const std::string file = dir_.File("echo");
    echo_ = Must(base::Process::Start({.command = {Must(testing::Runfile("persistd/tests/bench/echo_server")), file}}));
    if (!testing::PollUntil([&] { return !testing::ReadFile(file).empty(); }, std::chrono::seconds(20))) {
      throw std::runtime_error("the echo server does not start");
    }
    echo_channel_ = NewChannel(testing::ReadFile(file));
  }
  return echo_channel_;
}

void World::RestartDaemon() {
  channel_ = nullptr;
  Must(daemon().Restart());
  AwaitIndex();
}

void World::ReplaceDaemon(const std::vector<std::string>& sets) {
  channel_ = nullptr;
  daemon_ = nullptr;
  daemon_ = StartDaemon(sets);
  AwaitIndex();
}

void World::AwaitIndex() {
  const auto admin = cim::persistence::v1::AdminService::NewStub(channel());
  const bool settled = testing::PollUntil(
      [&] {
        grpc::ClientContext context;
        cim::persistence::v1::GetServerInfoResponse info;
        const grpc::Status status = admin->GetServerInfo(&context, {}, &info);
        return status.ok() && info.index().ready() && info.index().events_behind() == 0;
      },
      std::chrono::minutes(20));
  if (!settled) throw std::runtime_error("the index does not catch up");
}

RawNats& World::raw(bool send_asap) {
  std::unique_ptr<RawNats>& raw = raw_[send_asap];
  if (raw == nullptr) raw = std::make_unique<RawNats>(nats_urls(), send_asap);
  return *raw;
}

std::vector<NamedProcess> World::processes_with_nats() const {
  std::vector<NamedProcess> processes = {{.name = "client"}};
  for (const pid_t pid : nats_pids()) processes.push_back({.name = "nats-server", .pid = pid});
  return processes;
}

std::vector<NamedProcess> World::processes_with_daemon() {
  std::vector<NamedProcess> processes = processes_with_nats();
  processes.push_back({.name = "persistd", .pid = daemon().pid()});
  if (second_daemon_ != nullptr) processes.push_back({.name = "second persistd", .pid = second_daemon_->pid()});
  return processes;
}

std::vector<NamedProcess> World::processes_with_echo() {
  echo_channel();
  return {{.name = "client"}, {.name = "echo", .pid = echo_->pid()}};
}

void World::MakeRawStream(const std::string& name, const std::string& prefix) {
  const nlohmann::json config = {
      {"name", name},        {"subjects", {prefix + ".>"}}, {"retention", "limits"}, {"storage", "file"},
      {"discard", "new"},    {"num_replicas", replicas()},  {"allow_direct", true},  {"allow_atomic", true},
      {"deny_delete", true}, {"deny_purge", true}};
  const std::string answer = raw(true).Ask("$JS.API.STREAM.CREATE." + name, config.dump());
  if (nlohmann::json::parse(answer).contains("error")) throw std::runtime_error("making a stream: " + answer);
}

void World::MakeStreams(const std::string& aggregate) {
  pb::SaveRequest request;
  request.mutable_ref()->set_context(kContext);
  request.mutable_ref()->set_aggregate(aggregate);
  request.mutable_ref()->set_entity_id("first");
  request.add_events()->set_type(kEventType);
  request.mutable_state()->set_data(PayloadText());
  UnaryCalls calls(channel(), "/cim.persistence.v1.AggregateService/Save", 1);
  calls.Start(0, ToBytes(request));
  const Done done = calls.Wait();
  if (!done.failure.empty()) throw std::runtime_error("the first save of " + aggregate + ": " + done.failure);
}

EntityPool& World::items() {
  if (items_ != nullptr) return *items_;
  MakeStreams("item");
  Progress(absl::StrCat("storing ", options_.entities, " aggregates"));
  BulkWriter writer(&raw(false), fsyncs_always());
  for (uint64_t i = 0; i < options_.entities; ++i) {
    const domain::AggregateRef ref{.context = kContext, .aggregate = "item", .entity_id = EntityId('p', i)};
    writer.Add(EventMessage(ref, 1, {}, base::NewUuidV7(base::Clock::System().WallNow())));
  }
  writer.Finish();
  AwaitIndex();
  items_ = std::make_unique<EntityPool>(options_.entities);
  return *items_;
}

const Dataset& World::dataset(const DatasetOptions& options) {
  std::unique_ptr<Dataset>& dataset = datasets_[options.aggregate];
  if (dataset == nullptr) dataset = std::make_unique<Dataset>(this, options);
  return *dataset;
}

EntityPool& World::raw_items() {
  if (raw_items_ != nullptr) return *raw_items_;
  MakeRawStream("RAW", "raw.events");
  Progress(absl::StrCat("storing ", options_.entities, " messages of the raw client"));
  BulkWriter writer(&raw(false), fsyncs_always());
  for (uint64_t i = 0; i < options_.entities; ++i) {
    const std::string id = EntityId('r', i);
    jetstream::OutgoingMessage message =
        EventMessage({.context = kContext, .aggregate = "rawi", .entity_id = id}, 1, {}, "commit");
    message.subject = absl::StrCat("raw.events.bench.rawi.", id, ".happened.v1");
    writer.Add(std::move(message));
  }
  writer.Finish();
  raw_items_ = std::make_unique<EntityPool>(options_.entities);
  for (uint64_t i = 0; i < options_.entities; ++i) raw_items_->set_version(i, i + 1);
  return *raw_items_;
}

}  // namespace persistd::bench
