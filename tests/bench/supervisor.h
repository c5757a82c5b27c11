// Runs the benchmark in a child process, and removes its temporary data when that has ended in any way: by itself, by
// Ctrl-C, by a crash.
#pragma once

#include <functional>

namespace persistd::bench {

// Calls `work` in a child whose TEST_TMPDIR is a fresh folder under the present one (else under /tmp). Returns its exit
// code, or 128 and the signal. To be called before any thread is started.
int RunSupervised(const std::function<int()>& work);

}  // namespace persistd::bench
