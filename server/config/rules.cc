#include "server/config/rules.h"

#include <algorithm>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/config/files.h"
#include "server/config/keys.h"
#include "server/config/syntax.h"
#include "server/config/text.h"
#include "server/config/units.h"

namespace persistd::config {
namespace {

constexpr std::size_t kMaxSecretFile = 4096;

class Rules {
 public:
  explicit Rules(Draft& draft) : draft_(draft), config_(draft.config), nats_(draft.config.nats) {}

  void ApplyAll() {
    ChooseNats();
    ReadSecret("nats.password_file", nats_.password_file, "nats.password", nats_.password);
    ReadSecret("nats.token_file", nats_.token_file, "nats.token", nats_.token);
    CheckAuthentication();
    CheckTls();
    CheckExternalOnly();
    CheckFiles();
    CheckNames();
    CheckReplicas();
    CheckPlacement();
    CheckOverrides();
    CheckRetention();
    CheckSizes();
  }

 private:
  bool AllRead(std::initializer_list<absl::string_view> paths) const {
    return std::none_of(paths.begin(), paths.end(),
                        [&](absl::string_view path) { return draft_.refused.contains(path); });
  }

  void Refuse(absl::string_view path, absl::string_view what, absl::string_view element = "") {
    draft_.Refuse(draft_.OriginOf(path).Describe(path, element), what);
  }

  // "nats.token (persistd.yaml:12)", for messages about two keys.
  std::string Named(absl::string_view path) const {
    const Origin origin = draft_.OriginOf(path);
    switch (origin.source) {
      case Origin::Source::kFile:
        return absl::StrCat(path, " (", origin.name, ":", origin.line, ")");
      case Origin::Source::kEnvironment:
        return absl::StrCat(path, " (environment ", origin.name, ")");
      case Origin::Source::kFlag:
        return absl::StrCat(path, " (--set)");
      case Origin::Source::kDefault:
        break;
    }
    return absl::StrCat(path, " (its default)");
  }

  // Of two keys that exclude each other, the more important one of the two sources decides; the default of
  // nats.embedded.enabled is the least important, so that naming URLs is enough.
  void ChooseNats() {
    if (!AllRead({"nats.urls", "nats.embedded.enabled"})) return;
    if (nats_.urls.empty() && !nats_.embedded.enabled) {
      Refuse("nats.embedded.enabled", "false, and nats.urls is empty; allowed: one of the two");
      return;
    }
    if (nats_.urls.empty() || !nats_.embedded.enabled) return;
    const Origin::Source urls = draft_.OriginOf("nats.urls").source;
    const Origin::Source embedded = draft_.OriginOf("nats.embedded.enabled").source;
    if (urls > embedded) {
      nats_.embedded.enabled = false;
    } else if (urls < embedded) {
      nats_.urls.clear();
    } else {
      Refuse("nats.embedded.enabled",
             absl::StrCat("true together with ", Named("nats.urls"), "; allowed: one of the two"));
    }
  }

  void ReadSecret(absl::string_view file_path, const std::string& file, absl::string_view secret_path,
                  std::string& secret) {
    if (file.empty() || !AllRead({file_path, secret_path})) return;
    if (!secret.empty()) {
      Refuse(file_path, absl::StrCat("given together with ", Named(secret_path), "; allowed: one of the two"));
      return;
    }
    absl::StatusOr<std::string> content = ReadSmallFile(file, kMaxSecretFile);
    if (!content.ok()) return Refuse(file_path, content.status().message());
    while (absl::EndsWith(*content, "\n") || absl::EndsWith(*content, "\r")) content->pop_back();
    if (content->empty()) return Refuse(file_path, absl::StrCat(Escaped(file), " is empty"));
    if (absl::Status status = CheckText(*content, kMaxSecretFile); !status.ok()) {
      return Refuse(file_path, absl::StrCat("in ", Escaped(file), ": ", status.message()));
    }
    secret = *std::move(content);
  }

