// Finds and reads the events of an aggregate through their back-pointers. Thread-safe.
//
// Only events of complete saves can be reached: pointers step over torn ones, and ReadHead steps back from a torn tail.
//
// An event that is missing was removed after a snapshot (HISTORY_REMOVED) if the aggregate's list of snapshots says so;
// otherwise it is lost (CORRUPT_DATA). Nothing is asked before one is missing.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/mutex.h"
#include "server/base/task.h"
#include "server/domain/event.h"
#include "server/jetstream/event_codec.h"
#include "server/repository/head.h"
#include "server/repository/storage.h"
#include "server/repository/truncation.h"

namespace persistd::repository {

// Where an event is and what it points to.
struct EventNode {
  uint64_t version = 0;
  uint64_t sequence = 0;
  jetstream::Pointers pointers;
};

// Takes an event; false stops the reading.
using EventVisitor = std::function<base::Task<bool>(domain::RecordedEvent event)>;

// The same with all that its message says. An error ends the reading with it.
using DecodedVisitor = std::function<base::Task<absl::StatusOr<bool>>(jetstream::DecodedEvent decoded)>;

// The head that an aggregate has when `last` is the last event of a complete save, and the message at last_sequence its
// last one.
Head HeadOf(jetstream::StreamPtr stream, jetstream::DecodedEvent last, uint64_t last_sequence);

// Whether an error says that events were removed after a snapshot.
bool IsRemoved(const absl::Status& status);

// Whether "no message" is taken from whoever answers, or asked of the leader, too. To accept it is right where a
// publish follows, which checks it.
enum class Absence { kVerify, kAccept };

class History {
 public:
  // truncations: what was removed of aggregates; nullptr: nothing ever is. Both must outlive it.
  History(Storage* storage, TruncationReader* truncations) : storage_(storage), truncations_(truncations) {}

  // The head as it is now, or the one of version 0. Strong: sees every acknowledged save.
  base::Task<absl::StatusOr<Head>> ReadHead(domain::AggregateRef ref, jetstream::StreamPtr stream, Absence absence,
                                            base::SteadyTime deadline);
  // The same from the last message of the aggregate, read with Storage::StrongRead; nullopt: it has none.
  base::Task<absl::StatusOr<Head>> HeadFrom(domain::AggregateRef ref, jetstream::StreamPtr stream,
                                            std::optional<jetstream::Message> last, Absence absence,
                                            base::SteadyTime deadline);

  // The event of `version`, found from a node at or after it. 1 <= version <= from.version.
  base::Task<absl::StatusOr<jetstream::DecodedEvent>> EventAt(domain::AggregateRef ref, jetstream::StreamPtr stream,
                                                              EventNode from, uint64_t version,
                                                              base::SteadyTime deadline);

  struct Range {
    uint64_t first = 1;
    uint64_t last = 0;  // Less than first: empty.
    bool reverse = false;
  };
  // Visits the events of a range in order. `head` is at or after its end. Memory: a few MiB, or a few events where
  // those are larger. CORRUPT_DATA where an event does not match its CID, or is not the one that the next continues.
  base::Task<absl::Status> Visit(domain::AggregateRef ref, Head head, Range range, EventVisitor visitor,
                                 base::SteadyTime deadline);

  // The same without comparing CIDs: for who does it himself. Reads what the stream itself holds, not a mirror or a
  // replica that is not its leader.
  base::Task<absl::Status> VisitStored(domain::AggregateRef ref, Head head, Range range, DecodedVisitor visitor,
                                       base::SteadyTime deadline);

  // The same as Visit, but where the beginning of the range was removed it begins with the first event that is kept.
  // Answers with the first version that it read, or would have read without the visitor's stop; HISTORY_REMOVED when
  // nothing of the range is kept.
  base::Task<absl::StatusOr<uint64_t>> VisitKept(domain::AggregateRef ref, Head head, Range range, EventVisitor visitor,
                                                 base::SteadyTime deadline);

