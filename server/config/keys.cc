#include "server/config/keys.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/config/aggregates.h"
#include "server/config/scalars.h"
#include "server/config/syntax.h"
#include "server/config/text.h"
#include "server/config/units.h"

namespace persistd::config {
namespace {

using std::chrono::milliseconds;
using namespace std::chrono_literals;

constexpr std::size_t kMaxUrls = 16;
constexpr std::size_t kMaxPath = 1024;
constexpr std::size_t kMaxSecret = 4096;
constexpr absl::string_view kAllowedName = "1 to 64 characters of A-Z a-z 0-9 _ -";
constexpr absl::string_view kAllowedFile = "the path of a readable file, or empty";

// Where a value lives: At(&Config::nats, &Nats::embedded, &Embedded::port) applied to a Config is that member.
template <typename... Members>
auto At(Members... members) {
  // clang-format off
  return [=](auto& config) -> auto& { return (config .* ... .* members); };
  // clang-format on
}

template <typename Where>
using ValueAt = std::remove_cvref_t<std::invoke_result_t<Where, Config&>>;

// A key with one value. `read` answers the node's value or what is wrong with it, `print` writes a value as YAML.
template <typename Where, typename Read, typename Print>
Key Single(std::string path, Where where, std::string allowed, Read read, Print print) {
  const auto set = [=](const YamlNode& node, Config& config, const Report& report) {
    auto value = read(node);
    if (value.ok()) {
      where(config) = static_cast<ValueAt<Where>>(*std::move(value));
    } else {
      report(node.line, "", absl::StrCat(value.status().message(), "; allowed: ", allowed));
    }
  };
  const auto show = [=](const Config& config) -> Shown { return std::string(print(where(config))); };
  return {.path = std::move(path), .allowed = allowed, .set = set, .show = show};
}

// A key that is written as text and read by `parse`, whose numbers must lie in [min, max].
template <typename Where, typename Parse, typename Print, typename T>
Key Bounded(std::string path, Where where, absl::string_view kind, Parse parse, Print print, T min, T max) {
  const auto read = [=](const YamlNode& node) -> absl::StatusOr<T> {
    const absl::StatusOr<std::string> text = ReadText(node);
    if (!text.ok()) return text.status();
    const absl::StatusOr<T> value = parse(*text);
    if (!value.ok() || (*value >= min && *value <= max)) return value;
    return absl::InvalidArgumentError(absl::StrCat(*text, " is out of range"));
  };
  return Single(std::move(path), where, absl::StrCat(kind, " from ", print(min), " to ", print(max)), read, print);
}

template <typename Where>
Key Duration(std::string path, Where where, milliseconds min, milliseconds max) {
  return Bounded(std::move(path), where, "a duration", ParseDuration, FormatDuration, min, max);
}

// 0 is "never".
template <typename Where>
Key DurationOrOff(std::string path, Where where, milliseconds min, milliseconds max) {
  const auto read = [=](const YamlNode& node) -> absl::StatusOr<milliseconds> {
    const absl::StatusOr<std::string> text = ReadText(node);
    if (!text.ok()) return text.status();
    const absl::StatusOr<milliseconds> value = ParseDuration(*text);
    if (!value.ok() || *value == 0ms || (*value >= min && *value <= max)) return value;
    return absl::InvalidArgumentError(absl::StrCat(*text, " is out of range"));
  };
  const std::string allowed =
      absl::StrCat("a duration from ", FormatDuration(min), " to ", FormatDuration(max), ", or 0s");
  return Single(std::move(path), where, allowed, read, FormatDuration);
}

template <typename Where>
Key Size(std::string path, Where where, std::uint64_t min, std::uint64_t max) {
  return Bounded(std::move(path), where, "a size", ParseSize, FormatSize, min, max);
}

template <typename Where>
Key Number(std::string path, Where where, std::uint64_t min, std::uint64_t max) {
  const auto read = [=](const YamlNode& node) { return ReadNumber(node, min, max); };
  const auto print = [](const auto& value) { return absl::StrCat(value); };
  return Single(std::move(path), where, AllowedNumbers(min, max), read, print);
}

template <typename Where>
Key Flag(std::string path, Where where) {
  return Single(std::move(path), where, "true or false", ReadFlag, [](bool value) { return value ? "true" : "false"; });
}

template <typename Where, typename T, std::size_t n>
Key Word(std::string path, Where where, const Choice<T> (&array)[n]) {
  const std::span<const Choice<T>> choices = array;
  const auto read = [=](const YamlNode& node) { return ReadChoice(node, choices); };
  const auto print = [=](const auto& value) { return NameOf<T>(value, choices); };
  return Single(std::move(path), where, AllowedWords(choices), read, print);
}

// `check` gets every text, also the empty one.
template <typename Where, typename Check>
Key Text(std::string path, Where where, absl::string_view allowed, Check check) {
  const auto read = [=](const YamlNode& node) -> absl::StatusOr<std::string> {
    absl::StatusOr<std::string> text = ReadText(node);
    if (!text.ok()) return text;
    if (absl::Status status = check(*text); !status.ok()) return status;
    return text;
  };
  return Single(std::move(path), where, std::string(allowed), read, Escaped);
}

template <typename Where>
Key Path(std::string path, Where where, absl::string_view allowed) {
  return Text(std::move(path), where, allowed, [](absl::string_view text) { return CheckText(text, kMaxPath); });
}

template <typename Where>
Key Secret(std::string path, Where where) {
  Key key = Text(std::move(path), where, absl::StrCat("text of at most ", kMaxSecret, " bytes"),
                 [](absl::string_view text) { return CheckText(text, kMaxSecret); });
  key.show = [=](const Config& config) -> Shown { return where(config).empty() ? "\"\"" : "\"***\""; };
  return key;
}

absl::Status CheckNotEmpty(absl::string_view text) {
  return text.empty() ? absl::InvalidArgumentError("empty") : CheckText(text, kMaxPath);
}

absl::Status CheckMonitoringUrls(absl::string_view text) {
  if (text.empty()) return absl::OkStatus();
  for (const absl::string_view url : absl::StrSplit(text, ',')) {
    if (absl::Status status = CheckMonitoringUrl(absl::StripAsciiWhitespace(url)); !status.ok()) return status;
  }
  return absl::OkStatus();
}

// Debian builds the library that listens there (civetweb) without IPv6.
absl::Status CheckMetricsAddress(absl::string_view text) {
  if (text.empty()) return absl::OkStatus();
  if (absl::Status status = CheckListenAddress(text); !status.ok()) return status;
  const bool ipv6 = absl::StartsWith(text, "[");
  return ipv6 ? absl::InvalidArgumentError(absl::StrCat(text, " is an IPv6 address")) : absl::OkStatus();
}

absl::Status CheckSyncInterval(absl::string_view text) {
  if (text == "always") return absl::OkStatus();
  const absl::StatusOr<milliseconds> interval = ParseDuration(text);
  if (!interval.ok()) return interval.status();
  const bool in_range = *interval >= 1ms && *interval <= 1h;
  return in_range ? absl::OkStatus() : absl::InvalidArgumentError(absl::StrCat(text, " is out of range"));
}

// A key with a list. `read` fills a list that is known to be one, and reports and answers false when it cannot.
template <typename Where, typename Read, typename ShowItems>
Key List(std::string path, Where where, std::string allowed, Read read, ShowItems show_items) {
  const auto set = [=](const YamlNode& node, Config& config, const Report& report) {
    if (node.kind != YamlNode::Kind::kList) {
      const absl::string_view what =
          node.kind == YamlNode::Kind::kNull ? "no value given (an empty list is written [])" : "not a list";
      report(node.line, "", absl::StrCat(what, "; allowed: ", allowed));
      return;
    }
    ValueAt<Where> values;
    if (read(node, values, report)) where(config) = std::move(values);
  };
  const auto show = [=](const Config& config) -> Shown { return show_items(where(config)); };
  return {.path = std::move(path), .allowed = allowed, .is_list = true, .set = set, .show = show};
}

constexpr absl::string_view kAllowedUrl =
    "nats://HOST:PORT or tls://HOST:PORT, with USER:PASSWORD@ or TOKEN@ before HOST if need be";

bool ReadUrls(const YamlNode& list, std::vector<std::string>& out, const Report& report) {
  if (list.children.size() > kMaxUrls) {
    report(list.line, "", absl::StrCat(list.children.size(), " URLs; allowed: at most ", kMaxUrls));
    return false;
  }
  bool good = true;
  for (std::size_t i = 0; i < list.children.size(); ++i) {
    absl::StatusOr<std::string> url = ReadText(list.children[i]);
    const absl::Status status = url.ok() ? CheckNatsUrl(*url) : url.status();
    if (status.ok()) {
      out.push_back(*std::move(url));
    } else {
      report(list.children[i].line, absl::StrCat("[", i, "]"),
             absl::StrCat(status.message(), "; allowed: ", kAllowedUrl));
      good = false;
    }
  }
  return good;
}

std::vector<std::string> ShowUrls(const std::vector<std::string>& urls) {
  std::vector<std::string> shown;
  for (const std::string& url : urls) shown.push_back(Escaped(WithoutCredentials(url)));
  return shown;
}

std::vector<std::string> ShowTags(const std::vector<std::string>& tags) {
  std::vector<std::string> shown;
  for (const std::string& tag : tags) shown.push_back(Escaped(tag));
  return shown;
}

std::vector<Key> ServerKeys() {
  const auto server = [](auto member) { return At(&Config::server, member); };
  return {
      Text("server.listen_address", server(&Server::listen_address),
           "HOST:PORT, such as 127.0.0.1:7443 or [::]:7443; port 0 picks a free one", CheckListenAddress),
      Duration("server.shutdown_grace", server(&Server::shutdown_grace), 0s, 1h),
      Duration("server.default_deadline", server(&Server::default_deadline), 100ms, 10min),
      Number("server.threads", server(&Server::threads), 1, 16),
      Text("data_dir", At(&Config::data_dir), "the path of a folder", CheckNotEmpty),
      Word("log.level", At(&Config::log, &Log::level), kLogLevels),
      Text("metrics.listen_address", At(&Config::metrics, &Metrics::listen_address),
           "HOST:PORT without IPv6, such as 127.0.0.1:7444 or 0.0.0.0:7444, or empty; port 0 picks a free one",
           CheckMetricsAddress),
  };
}

std::vector<Key> NatsKeys() {
  const auto nats = [](auto... members) { return At(&Config::nats, members...); };
  return {
      List("nats.urls", nats(&Nats::urls), absl::StrCat("a list of at most ", kMaxUrls, " URLs, each ", kAllowedUrl),
           ReadUrls, ShowUrls),
      Text("nats.user", nats(&Nats::user), "text of at most 256 bytes",
           [](absl::string_view text) { return CheckText(text, 256); }),
      Secret("nats.password", nats(&Nats::password)),
      Path("nats.password_file", nats(&Nats::password_file), kAllowedFile),
      Secret("nats.token", nats(&Nats::token)),
      Path("nats.token_file", nats(&Nats::token_file), kAllowedFile),
      Path("nats.nkey_seed_file", nats(&Nats::nkey_seed_file), kAllowedFile),
      Path("nats.creds_file", nats(&Nats::creds_file), kAllowedFile),
      Number("nats.connections", nats(&Nats::connections), 1, 16),
      Duration("nats.connect_timeout", nats(&Nats::connect_timeout), 100ms, 1min),
      Duration("nats.ping_interval", nats(&Nats::ping_interval), 100ms, 10min),
      Text("nats.monitoring_url", nats(&Nats::monitoring_url),
           "http://HOST:PORT or https://HOST:PORT, several separated by commas, or empty", CheckMonitoringUrls),
      Flag("nats.tls.enabled", nats(&Nats::tls, &NatsTls::enabled)),
      Path("nats.tls.ca_file", nats(&Nats::tls, &NatsTls::ca_file), kAllowedFile),
      Path("nats.tls.cert_file", nats(&Nats::tls, &NatsTls::cert_file), kAllowedFile),
      Path("nats.tls.key_file", nats(&Nats::tls, &NatsTls::key_file), kAllowedFile),
      Flag("nats.embedded.enabled", nats(&Nats::embedded, &Embedded::enabled)),
      Number("nats.embedded.port", nats(&Nats::embedded, &Embedded::port), 0, 65535),
      Path("nats.embedded.binary", nats(&Nats::embedded, &Embedded::binary),
           "the path of a nats-server program, or empty"),
      Text("nats.embedded.sync_interval", nats(&Nats::embedded, &Embedded::sync_interval),
           "always, or a duration from 1ms to 1h", CheckSyncInterval),
      Size("nats.embedded.max_file_store_bytes", nats(&Nats::embedded, &Embedded::max_file_store_bytes), 0,
           1024 * kTiB),
      Size("nats.embedded.max_memory_store_bytes", nats(&Nats::embedded, &Embedded::max_memory_store_bytes), 0,
           16 * kTiB),
  };
}

std::vector<Key> RepositoryKeys() {
  const auto repository = [](auto... members) { return At(&Config::repository, members...); };
  return {
      Text("repository.event_stream_name", repository(&Repository::event_stream_name), kAllowedName, CheckStreamName),
      Text("repository.aggregate_stream_name", repository(&Repository::aggregate_stream_name), kAllowedName,
           CheckStreamName),
      Text("repository.read_model_bucket", repository(&Repository::read_model_bucket), kAllowedName, CheckBucketName),
      Text("repository.snapshot_bucket", repository(&Repository::snapshot_bucket), kAllowedName, CheckBucketName),
      Number("repository.cache_size", repository(&Repository::cache_size), 0, 10'000'000),
      Size("repository.cache_bytes", repository(&Repository::cache_bytes), kMiB, kTiB),
      Duration("repository.cache_ttl", repository(&Repository::cache_ttl), 0s, 1h),
      Size("repository.head_cache_bytes", repository(&Repository::head_cache_bytes), kMiB, kTiB),
      Size("repository.index_cache_bytes", repository(&Repository::index_cache_bytes), kMiB, kTiB),
      Flag("repository.enable_ipld", repository(&Repository::enable_ipld)),
      Word("repository.event_streams", repository(&Repository::event_streams), kEventStreams),
      Flag("repository.auto_create", repository(&Repository::auto_create)),
      Number("repository.max_streams", repository(&Repository::max_streams), 1, 10'000),
      Duration("repository.truncation_min_age", repository(&Repository::truncation_min_age), 0s, 24h * 3650),
      DurationOrOff("repository.block_collection.interval",
                    repository(&Repository::block_collection, &BlockCollection::interval), 1min, 24h * 365),
      // What two hours are for is told in server/repository/block_collector.h.
      Duration("repository.block_collection.min_age",
               repository(&Repository::block_collection, &BlockCollection::min_age), 2h, 24h * 3650),
      Number("repository.stream.replicas", repository(&Repository::stream, &Stream::replicas), 1, kMaxReplicas),
      Word("repository.stream.storage", repository(&Repository::stream, &Stream::storage), kStorages),
      Word("repository.stream.compression", repository(&Repository::stream, &Stream::compression), kCompressions),
      Text("repository.stream.placement.cluster",
           repository(&Repository::stream, &Stream::placement, &Placement::cluster),
           absl::StrCat(kAllowedPlacementWord, "; or empty"),
           [](absl::string_view text) { return text.empty() ? absl::OkStatus() : CheckPlacementWord(text); }),
      List("repository.stream.placement.tags", repository(&Repository::stream, &Stream::placement, &Placement::tags),
           AllowedTags(), ReadTags, ShowTags),
      Size("repository.stream.max_bytes", repository(&Repository::stream, &Stream::max_bytes), 0, kMaxStreamBytes),
      List("repository.aggregates", repository(&Repository::aggregates), AllowedAggregates(), ReadAggregates,
           ShowAggregates),
  };
}

std::vector<Key> ScrubberKeys() {
  const auto scrubber = [](auto member) { return At(&Config::scrubber, member); };
  return {Number("scrubber.rate", scrubber(&Scrubber::rate), 0, 10'000'000)};
}

std::vector<Key> TransformKeys() {
  const auto transform = [](auto member) { return At(&Config::transform, member); };
  return {
      Number("transform.workers", transform(&Transform::workers), 1, 64),
      Duration("transform.time_limit", transform(&Transform::time_limit), 10ms, 1min),
      Size("transform.max_memory", transform(&Transform::max_memory), 16 * kMiB, 64 * 1024 * kMiB),
  };
}

// Only what can be made again may be kept in memory.
std::vector<Key> BucketKeys(const std::string& name, KvBucket KvBuckets::*bucket, bool derived) {
  const auto at = [bucket](auto member) { return At(&Config::repository, &Repository::kv, bucket, member); };
  const std::string path = absl::StrCat("repository.kv.", name, ".");
  return {
      Number(path + "replicas", at(&KvBucket::replicas), 0, kMaxReplicas),
      derived ? Word(path + "storage", at(&KvBucket::storage), kTypeStorages)
              : Word(path + "storage", at(&KvBucket::storage), kStorages),
      Number(path + "history", at(&KvBucket::history), 1, 64),
      Duration(path + "ttl", at(&KvBucket::ttl), 0s, 24h * 3650),
      Size(path + "max_bytes", at(&KvBucket::max_bytes), 0, 1024 * kTiB),
  };
}

std::vector<Key> KvKeys() {
  std::vector<Key> all = BucketKeys("cim-read-models", &KvBuckets::read_models, /*derived=*/true);
  for (const auto& [name, bucket] :
       {std::pair("cim-snapshots", &KvBuckets::snapshots), std::pair("cim-blocks", &KvBuckets::blocks),
        std::pair("cim-control", &KvBuckets::control)}) {
    std::vector<Key> keys = BucketKeys(name, bucket, /*derived=*/false);
    std::move(keys.begin(), keys.end(), std::back_inserter(all));
  }
  return all;
}

std::vector<Key> LimitKeys() {
  const auto limits = [](auto member) { return At(&Config::limits, member); };
  // One NATS message holds 1 MiB: an event leaves room for its headers. States may be spread over several.
  constexpr std::uint64_t kMaxEvent = 900 * kKiB;
  constexpr std::uint64_t kMaxState = 64 * kMiB;
  constexpr std::uint64_t kMaxCall = 128 * kMiB;
  return {
      Size("limits.max_request_size", limits(&Limits::max_request_size), 64 * kKiB, kMaxCall),
      Size("limits.max_event_size", limits(&Limits::max_event_size), kKiB, kMaxEvent),
      Size("limits.max_state_size", limits(&Limits::max_state_size), kKiB, kMaxState),
      Size("limits.max_load_size", limits(&Limits::max_load_size), 64 * kKiB, kMaxCall),
      Number("limits.max_concurrent_calls", limits(&Limits::max_concurrent_calls), 1, 1'000'000),
      Number("limits.max_subjects_warning", limits(&Limits::max_subjects_warning), 1, 1'000'000'000),
  };
}

std::vector<Key> CommitKeys() {
  const auto commit = [](auto member) { return At(&Config::commit, member); };
  return {
      Number("commit.max_batch_messages", commit(&Commit::max_batch_messages), 1, 1000),
      Size("commit.max_batch_bytes", commit(&Commit::max_batch_bytes), 64 * kKiB, 64 * kMiB),
      Number("commit.max_inflight", commit(&Commit::max_inflight), 1, 16),
      Duration("commit.max_delay", commit(&Commit::max_delay), 0s, 100ms),
      Number("commit.max_stream_saves", commit(&Commit::max_stream_saves), 1, 65536),
  };
}

std::vector<Key> AllKeys() {
  std::vector<Key> all;
  for (std::vector<Key>& group :
       std::vector<std::vector<Key>>{ServerKeys(), NatsKeys(), RepositoryKeys(), KvKeys(), CommitKeys(), ScrubberKeys(),
                                     TransformKeys(), LimitKeys()}) {
    std::move(group.begin(), group.end(), std::back_inserter(all));
  }
  return all;
}

}  // namespace

const std::vector<Key>& Keys() {
  static const auto* const keys = new std::vector<Key>(AllKeys());
  return *keys;
}

const Key* FindKey(absl::string_view path) {
  const auto key =
      std::find_if(Keys().begin(), Keys().end(), [&](const Key& candidate) { return candidate.path == path; });
  return key == Keys().end() ? nullptr : &*key;
}

bool IsSection(absl::string_view path) { return !path.empty() && !NamesIn(path).empty(); }

std::vector<std::string> NamesIn(absl::string_view section) {
  const std::string prefix = section.empty() ? "" : absl::StrCat(section, ".");
  std::vector<std::string> names;
  for (const Key& key : Keys()) {
    if (!absl::StartsWith(key.path, prefix)) continue;
    const absl::string_view rest = absl::string_view(key.path).substr(prefix.size());
    const std::string name(rest.substr(0, rest.find('.')));
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  return names;
}

}  // namespace persistd::config
