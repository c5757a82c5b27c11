// Loads of types with a fold: the state is computed by the daemon.

#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "server/domain/errors.h"
#include "server/transform/runner.h"
#include "tests/server/repository/repository_fixture.h"
#include "tests/testing/catch.h"
#include "tests/testing/nats_server.h"
#include "tests/testing/runfiles.h"

namespace persistd::repository {
namespace {

namespace pb = cim::persistence::v1;
using nlohmann::json;
using testing::Must;

HistoryQuery All(domain::AggregateRef ref) {
  HistoryQuery query;
  query.ref = std::move(ref);
  return query;
}

constexpr char kFold[] = R"jq(
  if .type == "set" then .data as $d | ($state // {}) | .[$d.key] = $d.value
  elif .type == "add" then .data as $d | ($state // {}) | .[$d.key] += $d.n
  elif .type == "fail" then error("told to")
  else $state end | if . == null then null else .seen += 1 end)jq";

// What kFold does.
void Reference(const domain::RecordedEvent& event, json& state) {
  const json data = event.payload.data.empty() ? json() : json::parse(event.payload.data);
  if (event.type == domain::kDeletedType) {
    state = nullptr;
    return;
  }
  if (event.type == "set") {
    if (state.is_null()) state = json::object();
    state[data["key"].get<std::string>()] = data["value"];
  } else if (event.type == "add") {
    if (state.is_null()) state = json::object();
    json& at = state[data["key"].get<std::string>()];
    at = (at.is_null() ? 0 : at.get<int64_t>()) + data["n"].get<int64_t>();
  }
  if (!state.is_null()) state["seen"] = (state.contains("seen") ? state["seen"].get<int64_t>() : 0) + 1;
}

struct Folding {
  std::unique_ptr<testing::NatsServer> nats = Must(testing::NatsServer::Start({}));
  transform::Runner runner{
      {.worker_program = Must(testing::Runfile("persistd/server/transform/worker_main")), .time_limit = 20s}};
  RepositoryOptions options = Options();
  TestRepository repository{nats->url(), options};

  RepositoryOptions Options() {
    RepositoryOptions made;
    made.rules[{"sales", "order"}] = {.fold = Must(runner.Compile(kFold)), .state_schema_version = 2};
    made.transforms = &runner;
    return made;
  }
};

SaveCommand Of(const domain::AggregateRef& ref, uint64_t expected, std::vector<SaveEvent> events) {
  SaveCommand command = Command(ref, expected, 0);
  command.events = std::move(events);
  return command;
}

SaveEvent Set(const std::string& key, const json& value) {
  return NewEvent("set", json{{"key", key}, {"value", value}}.dump());
}
SaveEvent Add(const std::string& key, int n) { return NewEvent("add", json{{"key", key}, {"n", n}}.dump()); }

json StateOf(const LoadResult& result) { return json::parse(result.state.value().payload.data); }

TEST_CASE("A load folds events into the state", "[repository][fold]") {
  Folding world;
  TestRepository& repository = world.repository;
  const auto ref = Order("folded");
  Must(repository.Save(Of(ref, 0, {Set("a", "x"), Add("n", 2), NewEvent("unknown")})));
  for (int round = 0; round < 2; ++round) {  // The second one from the cache.
    const LoadResult loaded = Must(repository.Load(ref));
    CHECK(loaded.folded);
    CHECK(loaded.events.empty());
    CHECK(loaded.state->version == 3);
    CHECK(loaded.state->schema_version == 2);
    CHECK(loaded.state->payload.content_type == "application/json");
    CHECK(loaded.info.state_schema_version == 2);
    CHECK(StateOf(loaded) == json{{"a", "x"}, {"n", 2}, {"seen", 3}});
  }
  Must(repository.Save(Of(ref, 3, {Add("n", 40)})));
  CHECK(StateOf(Must(repository.Load(ref))) == json{{"a", "x"}, {"n", 42}, {"seen", 4}});
  const LoadResult then = Must(repository.LoadVersion(ref, 2));
  CHECK(then.folded);
  CHECK(then.state->version == 2);
  CHECK(StateOf(then) == json{{"a", "x"}, {"n", 2}, {"seen", 2}});
  const LoadResult with_events = Must(repository.Load(LoadCommand{.ref = ref, .include_events = true}));
  CHECK(with_events.events.size() == 4);
  CHECK(StateOf(with_events) == json{{"a", "x"}, {"n", 42}, {"seen", 4}});
  CHECK(Must(repository.Load(LoadCommand{.ref = ref, .include_events = false})).events.empty());
}

TEST_CASE("A fold starts from the stored state of its own schema version", "[repository][fold]") {
  Folding world;
  TestRepository& repository = world.repository;
  const auto ref = Order("base");
  SaveCommand first = Of(ref, 0, {Set("a", 1)});
  first.state = NewState{.schema_version = 2, .payload = {"application/json", R"({"a":1,"seen":100})"}};
  Must(repository.Save(first));
  const LoadResult stored = Must(repository.Load(ref));
  CHECK_FALSE(stored.folded);
  CHECK(StateOf(stored) == json{{"a", 1}, {"seen", 100}});
  Must(repository.Save(Of(ref, 1, {Set("b", 2)})));
  const LoadResult loaded = Must(repository.Load(ref));
  CHECK(loaded.folded);
  CHECK(StateOf(loaded) == json{{"a", 1}, {"b", 2}, {"seen", 101}});
  // From the events alone, it counts them.
  CHECK(StateOf(Must(repository.Load(LoadCommand{.ref = ref, .use_snapshot = false}))) ==
        json{{"a", 1}, {"b", 2}, {"seen", 2}});
  // A state of another schema version is not what the fold makes: it is folded anew, also where nothing came after it.
  SaveCommand other = Of(ref, 2, {Set("c", 3)});
  other.state = NewState{.schema_version = 1, .payload = {"text/plain", "old"}};
  Must(repository.Save(other));
  const LoadResult anew = Must(repository.Load(ref));
  CHECK(anew.folded);
  CHECK(StateOf(anew) == json{{"a", 1}, {"b", 2}, {"c", 3}, {"seen", 3}});
  // One that is no JSON cannot be continued.
  SaveCommand text = Of(ref, 3, {Set("d", 4)});
  text.state = NewState{.schema_version = 2, .payload = {"text/plain", "new"}};
  Must(repository.Save(text));
  CHECK(Must(repository.Load(ref)).state->payload.data == "new");
  Must(repository.Save(Of(ref, 4, {Set("e", 5)})));
  const absl::Status refused = repository.Load(ref).status();
  CHECK(domain::HasReason(refused, pb::ERROR_REASON_TRANSFORM_FAILED));
  CHECK(absl::StrContains(refused.message(), "the state of version 4 has the content type \"text/plain\""));
}

TEST_CASE("What cannot be folded is named by its version", "[repository][fold]") {
  Folding world;
  TestRepository& repository = world.repository;
  const auto failure = [&](const std::string& id, SaveEvent bad) {
    const auto ref = Order(id);
    Must(repository.Save(Of(ref, 0, {Set("a", 1), std::move(bad), Set("b", 1)})));
    // What was before it can still be loaded, and its events.
    CHECK(StateOf(Must(repository.LoadVersion(ref, 1))) == json{{"a", 1}, {"seen", 1}});
    CHECK(Must(repository.History(All(ref))).size() == 3);
    const absl::Status status = repository.Load(ref).status();
    CHECK(domain::HasReason(status, pb::ERROR_REASON_TRANSFORM_FAILED));
    CHECK(absl::StrContains(status.message(), "folding version 2: "));
    return std::string(status.message());
  };
  CHECK(absl::StrContains(failure("fails", NewEvent("fail")), "the program says: told to"));
  CHECK(absl::StrContains(failure("number", NewEvent("set", R"({"key":"k","value":9007199254740993})")),
                          "holds the number 9007199254740993"));
  CHECK(absl::StrContains(failure("broken", NewEvent("set", "{")), "is no JSON"));
  SaveEvent binary = NewEvent("set", "\x01\x02");
  binary.event.payload.content_type = "application/octet-stream";
  CHECK(absl::StrContains(failure("binary", std::move(binary)), "its data has the content type"));
  CHECK(absl::StrContains(failure("sum", NewEvent("add", R"({"key":"a","n":9007199254740992})")), "beyond 2^53"));
}

TEST_CASE("A deletion makes a fold start anew", "[repository][fold]") {
  Folding world;
  TestRepository& repository = world.repository;
  const auto ref = Order("anew");
  Must(repository.Save(Of(ref, 0, {Set("a", 1)})));
  CHECK(Must(repository.Load(ref)).folded);
  SaveCommand tombstone = Of(ref, 1, {NewEvent(domain::kDeletedType, "")});
  tombstone.tombstone = true;
  Must(repository.Save(tombstone));
  CHECK(domain::HasReason(repository.Load(ref).status(), pb::ERROR_REASON_AGGREGATE_NOT_FOUND));
  Must(repository.Save(Of(ref, 2, {Set("b", 2)})));
  CHECK(StateOf(Must(repository.Load(ref))) == json{{"b", 2}, {"seen", 1}});
  CHECK(StateOf(Must(repository.LoadVersion(ref, 1))) == json{{"a", 1}, {"seen", 1}});
}

TEST_CASE("Folded loads give what a fold in C++ gives", "[repository][fold][property]") {
  const auto seed = std::random_device()();
  INFO("seed " << seed);
  std::mt19937 random(seed);
  Folding world;
  TestRepository other(world.nats->url(), world.options);  // Another daemon, with a cache of its own.
  const auto roll = [&random](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  for (int aggregate = 0; aggregate < 12; ++aggregate) {
    const auto ref = Order(std::to_string(aggregate));
    std::vector<json> states = {nullptr};  // After each version.
    std::vector<bool> deleted = {true};
    while (states.size() < 40) {
      const uint64_t version = states.size() - 1;
      const bool remove = version > 0 && !deleted.back() && roll(12) == 0;
      SaveCommand command = Command(ref, version, 0);
      const int events = remove ? 1 : 1 + roll(4);
      for (int i = 0; i < events; ++i) {
        const std::string key(1, static_cast<char>('a' + roll(3)));
        const int kind = remove ? 3 : roll(3);
        if (kind == 0) command.events.push_back(Set(key, roll(100)));
        if (kind == 1) command.events.push_back(Add(key, roll(100) - 50));
        if (kind == 2) command.events.push_back(NewEvent("other", ""));
        if (kind == 3) command.events.push_back(NewEvent(domain::kDeletedType, ""));
        json state = states.back();
        domain::RecordedEvent recorded;
        recorded.type = command.events.back().event.type;
        recorded.payload = command.events.back().event.payload;
        Reference(recorded, state);
        states.push_back(state);
        deleted.push_back(kind == 3);
      }
      command.tombstone = remove;
      if (!remove && roll(4) == 0) {
        command.state = NewState{.schema_version = static_cast<uint32_t>(1 + roll(2)),
                                 .payload = {"application/json", states.back().dump()}};
      }
      TestRepository& writer = roll(2) == 0 ? world.repository : other;
      Must(writer.Save(std::move(command)));
      TestRepository& reader = roll(2) == 0 ? world.repository : other;
      if (deleted.back()) {
        CHECK_FALSE(reader.Load(ref).ok());
        continue;
      }
      LoadCommand load{.ref = ref};
      if (roll(4) == 0) load.use_snapshot = false;
      if (roll(4) == 0) load.include_events = true;
      const LoadResult now = Must(reader.Load(std::move(load)));
      CHECK(now.state->version == states.size() - 1);
      CHECK(StateOf(now) == states.back());
      const uint64_t past = 1 + static_cast<uint64_t>(roll(static_cast<int>(states.size() - 1)));
      if (deleted[past]) continue;
      const LoadResult then = Must(reader.LoadVersion(ref, past));
      CHECK(then.state->version == past);
      CHECK(StateOf(then) == states[past]);
    }
  }
}

TEST_CASE("A long history is folded in parts", "[repository][fold]") {
  Folding world;
  TestRepository& repository = world.repository;
  const auto ref = Order("long");
  constexpr int kSaves = 7;
  for (uint64_t save = 0; save < kSaves; ++save) {
    std::vector<SaveEvent> events;
    for (int i = 0; i < 300; ++i) events.push_back(Add("n", 1));
    Must(repository.Save(Of(ref, save * 300, std::move(events))));
  }
  CHECK(StateOf(Must(repository.Load(ref))) == json{{"n", 2100}, {"seen", 2100}});
  // Without events in the answer its size is that of the state.
  TestRepository small(world.nats->url(), [&] {
    RepositoryOptions options = world.options;
    options.max_load_bytes = 10'000;
    return options;
  }());
  CHECK(StateOf(Must(small.Load(ref))) == json{{"n", 2100}, {"seen", 2100}});
  CHECK(domain::HasReason(small.Load(LoadCommand{.ref = ref, .include_events = true}).status(),
                          pb::ERROR_REASON_TOO_LARGE));
}

}  // namespace
}  // namespace persistd::repository
