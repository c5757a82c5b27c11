// persistd: command line, configuration, daemon. Everything else is in app/.

#include <unistd.h>

#include <iostream>
#include <string>
#include <vector>

#include "server/app/flags.h"
#include "server/app/run.h"
#include "server/app/version.h"
#include "server/base/logging.h"
#include "server/config/loader.h"
#include "server/transform/worker.h"

int main(int argc, char** argv) {
  if (const auto worker = persistd::transform::RunWorkerIfAsked(argc, argv)) return *worker;
  constexpr int kUsageError = 2;
  const auto flags = persistd::app::ParseFlags(std::vector<std::string>(argv + 1, argv + argc));
  if (!flags.ok()) {
    std::cerr << "persistd: " << flags.status().message() << "; see persistd --help\n";
    return kUsageError;
  }
  if (flags->help) {
    std::cout << persistd::app::HelpText();
    return 0;
  }
  if (flags->version) {
    std::cout << "persistd " << persistd::app::kVersion << "\n";
    return 0;
  }
  const auto config = persistd::config::LoadConfig({.file = flags->config_file,
                                                    .overrides = flags->overrides,
                                                    .environment = persistd::config::PersistdVariables(environ)});
  if (!config.ok()) {
    std::cerr << config.status().message() << "\n";
    return kUsageError;
  }
  if (flags->check_config) {
    std::cout << persistd::config::Describe(*config);
    return 0;
  }
  if (const auto status = persistd::base::SetUpLogging(config->log.level); !status.ok()) {
    std::cerr << "persistd: " << status.message() << "\n";
    return kUsageError;
  }
  persistd::app::BlockSignals();
  return persistd::app::Run(*config, *flags);
}
