#include "server/config/snapshot_policy.h"

#include <set>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/config/scalars.h"
#include "server/config/syntax.h"
#include "server/config/text.h"
#include "server/config/units.h"

namespace persistd::config {
namespace {

using std::chrono::milliseconds;

constexpr std::uint64_t kMaxEvery = 1'000'000'000;
constexpr std::uint64_t kMaxKeep = 1000;
constexpr milliseconds kMinAge = std::chrono::seconds(1);
constexpr milliseconds kMaxAge = std::chrono::hours(24 * 3650);
constexpr std::size_t kMaxTypes = 64;

std::string Wrong(const absl::Status& status, absl::string_view key, absl::string_view allowed) {
  return absl::StrCat(key, ": ", status.message(), "; allowed: ", allowed);
}

std::string ReadCount(const YamlNode& node, std::uint64_t max, std::uint64_t& count) {
  const absl::StatusOr<std::uint64_t> number = ReadNumber(node, 1, max);
  if (!number.ok()) return Wrong(number.status(), node.key, AllowedNumbers(1, max));
  count = *number;
  return "";
}

std::string ReadAge(const YamlNode& node, milliseconds& age) {
  const std::string allowed =
      absl::StrCat("a duration from ", FormatDuration(kMinAge), " to ", FormatDuration(kMaxAge));
  const absl::StatusOr<std::string> text = ReadText(node);
  if (!text.ok()) return Wrong(text.status(), node.key, allowed);
  const absl::StatusOr<milliseconds> duration = ParseDuration(*text);
  if (!duration.ok()) return Wrong(duration.status(), node.key, allowed);
  if (*duration < kMinAge || *duration > kMaxAge) {
    return Wrong(absl::InvalidArgumentError(absl::StrCat(*text, " is out of range")), node.key, allowed);
  }
  age = *duration;
  return "";
}

std::string ReadTypes(const YamlNode& node, std::vector<std::string>& types) {
  const std::string allowed = absl::StrCat("a list of 1 to ", kMaxTypes, " event types");
  if (node.kind != YamlNode::Kind::kList || node.children.empty() || node.children.size() > kMaxTypes) {
    return absl::StrCat(node.key, ": not such a list; allowed: ", allowed);
  }
  for (const YamlNode& item : node.children) {
    absl::StatusOr<std::string> type = ReadText(item);
    const absl::Status status = type.ok() ? CheckToken(*type) : type.status();
    if (!status.ok()) return Wrong(status, node.key, allowed);
    types.push_back(*std::move(type));
  }
  return "";
}

}  // namespace

std::string ReadSnapshotPolicy(const YamlNode& node, SnapshotPolicy& policy) {
  const std::vector<std::string> names = {"every_events", "max_age", "after_events", "keep"};
  if (node.kind != YamlNode::Kind::kMap) return "not a map; allowed: a map such as {every_events: 100, keep: 3}";
  std::set<std::string> seen;
  for (const YamlNode& entry : node.children) {
    std::string problem;
    if (!seen.insert(entry.key).second) {
      problem = absl::StrCat(entry.key, " is given twice");
    } else if (entry.key == "every_events") {
      problem = ReadCount(entry, kMaxEvery, policy.every_events);
    } else if (entry.key == "max_age") {
      problem = ReadAge(entry, policy.max_age);
    } else if (entry.key == "after_events") {
      problem = ReadTypes(entry, policy.after_events);
    } else if (entry.key == "keep") {
      problem = ReadCount(entry, kMaxKeep, policy.keep);
    } else {
      problem = absl::StrCat("unknown key ", Quoted(entry.key), "; allowed here: ", absl::StrJoin(names, ", "));
    }
    if (!problem.empty()) return problem;
  }
  const bool some = policy.every_events > 0 || policy.max_age.count() > 0 || !policy.after_events.empty();
  return some ? "" : "says nothing of when; allowed: at least one of every_events, max_age, after_events";
}

std::string ShowSnapshotPolicy(const SnapshotPolicy& policy) {
  std::vector<std::string> parts;
  if (policy.every_events > 0) parts.push_back(absl::StrCat("every_events: ", policy.every_events));
  if (policy.max_age.count() > 0) parts.push_back(absl::StrCat("max_age: ", FormatDuration(policy.max_age)));
  if (!policy.after_events.empty()) {
    std::vector<std::string> types;
    for (const std::string& type : policy.after_events) types.push_back(Escaped(type));
    parts.push_back(absl::StrCat("after_events: [", absl::StrJoin(types, ", "), "]"));
  }
  parts.push_back(absl::StrCat("keep: ", policy.keep));
  return absl::StrCat("{", absl::StrJoin(parts, ", "), "}");
}

}  // namespace persistd::config
