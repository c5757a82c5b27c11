// Random saves, snapshots, deletions and truncations by two daemons against a model of what was saved; also while NATS
// is killed again and again.

#include <cstdlib>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "absl/strings/str_cat.h"
#include "tests/server/repository/truncation_fixture.h"
#include "tests/testing/catch.h"

namespace persistd::repository {
namespace {

using nlohmann::json;
using ::persistd::testing::Must;
using ::persistd::testing::NatsServer;
using ::persistd::testing::PollUntil;

uint32_t Seed() {
  const char* given = std::getenv("TRUNCATION_SEED");
  const uint32_t seed = given != nullptr ? static_cast<uint32_t>(std::stoul(given)) : std::random_device()();
  std::cout << "TRUNCATION_SEED=" << seed << std::endl;
  return seed;
}

// What was saved of one aggregate.
struct Model {
  std::vector<int> events;               // The number in each.
  std::vector<std::string> commit_ids;   // Of each.
  std::vector<base::WallTime> recorded;  // Of each.
  std::vector<SaveCommand> saves;        // As they were made.
  uint64_t first_kept = 1;               // At least; it only grows.

  json StateAt(uint64_t version) const {
    int64_t sum = 0;
    for (uint64_t i = 0; i < version; ++i) sum += events[i];
    return {{"n", version}, {"sum", sum}};
  }
};

class Game {
 public:
  Game(const NatsServer& nats, uint32_t seed, size_t keep) : random_(seed), options_(Truncating(keep)), nats_(nats) {
    for (std::unique_ptr<TruncatedFolding>& daemon : daemons_) {
      daemon = std::make_unique<TruncatedFolding>(nats_, options_);
    }
  }

  void Step() {
    const domain::AggregateRef ref = Order(absl::StrCat("model ", Pick(3)));
    Model& model = models_[ref.entity_id];
    switch (Pick(14)) {
      case 0:
      case 1:
      case 2:
      case 3:
        return Save(ref, model);
      case 4:
        return SaveTwo();
      case 5:
        return Snapshot(ref, model);
      case 6:
        return DeleteSnapshot(ref);
      case 7:
        return Load(ref, model);
      case 8:
        return LoadVersion(ref, model);
      case 9:
        return History(ref, model);
      case 10:
        return Repeat(ref, model);
      case 11:
        return LoadAsOf(ref, model);
      case 12:
        if (Pick(10) == 0) daemons_[Pick(2)] = std::make_unique<TruncatedFolding>(nats_, options_);
        return;
      default:
        return Load(ref, model);
    }
  }

  void CheckAll() {
    for (auto& [id, model] : models_) {
      if (model.events.empty()) continue;
      Load(Order(id), model);
      History(Order(id), model);
      CHECK(daemon().IsWhole(Order(id), model.events.size()));
      removed_ += daemon().FirstStored(Order(id)) - 1;
    }
  }
  uint64_t removed() const { return removed_; }

 private:
  size_t Pick(size_t below) { return std::uniform_int_distribution<size_t>(0, below - 1)(random_); }
  Truncated& daemon() { return **daemons_[Pick(2)]; }

