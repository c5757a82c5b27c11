// Random saves, conflicts, retries, deletions and loads over two daemons, with nats-server killed in between, compared
// step by step with a model that is a few maps.
//
// FAULT_SEED=N replays a run, FAULT_SCALE=N makes it N times longer.

#include <algorithm>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/domain/errors.h"
#include "tests/fault/seed.h"
#include "tests/server/repository/repository_fixture.h"
#include "tests/testing/catch.h"
#include "tests/testing/must.h"
#include "tests/testing/nats_cluster.h"
#include "tests/testing/nats_server.h"
#include "tests/testing/poll.h"

namespace persistd::fault {
namespace {

namespace pb = cim::persistence::v1;
using domain::HasReason;
using repository::Command;
using repository::Expectation;
using repository::FreshId;
using repository::LoadResult;
using repository::Order;
using repository::SaveCommand;
using repository::SaveResult;
using repository::TestRepository;
using std::chrono_literals::operator""s;
using testing::Must;
using testing::PollUntil;

// What an aggregate must be.
struct Aggregate {
  std::vector<std::string> events;  // Types and data.
  bool deleted = false;
  uint64_t state_version = 0;
  std::string state;

  uint64_t version() const { return events.size(); }
};

// A save that was stored, to be repeated.
struct Stored {
  SaveCommand command;
  uint64_t version = 0;
};

std::string TextOf(const domain::NewEvent& event) { return event.type + " " + event.payload.data; }

class Run {
 public:
  // crash: kills what is below the daemons and brings it back.
  Run(std::vector<TestRepository*> daemons, std::function<void()> crash, uint64_t seed)
      : daemons_(std::move(daemons)), crash_(std::move(crash)), random_(seed) {}

  void Step() {
    switch (Number(0, 11)) {
      case 0:
        return Repeat();
      case 1:
        return Delete();
      case 2:
      case 3:
        return Load();
      case 4:
        return History();
      case 5:
        return SaveSeveral();
      case 6:
        if (Number(0, 5) == 0) return SaveDuringCrash();
        return Save();
      default:
        return Save();
    }
  }

  void CheckAll() {
    for (int i = 0; i < kAggregates; ++i) {
      for (TestRepository* daemon : daemons_) Check(*daemon, Id(i));
    }
  }

 private:
  static constexpr int kAggregates = 6;

  int Number(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }
  static std::string Id(int i) { return absl::StrCat("m", i); }
  TestRepository& Daemon() { return *daemons_[static_cast<size_t>(Number(0, static_cast<int>(daemons_.size()) - 1))]; }

  SaveCommand MakeSave(const std::string& id) {
    const Aggregate& now = model_[id];
    SaveCommand command = Command(Order(id), std::nullopt, static_cast<size_t>(Number(1, 3)));
    for (repository::SaveEvent& event : command.events)
      event.event.payload.data = absl::StrCat("{\"n\":", ++counter_, "}");
    switch (Number(0, 5)) {
      case 0:
        break;  // Any version.
      case 1:
        command.expectation = {.kind = Expectation::Kind::kMustExist, .version = 0};
        break;
      case 2:  // Most likely a wrong one.
        command.expectation = {.kind = Expectation::Kind::kExact, .version = static_cast<uint64_t>(Number(0, 9))};
        break;
      default:
        command.expectation = {.kind = Expectation::Kind::kExact, .version = now.version()};
    }
    if (Number(0, 2) == 0) {
      command.state =
          repository::NewState{.schema_version = static_cast<uint32_t>(Number(1, 2)),
                               .payload = {.content_type = "text/plain", .data = absl::StrCat("state ", counter_)}};
    }
    command.request_id = FreshId();
    return command;
  }

  // What the answer must be; REASON_UNSPECIFIED: it is stored.
  pb::ErrorReason Expected(const SaveCommand& command) {
    const Aggregate& now = model_[command.ref.entity_id];
    const bool exact = command.expectation.kind == Expectation::Kind::kExact;
    const uint64_t version = command.expectation.version;
    if (exact && version == now.version()) {
      if (!command.tombstone || (now.version() > 0 && !now.deleted)) return pb::ERROR_REASON_UNSPECIFIED;
      return pb::ERROR_REASON_AGGREGATE_NOT_FOUND;
    }
    if (exact && version != 0) return pb::ERROR_REASON_VERSION_CONFLICT;
    if (command.tombstone) {
      return now.version() > 0 && !now.deleted && !exact ? pb::ERROR_REASON_UNSPECIFIED
                                                         : pb::ERROR_REASON_AGGREGATE_NOT_FOUND;
    }
    if (now.deleted) return pb::ERROR_REASON_AGGREGATE_DELETED;
    if (exact) return pb::ERROR_REASON_VERSION_CONFLICT;
    if (command.expectation.kind == Expectation::Kind::kMustExist && now.version() == 0) {
      return pb::ERROR_REASON_VERSION_CONFLICT;
    }
    return pb::ERROR_REASON_UNSPECIFIED;
  }

