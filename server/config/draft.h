// A configuration in the making: the values read so far, where each came from, and all problems found.
// Not thread-safe; lives during one LoadConfig.
#pragma once

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/config/config.h"

namespace persistd::config {

// Where a value came from. A later source outranks an earlier one.
struct Origin {
  enum class Source { kDefault, kFile, kEnvironment, kFlag };

  Source source = Source::kDefault;
  std::string name;  // the file, the variable, or the key that --set named
  int line = 0;      // in the file

  // The start of a message about `element` of the value (see Report) of the key `path`.
  std::string Describe(absl::string_view path, absl::string_view element = "") const {
    switch (source) {
      case Source::kFile:
        return absl::StrCat(name, ":", line, ": ", path, element);
      case Source::kEnvironment:
        return absl::StrCat("environment ", name, element);
      case Source::kFlag:
        return absl::StrCat("--set ", name, element);
      case Source::kDefault:
        break;
    }
    return absl::StrCat("default ", path, element);
  }
};

struct Draft {
  Config config;
  std::map<std::string, Origin, std::less<>> origins;  // by path; only of values that were given
  std::set<std::string, std::less<>> refused;          // paths whose value could not be read from some source
  std::vector<std::string> problems;

  Origin OriginOf(absl::string_view path) const {
    const auto found = origins.find(path);
    return found == origins.end() ? Origin{} : found->second;
  }

  void Refuse(absl::string_view where, absl::string_view what) { problems.push_back(absl::StrCat(where, ": ", what)); }
};

}  // namespace persistd::config
