#include "server/config/loader.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>
#include <variant>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "server/config/draft.h"
#include "server/config/files.h"
#include "server/config/keys.h"
#include "server/config/rules.h"
#include "server/config/text.h"
#include "server/config/yaml.h"

namespace persistd::config {
namespace {

constexpr absl::string_view kVariablePrefix = "PERSISTD_";
constexpr std::size_t kMaxProblems = 100;

using Source = Origin::Source;

std::string VariableOf(absl::string_view path) {
  return absl::StrCat(kVariablePrefix, absl::AsciiStrToUpper(absl::StrReplaceAll(path, {{".", "__"}, {"-", "_"}})));
}

// Kubernetes and old Docker links describe a service named persistd or persistd-something by such variables, in every
// container beside it. They are not meant for us.
bool DescribesService(absl::string_view name, absl::string_view value) {
  if (absl::EndsWith(name, "_SERVICE_HOST") || absl::StrContains(name, "_SERVICE_PORT")) return true;
  const bool is_endpoint =
      absl::StartsWith(value, "tcp://") || absl::StartsWith(value, "udp://") || absl::StartsWith(value, "sctp://");
  if (is_endpoint && absl::StrContains(name, "_PORT")) return true;
  return absl::StrContains(name, "_PORT_") &&
         (absl::EndsWith(name, "_PROTO") || absl::EndsWith(name, "_PORT") || absl::EndsWith(name, "_ADDR"));
}

std::string Join(absl::string_view section, absl::string_view name) {
  return section.empty() ? std::string(name) : absl::StrCat(section, ".", name);
}

// A key's name as messages may show it: it comes from outside.
std::string Printable(absl::string_view name) {
  const bool plain =
      std::all_of(name.begin(), name.end(), [](char c) { return absl::ascii_isgraph(static_cast<unsigned char>(c)); });
  return plain && !name.empty() && name.size() <= 64 ? std::string(name) : Quoted(name);
}

// What to say about a name that `section` does not have.
std::string UnknownKey(absl::string_view section, absl::string_view name) {
  const std::vector<std::string> names = NamesIn(section);
  if (const auto meant = ClosestTo(name, names))
    return absl::StrCat("unknown key; did you mean ", Join(section, *meant), "?");
  for (const Key& key : Keys()) {
    if (absl::EndsWith(key.path, absl::StrCat(".", name)))
      return absl::StrCat("unknown key; did you mean ", key.path, "?");
  }
  return absl::StrCat("unknown key; allowed ", section.empty() ? "at the top level" : absl::StrCat("in ", section),
                      ": ", absl::StrJoin(names, ", "));
}

// What to say about a whole path that is no key.
std::string UnknownPath(absl::string_view path) {
  const std::size_t dot = path.rfind('.');
  const absl::string_view section = dot == absl::string_view::npos ? "" : path.substr(0, dot);
  if (IsSection(section)) return UnknownKey(section, path.substr(section.size() + 1));
  if (dot == absl::string_view::npos) return UnknownKey("", path);
  std::vector<std::string> paths;
  for (const Key& key : Keys()) paths.push_back(key.path);
  if (const auto meant = ClosestTo(path, paths)) return absl::StrCat("unknown key; did you mean ", *meant, "?");
  return "unknown key; config/persistd.yaml has all keys";
}

class Loader {
 public:
  absl::StatusOr<Config> Load(const LoadOptions& options) && {
    const bool whole = options.file.empty() || ReadFile(options.file);
    for (const auto& [name, value] : options.environment) ReadVariable(name, value);
    for (const std::string& assignment : options.overrides) ReadOverride(assignment);
    if (whole) ApplyRules(draft_);  // without the file's values rules would see problems that are not there

    std::vector<std::string>& problems = draft_.problems;
    if (problems.empty()) return std::move(draft_.config);
    if (problems.size() > kMaxProblems) {
      problems.resize(kMaxProblems - 1);
      problems.push_back("and more problems");
    }
    return absl::InvalidArgumentError(absl::StrJoin(problems, "\n"));
  }

 private:
  // Whether the file's values are known, good or bad.
  bool ReadFile(const std::string& file) {
    const absl::StatusOr<std::string> content = ReadSmallFile(file, kMaxFileBytes);
    if (!content.ok()) {
      draft_.problems.emplace_back(content.status().message());
      return false;
    }
    const std::variant<YamlNode, YamlProblem> parsed = ParseYaml(*content);
    if (const auto* problem = std::get_if<YamlProblem>(&parsed)) {
      draft_.Refuse(absl::StrCat(file, ":", problem->line), problem->what);
      return false;
    }
    ReadSection(file, "", std::get<YamlNode>(parsed));
    return true;
  }

  void ReadSection(const std::string& file, absl::string_view section, const YamlNode& node) {
    if (node.kind == YamlNode::Kind::kNull) return;  // everything in it is commented out
    if (node.kind != YamlNode::Kind::kMap) {
      const absl::string_view what = node.kind == YamlNode::Kind::kList ? "a list" : "a single value";
      const std::string where = absl::StrCat(file, ":", node.line, section.empty() ? "" : ": ", section);
      return draft_.Refuse(
          where, absl::StrCat(what, " where a section belongs; allowed here: ", absl::StrJoin(NamesIn(section), ", ")));
    }
    std::map<absl::string_view, int> first_lines;
    for (const YamlNode& entry : node.children) {
      if (draft_.problems.size() > kMaxProblems) return;  // this is no configuration; spare the work
      const std::string path = Join(section, entry.key);
      const std::string where = absl::StrCat(file, ":", entry.line, ": ", Join(section, Printable(entry.key)));
      const auto [first, fresh] = first_lines.emplace(entry.key, entry.line);
      if (!fresh) {
        draft_.Refuse(where, absl::StrCat("given twice; first on line ", first->second));
      } else if (const Key* key = absl::StrContains(entry.key, '.') ? nullptr : FindKey(path)) {
        Set(*key, entry, {.source = Source::kFile, .name = file, .line = entry.line});
      } else if (!absl::StrContains(entry.key, '.') && IsSection(path)) {
        ReadSection(file, path, entry);
      } else {
        draft_.Refuse(where, UnknownKey(section, entry.key));
      }
    }
  }

