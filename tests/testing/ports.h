// Free TCP ports of 127.0.0.1 for servers that must keep their port while they are down.
#pragma once

#include <vector>

namespace persistd::testing {

// `count` different ports that nobody listens on, and that this process was not given before. They lie below the range
// from which the kernel serves outgoing connections and port 0: there a client that keeps trying to reach a dead server
// could take the server's port. Thread-safe. Throws std::runtime_error when there are none.
std::vector<int> FreePorts(int count);

}  // namespace persistd::testing