  // The version of the first event that is kept; 0: nothing was removed, as far as can be told.
  base::Task<absl::StatusOr<uint64_t>> FirstKept(domain::AggregateRef ref, jetstream::StreamPtr stream,
                                                 base::SteadyTime deadline);

  // The version of the last event recorded at or before `as_of`; 0: there is none. HISTORY_REMOVED: it is not kept.
  base::Task<absl::StatusOr<uint64_t>> VersionAsOf(domain::AggregateRef ref, Head head, base::WallTime as_of,
                                                   base::SteadyTime deadline);

  // True when the commit of several aggregates that `event` belongs to is stored to its end.
  base::Task<absl::StatusOr<bool>> GroupIsComplete(jetstream::StreamPtr stream, const domain::RecordedEvent& event,
                                                   base::SteadyTime deadline);

  // Counts and logs a message that is not ours, once.
  void NoteForeign(const jetstream::Stream& stream, const jetstream::Message& message) EXCLUDES(mutex_);
  // How many were met so far, by stream.
  std::map<std::string, uint64_t> foreign_messages() const EXCLUDES(mutex_);

 private:
  base::Task<absl::StatusOr<jetstream::DecodedEvent>> Fetch(domain::AggregateRef ref, jetstream::StreamPtr stream,
                                                            uint64_t version, uint64_t sequence,
                                                            base::SteadyTime deadline);
  base::Task<absl::StatusOr<jetstream::Message>> FetchMessage(domain::AggregateRef ref, jetstream::StreamPtr stream,
                                                              uint64_t version, uint64_t sequence,
                                                              jetstream::ReadFrom from, base::SteadyTime deadline);
  // Why an event is not there.
  base::Task<absl::Status> WhyMissing(domain::AggregateRef ref, jetstream::StreamPtr stream, uint64_t version,
                                      uint64_t sequence, base::SteadyTime deadline);
  // What was removed of the aggregate; nullopt: nothing, or what is known of it is of another history.
  base::Task<absl::StatusOr<std::optional<Truncation>>> TruncationOf(domain::AggregateRef ref,
                                                                     jetstream::StreamPtr stream,
                                                                     base::SteadyTime deadline);
  base::Task<absl::StatusOr<Head>> HeadBeforeForeignTail(domain::AggregateRef ref, jetstream::StreamPtr stream,
                                                         uint64_t foreign_sequence, base::SteadyTime deadline);
  // The sequences of versions first..top.version, ascending.
  base::Task<absl::StatusOr<std::vector<uint64_t>>> Sequences(domain::AggregateRef ref, jetstream::StreamPtr stream,
                                                              EventNode top, uint64_t first, base::SteadyTime deadline);
  // True when versions first..top.version are known to follow each other in the stream, without another message
  // between them. Asks only when the pointers of `top` suggest it.
  base::Task<absl::StatusOr<bool>> IsContiguous(domain::AggregateRef ref, jetstream::StreamPtr stream,
                                                const EventNode& top, uint64_t first, base::SteadyTime deadline);
  struct Reading {
    DecodedVisitor visitor;
    bool from_stream_itself = false;
  };
  base::Task<absl::Status> VisitBlocks(domain::AggregateRef ref, Head head, Range range, Reading reading,
                                       base::SteadyTime deadline);
  // Visits the events of `range` in the block that ends, or whose part in the range ends, with `top`. False: stop.
  base::Task<absl::StatusOr<bool>> VisitBlock(domain::AggregateRef ref, jetstream::StreamPtr stream, EventNode top,
                                              Range range, const Reading& reading, base::SteadyTime deadline);
  // sequences[i] is that of version first_version + i.
  base::Task<absl::StatusOr<bool>> VisitSequences(domain::AggregateRef ref, jetstream::StreamPtr stream,
                                                  uint64_t first_version, std::vector<uint64_t> sequences, bool reverse,
                                                  const Reading& reading, base::SteadyTime deadline);

  Storage* const storage_;
  TruncationReader* const truncations_;
  mutable base::Mutex mutex_;
  std::map<std::string, std::set<uint64_t>> foreign_ GUARDED_BY(mutex_);  // Sequences, by stream.
};

}  // namespace persistd::repository
