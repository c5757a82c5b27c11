// Publishes messages to a stream and says what became of them, as far as that is known.
//
// One message goes out as a plain publish, several as one atomic batch (ADR-50). Every message carries an optimistic
// check. Thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/base/clock.h"
#include "server/base/task.h"
#include "server/jetstream/connection.h"
#include "server/jetstream/message.h"

namespace persistd::jetstream {

// The messages are stored only if `last_sequence` is the stream sequence of the last message that matches `filter`
// (0: there is none).
struct ExpectedLast {
  std::string filter;  // From domain::EventFilter or StateFilter only.
  uint64_t last_sequence = 0;
};

// Makes `message` carry the check. Nothing else writes these headers: on a replicated stream a second spelling of them
// loses updates.
void AddCheck(const ExpectedLast& check, OutgoingMessage& message);

struct PublishOutcome {
  enum class Kind {
    kStored,     // All, the last one at last_sequence.
    kConflict,   // Refused by the check: something else is the last message. These copies are not stored.
    kRefused,    // The server answered that it does not store these copies; a retry meets the same. See status.
    kNotStored,  // These copies are not stored; a retry may succeed. See status.
    kUnknown,    // They may be stored, now or later. See status.
  };
  Kind kind = Kind::kUnknown;
  uint64_t last_sequence = 0;  // With kStored.
  // With kConflict: the last sequence of the filter whose check failed, where the server names it; 0: it did not.
  uint64_t conflicting_sequence = 0;
  absl::Status status;  // As callers may see it, but for kUnknown, where it only explains.
};

class Publisher {
 public:
  explicit Publisher(Connection* connection) : connection_(connection) {}

  // messages: 1 to 1000, each with its check, not changed until this has ended. stream: where they must end up.
  base::Task<PublishOutcome> Publish(std::string stream, std::vector<const OutgoingMessage*> messages,
                                     base::SteadyTime deadline);

 private:
  Connection* const connection_;
};

// What the answer to the last message of a publish means; for tests.
PublishOutcome InterpretAnswer(const std::string& data, const std::string& stream, const std::string& batch_id,
                               size_t count);

}  // namespace persistd::jetstream
