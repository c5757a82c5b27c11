// Reads YAML into a small tree that remembers lines. The only place that knows yaml-cpp.
//
// It takes the part of YAML that a configuration needs and refuses the rest by line: anchors and aliases (a short
// file could grow without bound), tags, directives, several documents, keys that are not text, tabs as indentation,
// bytes that are not UTF-8, control characters, and nesting deeper than kMaxYamlDepth. Values are kept as they were
// written; nothing is guessed to be a number or a date. Pure functions.
#pragma once

#include <functional>
#include <string>
#include <variant>
#include <vector>

#include "absl/strings/string_view.h"

namespace persistd::config {

struct YamlNode {
  enum class Kind { kNull, kScalar, kList, kMap };

  Kind kind = Kind::kNull;
  int line = 1;                         // where its key, or without a key the value, is; from 1
  std::string key = {};                 // of an entry of a map
  std::string text = {};                // of a scalar
  bool quoted = false;                  // of a scalar
  std::vector<YamlNode> children = {};  // items of a list; entries of a map in the file's order, duplicates included
};

struct YamlProblem {
  int line = 1;
  std::string what;
};

// Told about a bad value: its line, which part of a list it is (`[2].context`, or empty for all of it), and what is
// wrong.
using Report = std::function<void(int line, absl::string_view element, std::string problem)>;

// Maps and lists inside each other.
inline constexpr int kMaxYamlDepth = 16;

// A text without content is a null node.
std::variant<YamlNode, YamlProblem> ParseYaml(absl::string_view text);

}  // namespace persistd::config
