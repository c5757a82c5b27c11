#include "server/jetstream/stream_config.h"

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/jetstream/api.h"

namespace persistd::jetstream {
namespace {

using nlohmann::json;

constexpr char kFile[] = "file";
constexpr char kNone[] = "none";
// Says that a stream is without deny_purge on purpose, also when its type is not to be truncated any more.
constexpr char kRetentionMark[] = "persistd.retention";
constexpr char kTruncated[] = "truncate_before_snapshot";

bool Unlimited(const json& config, const char* name) {
  const auto found = config.find(name);
  return found == config.end() || !found->is_number() || found->get<int64_t>() <= 0;
}

bool HasItems(const json& config, const char* name) {
  const auto found = config.find(name);
  return found != config.end() && !found->is_null() && !found->empty();
}

json ToJson(const Placement& placement) {
  json object = json::object();
  if (!placement.cluster.empty()) object["cluster"] = placement.cluster;
  if (!placement.tags.empty()) object["tags"] = placement.tags;
  return object;
}

// JetStream counts down from -1, "no limit".
int64_t MaxBytes(uint64_t max_bytes) { return max_bytes == 0 ? -1 : static_cast<int64_t>(max_bytes); }

std::string Bytes(uint64_t max_bytes) { return max_bytes == 0 ? "no limit" : absl::StrCat(max_bytes); }

std::string ToString(const Placement& placement) {
  if (placement == Placement{}) return "anywhere";
  std::vector<std::string> parts;
  if (!placement.cluster.empty()) parts.push_back(absl::StrCat("cluster ", placement.cluster));
  if (!placement.tags.empty()) parts.push_back(absl::StrCat("tags [", absl::StrJoin(placement.tags, ", "), "]"));
  return absl::StrJoin(parts, ", ");
}

bool HasRetentionMark(const json& config) {
  return StringField(ObjectField(config, "metadata"), kRetentionMark) == kTruncated;
}

bool Same(const Placement& a, const Placement& b) {
  return a.cluster == b.cluster &&
         std::multiset(a.tags.begin(), a.tags.end()) == std::multiset(b.tags.begin(), b.tags.end());
}

}  // namespace

json NewStreamConfig(const StreamSpec& spec) {
  json config = {
      {"name", spec.name},
      {"description", spec.kind == StreamKind::kEvents ? "events of persistd; do not change" : "states of persistd"},
      {"subjects", {spec.subjects}},
      {"retention", "limits"},
      {"storage", spec.settings.storage.value_or(kFile)},
      {"discard", "new"},
      {"num_replicas", spec.settings.replicas.value_or(1)},
      {"compression", spec.settings.compression.value_or(kNone)},
      {"max_bytes", MaxBytes(spec.settings.max_bytes.value_or(0))},
      {"allow_direct", true},
      {"allow_atomic", true},
  };
  const Placement placement = spec.settings.placement.value_or(Placement{});
  if (placement != Placement{}) config["placement"] = ToJson(placement);
  if (spec.kind == StreamKind::kEvents) {
    config["deny_delete"] = true;
    if (spec.purgeable) {
      config["metadata"] = {{kRetentionMark, kTruncated}};
    } else {
      config["deny_purge"] = true;
    }
  } else {
    config["max_msgs_per_subject"] = 1;
  }
  return config;
}

std::string UnsuitableBecause(const json& config, const StreamSpec& spec) {
  std::vector<std::string> wrong;
  const auto demand = [&wrong](bool ok, absl::string_view text) {
    if (!ok) wrong.emplace_back(text);
  };
  demand(config.contains("subjects") && config["subjects"] == json::array({spec.subjects}),
         absl::StrCat("subjects must be ", spec.subjects));
  demand(StringField(config, "retention") == "limits", "retention must be limits");
  const std::string storage = spec.settings.storage.value_or(kFile);
  demand(StringField(config, "storage") == storage,
         absl::StrCat("storage must be ", storage, ", as the type says; JetStream cannot change it (take the storage ",
                      "that the stream has into repository.aggregates, or copy the data into a new stream)"));
  demand(StringField(config, "discard") == "new", "discard must be new");
  demand(Unlimited(config, "max_age"), "max_age must be unset, or history would vanish");
  demand(BoolField(config, "allow_atomic"), "allow_atomic must be on");
  demand(BoolField(config, "allow_direct"), "allow_direct must be on");
  demand(!BoolField(config, "sealed"), "it must not be sealed");
  demand(!BoolField(config, "no_ack"), "no_ack must be off, or no save would be answered");
  demand(!BoolField(config, "allow_msg_counter"), "it must not hold counters");
  demand(StringField(config, "persist_mode") != "async", "persist_mode must not be async");
  demand(!HasItems(config, "mirror") && !HasItems(config, "sources"), "it must be neither a mirror nor have sources");
  demand(!HasItems(config, "subject_transform"), "it must not transform subjects");
  if (spec.kind == StreamKind::kEvents) {
    demand(Unlimited(config, "max_msgs_per_subject"), "max_msgs_per_subject must be unset");
    demand(BoolField(config, "deny_delete"), "deny_delete must be on");
    demand(BoolField(config, "deny_purge") || spec.purgeable || HasRetentionMark(config), "deny_purge must be on");
  } else {
    demand(UnsignedField(config, "max_msgs_per_subject") == 1, "max_msgs_per_subject must be 1");
    demand(!BoolField(config, "deny_delete"), "deny_delete must be off, or states of older schema versions would stay");
    demand(!BoolField(config, "discard_new_per_subject"),
           "discard_new_per_subject must be off, or no state would change");
  }
  return absl::StrJoin(wrong, "; ");
}

bool IsPurgeable(const json& config) { return !BoolField(config, "deny_purge"); }

StreamSettings SettingsOf(const json& config) {
  StreamSettings settings;
  settings.replicas = static_cast<int>(UnsignedField(config, "num_replicas"));
  settings.storage = StringField(config, "storage");
  settings.compression = StringField(config, "compression");
  if (settings.compression->empty()) settings.compression = kNone;
  settings.max_bytes = Unlimited(config, "max_bytes") ? 0 : UnsignedField(config, "max_bytes");
  const json& placement = ObjectField(config, "placement");
  settings.placement = Placement{.cluster = StringField(placement, "cluster"), .tags = {}};
  const auto tags = placement.find("tags");
  if (tags != placement.end() && tags->is_array()) {
    for (const json& tag : *tags) {
      if (tag.is_string()) settings.placement->tags.push_back(tag.get<std::string>());
    }
  }
  return settings;
}

StreamChange PlanChange(const json& config, uint64_t stored_bytes, const StreamSettings& settings) {
  const StreamSettings now = SettingsOf(config);
  StreamChange change;
  std::vector<std::string> texts;
  json fields = json::object();
  const auto set = [&](const char* field, const json& value, absl::string_view name, const auto& from, const auto& to) {
    fields[field] = value;
    texts.push_back(absl::StrCat(name, " ", from, " -> ", to));
  };
  if (settings.compression && settings.compression != now.compression) {
    set("compression", *settings.compression, "compression", *now.compression, *settings.compression);
  }
  if (settings.max_bytes && settings.max_bytes != now.max_bytes) {
    if (*settings.max_bytes != 0 && *settings.max_bytes < stored_bytes) {
      change.refused = absl::StrCat("max_bytes cannot become ", *settings.max_bytes, ": the stream holds ",
                                    stored_bytes, " bytes; give it at least that");
    } else {
      set("max_bytes", MaxBytes(*settings.max_bytes), "max_bytes", Bytes(*now.max_bytes), Bytes(*settings.max_bytes));
    }
  }
  if (settings.replicas && settings.replicas != now.replicas) {
    set("num_replicas", *settings.replicas, "replicas", *now.replicas, *settings.replicas);
  }
  if (!texts.empty()) change.steps.push_back({.what = absl::StrJoin(texts, ", "), .fields = fields});
  if (settings.placement && !Same(*settings.placement, *now.placement)) {
    const std::string what =
        absl::StrCat("placement ", ToString(*now.placement), " -> ", ToString(*settings.placement));
    change.steps.push_back({.what = what, .fields = {{"placement", ToJson(*settings.placement)}}});
  }
  return change;
}

void PlanPurgeable(const json& config, StreamChange& change) {
  if (!IsPurgeable(config)) {
    absl::StrAppend(&change.refused, change.refused.empty() ? "" : "; ",
                    "retention: truncate_before_snapshot has no effect: the stream has deny_purge, which JetStream "
                    "cannot take back, so every event is kept (to truncate, copy the data into a stream without it)");
  } else if (!HasRetentionMark(config)) {
    json metadata = ObjectField(config, "metadata");
    metadata[kRetentionMark] = kTruncated;
    change.steps.push_back(
        {.what = absl::StrCat("retention none -> ", kTruncated), .fields = {{"metadata", std::move(metadata)}}});
  }
}

std::string ToString(const StreamSettings& settings) {
  std::vector<std::string> parts;
  if (settings.replicas) parts.push_back(absl::StrCat("replicas: ", *settings.replicas));
  if (settings.storage) parts.push_back(absl::StrCat("storage: ", *settings.storage));
  if (settings.compression) parts.push_back(absl::StrCat("compression: ", *settings.compression));
  if (settings.placement) parts.push_back(absl::StrCat("placement: ", ToString(*settings.placement)));
  if (settings.max_bytes) parts.push_back(absl::StrCat("max_bytes: ", Bytes(*settings.max_bytes)));
  return absl::StrJoin(parts, ", ");
}

}  // namespace persistd::jetstream
