#include "server/jetstream/streams.h"

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "cim/persistence/v1/errors.pb.h"
#include "server/domain/errors.h"
#include "tests/server/jetstream/live.h"
#include "tests/testing/catch.h"
#include "tests/testing/must.h"
#include "tests/testing/nats_server.h"

namespace persistd::jetstream {
namespace {

namespace pb = cim::persistence::v1;
using nlohmann::json;
using ::persistd::testing::Must;
using ::persistd::testing::NatsServer;

StreamSpec Events(const std::string& aggregate = "order") {
  return {.name = absl::StrCat("CIM-EVENTS+sales+", aggregate),
          .subjects = absl::StrCat("cim.events.sales.", aggregate, ".>"),
          .kind = StreamKind::kEvents};
}

StreamSpec State(const std::string& aggregate = "order") {
  return {.name = absl::StrCat("CIM-AGGREGATES+sales+", aggregate),
          .subjects = absl::StrCat("cim.aggregates.sales.", aggregate, ".>"),
          .kind = StreamKind::kState};
}

struct Bench {
  explicit Bench(const NatsServer::Options& server = {}, ConnectOptions options = {}, int max_streams = 200)
      : nats(Must(NatsServer::Start(server))),
        live(At(*nats, std::move(options))),
        streams(
            {.max_streams = max_streams, .event_stream_name = "CIM-EVENTS", .aggregate_stream_name = "CIM-AGGREGATES"},
            &live.connection()) {
    REQUIRE(live.WaitUntilUp());
  }
  static ConnectOptions At(const NatsServer& nats, ConnectOptions options) {
    options.urls = {nats.url()};
    return options;
  }
  absl::StatusOr<StreamPtr> Find(const StreamSpec& spec) { return base::BlockOn(streams.Find(spec, In(kPatience))); }
  absl::StatusOr<StreamPtr> FindOrCreate(const StreamSpec& spec) {
    return base::BlockOn(streams.FindOrCreate(spec, In(kPatience)));
  }
  json Config(const std::string& name) {
    return ObjectField(live.Api(absl::StrCat("STREAM.INFO.", name)).body, "config");
  }