  void CheckAuthentication() {
    if (!AllRead({"nats.urls", "nats.user", "nats.password", "nats.password_file", "nats.token", "nats.token_file",
                  "nats.nkey_seed_file", "nats.creds_file"})) {
      return;
    }
    const absl::string_view password_path = nats_.password_file.empty() ? "nats.password" : "nats.password_file";
    const absl::string_view token_path = nats_.token_file.empty() ? "nats.token" : "nats.token_file";
    const bool password_given = !nats_.password.empty() || !nats_.password_file.empty();
    if (!nats_.user.empty() && !password_given) {
      Refuse("nats.user", "given without nats.password or nats.password_file");
    }
    if (nats_.user.empty() && password_given) Refuse(password_path, "given without nats.user");

    std::vector<absl::string_view> ways;
    if (!nats_.user.empty()) ways.push_back("nats.user");
    if (!nats_.token.empty() || !nats_.token_file.empty()) ways.push_back(token_path);
    if (!nats_.nkey_seed_file.empty()) ways.push_back("nats.nkey_seed_file");
    if (!nats_.creds_file.empty()) ways.push_back("nats.creds_file");
    if (std::any_of(nats_.urls.begin(), nats_.urls.end(), UrlHasCredentials)) ways.push_back("nats.urls");
    for (std::size_t i = 1; i < ways.size(); ++i) {
      const absl::string_view what = ways[i] == "nats.urls" ? "credentials in a URL" : "a second way of authenticating";
      Refuse(ways[i], absl::StrCat(what, " beside ", Named(ways[0]),
                                   "; allowed: one of nats.user with its password, nats.token, nats.nkey_seed_file, "
                                   "nats.creds_file, credentials in the URLs"));
    }
  }

  void CheckTls() {
    NatsTls& tls = nats_.tls;
    if (!AllRead({"nats.urls", "nats.tls.enabled", "nats.tls.ca_file", "nats.tls.cert_file", "nats.tls.key_file"}))
      return;
    const auto begins_with_tls = [](const std::string& url) { return absl::StartsWith(url, "tls://"); };
    if (std::any_of(nats_.urls.begin(), nats_.urls.end(), begins_with_tls)) tls.enabled = true;

    if (!tls.cert_file.empty() && tls.key_file.empty()) Refuse("nats.tls.cert_file", "given without nats.tls.key_file");
    if (tls.cert_file.empty() && !tls.key_file.empty()) Refuse("nats.tls.key_file", "given without nats.tls.cert_file");
    if (tls.enabled) return;
    for (const absl::string_view path : {"nats.tls.ca_file", "nats.tls.cert_file", "nats.tls.key_file"}) {
      if (IsSet(path)) Refuse(path, "given while TLS is off; set nats.tls.enabled to true, or begin a URL with tls://");
    }
  }

  bool IsSet(absl::string_view path) const {
    const Key& key = *FindKey(path);
    return key.show(config_) != key.show(Config{});
  }

  // What has no meaning for a nats-server of our own would be ignored; someone who wrote it expects otherwise.
  void CheckExternalOnly() {
    if (!AllRead({"nats.urls", "nats.embedded.enabled"}) || !nats_.embedded.enabled || !nats_.urls.empty()) return;
    for (const absl::string_view path :
         {"nats.user", "nats.password", "nats.password_file", "nats.token", "nats.token_file", "nats.nkey_seed_file",
          "nats.creds_file", "nats.monitoring_url", "nats.tls.enabled"}) {
      // A secret that came out of its file has no origin of its own; the file's key is named instead.
      if (IsSet(path) && draft_.origins.contains(path)) {
        Refuse(path, "only used with nats.urls, while nats.embedded.enabled makes the daemon run its own nats-server");
      }
    }
  }