  void Apply(const SaveCommand& command) {
    Aggregate& now = model_[command.ref.entity_id];
    for (const repository::SaveEvent& event : command.events) now.events.push_back(TextOf(event.event));
    now.deleted = command.tombstone;
    if (command.state.has_value()) {
      now.state = command.state->payload.data;
      now.state_version = now.version();
    }
    stored_.push_back({command, now.version()});
  }

  void Compare(const SaveCommand& command, const absl::StatusOr<SaveResult>& result) {
    const pb::ErrorReason expected = Expected(command);
    INFO(command.ref.entity_id << " expected " << pb::ErrorReason_Name(expected) << ", got " << result.status());
    if (expected != pb::ERROR_REASON_UNSPECIFIED) {
      REQUIRE(HasReason(result.status(), expected));
      return;
    }
    REQUIRE(result.ok());
    REQUIRE_FALSE(result->deduplicated);
    Apply(command);
    REQUIRE(result->info.version == model_[command.ref.entity_id].version());
    if (!command.state.has_value() || result->state == repository::StateResult::kWritten) return;
    // Servers that were just killed may keep a state from being written; repeating the save writes it.
    REQUIRE(result->state == repository::StateResult::kPending);
    REQUIRE(PollUntil(
        [&] {
          const absl::StatusOr<SaveResult> again = Daemon().Save(command);
          return again.ok() && again->state == repository::StateResult::kWritten;
        },
        60s));
  }

  void Save() {
    const SaveCommand command = MakeSave(Id(Number(0, kAggregates - 1)));
    Compare(command, Daemon().Save(command));
  }

  void Delete() {
    const std::string id = Id(Number(0, kAggregates - 1));
    SaveCommand command = Command(Order(id), std::nullopt);
    if (Number(0, 1) == 0) command.expectation = {.kind = Expectation::Kind::kExact, .version = model_[id].version()};
    command.events.front().event.type = domain::kDeletedType;
    command.events.front().event.payload = {};
    command.tombstone = true;
    command.request_id = FreshId();
    Compare(command, Daemon().Save(command));
  }

  void Repeat() {
    if (stored_.empty()) return;
    // Of the last ones: a state that was replaced since cannot be compared with.
    const size_t back = static_cast<size_t>(Number(1, 20));
    const Stored& before = stored_[stored_.size() - std::min(stored_.size(), back)];
    const absl::StatusOr<SaveResult> result = Daemon().Save(before.command);
    INFO(before.command.ref.entity_id << " at " << before.version << ": " << result.status());
    REQUIRE(result.ok());
    REQUIRE(result->deduplicated);
    REQUIRE(result->info.version == before.version);
  }

  void SaveSeveral() {
    repository::SaveAllCommand command;
    command.request_id = FreshId();
    const int first = Number(0, kAggregates - 3);
    bool all = true;
    for (int i = 0; i < 2; ++i) {
      SaveCommand save = MakeSave(Id(first + i));
      save.request_id.clear();
      all &= Expected(save) == pb::ERROR_REASON_UNSPECIFIED;
      command.saves.push_back(std::move(save));
    }
    const Aggregate& checked = model_[Id(first + 2)];
    const uint64_t wrong = Number(0, 3) == 0 ? 1 : 0;
    command.checks.push_back(
        {.ref = Order(Id(first + 2)),
         .expectation = {.kind = Expectation::Kind::kExact, .version = checked.version() + wrong}});
    all &= wrong == 0;
    TestRepository& daemon = Daemon();
    const auto result = base::BlockOn(daemon.repository().SaveAll(command, TestRepository::In(30s)));
    INFO(result.status());
    REQUIRE(result.ok() == all);
    if (!all) {
      REQUIRE(HasReason(result.status(), pb::ERROR_REASON_VERSION_CONFLICT));
      return;
    }
    const size_t before = stored_.size();
    for (const SaveCommand& save : command.saves) Apply(save);
    stored_.resize(before);  // Repeated only as a whole:
    const auto again = base::BlockOn(Daemon().repository().SaveAll(command, TestRepository::In(30s)));
    INFO(again.status());
    REQUIRE(again.ok());
    REQUIRE(again->deduplicated);
  }

  // A save that is under way while NATS dies: stored or not, once it is repeated it is stored exactly once.
  void SaveDuringCrash() {
    const std::string id = Id(Number(0, kAggregates - 1));
    SaveCommand command = Command(Order(id), model_[id].version(), static_cast<size_t>(Number(1, 3)));
    for (repository::SaveEvent& event : command.events)
      event.event.payload.data = absl::StrCat("{\"n\":", ++counter_, "}");
    command.request_id = FreshId();
    using Result = absl::StatusOr<SaveResult>;
    base::Promise<Result> promise;
    base::Future<Result> future = promise.future();
    base::Spawn([](base::Task<Result> save, base::Promise<Result> done) -> base::Task<void> {
      Result result = co_await save;
      done.TrySet(std::move(result));
    }(Daemon().repository().Save(command, TestRepository::In(5s)), promise));
    crash_();
    const Result first = base::BlockOn(
        [](base::Future<Result> wait) -> base::Task<Result> { co_return co_await wait; }(std::move(future)));
    INFO(first.status());
    REQUIRE((first.ok() || absl::IsUnavailable(first.status())));
    Result settled = first;
    REQUIRE(PollUntil(
        [&] {
          settled = Daemon().Save(command);
          return !absl::IsUnavailable(settled.status());
        },
        60s));
    INFO(settled.status());
    REQUIRE(settled.ok());
    if (first.ok()) REQUIRE(settled->deduplicated);
    Apply(command);
    REQUIRE(settled->info.version == model_[id].version());
  }

