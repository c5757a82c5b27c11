#include "server/jetstream/kv_bucket.h"

#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "server/jetstream/api.h"

namespace persistd::jetstream {
namespace {

using nlohmann::json;

constexpr size_t kMaxKeyBytes = 1024;

bool Unlimited(const json& config, const char* name) {
  const auto found = config.find(name);
  return found == config.end() || !found->is_number() || found->get<int64_t>() <= 0;
}

bool HasItems(const json& config, const char* name) {
  const auto found = config.find(name);
  return found != config.end() && !found->is_null() && !found->empty();
}

std::string SubjectsOfBucket(absl::string_view bucket) { return absl::StrCat("$KV.", bucket, ".>"); }

}  // namespace

bool IsKvKey(absl::string_view key) {
  if (key.empty() || key.size() > kMaxKeyBytes || absl::StartsWith(key, "_kv")) return false;
  for (const absl::string_view token : absl::StrSplit(key, '.')) {
    if (token.empty()) return false;
    for (const char c : token) {
      const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
      const bool other = (c >= '0' && c <= '9') || c == '_' || c == '=' || c == '/' || c == '-';
      if (!letter && !other) return false;
    }
  }
  return true;
}

std::string StreamOfBucket(absl::string_view bucket) { return absl::StrCat("KV_", bucket); }

json BucketConfig(const KvOptions& options) {
  return {
      {"name", StreamOfBucket(options.bucket)},
      {"description", options.description},
      {"subjects", json::array({SubjectsOfBucket(options.bucket)})},
      {"retention", "limits"},
      {"storage", options.storage},
      {"discard", "new"},
      {"num_replicas", options.replicas},
      {"compression", options.compression},
      {"max_msgs_per_subject", options.history},
      {"max_bytes", options.max_bytes > 0 ? static_cast<int64_t>(options.max_bytes) : int64_t{-1}},
      {"max_age", std::chrono::nanoseconds(options.ttl).count()},
      {"allow_rollup_hdrs", true},
      {"deny_delete", true},
      {"allow_direct", true},
      {"allow_atomic", true},
      {"allow_msg_ttl", true},
  };
}

std::string BucketUnsuitableBecause(const json& config, const KvOptions& options) {
  std::vector<std::string> wrong;
  const auto demand = [&wrong](bool ok, absl::string_view text) {
    if (!ok) wrong.emplace_back(text);
  };
  const std::string subjects = SubjectsOfBucket(options.bucket);
  demand(config.contains("subjects") && config["subjects"] == json::array({subjects}),
         absl::StrCat("subjects must be ", subjects));
  demand(StringField(config, "retention") == "limits", "retention must be limits");
  demand(StringField(config, "storage") == "file" || options.storage == "memory", "storage must be file");
  demand(StringField(config, "discard") == "new", "discard must be new, or values would vanish");
  const uint64_t history = UnsignedField(config, "max_msgs_per_subject");
  demand(history >= 1 && history <= 64, "max_msgs_per_subject must be 1 to 64");
  demand(options.ttl.count() > 0 || Unlimited(config, "max_age"), "max_age must be unset, or values would vanish");
  demand(BoolField(config, "allow_rollup_hdrs"), "allow_rollup_hdrs must be on");
  demand(BoolField(config, "allow_direct"), "allow_direct must be on");
  demand(!options.batches || BoolField(config, "allow_atomic"), "allow_atomic must be on");
  demand(!options.entry_ttl || BoolField(config, "allow_msg_ttl"), "allow_msg_ttl must be on");
  demand(!BoolField(config, "deny_purge"), "deny_purge must be off");
  demand(!BoolField(config, "discard_new_per_subject"),
         "discard_new_per_subject must be off, or no value would change");
  demand(!BoolField(config, "sealed"), "it must not be sealed");
  demand(!BoolField(config, "no_ack"), "no_ack must be off, or no write would be answered");
  demand(!BoolField(config, "allow_msg_counter"), "it must not hold counters");
  demand(StringField(config, "persist_mode") != "async", "persist_mode must not be async");
  demand(!HasItems(config, "mirror") && !HasItems(config, "sources"), "it must be neither a mirror nor have sources");
  demand(!HasItems(config, "subject_transform"), "it must not transform subjects");
  return absl::StrJoin(wrong, "; ");
}

}  // namespace persistd::jetstream