  SaveCommand NewSave(const domain::AggregateRef& ref, const Model& model) {
    SaveCommand command = Command(ref, model.events.size(), 0);
    const size_t count = 1 + Pick(3);
    for (size_t i = 0; i < count; ++i) {
      command.events.push_back(NewEvent("happened", absl::StrCat("{\"n\":", Pick(100), "}")));
    }
    command.request_id = FreshId();
    return command;
  }
  static void Note(const SaveCommand& command, const SaveResult& result, Model& model) {
    for (const SaveEvent& event : command.events) {
      model.events.push_back(json::parse(event.event.payload.data)["n"].get<int>());
      model.commit_ids.push_back(result.commit_id);
      model.recorded.push_back(result.info.last_modified);
    }
    REQUIRE(result.info.version == model.events.size());
    model.saves.push_back(command);
  }
  void Save(const domain::AggregateRef& ref, Model& model) {
    const SaveCommand command = NewSave(ref, model);
    Note(command, Must(daemon().daemon.Save(command)), model);
  }
  void SaveTwo() {
    const size_t first = Pick(3);
    SaveAllCommand all;
    all.request_id = FreshId();
    for (const size_t i : {first, (first + 1 + Pick(2)) % 3}) {
      const domain::AggregateRef ref = Order(absl::StrCat("model ", i));
      all.saves.push_back(NewSave(ref, models_[ref.entity_id]));
      all.saves.back().request_id.clear();
    }
    const SaveAllResult saved = Must(base::BlockOn(daemon().daemon.repository().SaveAll(all, TestRepository::In(20s))));
    for (size_t i = 0; i < all.saves.size(); ++i) {
      Note(all.saves[i], saved.results[i], models_[all.saves[i].ref.entity_id]);
    }
    const SaveAllResult again = Must(base::BlockOn(daemon().daemon.repository().SaveAll(all, TestRepository::In(20s))));
    CHECK(again.deduplicated);
  }
  void Snapshot(const domain::AggregateRef& ref, Model& model) {
    if (model.events.empty()) return;
    const uint64_t version = Pick(2) == 0 ? 0 : 1 + Pick(model.events.size());
    const absl::StatusOr<SnapshotInfo> taken = daemon().Snapshot(ref, version);
    if (taken.ok()) return;
    INFO(taken.status().ToString());
    // Inside a save, or removed.
    CHECK((domain::HasReason(taken.status(), pb::ERROR_REASON_INVALID_FIELD) || IsRemovedError(taken.status())));
    CHECK(version > 0);
  }
  void DeleteSnapshot(const domain::AggregateRef& ref) {
    const std::vector<uint64_t> snapshots = daemon().Snapshots(ref);
    if (snapshots.empty()) return;
    const absl::Status status = daemon().Delete(ref, snapshots[Pick(snapshots.size())]);
    INFO(status.ToString());
    CHECK((status.ok() || IsRemovedError(status) || absl::IsNotFound(status)));
  }
  void Load(const domain::AggregateRef& ref, Model& model) {
    const absl::StatusOr<LoadResult> loaded = daemon().daemon.Load(ref);
    if (model.events.empty()) {
      CHECK(absl::IsNotFound(loaded.status()));
      return;
    }
    INFO(loaded.status().ToString());
    REQUIRE(loaded.ok());
    REQUIRE(loaded->state.has_value());
    CHECK(loaded->info.version == model.events.size());
    CHECK(json::parse(loaded->state->payload.data) == model.StateAt(model.events.size()));
  }
  // Whether an answer says rightly that something was removed.
  static void CheckRemoved(const absl::Status& status, uint64_t version, Model& model) {
    INFO(status.ToString());
    REQUIRE(IsRemovedError(status));
    const uint64_t first = domain::GetErrorDetail(status)->history_removed().first_version();
    CHECK(first <= model.events.size());
    CHECK(first >= model.first_kept);
    model.first_kept = std::max(model.first_kept, first);
    CHECK(version < model.events.size());
  }
  void LoadVersion(const domain::AggregateRef& ref, Model& model) {
    if (model.events.empty()) return;
    const uint64_t version = 1 + Pick(model.events.size());
    const absl::StatusOr<LoadResult> loaded = daemon().daemon.LoadVersion(ref, version);
    if (!loaded.ok()) return CheckRemoved(loaded.status(), version, model);
    REQUIRE(loaded->state.has_value());
    CHECK(json::parse(loaded->state->payload.data) == model.StateAt(version));
  }
  void LoadAsOf(const domain::AggregateRef& ref, Model& model) {
    if (model.events.empty()) return;
    const base::WallTime as_of = model.recorded[Pick(model.recorded.size())];
    const absl::StatusOr<LoadResult> loaded = daemon().daemon.LoadAsOf(ref, as_of);
    uint64_t version = 0;
    while (version < model.recorded.size() && model.recorded[version] <= as_of) ++version;
    if (!loaded.ok()) return CheckRemoved(loaded.status(), version, model);
    CHECK(loaded->info.version == version);
    CHECK(json::parse(loaded->state->payload.data) == model.StateAt(version));
  }
  void History(const domain::AggregateRef& ref, Model& model) {
    if (model.events.empty()) return;
    HistoryQuery query = AllOf(ref);
    query.reverse = Pick(2) == 0;
    std::vector<Event> events = Must(daemon().daemon.History(query));
    if (query.reverse) std::reverse(events.begin(), events.end());
    REQUIRE_FALSE(events.empty());
    CHECK(events.back().event.version == model.events.size());
    CHECK(events.front().event.commit_index == 0);
    CHECK(events.front().event.version >= model.first_kept);
    model.first_kept = events.front().event.version;
    uint64_t version = model.first_kept;
    for (const Event& event : events) {
      REQUIRE(event.event.version == version);
      REQUIRE(event.event.commit_id == model.commit_ids[version - 1]);
      REQUIRE(json::parse(event.event.payload.data)["n"] == model.events[version - 1]);
      ++version;
    }
  }
  void Repeat(const domain::AggregateRef& ref, Model& model) {
    if (model.saves.empty()) return;
    const SaveCommand& save = model.saves[Pick(model.saves.size())];
    if (save.request_id.empty()) return;  // Of a commit of several.
    SaveCommand again = save;
    if (Pick(2) == 0) again.expectation = {};  // Any version.
    const absl::StatusOr<SaveResult> result = daemon().daemon.Save(again);
    if (result.ok()) {
      CHECK(result->deduplicated);
    } else {
      INFO(result.status().ToString());
      const bool any = again.expectation.kind == Expectation::Kind::kAny;
      // Just before it was removed it may still have been found.
      const bool seen = domain::HasReason(result.status(), pb::ERROR_REASON_OUTCOME_UNKNOWN);
      CHECK((seen || (any ? IsRemovedError(result.status()) : absl::IsAborted(result.status()))));
    }
    CHECK(Must(daemon().daemon.Info(ref)).version == model.events.size());
  }

