// The command line of persistd.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace persistd::app {

struct Flags {
  std::string config_file;
  std::vector<std::string> overrides;  // key=value, in order.
  std::string ready_file;
  bool check_config = false;
  bool version = false;
  bool help = false;
};

// arguments: without the program's name. InvalidArgument with what is wrong.
absl::StatusOr<Flags> ParseFlags(const std::vector<std::string>& arguments);

// What --help prints.
std::string HelpText();

}  // namespace persistd::app