  void CheckFiles() {
    const std::pair<absl::string_view, const std::string&> files[] = {
        {"nats.nkey_seed_file", nats_.nkey_seed_file}, {"nats.creds_file", nats_.creds_file},
        {"nats.tls.ca_file", nats_.tls.ca_file},       {"nats.tls.cert_file", nats_.tls.cert_file},
        {"nats.tls.key_file", nats_.tls.key_file},
    };
    for (const auto& [path, file] : files) {
      if (file.empty() || !AllRead({path})) continue;
      if (absl::Status status = CheckReadable(file); !status.ok()) Refuse(path, status.message());
    }
  }

  void CheckDistinct(absl::string_view first, absl::string_view second) {
    if (AllRead({first, second}) && FindKey(first)->show(config_) == FindKey(second)->show(config_)) {
      // The one that was given last is the one to correct; a default cannot be.
      const bool second_given = draft_.OriginOf(second).source != Origin::Source::kDefault;
      const absl::string_view wrong = second_given ? second : first;
      Refuse(wrong,
             absl::StrCat("the same name as ", Named(second_given ? first : second), "; allowed: different names"));
    }
  }

  void CheckNames() {
    CheckDistinct("repository.event_stream_name", "repository.aggregate_stream_name");
    CheckDistinct("repository.read_model_bucket", "repository.snapshot_bucket");
    const Repository& repository = config_.repository;
    for (const auto& [path, name] :
         {std::pair("repository.event_stream_name", &repository.event_stream_name),
          std::pair("repository.aggregate_stream_name", &repository.aggregate_stream_name)}) {
      if (!AllRead({path}) || *name != "CIM-CHAINS") continue;
      Refuse(path, absl::StrCat(*name, " holds the named chains; allowed: any other name"));
    }
    for (const auto& [path, name] : {std::pair("repository.read_model_bucket", &repository.read_model_bucket),
                                     std::pair("repository.snapshot_bucket", &repository.snapshot_bucket)}) {
      if (!AllRead({path}) || (*name != "cim-blocks" && *name != "cim-control")) continue;
      Refuse(path, absl::StrCat(*name, " holds something else; allowed: any other name"));
    }
  }

  void CheckReplicas() {
    if (!AllRead({"nats.urls", "nats.embedded.enabled", "repository.stream.replicas", "repository.aggregates"})) return;
    if (!nats_.embedded.enabled || !nats_.urls.empty()) return;
    constexpr absl::string_view kOneServer =
        " replicas need as many servers, and the embedded nats-server is one; allowed: 1";
    const Repository& repository = config_.repository;
    if (repository.stream.replicas > 1) {
      Refuse("repository.stream.replicas", absl::StrCat(repository.stream.replicas, kOneServer));
    }
    const KvBuckets& kv = repository.kv;
    for (const auto& [path, bucket] : {std::pair("repository.kv.cim-read-models.replicas", &kv.read_models),
                                       std::pair("repository.kv.cim-snapshots.replicas", &kv.snapshots),
                                       std::pair("repository.kv.cim-blocks.replicas", &kv.blocks),
                                       std::pair("repository.kv.cim-control.replicas", &kv.control)}) {
      if (bucket->replicas > 1) Refuse(path, absl::StrCat(bucket->replicas, kOneServer));
    }
    for (std::size_t i = 0; i < repository.aggregates.size(); ++i) {
      const int replicas = repository.aggregates[i].replicas.value_or(1);
      if (replicas > 1)
        Refuse("repository.aggregates", absl::StrCat(replicas, kOneServer), absl::StrCat("[", i, "].replicas"));
    }
  }

