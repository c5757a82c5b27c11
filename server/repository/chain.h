// What verifying a history, and copying it, takes and answers. Plain values.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "server/base/task.h"
#include "server/domain/aggregate_ref.h"
#include "server/domain/event.h"
#include "server/domain/position.h"
#include "server/ipld/chain_verifier.h"

namespace persistd::repository {

struct VerifyCommand {
  domain::AggregateRef ref{};
  uint64_t from_version = 0;             // Exclusive; 0: from the first one that is kept.
  std::optional<uint64_t> to_version{};  // Inclusive; absent: the last one.
  std::string expected_head_cid{};       // CIDs; empty: any.
  std::string expected_previous_cid{};   // Of from_version.
};

struct VerifyProgress {
  uint64_t verified = 0;  // Starts again when the history is read a second time.
  uint64_t total = 0;
};
// False stops the verification (the caller went away).
using VerifyProgressSink = std::function<base::Task<bool>(VerifyProgress progress)>;

struct Verification {
  ipld::ChainResult chain{};
  domain::Position position{};  // Of the message at which the first break was noticed.
};

// An event with what else belongs to its block.
struct ChainedEvent {
  domain::RecordedEvent event{};
  domain::AggregateLabels labels{};
};
// Takes the next event, which matches its CIDs; false stops the reading.
using ChainSink = std::function<base::Task<bool>(ChainedEvent event)>;

}  // namespace persistd::repository
