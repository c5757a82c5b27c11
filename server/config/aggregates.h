// The list repository.aggregates: reading it and writing it back. Pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/config/config.h"
#include "server/config/yaml.h"

namespace persistd::config {

inline constexpr std::size_t kMaxAggregates = 10'000;
inline constexpr int kMaxReplicas = 5;
inline constexpr std::size_t kMaxTags = 16;
inline constexpr std::uint64_t kMaxStreamBytes = 1024 * kTiB;

// What a cluster's name or a tag may be.
inline constexpr absl::string_view kAllowedPlacementWord =
    "1 to 64 visible ASCII characters other than \" \\ and comma";

// Reads a list of tags; reports every problem with its element, such as `[1]`, and answers whether there was none.
bool ReadTags(const YamlNode& list, std::vector<std::string>& out, const Report& report);
std::string AllowedTags();

// "a list of at most ... maps of ..."
std::string AllowedAggregates();

// Reads a list node into `out` and reports every problem with its line and element, such as `[2].context`. Returns
// whether there was none; `out` is unspecified otherwise.
bool ReadAggregates(const YamlNode& list, std::vector<AggregateType>& out, const Report& report);

// Each as a YAML flow map.
std::vector<std::string> ShowAggregates(const std::vector<AggregateType>& aggregates);

}  // namespace persistd::config
