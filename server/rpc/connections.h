// What gRPC does not let us do with the connections that it has accepted. Thread-safe.
#pragma once

namespace persistd::rpc {

// Breaks every TCP connection of this process whose local port is `port`: reads and writes on them end at once.
//
// gRPC closes a connection only when the write under way on it has ended, and a client that does not read (it is
// paused, or its network is gone) keeps that from ending for as long as TCP is patient.
void BreakConnections(int port);

}  // namespace persistd::rpc
