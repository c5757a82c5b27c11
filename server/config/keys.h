// The table of all configuration keys. Reading a file, environment variables and --set, printing, suggestions and the
// test that guards config/persistd.yaml all work from it, so a key is added in three places: a member in config.h, a
// row here, an entry in config/persistd.yaml. Immutable after its first use; safe from any thread.
#pragma once

#include <functional>
#include <string>
#include <variant>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/config/config.h"
#include "server/config/yaml.h"

namespace persistd::config {

// A value as YAML: a scalar, or the items of a list. Secrets are shown as ***.
using Shown = std::variant<std::string, std::vector<std::string>>;

struct Key {
  std::string path;     // such as nats.embedded.port
  std::string allowed;  // such as "a whole number from 0 to 65535"
  bool is_list = false;

  // Stores the value in the configuration, or reports what is wrong with it and leaves the configuration alone.
  std::function<void(const YamlNode& value, Config& config, const Report& report)> set;
  std::function<Shown(const Config& config)> show;
};

// All keys; those of a section follow each other, so that they can be printed in this order.
const std::vector<Key>& Keys();

// nullptr when there is none.
const Key* FindKey(absl::string_view path);

// Whether keys begin with `path` and a dot.
bool IsSection(absl::string_view path);

// The names (of keys and sections) that may stand in a section; the top level is "".
std::vector<std::string> NamesIn(absl::string_view section);

}  // namespace persistd::config
