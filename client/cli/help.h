// What `persistctl --help` and `persistctl <command> --help` print.
#pragma once

#include <string>

namespace persistd::cli {

// The help of a command; of persistctl itself for any other text.
const char* HelpText(const std::string& command);

}  // namespace persistd::cli