  // A single server refuses every stream that says where it must be.
  void CheckPlacement() {
    if (!AllRead({"nats.urls", "nats.embedded.enabled", "repository.stream.placement.cluster",
                  "repository.stream.placement.tags", "repository.aggregates"})) {
      return;
    }
    if (!nats_.embedded.enabled || !nats_.urls.empty()) return;
    constexpr absl::string_view kOneServer = "placement needs a cluster, and the embedded nats-server is one server";
    for (const absl::string_view path : {"repository.stream.placement.cluster", "repository.stream.placement.tags"}) {
      if (IsSet(path)) Refuse(path, kOneServer);
    }
    for (std::size_t i = 0; i < config_.repository.aggregates.size(); ++i) {
      const std::optional<Placement>& placement = config_.repository.aggregates[i].placement;
      if (placement && *placement != Placement{}) {
        Refuse("repository.aggregates", kOneServer, absl::StrCat("[", i, "].placement"));
      }
    }
  }

  // A stream that several types share cannot follow the settings of one.
  void CheckOverrides() {
    const Repository& repository = config_.repository;
    if (!AllRead({"repository.event_streams", "repository.aggregates"})) return;
    if (repository.event_streams == EventStreams::kPerAggregateType) return;
    for (std::size_t i = 0; i < repository.aggregates.size(); ++i) {
      const AggregateType& type = repository.aggregates[i];
      if (!type.replicas && !type.compression && !type.storage && !type.placement && !type.max_bytes) continue;
      Refuse("repository.aggregates",
             "has stream settings of its own, but shares a stream with other types; allowed: only with "
             "repository.event_streams: per_aggregate_type",
             absl::StrCat("[", i, "]"));
    }
  }

  // Events may be removed only where nothing else ends what stands for them.
  void CheckRetention() {
    const Repository& repository = config_.repository;
    if (!AllRead({"repository.event_streams", "repository.aggregates", "repository.kv.cim-snapshots.ttl",
                  "repository.kv.cim-blocks.ttl"})) {
      return;
    }
    for (std::size_t i = 0; i < repository.aggregates.size(); ++i) {
      if (repository.aggregates[i].retention != Retention::kTruncateBeforeSnapshot) continue;
      const std::string element = absl::StrCat("[", i, "].retention");
      if (repository.event_streams != EventStreams::kPerAggregateType) {
        Refuse("repository.aggregates",
               "truncate_before_snapshot needs a stream that the type shares with no other; allowed: only with "
               "repository.event_streams: per_aggregate_type",
               element);
      }
      for (const auto& [path, bucket] : {std::pair("repository.kv.cim-snapshots.ttl", &repository.kv.snapshots),
                                         std::pair("repository.kv.cim-blocks.ttl", &repository.kv.blocks)}) {
        if (bucket->ttl.count() == 0) continue;
        Refuse(path, absl::StrCat("snapshots would end while they stand for events that were removed "
                                  "(repository.aggregates[",
                                  i, "].retention); allowed: 0s"));
      }
    }
  }

  // `small` must fit into `large`.
  void CheckFits(absl::string_view small_path, std::uint64_t small, absl::string_view large_path, std::uint64_t large) {
    if (!AllRead({small_path, large_path}) || small <= large) return;
    const bool large_given = draft_.OriginOf(large_path).source != Origin::Source::kDefault;
    if (large_given) {
      Refuse(large_path, absl::StrCat(FormatSize(large), " is below ", Named(small_path), "; allowed: at least ",
                                      FormatSize(small)));
    } else {
      Refuse(small_path, absl::StrCat(FormatSize(small), " is above ", Named(large_path), "; allowed: at most ",
                                      FormatSize(large)));
    }
  }

  void CheckSizes() {
    const Limits& limits = config_.limits;
    for (const auto& [path, size] : {std::pair("limits.max_event_size", limits.max_event_size),
                                     std::pair("limits.max_state_size", limits.max_state_size)}) {
      CheckFits(path, size, "limits.max_request_size", limits.max_request_size);
      CheckFits(path, size, "limits.max_load_size", limits.max_load_size);
    }
  }

  Draft& draft_;
  Config& config_;
  Nats& nats_;
};

}  // namespace

void ApplyRules(Draft& draft) { Rules(draft).ApplyAll(); }

}  // namespace persistd::config
