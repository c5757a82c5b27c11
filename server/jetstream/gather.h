// A request that is answered by several messages and then one with a status: collects them. Thread-safe.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/future.h"
#include "server/jetstream/connection.h"
#include "server/jetstream/message.h"

namespace persistd::jetstream {

// The answers up to, and without, the one that has the header `Status`, which is the last one. Errors are those of
// Connection::Request; then answers that have come are dropped. The connection must outlive the wait.
base::Future<absl::StatusOr<std::vector<Message>>> Gather(Connection& connection, const OutgoingMessage& request,
                                                          base::SteadyTime deadline);

}  // namespace persistd::jetstream
