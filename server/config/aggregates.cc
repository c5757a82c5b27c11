#include "server/config/aggregates.h"

#include <map>
#include <span>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/config/scalars.h"
#include "server/config/syntax.h"
#include "server/config/text.h"

namespace persistd::config {
namespace {

constexpr absl::string_view kAllowedToken = "1 to 64 characters of A-Z a-z 0-9 _ -, not beginning with _";

std::vector<std::string> Names() { return {"context", "aggregate", "replicas", "compression"}; }

// Reads one entry of an aggregate's map; answers what is wrong and what is allowed, or "".
std::string ReadEntry(const YamlNode& entry, AggregateType& type) {
  if (entry.key == "context" || entry.key == "aggregate") {
    absl::StatusOr<std::string> text = ReadText(entry);
    const absl::Status status = text.ok() ? CheckToken(*text) : text.status();
    if (!status.ok()) return absl::StrCat(status.message(), "; allowed: ", kAllowedToken);
    (entry.key == "context" ? type.context : type.aggregate) = *std::move(text);
  } else if (entry.key == "replicas") {
    const absl::StatusOr<std::uint64_t> replicas = ReadNumber(entry, 1, kMaxReplicas);
    if (!replicas.ok())
      return absl::StrCat(replicas.status().message(), "; allowed: ", AllowedNumbers(1, kMaxReplicas));
    type.replicas = static_cast<int>(*replicas);
  } else if (entry.key == "compression") {
    const std::span<const Choice<Compression>> choices = kCompressions;
    const absl::StatusOr<Compression> compression = ReadChoice(entry, choices);
    if (!compression.ok()) return absl::StrCat(compression.status().message(), "; allowed: ", AllowedWords(choices));
    type.compression = *compression;
  } else {
    const std::optional<std::string> meant = ClosestTo(entry.key, Names());
    return meant ? absl::StrCat("unknown key; did you mean ", *meant, "?")
                 : absl::StrCat("unknown key; allowed here: ", absl::StrJoin(Names(), ", "));
  }
  return "";
}

bool ReadAggregate(const YamlNode& node, absl::string_view element, AggregateType& type, const Report& report) {
  if (node.kind != YamlNode::Kind::kMap) {
    report(node.line, element, "not a map; allowed: a map such as {context: sales, aggregate: order}");
    return false;
  }
  bool good = true;
  const auto refuse = [&](int line, absl::string_view key, std::string problem) {
    good = false;
    report(line, key.empty() ? std::string(element) : absl::StrCat(element, ".", key), std::move(problem));
  };
  std::map<absl::string_view, int> first_lines;
  for (const YamlNode& entry : node.children) {
    const auto [first, fresh] = first_lines.emplace(entry.key, entry.line);
    if (!fresh) {
      refuse(entry.line, entry.key, absl::StrCat("given twice; first on line ", first->second));
    } else if (std::string problem = ReadEntry(entry, type); !problem.empty()) {
      refuse(entry.line, entry.key, std::move(problem));
    }
  }
  for (const absl::string_view name : {"context", "aggregate"}) {
    if (!first_lines.contains(name)) refuse(node.line, "", absl::StrCat("has no ", name));
  }
  return good;
}

}  // namespace

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
    shown.push_back(item + "}");
  }
  return shown;
}

}  // namespace persistd::config
