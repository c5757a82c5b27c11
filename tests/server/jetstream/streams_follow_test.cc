// Streams that exist are brought to their settings: what changes, what does not, and what is refused.
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cim/persistence/v1/errors.pb.h"
#include "server/domain/errors.h"
#include "server/jetstream/streams.h"
#include "tests/server/jetstream/live.h"
#include "tests/testing/catch.h"
#include "tests/testing/must.h"
#include "tests/testing/nats_cluster.h"
#include "tests/testing/nats_server.h"
#include "tests/testing/poll.h"

namespace persistd::jetstream {
namespace {

namespace pb = cim::persistence::v1;
using nlohmann::json;
using ::persistd::testing::Must;
using ::persistd::testing::NatsCluster;
using ::persistd::testing::NatsServer;

const char kName[] = "CIM-EVENTS+sales+order";
const char kSubjects[] = "cim.events.sales.order.>";

StreamSpec Spec(StreamSettings settings = {}) {
  return {.name = kName, .subjects = kSubjects, .kind = StreamKind::kEvents, .settings = std::move(settings)};
}

struct Bench {
  explicit Bench(const std::string& url)
      : live(To(url)),
        streams({.event_stream_name = "CIM-EVENTS", .aggregate_stream_name = "CIM-AGGREGATES"}, &live.connection()) {
    REQUIRE(live.WaitUntilUp());
  }
  absl::StatusOr<Streams::Followed> Follow(StreamSettings settings) {
    return base::BlockOn(streams.Follow(Spec(std::move(settings)), In(kPatience)));
  }
  StreamPtr Make(StreamSettings settings = {}) {
    return Must(base::BlockOn(streams.FindOrCreate(Spec(std::move(settings)), In(kPatience))));
  }
  StreamPtr Find(StreamSettings settings = {}) {
    return Must(base::BlockOn(streams.Find(Spec(std::move(settings)), In(kPatience))));
  }
  json Config() { return ObjectField(live.Api(absl::StrCat("STREAM.INFO.", kName)).body, "config"); }

