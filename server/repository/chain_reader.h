// Verifies the stored history of an aggregate (server/ipld/chain_verifier.h judges it), and reads chained events for
// who copies them. Thread-safe.
//
// A history is read by its pointers, which is quick, and the messages that the aggregate has are counted. When anything
// is odd there, it is read once more by its subject, message by message in the order of the stream: so it can be told
// what was done to it, and what is no more than a torn save.
#pragma once

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/task.h"
#include "server/domain/aggregate_ref.h"
#include "server/ipld/chain_verifier.h"
#include "server/repository/chain.h"
#include "server/repository/history.h"
#include "server/repository/storage.h"

namespace persistd::repository {

class ChainReader {
 public:
  // Both must outlive it.
  ChainReader(Storage* storage, History* history) : storage_(*storage), history_(*history) {}

  // AGGREGATE_NOT_FOUND where no message is; VERSION_NOT_FOUND or HISTORY_REMOVED where from_version is not there;
  // HISTORY_REMOVED also where all up to to_version was removed, or perhaps the event with expected_head_cid.
  // Unavailable when the history changed too often while it was read, or NATS did not show all of it. Cancelled when
  // the sink stopped it.
  base::Task<absl::StatusOr<Verification>> Verify(VerifyCommand command, VerifyProgressSink progress,
                                                  base::SteadyTime deadline);

  // Events first to last in order; `first` begins a save. CORRUPT_DATA where one does not match its CIDs or the one
  // before it.
  base::Task<absl::Status> Read(domain::AggregateRef ref, uint64_t first, uint64_t last, ChainSink sink,
                                base::SteadyTime deadline);

 private:
  struct Attempt {
    VerifyCommand command{};
    VerifyProgressSink progress{};
    jetstream::StreamPtr stream{};
    uint64_t first_kept = 1;  // More than 1: the events before it were removed.
    base::SteadyTime deadline{};

    ipld::ChainRange Range() const;
    // Whether the range lies in what is kept, and in what there is.
    absl::Status CheckKept() const;
    absl::Status CheckHead(uint64_t version) const;
  };
  struct Scan;

  // The first version that is there; 1: as far as can be told, nothing was removed.
  base::Task<absl::StatusOr<uint64_t>> FirstKept(const Attempt& attempt);
  // nullopt: something is odd, or `odd` says what could not be read.
  base::Task<absl::StatusOr<std::optional<ipld::ChainResult>>> VerifyByPointers(Attempt attempt, absl::Status& odd);
  // Up to a sequence of the stream. odd: what the other way of reading met.
  base::Task<absl::StatusOr<ipld::ChainResult>> VerifyBySubject(Attempt attempt, absl::Status odd);
  base::Task<absl::Status> Take(const Attempt& attempt, jetstream::Message message, Scan& scan);
  // How many messages the aggregate has.
  base::Task<absl::StatusOr<uint64_t>> Count(domain::AggregateRef ref, jetstream::StreamPtr stream,
                                             base::SteadyTime deadline);

  Storage& storage_;
  History& history_;
};

}  // namespace persistd::repository
