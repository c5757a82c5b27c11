// The list repository.aggregates: reading it and writing it back. Pure functions.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "server/config/config.h"
#include "server/config/yaml.h"

namespace persistd::config {

inline constexpr std::size_t kMaxAggregates = 10'000;
inline constexpr int kMaxReplicas = 5;

// "a list of at most ... maps of ..."
std::string AllowedAggregates();

// Reads a list node into `out` and reports every problem with its line and element, such as `[2].context`. Returns
// whether there was none; `out` is unspecified otherwise.
bool ReadAggregates(const YamlNode& list, std::vector<AggregateType>& out, const Report& report);

// Each as a YAML flow map.
std::vector<std::string> ShowAggregates(const std::vector<AggregateType>& aggregates);

}  // namespace persistd::config