  void Load() { Check(Daemon(), Id(Number(0, kAggregates - 1))); }

  void Check(TestRepository& daemon, const std::string& id) {
    const Aggregate& now = model_[id];
    // After a server was killed it may take a while until a stream has a leader.
    absl::StatusOr<LoadResult> loaded = absl::UnavailableError("not asked yet");
    const bool answered = PollUntil(
        [&] {
          loaded = daemon.Load(Order(id));
          return !absl::IsUnavailable(loaded.status());
        },
        60s);
    INFO(id << ": " << loaded.status());
    REQUIRE(answered);
    if (now.version() == 0 || now.deleted) {
      REQUIRE(HasReason(loaded.status(), pb::ERROR_REASON_AGGREGATE_NOT_FOUND));
      REQUIRE(domain::GetErrorDetail(loaded.status())->deleted() == now.deleted);
      return;
    }
    REQUIRE(loaded.ok());
    REQUIRE(loaded->info.version == now.version());
    REQUIRE(loaded->state.has_value() == (now.state_version > 0));
    if (loaded->state.has_value()) {
      REQUIRE(loaded->state->version == now.state_version);
      REQUIRE(loaded->state->payload.data == now.state);
    }
    REQUIRE(loaded->events.size() == now.version() - now.state_version);
    for (const repository::Event& event : loaded->events) {
      REQUIRE(event.event.type + " " + event.event.payload.data == now.events[event.event.version - 1]);
    }
  }

  void History() {
    const std::string id = Id(Number(0, kAggregates - 1));
    const Aggregate& now = model_[id];
    if (now.version() == 0) return;
    repository::HistoryQuery query;
    query.ref = Order(id);
    query.reverse = Number(0, 1) == 0;
    query.from_version = static_cast<uint64_t>(Number(0, static_cast<int>(now.version()) - 1));
    std::vector<repository::Event> events = Must(Daemon().History(query));
    if (query.reverse) std::reverse(events.begin(), events.end());
    REQUIRE(events.size() == now.version() - query.from_version);
    for (size_t i = 0; i < events.size(); ++i) {
      REQUIRE(events[i].event.version == query.from_version + i + 1);
      REQUIRE(events[i].event.type + " " + events[i].event.payload.data == now.events[query.from_version + i]);
    }
  }

  const std::vector<TestRepository*> daemons_;
  const std::function<void()> crash_;
  std::mt19937_64 random_;
  std::map<std::string, Aggregate> model_;
  std::vector<Stored> stored_;
  uint64_t counter_ = 0;
};

repository::RepositoryOptions Options(bool group, int replicas) {
  repository::RepositoryOptions options;
  options.storage.commit.group_single = [group](const jetstream::Stream&) { return group; };
  options.storage.defaults.replicas = replicas;
  return options;
}

TEST_CASE("Two daemons over one server answer as the model does, also when it is killed", "[fault]") {
  const bool group = GENERATE(false, true);
  const auto nats = Must(testing::NatsServer::Start({}));
  TestRepository first(nats->url(), Options(group, 1));
  TestRepository second(nats->url(), Options(group, 1));
  const auto crash = [&nats] {
    nats->Kill9();
    Must(nats->Restart());
  };
  Run run({&first, &second}, crash, Seed());
  for (int step = 0; step < 400 * Scale(); ++step) {
    INFO("step " << step << ", group " << group);
    run.Step();
  }
  run.CheckAll();
}

TEST_CASE("Two daemons over a cluster answer as the model does, also when servers are killed", "[fault]") {
  const auto cluster = Must(testing::NatsCluster::Start({}));
  TestRepository first(cluster->server(0).url(), Options(true, 3));
  TestRepository second(cluster->server(1).url(), Options(false, 3));
  int victim = 0;
  const auto crash = [&cluster, &victim] {
    victim = (victim + 1) % cluster->size();
    cluster->Kill9(victim);
    Must(cluster->Restart(victim));
    Must(cluster->WaitUntilWhole().status());
  };
  Run run({&first, &second}, crash, Seed());
  for (int step = 0; step < 150 * Scale(); ++step) {
    INFO("step " << step);
    run.Step();
  }
  run.CheckAll();
}

}  // namespace
}  // namespace persistd::fault
