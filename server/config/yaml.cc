#include "server/config/yaml.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <optional>
#include <sstream>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/config/text.h"

namespace persistd::config {
namespace {

using Kind = YamlNode::Kind;

// Thrown through yaml-cpp, which has no other way to be stopped; never leaves this file.
struct Refusal {
  YamlProblem problem;
};

int LineOf(const YAML::Mark& mark) { return mark.is_null() ? 1 : mark.line + 1; }

// Builds the tree from the parser's events.
class TreeBuilder final : public YAML::EventHandler {
 public:
  YamlNode Take() && { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) Refuse(mark, "more after the end of the YAML document; a configuration is one document");
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    CheckPlain(mark, "", anchor);
    Add({.kind = Kind::kNull, .line = LineOf(mark)});
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { RefuseAnchor(mark); }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    CheckPlain(mark, tag, anchor);
    Add({.kind = Kind::kScalar, .line = LineOf(mark), .text = value, .quoted = tag == kQuotedTag});
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    Open(Kind::kList, mark, tag, anchor);
  }
  void OnSequenceEnd() override { Close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    Open(Kind::kMap, mark, tag, anchor);
  }
  void OnMapEnd() override { Close(); }

 private:
  static constexpr absl::string_view kQuotedTag = "!";
  static constexpr absl::string_view kPlainTag = "?";

  // A list or map that has begun; `key` is a map's key that waits for its value.
  struct Level {
    YamlNode node;
    std::optional<YamlNode> key = {};
  };

  [[noreturn]] static void Refuse(const YAML::Mark& mark, std::string what) {
    throw Refusal{{LineOf(mark), std::move(what)}};
  }
  [[noreturn]] static void RefuseAnchor(const YAML::Mark& mark) {
    Refuse(mark, "an anchor (&name) or alias (*name); write the value out, or put it in quotes if it is text");
  }

  static void CheckPlain(const YAML::Mark& mark, absl::string_view tag, YAML::anchor_t anchor) {
    if (anchor != 0) RefuseAnchor(mark);
    if (!tag.empty() && tag != kQuotedTag && tag != kPlainTag) {
      Refuse(mark, absl::StrCat("the tag ", Quoted(tag), "; a configuration has no tags"));
    }
  }

  void Open(Kind kind, const YAML::Mark& mark, absl::string_view tag, YAML::anchor_t anchor) {
    CheckPlain(mark, tag, anchor);
    if (levels_.size() >= kMaxYamlDepth) Refuse(mark, absl::StrCat("nested deeper than ", kMaxYamlDepth, " levels"));
    if (AwaitsKey()) Refuse(mark, "a list or map as a key, or a bracket that is never closed");
    levels_.push_back({.node = {.kind = kind, .line = LineOf(mark)}});
  }

  void Close() {
    YamlNode node = std::move(levels_.back().node);
    levels_.pop_back();
    Add(std::move(node));
  }

  bool AwaitsKey() const { return !levels_.empty() && levels_.back().node.kind == Kind::kMap && !levels_.back().key; }

  void Add(YamlNode node) {
    if (levels_.empty()) {
      root_ = std::move(node);
      return;
    }
    Level& level = levels_.back();
    if (AwaitsKey()) {
      if (node.kind != Kind::kScalar) throw Refusal{{node.line, "a key without text"}};
      level.key = std::move(node);
      return;
    }
    if (level.key) {
      node.line = level.key->line;
      node.key = std::move(level.key->text);
      level.key.reset();
    }
    level.node.children.push_back(std::move(node));
  }

  int documents_ = 0;
  YamlNode root_;
  std::vector<Level> levels_;
};

int LineAt(absl::string_view text, std::size_t offset) {
  return 1 + static_cast<int>(std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(offset), '\n'));
}

// What yaml-cpp would accept and misread, or explain badly.
std::optional<YamlProblem> CheckBytes(absl::string_view text) {
  if (const auto at = InvalidUtf8At(text)) return YamlProblem{LineAt(text, *at), "bytes that are not UTF-8"};
  int number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    if (absl::EndsWith(line, "\r")) line.remove_suffix(1);
    for (const char c : line) {
      if (IsControl(c) && c != '\t')
        return YamlProblem{number, "a control character; only tabs and line ends are allowed"};
    }
    if (absl::StartsWith(line, "%")) return YamlProblem{number, "a YAML directive; a configuration has none"};
    const std::size_t content = line.find_first_not_of(" \t");
    if (content != absl::string_view::npos && line[content] != '#' &&
        line.substr(0, content).find('\t') != absl::string_view::npos) {
      return YamlProblem{number, "a tab indents this line; YAML is indented with spaces"};
    }
  }
  return std::nullopt;
}

}  // namespace

std::variant<YamlNode, YamlProblem> ParseYaml(absl::string_view text) {
  if (std::optional<YamlProblem> problem = CheckBytes(text)) return *std::move(problem);
  try {
    // At an input that ends with white space yaml-cpp 0.7 takes an unclosed quote for a closed one.
    std::istringstream in{std::string(absl::StripTrailingAsciiWhitespace(text))};
    YAML::Parser parser(in);
    TreeBuilder builder;
    while (parser.HandleNextDocument(builder)) {
    }
    return std::move(builder).Take();
  } catch (const Refusal& refusal) {
    return refusal.problem;
  } catch (const YAML::Exception& e) {
    return YamlProblem{LineOf(e.mark), absl::StrCat("not YAML: ", e.msg)};
  }
}

}  // namespace persistd::config
