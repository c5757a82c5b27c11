#include "server/config/aggregates.h"

#include <functional>
#include <map>
#include <optional>
#include <span>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/config/scalars.h"
#include "server/config/snapshot_policy.h"
#include "server/config/syntax.h"
#include "server/config/text.h"
#include "server/config/units.h"

namespace persistd::config {
namespace {

constexpr absl::string_view kAllowedToken = "1 to 64 characters of A-Z a-z 0-9 _ -, not beginning with _";

constexpr absl::string_view kAllowedProgram = "a jq program of at most 64KiB";
constexpr std::size_t kMaxProgramBytes = 64 * 1024;
constexpr std::uint64_t kMaxStateSchemaVersion = 999'999;

absl::Status CheckProgram(absl::string_view text) {
  if (text.empty()) return absl::InvalidArgumentError("\"\" is empty");
  if (text.size() > kMaxProgramBytes)
    return absl::InvalidArgumentError(absl::StrCat("too long: ", text.size(), " bytes"));
  return absl::OkStatus();
}

absl::Status CheckPath(absl::string_view text) {
  return text.empty() ? absl::InvalidArgumentError("\"\" is empty") : absl::OkStatus();
}

std::vector<std::string> Names() {
  return {"context",   "aggregate", "replicas",  "compression",          "storage",   "placement",
          "max_bytes", "fold",      "fold_file", "state_schema_version", "snapshots", "retention"};
}

// Says where inside an entry something is wrong ("" is the entry itself), and what and what is allowed.
using Refuse = std::function<void(int line, absl::string_view where, std::string problem)>;

// Stores what was read, or refuses it.
template <typename T, typename To>
void Store(absl::StatusOr<T> value, const YamlNode& entry, absl::string_view allowed, To& to, const Refuse& refuse) {
  if (value.ok()) {
    to = static_cast<T>(*std::move(value));
  } else {
    refuse(entry.line, "", absl::StrCat(value.status().message(), "; allowed: ", allowed));
  }
}

absl::StatusOr<std::string> ReadChecked(const YamlNode& node, absl::Status (*check)(absl::string_view)) {
  absl::StatusOr<std::string> text = ReadText(node);
  if (!text.ok()) return text;
  if (absl::Status status = check(*text); !status.ok()) return status;
  return text;
}

template <typename T, std::size_t n>
void StoreChoice(const YamlNode& entry, const Choice<T> (&array)[n], std::optional<T>& to, const Refuse& refuse) {
  const std::span<const Choice<T>> choices = array;
  Store(ReadChoice(entry, choices), entry, AllowedWords(choices), to, refuse);
}

absl::StatusOr<std::uint64_t> ReadMaxBytes(const YamlNode& node) {
  const absl::StatusOr<std::string> text = ReadText(node);
  if (!text.ok()) return text.status();
  absl::StatusOr<std::uint64_t> size = ParseSize(*text);
  if (size.ok() && *size > kMaxStreamBytes) return absl::InvalidArgumentError(absl::StrCat(*text, " is out of range"));
  return size;
}

void ReadPlacement(const YamlNode& node, std::optional<Placement>& to, const Refuse& refuse) {
  constexpr absl::string_view kAllowed = "a map such as {cluster: eu, tags: [ssd]}";
  if (node.kind != YamlNode::Kind::kMap) return refuse(node.line, "", absl::StrCat("not a map; allowed: ", kAllowed));
  Placement placement;
  std::map<absl::string_view, int> first_lines;
  for (const YamlNode& entry : node.children) {
    const std::string where = absl::StrCat(".", entry.key);
    const auto [first, fresh] = first_lines.emplace(entry.key, entry.line);
    if (!fresh) {
      refuse(entry.line, where, absl::StrCat("given twice; first on line ", first->second));
    } else if (entry.key == "cluster") {
      Store(ReadChecked(entry, CheckPlacementWord), entry, kAllowedPlacementWord, placement.cluster,
            [&](int line, absl::string_view, std::string problem) { refuse(line, where, std::move(problem)); });
    } else if (entry.key == "tags") {
      ReadTags(entry, placement.tags, [&](int line, absl::string_view element, const std::string& problem) {
        refuse(line, absl::StrCat(where, element), problem);
      });
    } else {
      refuse(entry.line, where, "unknown key; allowed here: cluster, tags");
    }
  }
  to = std::move(placement);
}

// Reads one entry of an aggregate's map.
void ReadEntry(const YamlNode& entry, AggregateType& type, const Refuse& refuse) {
  if (entry.key == "context") {
    Store(ReadChecked(entry, CheckToken), entry, kAllowedToken, type.context, refuse);
  } else if (entry.key == "aggregate") {
    Store(ReadChecked(entry, CheckToken), entry, kAllowedToken, type.aggregate, refuse);
  } else if (entry.key == "replicas") {
    absl::StatusOr<std::uint64_t> replicas = ReadNumber(entry, 1, kMaxReplicas);
    Store(std::move(replicas), entry, AllowedNumbers(1, kMaxReplicas), type.replicas, refuse);
  } else if (entry.key == "compression") {
    StoreChoice(entry, kCompressions, type.compression, refuse);
  } else if (entry.key == "storage") {
    StoreChoice(entry, kTypeStorages, type.storage, refuse);
  } else if (entry.key == "placement") {
    ReadPlacement(entry, type.placement, refuse);
  } else if (entry.key == "max_bytes") {
    Store(ReadMaxBytes(entry), entry, absl::StrCat("a size from 0 to ", FormatSize(kMaxStreamBytes)), type.max_bytes,
          refuse);
  } else if (entry.key == "fold") {
    Store(ReadChecked(entry, CheckProgram), entry, kAllowedProgram, type.fold, refuse);
  } else if (entry.key == "fold_file") {
    Store(ReadChecked(entry, CheckPath), entry, "the path of a file", type.fold_file, refuse);
  } else if (entry.key == "state_schema_version") {
    absl::StatusOr<std::uint64_t> version = ReadNumber(entry, 1, kMaxStateSchemaVersion);
    Store(std::move(version), entry, AllowedNumbers(1, kMaxStateSchemaVersion), type.state_schema_version, refuse);
  } else if (entry.key == "retention") {
    StoreChoice(entry, kRetentions, type.retention, refuse);
  } else if (entry.key == "snapshots") {
    SnapshotPolicy policy;
    std::string problem = ReadSnapshotPolicy(entry, policy);
    if (!problem.empty()) return refuse(entry.line, "", std::move(problem));
    type.snapshots = std::move(policy);
  } else {
    const std::optional<std::string> meant = ClosestTo(entry.key, Names());
    refuse(entry.line, "",
           meant ? absl::StrCat("unknown key; did you mean ", *meant, "?")
                 : absl::StrCat("unknown key; allowed here: ", absl::StrJoin(Names(), ", ")));
  }
}

bool ReadAggregate(const YamlNode& node, absl::string_view element, AggregateType& type, const Report& report) {
  if (node.kind != YamlNode::Kind::kMap) {
    report(node.line, element, "not a map; allowed: a map such as {context: sales, aggregate: order}");
    return false;
  }
  bool good = true;
  const auto refuse = [&](int line, absl::string_view where, const std::string& problem) {
    good = false;
    report(line, absl::StrCat(element, where), problem);
  };
  std::map<absl::string_view, int> first_lines;
  for (const YamlNode& entry : node.children) {
    const auto [first, fresh] = first_lines.emplace(entry.key, entry.line);
    if (!fresh) {
      refuse(entry.line, absl::StrCat(".", entry.key), absl::StrCat("given twice; first on line ", first->second));
      continue;
    }
    ReadEntry(entry, type, [&](int line, absl::string_view where, const std::string& problem) {
      refuse(line, absl::StrCat(".", entry.key, where), problem);
    });
  }
  for (const absl::string_view name : {"context", "aggregate"}) {
    if (!first_lines.contains(name)) refuse(node.line, "", absl::StrCat("has no ", name));
  }
  if (type.retention == Retention::kTruncateBeforeSnapshot && !type.snapshots) {
    refuse(
        first_lines.at("retention"), ".retention",
        "events can be removed only where snapshots stand for them; allowed: together with snapshots, which says how "
        "many to keep");
  }
  if (!type.fold.empty() && !type.fold_file.empty()) refuse(node.line, "", "has both fold and fold_file");
  return good;
}

std::string Show(const Placement& placement) {
  std::vector<std::string> parts;
  if (!placement.cluster.empty()) parts.push_back(absl::StrCat("cluster: ", Escaped(placement.cluster)));
  if (!placement.tags.empty()) {
    const auto escape = [](std::string* out, const std::string& tag) { out->append(Escaped(tag)); };
    parts.push_back(absl::StrCat("tags: [", absl::StrJoin(placement.tags, ", ", escape), "]"));
  }
  return absl::StrCat("{", absl::StrJoin(parts, ", "), "}");
}

}  // namespace

std::string AllowedTags() {
  return absl::StrCat("a list of at most ", kMaxTags, " tags, each ", kAllowedPlacementWord);
}

bool ReadTags(const YamlNode& list, std::vector<std::string>& out, const Report& report) {
  if (list.kind != YamlNode::Kind::kList || list.children.size() > kMaxTags) {
    const bool many = list.kind == YamlNode::Kind::kList;
    report(
        list.line, "",
        absl::StrCat(many ? absl::StrCat(list.children.size(), " tags") : "not a list", "; allowed: ", AllowedTags()));
    return false;
  }
  bool good = true;
  for (std::size_t i = 0; i < list.children.size(); ++i) {
    absl::StatusOr<std::string> tag = ReadChecked(list.children[i], CheckPlacementWord);
    if (tag.ok()) {
      out.push_back(*std::move(tag));
    } else {
      report(list.children[i].line, absl::StrCat("[", i, "]"),
             absl::StrCat(tag.status().message(), "; allowed: ", kAllowedPlacementWord));
      good = false;
    }
  }
  return good;
}

std::string AllowedAggregates() {
  return absl::StrCat("a list of at most ", kMaxAggregates, " maps of ", absl::StrJoin(Names(), ", "));
}

bool ReadAggregates(const YamlNode& list, std::vector<AggregateType>& out, const Report& report) {
  if (list.children.size() > kMaxAggregates) {
    report(list.line, "", absl::StrCat(list.children.size(), " entries; allowed: ", AllowedAggregates()));
    return false;
  }
  bool good = true;
  std::map<std::pair<std::string, std::string>, std::size_t> first_indexes;
  for (std::size_t i = 0; i < list.children.size(); ++i) {
    const YamlNode& node = list.children[i];
    const std::string element = absl::StrCat("[", i, "]");
    AggregateType type;
    if (!ReadAggregate(node, element, type, report)) {
      good = false;
      continue;
    }
    const auto [first, fresh] = first_indexes.emplace(std::pair(type.context, type.aggregate), i);
    if (!fresh) {
      report(node.line, element,
             absl::StrCat("declares ", type.context, ".", type.aggregate, " again; first in [", first->second, "]"));
      good = false;
    }
    out.push_back(std::move(type));
  }
  return good;
}

std::vector<std::string> ShowAggregates(const std::vector<AggregateType>& aggregates) {
  std::vector<std::string> shown;
  for (const AggregateType& type : aggregates) {
    std::string item = absl::StrCat("{context: ", Escaped(type.context), ", aggregate: ", Escaped(type.aggregate));
    if (type.replicas) absl::StrAppend(&item, ", replicas: ", *type.replicas);
    if (type.compression) {
      absl::StrAppend(
          &item, ", compression: ", NameOf(*type.compression, std::span<const Choice<Compression>>(kCompressions)));
    }
    if (type.storage) {
      absl::StrAppend(&item, ", storage: ", NameOf(*type.storage, std::span<const Choice<Storage>>(kTypeStorages)));
    }
    if (type.placement) absl::StrAppend(&item, ", placement: ", Show(*type.placement));
    if (type.max_bytes) absl::StrAppend(&item, ", max_bytes: ", FormatSize(*type.max_bytes));
    if (!type.fold.empty()) absl::StrAppend(&item, ", fold: ", Escaped(type.fold));
    if (!type.fold_file.empty()) absl::StrAppend(&item, ", fold_file: ", Escaped(type.fold_file));
    if (type.state_schema_version) absl::StrAppend(&item, ", state_schema_version: ", *type.state_schema_version);
    if (type.snapshots) absl::StrAppend(&item, ", snapshots: ", ShowSnapshotPolicy(*type.snapshots));
    if (type.retention) {
      absl::StrAppend(&item, ", retention: ", NameOf(*type.retention, std::span<const Choice<Retention>>(kRetentions)));
    }
    shown.push_back(item + "}");
  }
  return shown;
}

}  // namespace persistd::config