  void ReadVariable(const std::string& name, const std::string& value) {
    if (!absl::StartsWith(name, kVariablePrefix)) return;
    for (const Key& key : Keys()) {
      if (VariableOf(key.path) == name) return SetFromText(key, value, {.source = Source::kEnvironment, .name = name});
    }
    if (DescribesService(name, value)) return;
    std::vector<std::string> names;
    for (const Key& key : Keys()) names.push_back(VariableOf(key.path));
    const std::optional<std::string> meant = ClosestTo(name, names);
    draft_.Refuse(absl::StrCat("environment ", Printable(name)),
                  meant
                      ? absl::StrCat("unknown variable; did you mean ", *meant, "?")
                      : "unknown variable; allowed: PERSISTD_ and the path of a key in capitals, with __ for each dot");
  }

  void ReadOverride(absl::string_view assignment) {
    const std::size_t equals = assignment.find('=');
    const absl::string_view path = assignment.substr(0, equals);
    const std::string where = absl::StrCat("--set ", Printable(path));
    if (equals == absl::string_view::npos) return draft_.Refuse(where, "no value given; allowed: key.path=value");
    if (const Key* key = FindKey(path)) {
      return SetFromText(*key, assignment.substr(equals + 1), {.source = Source::kFlag, .name = key->path});
    }
    draft_.Refuse(where, IsSection(path)
                             ? absl::StrCat("a section; set one of its keys: ", absl::StrJoin(NamesIn(path), ", "))
                             : UnknownPath(path));
  }

  // Text is taken as it is, so that a password needs no YAML quoting; only lists have a syntax.
  void SetFromText(const Key& key, absl::string_view text, Origin origin) {
    YamlNode node{.kind = YamlNode::Kind::kScalar, .text = std::string(text)};
    if (key.is_list && absl::StartsWith(absl::StripAsciiWhitespace(text), "[")) {
      std::variant<YamlNode, YamlProblem> parsed = ParseYaml(text);
      if (const auto* problem = std::get_if<YamlProblem>(&parsed)) {
        draft_.refused.insert(key.path);
        return draft_.Refuse(origin.Describe(key.path), absl::StrCat(problem->what, "; allowed: ", key.allowed));
      }
      node = std::get<YamlNode>(std::move(parsed));
    } else if (key.is_list) {
      node = {.kind = YamlNode::Kind::kList};
      if (absl::StripAsciiWhitespace(text).empty()) return Set(key, node, std::move(origin));
      for (const absl::string_view item : absl::StrSplit(text, ',')) {
        node.children.push_back(
            {.kind = YamlNode::Kind::kScalar, .text = std::string(absl::StripAsciiWhitespace(item))});
      }
    }
    Set(key, node, std::move(origin));
  }

  void Set(const Key& key, const YamlNode& node, Origin origin) {
    bool good = true;
    key.set(node, draft_.config, [&](int line, absl::string_view element, const std::string& problem) {
      good = false;
      Origin place = origin;
      if (place.source == Source::kFile) place.line = line;
      draft_.Refuse(place.Describe(key.path, element), problem);
    });
    if (good) {
      draft_.origins.insert_or_assign(key.path, std::move(origin));
    } else {
      draft_.refused.insert(key.path);
    }
  }

  Draft draft_;
};

}  // namespace

absl::StatusOr<Config> LoadConfig(const LoadOptions& options) { return Loader().Load(options); }

std::map<std::string, std::string> PersistdVariables(const char* const* environment) {
  std::map<std::string, std::string> variables;
  for (; *environment != nullptr; ++environment) {
    const absl::string_view entry = *environment;
    const std::size_t equals = entry.find('=');
    if (equals == absl::string_view::npos || !absl::StartsWith(entry, kVariablePrefix)) continue;
    variables.emplace(entry.substr(0, equals), entry.substr(equals + 1));
  }
  return variables;
}

std::string Describe(const Config& config) {
  std::string out;
  std::vector<std::string> open;  // the sections that the last line stands in
  for (const Key& key : Keys()) {
    std::vector<std::string> parts = absl::StrSplit(key.path, '.');
    const std::string name = std::move(parts.back());
    parts.pop_back();
    std::size_t common = 0;
    while (common < std::min(open.size(), parts.size()) && open[common] == parts[common]) ++common;
    for (std::size_t depth = common; depth < parts.size(); ++depth) {
      absl::StrAppend(&out, std::string(2 * depth, ' '), parts[depth], ":\n");
    }
    const std::string indent(2 * parts.size(), ' ');
    open = std::move(parts);

    const Shown shown = key.show(config);
    if (const auto* scalar = std::get_if<std::string>(&shown)) {
      absl::StrAppend(&out, indent, name, ": ", *scalar, "\n");
      continue;
    }
    const auto& items = std::get<std::vector<std::string>>(shown);
    absl::StrAppend(&out, indent, name, items.empty() ? ": []\n" : ":\n");
    for (const std::string& item : items) absl::StrAppend(&out, indent, "  - ", item, "\n");
  }
  return out;
}

}  // namespace persistd::config
