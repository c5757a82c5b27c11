// Reads the messages of many sequences in order, a bounded amount under way at once: those that lie close together by
// one request for several, the others one by one. Used by one coroutine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/future.h"
#include "server/base/task.h"
#include "server/jetstream/message.h"
#include "server/jetstream/reader.h"

namespace persistd::repository {

class EventReads {
 public:
  struct Item {
    size_t index = 0;  // In `sequences`.
    uint64_t sequence = 0;
    std::optional<jetstream::Message> message;  // nullopt: whoever answered did not have it, or no room for it.
  };
  struct Part {
    std::vector<Item> items;  // In the order of the reading.
  };

  // sequences: ascending. reverse: read from the last to the first. from: the leader is asked one by one. The reader
  // must outlive it.
  EventReads(jetstream::Reader* reader, std::string stream, std::vector<uint64_t> sequences, bool reverse,
             jetstream::ReadFrom from = jetstream::ReadFrom::kAnyReplica)
      : reader_(*reader),
        stream_(std::move(stream)),
        sequences_(std::move(sequences)),
        reverse_(reverse),
        from_(from) {}

  // Sends as many requests as fit.
  void StartMore(base::SteadyTime deadline);
  // The messages of the oldest request under way; nullopt: all are read.
  base::Task<absl::StatusOr<std::optional<Part>>> NextPart();

 private:
  using One = base::Future<absl::StatusOr<jetstream::Message>>;
  using Many = base::Future<absl::StatusOr<std::vector<jetstream::Message>>>;
  struct UnderWay {
    size_t first = 0;  // Index of the lowest sequence.
    size_t count = 0;
    std::variant<One, Many> answer;
  };

  // How many sequences from the next one on, in reading order, one request should bring; at most `most`.
  size_t RunLength(size_t most) const;
  size_t AverageBytes() const;

  jetstream::Reader& reader_;
  const std::string stream_;
  const std::vector<uint64_t> sequences_;
  const bool reverse_;
  const jetstream::ReadFrom from_;
  size_t started_ = 0;  // Sequences.
  size_t waiting_ = 0;  // Of those, under way.
  std::deque<UnderWay> under_way_;
  size_t seen_events_ = 0;
  size_t seen_bytes_ = 0;
};

}  // namespace persistd::repository
