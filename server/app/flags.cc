#include "server/app/flags.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/match.h"

namespace persistd::app {

absl::StatusOr<Flags> ParseFlags(const std::vector<std::string>& arguments) {
  Flags flags;
  for (size_t i = 0; i < arguments.size(); ++i) {
    std::string name = arguments[i];
    std::string value;
    // --name=value and --name value are the same.
    const size_t equals = name.find('=');
    bool has_value = absl::StartsWith(name, "--") && equals != std::string::npos;
    if (has_value) {
      value = name.substr(equals + 1);
      name.resize(equals);
    }
    if (name == "--check-config" || name == "--version" || name == "--help" || name == "-h") {
      if (has_value) return absl::InvalidArgumentError(absl::StrCat(name, " takes no value"));
      (name == "--check-config" ? flags.check_config : name == "--version" ? flags.version : flags.help) = true;
      continue;
    }
    if (name != "--config" && name != "--set" && name != "--ready-file") {
      return absl::InvalidArgumentError(absl::StrCat("unknown argument ", arguments[i]));
    }
    if (!has_value) {
      if (i + 1 == arguments.size()) return absl::InvalidArgumentError(absl::StrCat(name, " needs a value"));
      value = arguments[++i];
    }
    if (name == "--set") {
      flags.overrides.push_back(std::move(value));
    } else {
      (name == "--config" ? flags.config_file : flags.ready_file) = std::move(value);
    }
  }
  return flags;
}

std::string HelpText() {
  return R"(persistd: event-sourced aggregates in NATS JetStream, behind gRPC.

usage: persistd [--config FILE] [--set KEY=VALUE]... [--ready-file FILE]
       persistd --check-config [--config FILE] [--set KEY=VALUE]...

  --config FILE      read the configuration from FILE (config/persistd.yaml lists every key with its default)
  --set KEY=VALUE    override one key, such as --set server.listen_address=127.0.0.1:0; may be repeated
  --ready-file FILE  write the address that gRPC listens on to FILE once health says SERVING; removed at the end
  --check-config     check the configuration, print it as it is in force (secrets hidden), and exit
  --version          print the version and exit
  --help             print this and exit

Environment: PERSISTD_ and a key in capitals with __ between its levels, such as PERSISTD_SERVER__LISTEN_ADDRESS.
Precedence: --set, environment, file, default.
Signals: SIGTERM and SIGINT stop in order: new calls are refused, running ones finish within server.shutdown_grace;
a second signal ends at once.
Exit status: 0 after an orderly stop, 1 when the start failed, 2 for a wrong command line or configuration.
)";
}

}  // namespace persistd::app