  Live live;
  Streams streams;
};

std::vector<std::string> Texts(const StreamChange& change) {
  std::vector<std::string> texts;
  for (const StreamChange::Step& step : change.steps) texts.push_back(step.what);
  return texts;
}

TEST_CASE("Only what is asked for and differs is planned, scaling and moving in separate steps", "[streams]") {
  const json config = NewStreamConfig(Spec());
  CHECK(PlanChange(config, 0, {}).steps.empty());
  CHECK(PlanChange(config, 0, SettingsOf(config)).steps.empty());
  const StreamChange all = PlanChange(
      config, 1000, {.replicas = 3, .compression = "s2", .placement = Placement{"eu", {"a", "b"}}, .max_bytes = 1000});
  CHECK(Texts(all) == std::vector<std::string>{"compression none -> s2, max_bytes no limit -> 1000, replicas 1 -> 3",
                                               "placement anywhere -> cluster eu, tags [a, b]"});
  CHECK(all.refused.empty());
  CHECK(all.steps[0].fields == json{{"compression", "s2"}, {"max_bytes", 1000}, {"num_replicas", 3}});
  CHECK(all.steps[1].fields == json{{"placement", {{"cluster", "eu"}, {"tags", {"a", "b"}}}}});

  json placed = config;
  placed["placement"] = {{"tags", {"b", "a"}}};
  CHECK(PlanChange(placed, 0, {.placement = Placement{"", {"a", "b"}}}).steps.empty());
  CHECK(PlanChange(placed, 0, {.placement = Placement{}}).steps.at(0).fields == json{{"placement", json::object()}});
  CHECK(PlanChange(placed, 0, {.placement = Placement{"", {"a", "a", "b"}}}).steps.size() == 1);
}

TEST_CASE("A limit below what is stored is refused, removing a limit is not", "[streams]") {
  json config = NewStreamConfig(Spec({.max_bytes = 5000}));
  const StreamChange low = PlanChange(config, 1001, {.compression = "s2", .max_bytes = 1000});
  CHECK(Texts(low) == std::vector<std::string>{"compression none -> s2"});
  CHECK(absl::StrContains(low.refused, "1001"));
  const StreamChange none = PlanChange(config, 1001, {.max_bytes = 0});
  CHECK(none.steps.at(0).fields == json{{"max_bytes", -1}});
  CHECK(none.refused.empty());
}

TEST_CASE("A stream that is to be truncated is made so, or keeps everything", "[streams]") {
  StreamSpec spec = Spec();
  spec.purgeable = true;
  const json made = NewStreamConfig(spec);
  CHECK(IsPurgeable(made));
  CHECK(UnsuitableBecause(made, spec).empty());
  // Also once its type is not to be truncated any more, because it says that it was meant so.
  CHECK(UnsuitableBecause(made, Spec()).empty());
  StreamChange change;
  PlanPurgeable(made, change);
  CHECK(change.steps.empty());
  CHECK(change.refused.empty());

  json by_hand = NewStreamConfig(Spec());
  CHECK_FALSE(IsPurgeable(by_hand));
  PlanPurgeable(by_hand, change);
  CHECK(change.steps.empty());
  CHECK(absl::StrContains(change.refused, "deny_purge"));
  by_hand.erase("deny_purge");
  by_hand["metadata"] = {{"mine", "stays"}};
  CHECK(absl::StrContains(UnsuitableBecause(by_hand, Spec()), "deny_purge must be on"));
  CHECK(UnsuitableBecause(by_hand, spec).empty());
  change = {};
  PlanPurgeable(by_hand, change);
  REQUIRE(change.steps.size() == 1);
  by_hand.update(change.steps[0].fields);
  CHECK(by_hand["metadata"]["mine"] == "stays");
  CHECK(UnsuitableBecause(by_hand, Spec()).empty());
}

TEST_CASE("Settings read back from the configuration that they make", "[streams]") {
  const StreamSettings settings{.replicas = 3,
                                .storage = "memory",
                                .compression = "s2",
                                .placement = Placement{"eu", {"ssd"}},
                                .max_bytes = 12345};
  CHECK(SettingsOf(NewStreamConfig(Spec(settings))) == settings);
  CHECK(ToString(settings) ==
        "replicas: 3, storage: memory, compression: s2, placement: cluster eu, tags [ssd], max_bytes: 12345");
  CHECK(ToString(StreamSettings{}).empty());
}

TEST_CASE("A stream follows its settings and keeps all else, also what we know nothing of", "[streams]") {
  const auto nats = Must(NatsServer::Start({}));
  Bench bench(nats->url());
  CHECK(Must(bench.Follow({.compression = "s2"})).stream == nullptr);
  json made = NewStreamConfig(Spec());
  made.update({{"duplicate_window", 60'000'000'000},
               {"max_msg_size", 500'000},
               {"metadata", {{"team", "sales"}}},
               {"allow_msg_ttl", false}});
  bench.live.MakeStream(made);
  const StreamPtr before = bench.Find();
  const json old = bench.Config();
  const Streams::Followed followed = Must(bench.Follow({.compression = "s2", .max_bytes = 1'000'000}));
  CHECK(followed.complaint.empty());
  CHECK(followed.stream->max_bytes == 1'000'000);
  CHECK(followed.stream->incarnation == before->incarnation);
  CHECK(bench.Find() != before);
  json expected = old;
  expected.update({{"compression", "s2"}, {"max_bytes", 1'000'000}});
  CHECK(bench.Config() == expected);
  // Nothing to do: nothing is done.
  Must(bench.Follow({.compression = "s2", .max_bytes = 1'000'000}).status());
  Must(bench.Follow({}).status());
  CHECK(bench.Config() == expected);
}

TEST_CASE("A limit below what is stored leaves the stream and its messages alone", "[streams]") {
  const auto nats = Must(NatsServer::Start({}));
  Bench bench(nats->url());
  bench.Make();
  for (int i = 0; i < 10; ++i) {
    Must(bench.live
             .Ask({.subject = absl::StrCat("cim.events.sales.order.", i, ".x.v1"),
                   .headers = {},
                   .data = std::string(1000, 'x')})
             .status());
  }
  const Streams::Followed followed = Must(bench.Follow({.max_bytes = 5000}));
  CHECK(absl::StrContains(followed.complaint, "max_bytes cannot become 5000"));
  CHECK(followed.stream != nullptr);
  CHECK(bench.live.CountMessages(kName) == 10);
  CHECK(bench.Config()["max_bytes"] == -1);
}

TEST_CASE("What NATS refuses is a complaint, and the stream stays in use as it is", "[streams]") {
  const auto nats = Must(NatsServer::Start({}));
  Bench bench(nats->url());
  const StreamPtr before = bench.Make();
  const Streams::Followed followed = Must(bench.Follow({.replicas = 3}));
  INFO(followed.complaint);
  CHECK(absl::StrContains(followed.complaint, "replicas 1 -> 3 was refused: "));
  CHECK(bench.Config()["num_replicas"] == 1);
  CHECK(bench.Find()->replicas == 1);
  CHECK(bench.Find()->incarnation == before->incarnation);
}

TEST_CASE("Another storage than the type says is refused, whichever of the two it has", "[streams]") {
  const auto nats = Must(NatsServer::Start({}));
  for (const char* there : {"file", "memory"}) {
    Bench bench(nats->url());
    const bool file = std::string(there) == "file";
    bench.live.MakeStream(NewStreamConfig(Spec({.storage = there})));
    CHECK(bench.Find({.storage = there})->in_memory == !file);
    Bench fresh(nats->url());
    const absl::Status refused = fresh.Follow({.storage = file ? "memory" : "file"}).status();
    CHECK(domain::HasReason(refused, pb::ERROR_REASON_STORAGE_UNSUITABLE));
    CHECK(absl::StrContains(refused.message(), file ? "storage must be memory" : "storage must be file"));
    CHECK(fresh.Config()["storage"] == there);
    bench.live.Api(absl::StrCat("STREAM.DELETE.", kName));
  }
}

TEST_CASE("What others change of a stream in use is noticed at the next look", "[streams]") {
  const auto nats = Must(NatsServer::Start({}));
  Bench bench(nats->url());
  Bench other(nats->url());
  const StreamPtr before = bench.Make();
  Must(other.Follow({.max_bytes = 77'777}).status());
  CHECK(bench.Find() == before);
  const auto facts = Must(base::BlockOn(bench.streams.Look(kName, In(kPatience))));
  REQUIRE(facts.has_value());
  CHECK(facts->settings.max_bytes == 77'777);
  CHECK(bench.Find()->max_bytes == 77'777);
  // Gone, and made again by someone else: it is checked before it is used.
  bench.live.Api(absl::StrCat("STREAM.DELETE.", kName));
  CHECK_FALSE(Must(base::BlockOn(bench.streams.Look(kName, In(kPatience)))).has_value());
  json unsafe = NewStreamConfig(Spec());
  unsafe["name"] = kName;
  unsafe["max_age"] = 3'600'000'000'000;
  bench.live.MakeStream(unsafe);
  Must(base::BlockOn(bench.streams.Look(kName, In(kPatience))).status());
  CHECK_FALSE(base::BlockOn(bench.streams.Find(Spec(), In(kPatience))).ok());
}

TEST_CASE("In a cluster replicas go from one to three, and strong reads ask the leader at once", "[streams]") {
  const auto cluster = Must(NatsCluster::Start({}));
  Must(cluster->WaitForLeader().status());
  Bench bench(cluster->server(0).url());
  REQUIRE(bench.Make()->replicas == 1);
  for (int i = 0; i < 100; ++i) {
    Must(bench.live.Ask({.subject = absl::StrCat("cim.events.sales.order.", i, ".x.v1"), .headers = {}, .data = "x"})
             .status());
  }
  const Streams::Followed followed = Must(bench.Follow({.replicas = 3}));
  CHECK(followed.complaint.empty());
  CHECK(bench.Find()->replicas == 3);
  CHECK(bench.Config()["num_replicas"] == 3);
  Must(cluster->WaitUntilWhole().status());
  CHECK(bench.live.CountMessages(kName) == 100);
  // Where no server has the tags, a new stream says so, and one that exists stays where it is.
  StreamSpec placed = Spec({.placement = Placement{"", {"no-such-tag"}}});
  CHECK(absl::StrContains(Must(bench.Follow(placed.settings)).complaint, "placement anywhere -> tags [no-such-tag]"));
  placed.name = "CIM-EVENTS+sales+invoice";
  placed.subjects = "cim.events.sales.invoice.>";
  const absl::Status nowhere = base::BlockOn(bench.streams.FindOrCreate(placed, In(kPatience))).status();
  INFO(nowhere);
  CHECK(domain::HasReason(nowhere, pb::ERROR_REASON_STORAGE_UNSUITABLE));
  CHECK(absl::StrContains(nowhere.message(), "placement"));
}

}  // namespace
}  // namespace persistd::jetstream
