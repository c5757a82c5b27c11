#include "server/config/loader.h"

#include <chrono>
#include <string>

#include "absl/strings/match.h"
#include "server/config/config.h"
#include "server/config/units.h"
#include "tests/server/config/loading.h"
#include "tests/testing/catch.h"

namespace persistd::config {
namespace {

using namespace std::chrono_literals;

constexpr char kTruncated[] =
    "repository.aggregates=[{context: a, aggregate: b, snapshots: {every_events: 1}, retention: "
    "truncate_before_snapshot}]";

TEST_CASE("Without sources the configuration is the default one", "[config]") {
  REQUIRE(LoadConfig({}).value() == Config{});
  REQUIRE(Loaded({}) == Config{});
  REQUIRE(Loaded({.yaml = "# nothing\n"}) == Config{});
  REQUIRE(Loaded({.yaml = "nats:\n  # urls: []\nserver:\n"}) == Config{});
}

TEST_CASE("Values of every type are read from a file", "[config]") {
  const Config config = Loaded({.yaml = R"(
server: {listen_address: "[::1]:0", shutdown_grace: 1500ms, threads: 4}
metrics: {listen_address: "127.0.0.1:7444"}
data_dir: some folder
nats:
  connections: 16
  embedded:
    sync_interval: 2m
    max_file_store_bytes: 10GiB
repository:
  enable_ipld: false
  event_streams: per_context
  stream: {storage: file, compression: s2}
  cache_size: 0
  aggregates:
    - {context: sales, aggregate: order}
    - context: sales
      aggregate: invoice
)"});
  REQUIRE(config.server.listen_address == "[::1]:0");
  REQUIRE(config.metrics.listen_address == "127.0.0.1:7444");
  REQUIRE(config.server.shutdown_grace == 1500ms);
  REQUIRE(config.server.threads == 4);
  REQUIRE(config.data_dir == "some folder");
  REQUIRE(config.nats.connections == 16);
  REQUIRE(config.nats.embedded.sync_interval == "2m");
  REQUIRE(config.nats.embedded.max_file_store_bytes == 10 * kGiB);
  REQUIRE_FALSE(config.repository.enable_ipld);
  REQUIRE(config.repository.event_streams == EventStreams::kPerContext);
  REQUIRE(config.repository.stream.storage == Storage::kFile);
  REQUIRE(config.repository.stream.compression == Compression::kS2);
  REQUIRE(config.repository.cache_size == 0);
  REQUIRE(config.repository.aggregates == std::vector<AggregateType>{{.context = "sales", .aggregate = "order"},
                                                                     {.context = "sales", .aggregate = "invoice"}});
}

TEST_CASE("Snapshot policies and buckets are read, shown, and refused where they are wrong", "[config]") {
  const Config config = Loaded({.yaml = R"(repository:
  kv:
    cim-read-models: {storage: memory, ttl: 1h}
    cim-blocks: {max_bytes: 1GiB, history: 2}
  aggregates:
    - {context: a, aggregate: b, snapshots: {every_events: 100, max_age: 24h, after_events: [closed], keep: 3}}
    - {context: a, aggregate: c, snapshots: {every_events: 5}}
)"});
  REQUIRE(config.repository.kv.read_models.storage == Storage::kMemory);
  REQUIRE(config.repository.kv.read_models.ttl == std::chrono::hours(1));
  REQUIRE(config.repository.kv.blocks.max_bytes == kGiB);
  REQUIRE(config.repository.kv.blocks.history == 2);
  REQUIRE(config.repository.kv.control == KvBucket{});
  const std::optional<SnapshotPolicy>& policy = config.repository.aggregates[0].snapshots;
  REQUIRE(policy.has_value());
  REQUIRE(policy->every_events == 100);
  REQUIRE(policy->max_age == std::chrono::hours(24));
  REQUIRE(policy->after_events == std::vector<std::string>{"closed"});
  REQUIRE(policy->keep == 3);
  REQUIRE(config.repository.aggregates[1].snapshots->keep == 10);
  REQUIRE(absl::StrContains(Describe(config),
                            "snapshots: {every_events: 100, max_age: 24h, after_events: [\"closed\"], "
                            "keep: 3}"));

  for (const auto& [yaml, problem] : std::vector<std::pair<std::string, std::string>>{
           {"{}", "says nothing of when"},
           {"{keep: 3}", "says nothing of when"},
           {"[]", "not a map"},
           {"{every_events: 0}", "every_events: 0 is out of range; allowed: a whole number from 1 to 1000000000"},
           {"{every_events: 1, keep: 0}", "keep: 0 is out of range; allowed: a whole number from 1 to 1000"},
           {"{max_age: 1ms}", "max_age: 1ms is out of range; allowed: a duration from 1s to 87600h"},
           {"{max_age: soon}", "max_age: "},
           {"{after_events: []}", "after_events: not such a list"},
           {"{after_events: [_x]}", "after_events: "},
           {"{every: 1}", "unknown key \"every\"; allowed here: every_events, max_age, after_events, keep"},
           {"{every_events: 1, every_events: 2}", "given twice"},
       }) {
    const std::string refusal =
        Refusal({.overrides = {"repository.aggregates=[{context: a, aggregate: b, snapshots: " + yaml + "}]"}});
    INFO(yaml);
    INFO(refusal);
    CHECK(absl::StrContains(refusal, problem));
  }
  CHECK(absl::StrContains(Refusal({.overrides = {"repository.kv.cim-blocks.storage=memory"}}), "one of file"));
  for (const auto& [sets, problem] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{"repository.aggregates=[{context: a, aggregate: b, retention: all}]"},
            "retention: \"all\" is none of these words; allowed: one of none, truncate_before_snapshot"},
           {{"repository.aggregates=[{context: a, aggregate: b, retention: truncate_before_snapshot}]"},
            "repository.aggregates[0].retention: events can be removed only where snapshots stand for them"},
           {{kTruncated, "repository.event_streams=single"}, "needs a stream that the type shares with no other"},
           {{kTruncated, "repository.kv.cim-snapshots.ttl=1h"}, "stand for events that were removed"},
           {{kTruncated, "repository.kv.cim-blocks.ttl=1h"}, "stand for events that were removed"},
       }) {
    const std::string refusal = Refusal({.overrides = sets});
    INFO(refusal);
    CHECK(absl::StrContains(refusal, problem));
  }
  const Config truncated = Loaded({.overrides = {kTruncated, "repository.truncation_min_age=1h"}});
  CHECK(truncated.repository.aggregates[0].retention == Retention::kTruncateBeforeSnapshot);
  CHECK(truncated.repository.truncation_min_age == std::chrono::hours(1));
  CHECK(absl::StrContains(Refusal({.overrides = {"repository.kv.cim-blocks.replicas=3"}}), "one; allowed: 1"));
  const std::string taken = Refusal({.overrides = {"repository.snapshot_bucket=cim-blocks"}});
  INFO(taken);
  CHECK(absl::StrContains(taken, "is a reserved name"));
}

TEST_CASE("Blocks are collected never, or not too often, and not while they are young", "[config]") {
  CHECK(Loaded({.overrides = {"repository.block_collection.interval=0s"}}).repository.block_collection.interval ==
        std::chrono::milliseconds(0));
  CHECK(absl::StrContains(Refusal({.overrides = {"repository.block_collection.interval=59s"}}),
                          "59s is out of range; allowed: a duration from 1m to 8760h, or 0s"));
  CHECK(absl::StrContains(Refusal({.overrides = {"repository.block_collection.min_age=119m"}}),
                          "119m is out of range; allowed: a duration from 2h to 87600h"));
}

TEST_CASE("The command line outranks the environment, the environment the file, the file the default", "[config]") {
  Sources sources;
  REQUIRE(Loaded(sources).server.threads == 1);
  sources.yaml = "server:\n  threads: 2\n  shutdown_grace: 2s\n";
  REQUIRE(Loaded(sources).server.threads == 2);
  sources.environment = {{"PERSISTD_SERVER__THREADS", "3"}};
  REQUIRE(Loaded(sources).server.threads == 3);
  sources.overrides = {"server.threads=4"};
  REQUIRE(Loaded(sources).server.threads == 4);
  sources.overrides = {"server.threads=4", "server.threads=5"};
  REQUIRE(Loaded(sources).server.threads == 5);
  REQUIRE(Loaded(sources).server.shutdown_grace == 2s);
}

TEST_CASE("Underscores inside a name stay underscores in the environment", "[config]") {
  const Config config = Loaded({.environment = {{"PERSISTD_DATA_DIR", "/data"},
                                                {"PERSISTD_NATS__EMBEDDED__SYNC_INTERVAL", "5s"},
                                                {"PERSISTD_REPOSITORY__KV__CIM_BLOCKS__HISTORY", "3"},
                                                {"PERSISTD_REPOSITORY__STREAM__COMPRESSION", "s2"}}});
  REQUIRE(config.repository.kv.blocks.history == 3);
  REQUIRE(config.data_dir == "/data");
  REQUIRE(config.nats.embedded.sync_interval == "5s");
  REQUIRE(config.repository.stream.compression == Compression::kS2);
}

TEST_CASE("Lists from the environment and the command line are commas or YAML", "[config]") {
  const std::vector<std::string> two = {"nats://a:1", "nats://b:2"};
  REQUIRE(Loaded({.environment = {{"PERSISTD_NATS__URLS", "nats://a:1, nats://b:2"}}}).nats.urls == two);
  REQUIRE(Loaded({.overrides = {"nats.urls=nats://a:1,nats://b:2"}}).nats.urls == two);
  REQUIRE(Loaded({.overrides = {"nats.urls=[nats://a:1, \"nats://b:2\"]"}}).nats.urls == two);
  REQUIRE(Loaded({.yaml = "nats: {urls: [nats://a:1]}", .overrides = {"nats.urls="}}).nats.urls.empty());
  const Config config =
      Loaded({.overrides = {"repository.aggregates=[{context: a, aggregate: b, replicas: 1, compression: none}]"}});
  REQUIRE(
      config.repository.aggregates ==
      std::vector<AggregateType>{{.context = "a", .aggregate = "b", .replicas = 1, .compression = Compression::kNone}});
}

TEST_CASE("Text from the environment and the command line is taken as it is", "[config]") {
  const Config config = Loaded({.environment = {{"PERSISTD_NATS__PASSWORD", "a: [b] #c = \"d\""}},
                                .overrides = {"nats.urls=nats://h", "nats.user=me=you"}});
  REQUIRE(config.nats.password == "a: [b] #c = \"d\"");
  REQUIRE(config.nats.user == "me=you");
}

TEST_CASE("All problems are reported at once, each with its place", "[config]") {
  const std::string message = Refusal({
      .yaml = "server:\n"                       // 1
              "  listen_adress: 127.0.0.1:1\n"  // 2
              "  threads: 17\n"                 // 3
              "  shutdown_grace: 10\n"          // 4
              "log: debug\n"                    // 5
              "nats:\n"                         // 6
              "  embedded:\n"                   // 7
              "    enabled: yes\n"              // 8
              "    port: \"4222\"\n"            // 9
              "  urls: nats://h\n"              // 10
              "repository:\n"                   // 11
              "  cache_bytes: 64MB\n"           // 12
              "  max_streams: [1]\n"            // 13
              "  stream:\n"                     // 14
              "    compression: zstd\n"         // 15
              "  stream: {}\n"                  // 16
              "  cache_size:\n"                 // 17
              "data_dir: \"\"\n",               // 18
      .environment = {{"PERSISTD_NATS__CONNECTIONS", "many"}, {"PERSISTD_SERVER__LISTEN", "x"}, {"PERSISTD_X", ""}},
      .overrides = {"limits.max_event_size=2MiB", "log.level", "nats.embedded=false", "server.thread=1"},
  });
  REQUIRE(message ==
          R"(c.yaml:2: server.listen_adress: unknown key; did you mean server.listen_address?
c.yaml:3: server.threads: 17 is out of range; allowed: a whole number from 1 to 16
c.yaml:4: server.shutdown_grace: "10" has no unit; write a whole number and ms, s, m or h, such as 250ms; allowed: a duration from 0s to 1h
c.yaml:5: log: a single value where a section belongs; allowed here: level
c.yaml:8: nats.embedded.enabled: "yes" is neither; allowed: true or false
c.yaml:9: nats.embedded.port: "4222" is text: leave the quotes away; allowed: a whole number from 0 to 65535
c.yaml:10: nats.urls: not a list; allowed: a list of at most 16 URLs, each nats://HOST:PORT or tls://HOST:PORT, with USER:PASSWORD@ or TOKEN@ before HOST if need be
c.yaml:12: repository.cache_bytes: "64MB" is not a size; write a whole number and B, KiB, MiB, GiB or TiB, such as 64MiB; allowed: a size from 1MiB to 1TiB
c.yaml:13: repository.max_streams: a list where one value belongs; allowed: a whole number from 1 to 10000
c.yaml:15: repository.stream.compression: "zstd" is none of these words; allowed: one of none, s2
c.yaml:16: repository.stream: given twice; first on line 14
c.yaml:17: repository.cache_size: no value given (an empty text is written ""); allowed: a whole number from 0 to 10000000
c.yaml:18: data_dir: empty; allowed: the path of a folder
environment PERSISTD_NATS__CONNECTIONS: "many" is not a whole number; allowed: a whole number from 1 to 16
environment PERSISTD_SERVER__LISTEN: unknown variable; did you mean PERSISTD_SERVER__LISTEN_ADDRESS?
environment PERSISTD_X: unknown variable; allowed: PERSISTD_ and the path of a key in capitals, with __ for each dot
--set limits.max_event_size: 2MiB is out of range; allowed: a size from 1KiB to 900KiB
--set log.level: no value given; allowed: key.path=value
--set nats.embedded: a section; set one of its keys: enabled, port, binary, sync_interval, max_file_store_bytes, max_memory_store_bytes
--set server.thread: unknown key; did you mean server.threads?)");
}

TEST_CASE("Problems inside lists name the element and its line", "[config]") {
  REQUIRE(
      Refusal({.yaml = "nats:\n"
                       "  urls:\n"
                       "    - nats://good:4222\n"
                       "    - http://bad:4222\n"
                       "    - {host: x}\n"
                       "repository:\n"
                       "  aggregates:\n"
                       "    - {context: a, aggregate: b}\n"
                       "    - context: a\n"
                       "      aggregat: c\n"
                       "    - context: _a\n"
                       "      aggregate: c.d\n"
                       "      replicas: 6\n"
                       "      compression: zip\n"
                       "      context: b\n"
                       "    - sales.order\n"
                       "    - {context: a, aggregate: b, colour: red}\n"}) ==
      R"(c.yaml:4: nats.urls[1]: "http://bad:4222" does not begin with nats:// or tls://; allowed: nats://HOST:PORT or tls://HOST:PORT, with USER:PASSWORD@ or TOKEN@ before HOST if need be
c.yaml:5: nats.urls[2]: a map where one value belongs; allowed: nats://HOST:PORT or tls://HOST:PORT, with USER:PASSWORD@ or TOKEN@ before HOST if need be
c.yaml:10: repository.aggregates[1].aggregat: unknown key; did you mean aggregate?
c.yaml:9: repository.aggregates[1]: has no aggregate
c.yaml:11: repository.aggregates[2].context: "_a" begins with _; allowed: 1 to 64 characters of A-Z a-z 0-9 _ -, not beginning with _
c.yaml:12: repository.aggregates[2].aggregate: "c.d" holds other characters; allowed: 1 to 64 characters of A-Z a-z 0-9 _ -, not beginning with _
c.yaml:13: repository.aggregates[2].replicas: 6 is out of range; allowed: a whole number from 1 to 5
c.yaml:14: repository.aggregates[2].compression: "zip" is none of these words; allowed: one of none, s2
c.yaml:15: repository.aggregates[2].context: given twice; first on line 11
c.yaml:16: repository.aggregates[3]: not a map; allowed: a map such as {context: sales, aggregate: order}
c.yaml:17: repository.aggregates[4].colour: unknown key; allowed here: context, aggregate, replicas, compression, storage, placement, max_bytes, fold, fold_file, state_schema_version, snapshots, retention)");
  REQUIRE(
      Refusal(
          {.yaml = "repository:\n  aggregates:\n  - {context: a, aggregate: b}\n  - {context: a, aggregate: b}\n"}) ==
      "c.yaml:4: repository.aggregates[1]: declares a.b again; first in [0]");
  REQUIRE(
      Refusal({.environment = {{"PERSISTD_NATS__URLS", "nats://a,b"}}}) ==
      "environment PERSISTD_NATS__URLS[1]: \"b\" does not begin with nats:// or tls://; allowed: nats://HOST:PORT or "
      "tls://HOST:PORT, with USER:PASSWORD@ or TOKEN@ before HOST if need be");
  REQUIRE(absl::StartsWith(Refusal({.overrides = {"nats.urls=[nats://a"}}),
                           "--set nats.urls: a list or map as a key, or a bracket that is never closed; allowed: "));
  REQUIRE(absl::StartsWith(Refusal({.overrides = {"repository.aggregates=sales.order"}}),
                           "--set repository.aggregates[0]: not a map; allowed: a map such as"));
}

TEST_CASE("A type may say for its streams what all streams have", "[config]") {
  const Config config = Loaded({.yaml = R"(
nats: {urls: ["nats://h"]}
repository:
  stream: {placement: {cluster: eu-1, tags: ["az:1", ssd]}, max_bytes: 1GiB}
  aggregates:
    - {context: a, aggregate: b, storage: memory, placement: {cluster: us, tags: [hdd]}, max_bytes: 0}
    - {context: a, aggregate: c, storage: file, placement: {}}
)"});
  const Repository& repository = config.repository;
  REQUIRE(repository.stream.placement == Placement{.cluster = "eu-1", .tags = {"az:1", "ssd"}});
  REQUIRE(repository.stream.max_bytes == kGiB);
  REQUIRE(repository.aggregates ==
          std::vector<AggregateType>{
              {.context = "a",
               .aggregate = "b",
               .storage = Storage::kMemory,
               .placement = Placement{.cluster = "us", .tags = {"hdd"}},
               .max_bytes = 0},
              {.context = "a", .aggregate = "c", .storage = Storage::kFile, .placement = Placement{}}});
  REQUIRE(Loaded({.yaml = Describe(config)}) == config);
}

TEST_CASE("Problems in the settings of a type's streams name the place", "[config]") {
  constexpr char kWord[] = "allowed: 1 to 64 visible ASCII characters other than \" \\ and comma";
  REQUIRE(
      Refusal({.yaml = "nats: {urls: [\"nats://h\"]}\n"
                       "repository:\n"
                       "  stream: {storage: memory}\n"
                       "  aggregates:\n"
                       "    - {context: a, aggregate: b, storage: tape, max_bytes: 2048TiB}\n"
                       "    - {context: a, aggregate: c, placement: eu, max_bytes: much}\n"
                       "    - {context: a, aggregate: d, placement: {cluster: e u, tags: [x, \"\"], colour: red}}\n"
                       "    - {context: a, aggregate: e, placement: {tags: x}}\n"
                       "    - {context: a, aggregate: f, placement: {cluster: x, cluster: y}}\n"}) ==
      absl::StrCat(
          "c.yaml:3: repository.stream.storage: \"memory\" is none of these words; allowed: one of file\n"
          "c.yaml:5: repository.aggregates[0].storage: \"tape\" is none of these words; allowed: one of file, "
          "memory\n"
          "c.yaml:5: repository.aggregates[0].max_bytes: 2048TiB is out of range; allowed: a size from 0 to "
          "1024TiB\n"
          "c.yaml:6: repository.aggregates[1].placement: not a map; allowed: a map such as {cluster: eu, tags: "
          "[ssd]}\n"
          "c.yaml:6: repository.aggregates[1].max_bytes: ",
          ParseSize("much").status().message(),
          "; allowed: a size from 0 to 1024TiB\n"
          "c.yaml:7: repository.aggregates[2].placement.cluster: \"e u\" holds other characters; ",
          kWord, "\nc.yaml:7: repository.aggregates[2].placement.tags[1]: \"\" is empty; ", kWord,
          "\nc.yaml:7: repository.aggregates[2].placement.colour: unknown key; allowed here: cluster, tags\n"
          "c.yaml:8: repository.aggregates[3].placement.tags: not a list; allowed: a list of at most 16 tags, each 1 "
          "to 64 visible ASCII characters other than \" \\ and comma\n"
          "c.yaml:9: repository.aggregates[4].placement.cluster: given twice; first on line 9"));
}

TEST_CASE("A type may have a fold, given or in a file", "[config]") {
  const Config config = Loaded({.yaml = "repository:\n"
                                        "  aggregates:\n"
                                        "    - context: a\n"
                                        "      aggregate: b\n"
                                        "      state_schema_version: 7\n"
                                        "      fold: |\n"
                                        "        .data.n as $n |\n"
                                        "        $state + $n  # sum\n"
                                        "    - {context: a, aggregate: c, fold_file: /etc/persistd/c.jq}\n"
                                        "transform: {workers: 3, time_limit: 1500ms, max_memory: 1GiB}\n"});
  const std::vector<AggregateType>& types = config.repository.aggregates;
  REQUIRE(types[0].fold == ".data.n as $n |\n$state + $n  # sum\n");
  REQUIRE(types[0].state_schema_version == 7u);
  REQUIRE(types[1].fold_file == "/etc/persistd/c.jq");
  REQUIRE_FALSE(types[1].state_schema_version.has_value());
  REQUIRE(config.transform ==
          Transform{.workers = 3, .time_limit = std::chrono::milliseconds(1500), .max_memory = 1u << 30});
  REQUIRE(Loaded({.yaml = Describe(config)}) == config);
  REQUIRE(
      Refusal({.yaml = "repository:\n"
                       "  aggregates:\n"
                       "    - {context: a, aggregate: b, fold: \"1\", fold_file: x}\n"
                       "    - {context: a, aggregate: c, fold: \"\", state_schema_version: 1000000}\n"
                       "    - {context: a, aggregate: d, fold_file: \"\"}\n"}) ==
      "c.yaml:3: repository.aggregates[0]: has both fold and fold_file\n"
      "c.yaml:4: repository.aggregates[1].fold: \"\" is empty; allowed: a jq program of at most 64KiB\n"
      "c.yaml:4: repository.aggregates[1].state_schema_version: 1000000 is out of range; allowed: a whole number from "
      "1 to 999999\n"
      "c.yaml:5: repository.aggregates[2].fold_file: \"\" is empty; allowed: the path of a file");
  REQUIRE(absl::StrContains(
      Refusal({.yaml = absl::StrCat("repository:\n  aggregates:\n  - {context: a, aggregate: b, fold: \"",
                                    std::string(65 * 1024, '1'), "\"}\n")}),
      "too long: 66560 bytes"));
}

TEST_CASE("Lists have a largest length", "[config]") {
  std::string urls = "nats://h";
  for (int i = 0; i < 16; ++i) urls += ",nats://h";
  REQUIRE(Refusal({.overrides = {"nats.urls=" + urls}}) == "--set nats.urls: 17 URLs; allowed: at most 16");
  std::string aggregates = "repository:\n  aggregates:\n";
  for (int i = 0; i <= 10'000; ++i) aggregates += "  - {context: a, aggregate: b" + std::to_string(i) + "}\n";
  REQUIRE(
      Refusal({.yaml = aggregates}) ==
      "c.yaml:2: repository.aggregates: 10001 entries; allowed: a list of at most 10000 maps of context, aggregate, "
      "replicas, compression, storage, placement, max_bytes, fold, fold_file, state_schema_version, snapshots, "
      "retention");
  std::string tags = "t";
  for (int i = 0; i < 16; ++i) tags += ",t";
  REQUIRE(absl::StartsWith(Refusal({.overrides = {"repository.stream.placement.tags=" + tags}}),
                           "--set repository.stream.placement.tags: 17 tags; allowed: a list of at most 16 tags"));
}

TEST_CASE("Unknown keys suggest what was meant, wherever it belongs", "[config]") {
  REQUIRE(Refusal({.yaml = "listen_address: x"}) ==
          "c.yaml:1: listen_address: unknown key; did you mean server.listen_address?");
  REQUIRE(Refusal({.yaml = "sever: {threads: 1}"}) == "c.yaml:1: sever: unknown key; did you mean server?");
  REQUIRE(Refusal({.yaml = "nats: {sync_interval: 1s}"}) ==
          "c.yaml:1: nats.sync_interval: unknown key; did you mean nats.embedded.sync_interval?");
  REQUIRE(Refusal({.yaml = "log: {colour: true}"}) == "c.yaml:1: log.colour: unknown key; allowed in log: level");
  REQUIRE(Refusal({.yaml = "zzz: 1"}) ==
          "c.yaml:1: zzz: unknown key; allowed at the top level: server, data_dir, log, metrics, nats, repository, "
          "commit, scrubber, transform, limits");
  REQUIRE(Refusal({.yaml = "<<: {a: b}"}) ==
          "c.yaml:1: <<: unknown key; allowed at the top level: server, data_dir, log, metrics, nats, repository, "
          "commit, scrubber, transform, limits");
  REQUIRE(Refusal({.overrides = {"nat.embedded.port=1"}}) ==
          "--set nat.embedded.port: unknown key; did you mean nats.embedded.port?");
  REQUIRE(Refusal({.overrides = {"some.other.thing=1"}}) ==
          "--set some.other.thing: unknown key; config/persistd.yaml has all keys");
  REQUIRE(Refusal({.overrides = {"=1"}}).substr(0, 21) == "--set \"\": unknown key");
}

TEST_CASE("The metrics address is checked like the other one, but may be empty and knows no IPv6", "[config]") {
  REQUIRE(Loaded({}).metrics.listen_address.empty());
  REQUIRE(Loaded({.overrides = {"metrics.listen_address="}}).metrics.listen_address.empty());
  REQUIRE(Loaded({.overrides = {"metrics.listen_address=localhost:0"}}).metrics.listen_address == "localhost:0");
  const std::string allowed =
      "; allowed: HOST:PORT without IPv6, such as 127.0.0.1:7444 or 0.0.0.0:7444, or empty; port 0 picks a free one";
  REQUIRE(Refusal({.overrides = {"metrics.listen_address=[::1]:7444"}}) ==
          "--set metrics.listen_address: [::1]:7444 is an IPv6 address" + allowed);
  REQUIRE(Refusal({.overrides = {"metrics.listen_address=7444"}}) ==
          "--set metrics.listen_address: \"7444\" has no port" + allowed);
}

TEST_CASE("A dotted key in a file is not a path", "[config]") {
  REQUIRE(Refusal({.yaml = "server.threads: 2"}).substr(0, 38) == "c.yaml:1: server.threads: unknown key;");
  REQUIRE(Refusal({.yaml = "nats: {embedded.port: 2}"}).substr(0, 43) == "c.yaml:1: nats.embedded.port: unknown key; ");
}

TEST_CASE("Key names from outside cannot garble the message", "[config]") {
  REQUIRE(Refusal({.yaml = "\"a\\e[31m\\nb\": 1"}).substr(0, 45) == R"(c.yaml:1: "a\x1b[31m\x0ab": unknown key; allo)");
  REQUIRE(Refusal({.environment = {{"PERSISTD_\n", "1"}}}).substr(0, 40) ==
          R"(environment "PERSISTD_\x0a": unknown var)");
}

TEST_CASE("Variables of other programs and of Kubernetes services are ignored", "[config]") {
  REQUIRE(Loaded({.environment = {{"PATH", "/bin"},
                                  {"PERSISTD", "x"},
                                  {"PERSISTD_SERVICE_HOST", "10.0.0.1"},
                                  {"PERSISTD_SERVICE_PORT", "7443"},
                                  {"PERSISTD_SERVICE_PORT_GRPC", "7443"},
                                  {"PERSISTD_PORT", "tcp://10.0.0.1:7443"},
                                  {"PERSISTD_PORT_7443_TCP", "tcp://10.0.0.1:7443"},
                                  {"PERSISTD_PORT_7443_TCP_PROTO", "tcp"},
                                  {"PERSISTD_PORT_7443_TCP_PORT", "7443"},
                                  {"PERSISTD_PORT_7443_TCP_ADDR", "10.0.0.1"},
                                  {"PERSISTD_NATS_PORT", "tcp://10.0.0.2:4222"}}}) == Config{});
  REQUIRE(Refusal({.environment = {{"PERSISTD_NATS_EMBEDDED_PORT", "4222"}}}) ==
          "environment PERSISTD_NATS_EMBEDDED_PORT: unknown variable; did you mean PERSISTD_NATS__EMBEDDED__PORT?");
}

TEST_CASE("The process's environment is filtered by prefix", "[config]") {
  const char* const environment[] = {
      "PATH=/bin", "PERSISTD_LOG__LEVEL=warn", "PERSISTD_NATS__USER=a=b", "PERSISTDX=1", "BROKEN", nullptr};
  REQUIRE(PersistdVariables(environment) ==
          std::map<std::string, std::string>{{"PERSISTD_LOG__LEVEL", "warn"}, {"PERSISTD_NATS__USER", "a=b"}});
}

TEST_CASE("A file that is no configuration is refused", "[config]") {
  REQUIRE(Refusal({.yaml = "\n- a\n- b\n"}) ==
          "c.yaml:2: a list where a section belongs; allowed here: server, data_dir, log, metrics, nats, repository, "
          "commit, scrubber, transform, limits");
  REQUIRE(Refusal({.yaml = "hello"}) ==
          "c.yaml:1: a single value where a section belongs; allowed here: server, data_dir, log, metrics, nats, "
          "repository, commit, scrubber, transform, limits");
  REQUIRE(Refusal({.yaml = "server:\n\tthreads: 1\n"}) ==
          "c.yaml:2: a tab indents this line; YAML is indented with spaces");
  REQUIRE(Refusal({.yaml = "# " + std::string(kMaxFileBytes, 'x')}).find("c.yaml\" is larger than 1048576 bytes") !=
          std::string::npos);
  REQUIRE(LoadConfig({.file = "/nonexistent/c.yaml"}).status().message() ==
          "cannot read \"/nonexistent/c.yaml\": No such file or directory");
  REQUIRE(LoadConfig({.file = "/"}).status().message() == "cannot read \"/\": Is a directory");
}

TEST_CASE("A file of the largest size is read, and the number of messages is bounded", "[config]") {
  std::string yaml;
  while (yaml.size() < kMaxFileBytes - 100) yaml += "k" + std::to_string(yaml.size()) + ": 1\n";
  const std::string message = Refusal({.yaml = yaml});
  REQUIRE(std::count(message.begin(), message.end(), '\n') == 99);
  REQUIRE(absl::EndsWith(message, "\nand more problems"));
}

TEST_CASE("Text with control characters is refused without showing secrets", "[config]") {
  REQUIRE(Refusal({.yaml = "nats: {user: \"a\\nb\"}"}) ==
          "c.yaml:1: nats.user: text holds a control character; allowed: text of at most 256 bytes");
  for (const char* assignment : {"nats.password=hunter2\r\n", "nats.token=hunter2\x01", "nats.password=hunter2\xff"}) {
    REQUIRE(Refusal({.overrides = {assignment}}).find("hunter2") == std::string::npos);
  }
  REQUIRE(Refusal({.overrides = {"nats.token=" + std::string(4097, 'x')}}) ==
          "--set nats.token: text of 4097 bytes is too long; allowed: text of at most 4096 bytes");
}

TEST_CASE("Numbers are plain decimal numbers", "[config]") {
  for (const char* number : {"0x10", "010", "1e3", "1.0", "-1", "+1", "1_000", "", " 1", "99999999999999999999999"}) {
    INFO(number);
    REQUIRE(absl::StartsWith(Refusal({.overrides = {std::string("nats.connections=") + number}}),
                             "--set nats.connections: "));
  }
}

TEST_CASE("A described configuration reads back as the same one", "[config]") {
  const Config config = Loaded({.yaml = R"(
server: {listen_address: "0.0.0.0:1", default_deadline: 1m}
data_dir: "C:\\odd \"name\" ~ #: ž"
nats: {urls: [nats://a:1, nats://b:2], ping_interval: 1500ms}
repository:
  head_cache_bytes: 1GiB
  stream: {replicas: 3}
  aggregates: [{context: sales, aggregate: order}, {context: null-ish, aggregate: "1", replicas: 5, compression: none}]
)"});
  REQUIRE(Loaded({.yaml = Describe(config)}) == config);
  REQUIRE(Loaded({.yaml = Describe(Config{})}) == Config{});
}

TEST_CASE("Secrets are hidden in a described configuration", "[config]") {
  Config config;
  config.nats.password = "hunter2";
  config.nats.token = "hunter2";
  config.nats.urls = {"nats://me:hunter2@h:4222"};
  const std::string text = Describe(config);
  REQUIRE(text.find("hunter2") == std::string::npos);
  REQUIRE(absl::StrContains(text, "  password: \"***\"\n"));
  REQUIRE(absl::StrContains(text, "    - \"nats://***@h:4222\"\n"));
  REQUIRE(absl::StrContains(text, "  user: \"\"\n"));
}

}  // namespace
}  // namespace persistd::config
