// The rules between keys, as LoadConfig applies them.
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "server/config/config.h"
#include "tests/server/config/loading.h"
#include "tests/testing/catch.h"

namespace persistd::config {
namespace {

TEST_CASE("Naming URLs turns the embedded server off", "[config]") {
  const Config config = Loaded({.yaml = "nats: {urls: [nats://h]}"});
  REQUIRE_FALSE(config.nats.embedded.enabled);
  REQUIRE(config.nats.urls == std::vector<std::string>{"nats://h"});
}

TEST_CASE("URLs and the embedded server in one source exclude each other", "[config]") {
  REQUIRE(Refusal({.yaml = "nats:\n  urls:\n    - nats://h\n  embedded:\n    enabled: true\n"}) ==
          "c.yaml:5: nats.embedded.enabled: true together with nats.urls (c.yaml:2); allowed: one of the two");
  REQUIRE(Refusal({.overrides = {"nats.embedded.enabled=true", "nats.urls=nats://h"}}) ==
          "--set nats.embedded.enabled: true together with nats.urls (--set); allowed: one of the two");
}

TEST_CASE("Of URLs and the embedded server the later source decides", "[config]") {
  const Config external = Loaded({.yaml = "nats: {embedded: {enabled: true}}", .overrides = {"nats.urls=nats://h"}});
  REQUIRE_FALSE(external.nats.embedded.enabled);
  const Config embedded =
      Loaded({.yaml = "nats: {urls: [nats://h]}", .environment = {{"PERSISTD_NATS__EMBEDDED__ENABLED", "true"}}});
  REQUIRE(embedded.nats.embedded.enabled);
  REQUIRE(embedded.nats.urls.empty());
}

TEST_CASE("Neither URLs nor the embedded server is an error", "[config]") {
  REQUIRE(Refusal({.yaml = "nats:\n  embedded: {enabled: false}"}) ==
          "c.yaml:2: nats.embedded.enabled: false, and nats.urls is empty; allowed: one of the two");
}

TEST_CASE("A value that was refused already causes no second message", "[config]") {
  REQUIRE(Refusal({.yaml = "nats:\n  urls: [x]\n  embedded: {enabled: false}"}).find("allowed: one of the two") ==
          std::string::npos);
}

TEST_CASE("A file that is not YAML causes no messages about what it did not say", "[config]") {
  REQUIRE(Refusal({.yaml = "nats: {urls: [nats://h]}\na: b: c",
                   .overrides = {"repository.stream.replicas=3", "log.level=x"}}) ==
          "c.yaml:2: not YAML: illegal map value\n"
          "--set log.level: \"x\" is none of these words; allowed: one of debug, info, warn, error");
}

TEST_CASE("There is one way of authenticating", "[config]") {
  const Folder folder;
  const std::string creds = folder.Write("creds", "seed");
  REQUIRE(Loaded({.overrides = {"nats.urls=nats://h", "nats.creds_file=" + creds}}).nats.creds_file == creds);
  REQUIRE(Loaded({.overrides = {"nats.urls=nats://u:p@h"}}).nats.urls.front() == "nats://u:p@h");
  constexpr char kWays[] =
      "; allowed: one of nats.user with its password, nats.token, nats.nkey_seed_file, nats.creds_file, credentials in "
      "the "
      "URLs";
  REQUIRE(Refusal({.yaml = "nats:\n  urls: [nats://u:p@h]\n  user: a\n  password: b\n  token: c\n"}) ==
          std::string("c.yaml:5: nats.token: a second way of authenticating beside nats.user (c.yaml:3)") + kWays +
              "\nc.yaml:2: nats.urls: credentials in a URL beside nats.user (c.yaml:3)" + kWays);
  REQUIRE(Refusal({.environment = {{"PERSISTD_NATS__TOKEN", "t"}},
                   .overrides = {"nats.urls=nats://h", "nats.creds_file=" + creds}}) ==
          std::string("--set nats.creds_file: a second way of authenticating beside nats.token (environment "
                      "PERSISTD_NATS__TOKEN)") +
              kWays);
}

TEST_CASE("A user needs a password and a password a user", "[config]") {
  REQUIRE(Refusal({.overrides = {"nats.urls=nats://h", "nats.user=me"}}) ==
          "--set nats.user: given without nats.password or nats.password_file");
  REQUIRE(Refusal({.overrides = {"nats.urls=nats://h", "nats.password=x"}}) ==
          "--set nats.password: given without nats.user");
}

TEST_CASE("Secrets are read from files, without the line end", "[config]") {
  const Folder folder;
  const Config user = Loaded(
      {.overrides = {"nats.urls=nats://h", "nats.user=me", "nats.password_file=" + folder.Write("p", "s3cret \r\n")}});
  REQUIRE(user.nats.password == "s3cret ");
  REQUIRE(Loaded({.overrides = {"nats.urls=nats://h", "nats.token_file=" + folder.Write("t", "abc")}}).nats.token ==
          "abc");
}

TEST_CASE("Secret files that do not hold a secret are refused", "[config]") {
  const Folder folder;
  const auto refusal = [&](const std::string& file) {
    const std::string message = Refusal({.overrides = {"nats.urls=nats://h", "nats.token_file=" + file}});
    return absl::StrReplaceAll(message, {{folder.path() + "/", ""}});
  };
  REQUIRE(refusal(folder.path() + "/none") == "--set nats.token_file: cannot read \"none\": No such file or directory");
  REQUIRE(refusal(folder.Write("empty", "\n")) == "--set nats.token_file: \"empty\" is empty");
  REQUIRE(refusal(folder.Write("long", std::string(5000, 'x'))) ==
          "--set nats.token_file: \"long\" is larger than 4096 bytes");
  REQUIRE(refusal(folder.Write("lines", "a\nb\n")) ==
          "--set nats.token_file: in \"lines\": text holds a control character");
  REQUIRE(
      Refusal({.overrides = {"nats.urls=nats://h", "nats.token=t", "nats.token_file=" + folder.Write("t", "abc")}}) ==
      "--set nats.token_file: given together with nats.token (--set); allowed: one of the two");
}

TEST_CASE("Files that are named must be there", "[config]") {
  REQUIRE(Refusal({.overrides = {"nats.urls=nats://h", "nats.nkey_seed_file=/nonexistent/seed"}}) ==
          "--set nats.nkey_seed_file: cannot read \"/nonexistent/seed\": No such file or directory");
  const Folder folder;
  REQUIRE(absl::EndsWith(Refusal({.overrides = {"nats.urls=tls://h", "nats.tls.ca_file=" + folder.Write("ca", "")}}),
                         "ca\" is empty"));
}

TEST_CASE("A file that a later source replaced need not be there", "[config]") {
  REQUIRE(Loaded({.yaml = "nats: {urls: [nats://h], creds_file: /nonexistent}", .overrides = {"nats.creds_file="}})
              .nats.creds_file.empty());
}

TEST_CASE("A tls URL turns TLS on, and TLS files need TLS", "[config]") {
  REQUIRE(Loaded({.overrides = {"nats.urls=nats://a,tls://b"}}).nats.tls.enabled);
  REQUIRE_FALSE(Loaded({.overrides = {"nats.urls=nats://a"}}).nats.tls.enabled);
  const Folder folder;
  const std::string pem = folder.Write("pem", "x");
  REQUIRE(Refusal({.overrides = {"nats.urls=nats://h", "nats.tls.ca_file=" + pem}}) ==
          "--set nats.tls.ca_file: given while TLS is off; set nats.tls.enabled to true, or begin a URL with tls://");
  REQUIRE(Refusal({.overrides = {"nats.urls=tls://h", "nats.tls.cert_file=" + pem}}) ==
          "--set nats.tls.cert_file: given without nats.tls.key_file");
  REQUIRE(Refusal({.overrides = {"nats.urls=tls://h", "nats.tls.key_file=" + pem}}) ==
          "--set nats.tls.key_file: given without nats.tls.cert_file");
}

TEST_CASE("What only an external NATS uses is refused beside the embedded server", "[config]") {
  constexpr char kWhy[] =
      ": only used with nats.urls, while nats.embedded.enabled makes the daemon run its own nats-server";
  REQUIRE(Refusal({.overrides = {"nats.token=t"}}) == std::string("--set nats.token") + kWhy);
  REQUIRE(Refusal({.overrides = {"nats.monitoring_url=http://h:8222"}}) ==
          std::string("--set nats.monitoring_url") + kWhy);
  REQUIRE(Refusal({.overrides = {"nats.tls.enabled=true"}}) == std::string("--set nats.tls.enabled") + kWhy);
  const Folder folder;
  REQUIRE(Refusal({.overrides = {"nats.token_file=" + folder.Write("t", "abc")}}) ==
          std::string("--set nats.token_file") + kWhy);
}

TEST_CASE("The embedded server keeps one copy", "[config]") {
  REQUIRE(
      Refusal(
          {.yaml =
               "repository:\n  stream: {replicas: 3}\n  aggregates:\n  - {context: a, aggregate: b, replicas: 2}\n"}) ==
      "c.yaml:2: repository.stream.replicas: 3 replicas need as many servers, and the embedded nats-server is one; "
      "allowed: 1\n"
      "c.yaml:3: repository.aggregates[0].replicas: 2 replicas need as many servers, and the embedded nats-server is "
      "one; "
      "allowed: 1");
  REQUIRE(Loaded({.overrides = {"nats.urls=nats://h", "repository.stream.replicas=5"}}).repository.stream.replicas ==
          5);
}

TEST_CASE("The embedded server is in no cluster that streams could be placed in", "[config]") {
  constexpr char kWhy[] = "placement needs a cluster, and the embedded nats-server is one server";
  REQUIRE(Refusal({.yaml = "repository:\n"
                           "  stream:\n"
                           "    placement:\n"
                           "      cluster: eu\n"
                           "      tags: [ssd]\n"
                           "  aggregates: [{context: a, aggregate: b, placement: {}}, {context: a, aggregate: c, "
                           "placement: {tags: [ssd]}}]\n"}) ==
          absl::StrCat("c.yaml:4: repository.stream.placement.cluster: ", kWhy,
                       "\nc.yaml:5: repository.stream.placement.tags: ", kWhy,
                       "\nc.yaml:6: repository.aggregates[1].placement: ", kWhy));
}

TEST_CASE("Settings of one type need a stream of its own", "[config]") {
  constexpr char kYaml[] = "repository:\n  aggregates:\n  - {context: a, aggregate: b, compression: none}\n";
  REQUIRE(Loaded({.yaml = kYaml}).repository.aggregates.size() == 1);
  REQUIRE(Refusal({.yaml = kYaml, .overrides = {"repository.event_streams=single"}}) ==
          "c.yaml:2: repository.aggregates[0]: has stream settings of its own, but shares a stream with other types; "
          "allowed: only with repository.event_streams: per_aggregate_type");
  for (const char* setting : {"replicas: 1", "storage: file", "placement: {}", "max_bytes: 0"}) {
    INFO(setting);
    const std::string list = absl::StrCat("repository.aggregates=[{context: a, aggregate: b, ", setting, "}]");
    REQUIRE_FALSE(Refusal({.overrides = {"repository.event_streams=per_context", list}}).empty());
  }
}

TEST_CASE("Streams and buckets have different names", "[config]") {
  REQUIRE(
      Refusal({.overrides = {"repository.event_stream_name=CIM-AGGREGATES"}}) ==
      "--set repository.event_stream_name: the same name as repository.aggregate_stream_name (its default); allowed: "
      "different names");
  REQUIRE(Refusal({.yaml = "repository:\n  read_model_bucket: x\n  snapshot_bucket: x\n"}) ==
          "c.yaml:3: repository.snapshot_bucket: the same name as repository.read_model_bucket (c.yaml:2); allowed: "
          "different "
          "names");
}

TEST_CASE("Events and states fit into requests and answers", "[config]") {
  REQUIRE(Refusal({.yaml = "limits:\n  max_request_size: 256KiB\n"}) ==
          "c.yaml:2: limits.max_request_size: 256KiB is below limits.max_event_size (its default); allowed: at least "
          "512KiB\n"
          "c.yaml:2: limits.max_request_size: 256KiB is below limits.max_state_size (its default); allowed: at least "
          "512KiB");
  REQUIRE(Refusal({.yaml = "limits:\n  max_state_size: 900KiB\n  max_load_size: 899KiB\n"}) ==
          "c.yaml:3: limits.max_load_size: 899KiB is below limits.max_state_size (c.yaml:2); allowed: at least 900KiB");
  REQUIRE(Loaded({.yaml = "limits: {max_state_size: 900KiB, max_load_size: 900KiB}"}).limits.max_load_size ==
          900 * kKiB);
}

}  // namespace
}  // namespace persistd::config