  std::mt19937 random_;
  const RepositoryOptions options_;
  const NatsServer& nats_;
  std::unique_ptr<TruncatedFolding> daemons_[2];
  std::map<std::string, Model> models_;
  uint64_t removed_ = 0;
};

TEST_CASE("Whatever is saved, truncated and deleted, what is read agrees with a model", "[truncation]") {
  const uint32_t seed = Seed();
  for (const size_t keep : {1, 3}) {
    const auto nats = Must(NatsServer::Start({}));
    Game game(*nats, seed + static_cast<uint32_t>(keep), keep);
    for (int step = 0; step < 250; ++step) game.Step();
    game.CheckAll();
    CHECK(game.removed() > 0);
  }
}

TEST_CASE("A NATS that is killed while events are removed loses none that is needed", "[truncation]") {
  std::mt19937 random(Seed());
  const auto nats = Must(NatsServer::Start({}));
  constexpr int kAggregates = 12;
  std::map<int, uint64_t> versions;
  for (int round = 0; round < 6; ++round) {
    Truncated one(*nats, Truncating());
    for (int i = 0; i < kAggregates; ++i) {
      const domain::AggregateRef ref = Order(absl::StrCat("killed ", i));
      for (int save = 0; save < 8; ++save) {
        Must(one.daemon.Save(Command(ref, versions[i], 40)));
        versions[i] += 40;
      }
    }
    std::vector<base::Future<bool>> taken;
    for (int i = 0; i < kAggregates; ++i) {
      base::Promise<bool> promise;
      taken.push_back(promise.future());
      SnapshotCommand command{.ref = Order(absl::StrCat("killed ", i)),
                              .version = 0,
                              .state = StateOf(absl::StrCat("{\"v\":", versions[i], "}"))};
      base::Spawn([](Repository& repository, SnapshotCommand snapshot, base::Promise<bool> done) -> base::Task<void> {
        const auto result = co_await repository.CreateSnapshot(std::move(snapshot), TestRepository::In(20s));
        done.TrySet(result.ok());
      }(one.daemon.repository(), std::move(command), promise));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(std::uniform_int_distribution<int>(1, 60)(random)));
    nats->Kill9();
    Must(nats->Restart());
    auto wait = [](base::Future<bool> future) -> base::Task<bool> { co_return co_await future; };
    for (base::Future<bool>& future : taken) base::BlockOn(wait(future));
    Truncated other(*nats, Truncating());
    for (int i = 0; i < kAggregates; ++i) {
      const domain::AggregateRef ref = Order(absl::StrCat("killed ", i));
      const LoadResult loaded = Must(other.daemon.Load(ref));
      REQUIRE(loaded.info.version == versions[i]);
      const uint64_t from = loaded.state.has_value() ? loaded.state->version : 0;
      if (from > 0) REQUIRE(loaded.state->payload.data == absl::StrCat("{\"v\":", from, "}"));
      REQUIRE(loaded.events.size() == versions[i] - from);
      // What is being removed meanwhile may break it off.
      absl::StatusOr<std::vector<Event>> history;
      const bool read = PollUntil(
          [&] {
            history = other.daemon.History(AllOf(ref));
            return !IsRemovedError(history.status());
          },
          20s);
      REQUIRE(read);
      std::vector<uint64_t> kept;
      for (const Event& event : Must(history)) kept.push_back(event.event.version);
      REQUIRE(kept == Range(kept.front(), versions[i]));
    }
  }
}

}  // namespace
}  // namespace persistd::repository
