// Runs the daemon from its start to a signal that ends it.
#pragma once

#include "server/app/flags.h"
#include "server/config/config.h"

namespace persistd::app {

// SIGTERM and SIGINT must be blocked in all threads before, see BlockSignals. Returns the process's exit status.
int Run(const config::Config& config, const Flags& flags);

// Makes SIGTERM and SIGINT wait for Run, and a write to a closed connection an error instead of the end. Call it before
// the first thread.
void BlockSignals();

}  // namespace persistd::app
