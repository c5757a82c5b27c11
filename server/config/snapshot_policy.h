// Reads the snapshot policy of an aggregate type, and writes it as YAML. Pure functions.
#pragma once

#include <string>

#include "server/config/config.h"
#include "server/config/yaml.h"

namespace persistd::config {

// Answers what is wrong with the map and what is allowed, or "".
std::string ReadSnapshotPolicy(const YamlNode& node, SnapshotPolicy& policy);

// "{every_events: 100, keep: 3}"
std::string ShowSnapshotPolicy(const SnapshotPolicy& policy);

}  // namespace persistd::config