  std::unique_ptr<NatsServer> nats;
  Live live;
  Streams streams;
};

TEST_CASE("A stream is found only when it exists, and created with exactly these settings", "[jetstream]") {
  Bench bench;
  CHECK(Must(bench.Find(Events())) == nullptr);
  CHECK(bench.streams.known().empty());
  StreamSpec compressed = Events();
  compressed.settings.compression = "s2";
  const StreamPtr events = Must(bench.FindOrCreate(compressed));
  CHECK(events->name == "CIM-EVENTS+sales+order");
  CHECK(events->replicas == 1);
  CHECK(events->incarnation > 0);
  Must(bench.FindOrCreate(State()));
  CHECK(bench.streams.known().size() == 2);

  const json common = {{"retention", "limits"}, {"storage", "file"},    {"discard", "new"},
                       {"num_replicas", 1},     {"allow_direct", true}, {"allow_atomic", true},
                       {"max_age", 0},          {"max_msgs", -1},       {"max_bytes", -1},
                       {"max_msg_size", -1},    {"sealed", false},      {"allow_rollup_hdrs", false}};
  json expected = common;
  expected.update({{"name", "CIM-EVENTS+sales+order"},
                   {"subjects", json::array({"cim.events.sales.order.>"})},
                   {"compression", "s2"},
                   {"deny_delete", true},
                   {"deny_purge", true},
                   {"max_msgs_per_subject", -1}});
  json config = bench.Config("CIM-EVENTS+sales+order");
  for (const auto& [key, value] : expected.items()) {
    INFO(key);
    CHECK(config[key] == value);
  }
  expected = common;
  expected.update({{"name", "CIM-AGGREGATES+sales+order"},
                   {"subjects", json::array({"cim.aggregates.sales.order.>"})},
                   {"compression", "none"},
                   {"deny_delete", false},
                   {"deny_purge", false},
                   {"max_msgs_per_subject", 1}});
  config = bench.Config("CIM-AGGREGATES+sales+order");
  for (const auto& [key, value] : expected.items()) {
    INFO(key);
    CHECK(config[key] == value);
  }
}

TEST_CASE("A found stream is remembered while the connection stands, and looked at again after that", "[jetstream]") {
  Bench bench;
  const StreamPtr first = Must(bench.FindOrCreate(Events()));
  CHECK(Must(bench.Find(Events())) == first);
  bench.live.Api("STREAM.DELETE.CIM-EVENTS+sales+order");
  CHECK(Must(bench.Find(Events())) == first);
  Must(bench.nats->Restart());
  REQUIRE(bench.live.WaitUntilUp(2));
  CHECK(Must(bench.Find(Events())) == nullptr);
  const StreamPtr second = Must(bench.FindOrCreate(Events()));
  CHECK(second->incarnation > first->incarnation);
}

TEST_CASE("Of two creators at once both get the one stream, with equal settings or not", "[jetstream]") {
  Bench bench;
  Streams other({.max_streams = 200, .event_stream_name = "CIM-EVENTS", .aggregate_stream_name = "CIM-AGGREGATES"},
                &bench.live.connection());
  for (int i = 0; i < 20; ++i) {
    StreamSpec spec = Events(absl::StrCat("a", i));
    StreamSpec differs = spec;
    if (i % 2 == 1) differs.settings.compression = "none";
    base::Promise<absl::StatusOr<StreamPtr>> mine;
    base::Promise<absl::StatusOr<StreamPtr>> theirs;
    const auto create = [](Streams& streams, StreamSpec wanted,
                           base::Promise<absl::StatusOr<StreamPtr>> out) -> base::Task<void> {
      out.TrySet(co_await streams.FindOrCreate(wanted, In(kPatience)));
    };
    base::Spawn(create(bench.streams, spec, mine));
    base::Spawn(create(other, differs, theirs));
    const StreamPtr a = Must(Await(mine.future()));
    const StreamPtr b = Must(Await(theirs.future()));
    CHECK(a->incarnation == b->incarnation);
  }
}

TEST_CASE("A stream made by hand with unsafe settings is refused with the setting's name and left alone",
          "[jetstream]") {
  Bench bench;
  int streams = 0;
  // A fresh stream for each case: nats-server removes a deleted one's folder a little later.
  const auto good = [&](StreamKind kind, StreamSpec& spec) {
    const std::string aggregate = absl::StrCat("a", streams++);
    spec = kind == StreamKind::kEvents ? Events(aggregate) : State(aggregate);
    json config = EventStreamConfig(spec.name, spec.subjects);
    if (kind == StreamKind::kState) {
      config.update({{"deny_delete", false}, {"deny_purge", false}, {"max_msgs_per_subject", 1}});
    }
    return config;
  };
  const auto refused = [&](StreamKind kind, const json& change, const std::string& text) {
    INFO(text);
    StreamSpec spec;
    json config = good(kind, spec);
    config.update(change);
    bench.live.MakeStream(config);
    for (const absl::Status& status : {bench.Find(spec).status(), bench.FindOrCreate(spec).status()}) {
      CHECK(domain::HasReason(status, pb::ERROR_REASON_STORAGE_UNSUITABLE));
      CHECK(absl::StrContains(status.message(), spec.name));
      CHECK(absl::StrContains(status.message(), text));
    }
    const json now = bench.Config(spec.name);
    for (const auto& [key, value] : change.items()) CHECK(now.value(key, json(false)) == value);
  };
  for (const StreamKind kind : {StreamKind::kEvents, StreamKind::kState}) {
    const std::string other = absl::StrCat("cim.other", streams, ".>");
    refused(kind, {{"subjects", json::array({other})}}, "subjects must be cim.");
    refused(kind, {{"retention", "interest"}}, "retention must be limits");
    refused(kind, {{"storage", "memory"}}, "storage must be file");
    refused(kind, {{"discard", "old"}}, "discard must be new");
    refused(kind, {{"max_age", 3'600'000'000'000}}, "max_age must be unset");
    refused(kind, {{"allow_atomic", false}}, "allow_atomic must be on");
    refused(kind, {{"allow_direct", false}}, "allow_direct must be on");
    refused(kind, {{"no_ack", true}}, "no_ack must be off");
    refused(kind, {{"subject_transform", {{"src", "cim.>"}, {"dest", "x.>"}}}}, "must not transform subjects");
  }
  refused(StreamKind::kEvents, {{"deny_delete", false}}, "deny_delete must be on");
  refused(StreamKind::kEvents, {{"deny_purge", false}}, "deny_purge must be on");
  refused(StreamKind::kEvents, {{"max_msgs_per_subject", 5}}, "max_msgs_per_subject must be unset");
  refused(StreamKind::kState, {{"max_msgs_per_subject", 2}}, "max_msgs_per_subject must be 1");
  refused(StreamKind::kState, {{"deny_delete", true}}, "deny_delete must be off");
  refused(StreamKind::kState, {{"discard_new_per_subject", true}}, "discard_new_per_subject must be off");
  // All that is wrong is named; limits that only refuse new messages are the operator's choice.
  refused(StreamKind::kEvents, {{"storage", "memory"}, {"deny_purge", false}}, "deny_purge must be on");
  StreamSpec spec;
  json limited = good(StreamKind::kEvents, spec);
  limited.update({{"max_bytes", 1'000'000}, {"max_msgs", 10}, {"max_msg_size", 1000}, {"compression", "none"}});
  bench.live.MakeStream(limited);
  CHECK(bench.Find(spec).ok());
}

TEST_CASE("Settings that this server would not make are refused all the same", "[jetstream]") {
  const json good = EventStreamConfig(Events().name, Events().subjects);
  CHECK(UnsuitableBecause(good, Events()).empty());
  const std::vector<std::pair<json, std::string>> cases = {
      {{{"sealed", true}}, "it must not be sealed"},
      {{{"persist_mode", "async"}}, "persist_mode must not be async"},
      {{{"mirror", {{"name", "M"}}}}, "it must be neither a mirror nor have sources"},
      {{{"sources", json::array({{{"name", "M"}}})}}, "it must be neither a mirror nor have sources"},
      {{{"allow_msg_counter", true}}, "it must not hold counters"}};
  for (const auto& [change, text] : cases) {
    json config = good;
    config.update(change);
    CHECK(UnsuitableBecause(config, Events()) == text);
  }
  CHECK_FALSE(UnsuitableBecause(json::object(), Events()).empty());
}

TEST_CASE("A stream over subjects that another one captures is refused with a hint", "[jetstream]") {
  Bench bench;
  bench.live.MakeStream(EventStreamConfig("CIM-EVENTS", "cim.events.>"));
  const absl::Status status = bench.FindOrCreate(Events()).status();
  CHECK(domain::HasReason(status, pb::ERROR_REASON_STORAGE_UNSUITABLE));
  CHECK(absl::StrContains(status.message(), "repository.event_streams"));
}

TEST_CASE("No more than max_streams event streams are created; their state streams are not counted", "[jetstream]") {
  Bench bench({}, {}, /*max_streams=*/2);
  bench.live.MakeStream(EventStreamConfig("OTHER", "other.>"));
  for (const char* aggregate : {"a", "b"}) {
    CHECK(bench.FindOrCreate(Events(aggregate)).ok());
    CHECK(bench.FindOrCreate(State(aggregate)).ok());
  }
  const absl::Status status = bench.FindOrCreate(Events("c")).status();
  CHECK(domain::HasReason(status, pb::ERROR_REASON_STORAGE_FULL));
  const pb::ErrorDetail::Limit limit = domain::GetErrorDetail(status)->limit();
  CHECK(limit.limit() == 2);
  CHECK(limit.value() == 3);
  CHECK(limit.config_key() == "repository.max_streams");
  CHECK(bench.FindOrCreate(Events("a")).ok());  // What exists stays in use.
}

TEST_CASE("What the server does not let us create says why", "[jetstream]") {
  Bench bench;
  StreamSpec three = Events();
  three.settings.replicas = 3;
  const absl::Status replicas = bench.FindOrCreate(three).status();
  INFO(replicas);
  CHECK(domain::HasReason(replicas, pb::ERROR_REASON_STORAGE_UNSUITABLE));

  ConnectOptions options;
  options.user = "a";
  options.password = "b";
  Bench small({.extra_config = "accounts { A { jetstream { max_streams: 1 }, users: [ { user: a, password: b } ] } }"},
              options);
  REQUIRE(small.FindOrCreate(Events("a")).ok());
  const absl::Status full = small.FindOrCreate(Events("b")).status();
  INFO(full);
  CHECK(domain::HasReason(full, pb::ERROR_REASON_STORAGE_FULL));

  small.nats->Kill9();
  REQUIRE(small.live.WaitUntilDown());
  CHECK(domain::HasReason(small.FindOrCreate(Events("c")).status(), pb::ERROR_REASON_NATS_UNAVAILABLE));
}

}  // namespace
}  // namespace persistd::jetstream
