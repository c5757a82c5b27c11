// What makes a fault test repeatable: its seed and its size.
#pragma once

#include <cstdint>

namespace persistd::fault {

// From FAULT_SEED in the environment, else random. Printed to standard error at the first call, so that a failure can
// be run again: bazel test … --test_env=FAULT_SEED=N. It repeats what is saved and where faults strike; how the threads
// and processes interleave it cannot repeat.
uint64_t Seed();

// How many times larger than usual this run is: FAULT_SCALE in the environment, else 1.
int Scale();

}  // namespace persistd::fault
