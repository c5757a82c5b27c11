// Reads what a stream holds, once: every message in its order, without bodies. For background work on a thread of its
// own, which it blocks.
//
// Complete or an error. What there is says the leader of the stream when the scan begins; the messages come from any
// replica. One that is behind is waited for, and one that has lost messages (a damaged disk) is noticed at the end.
// With several replicas that can be told only where no message was removed or replaced before the scan came to it, so
// the scan of a stream that changes all the time may be refused.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/executor.h"
#include "server/jetstream/connection.h"
#include "server/jetstream/message.h"

namespace persistd::jetstream {

// A stream as its leader sees it.
struct StreamState {
  uint64_t incarnation = 0;
  uint64_t messages = 0;
  uint64_t last_sequence = 0;
  int replicas = 1;
  base::WallTime now{};  // By the leader's clock.
};

// nullopt: there is no such stream. Blocks.
absl::StatusOr<std::optional<StreamState>> LookAtStream(const std::string& stream, Connection* connection,
                                                        base::SteadyTime deadline);

struct ScanOptions {
  std::string stream{};
  uint64_t window = 512;                       // Messages in memory, at most.
  std::chrono::milliseconds patience{30'000};  // How long no message may come.
  std::function<bool()> cancelled{};           // Asked every now and then; may be empty.
};

enum class ScanStep { kNext, kStop };
// Gets sequence, time and headers; among these `Nats-Msg-Size`, the size of the body that is left out. kStop ends the
// scan with OK, whatever there is still; an error ends it with that error.
using ScanVisitor = std::function<absl::StatusOr<ScanStep>(Message message)>;

// Visits at least what was there when it was called and still is when it ends, on this thread. NotFound: there is no
// such stream. Aborted: whether it is complete cannot be told, another scan may. The connection and the executor must
// run.
absl::Status ScanStream(const ScanOptions& options, Connection* connection, base::Executor* executor,
                        const ScanVisitor& visit);

}  // namespace persistd::jetstream
