// A place in the history of one or several streams: (stream, incarnation, sequence) for each.
//
// The incarnation tells a stream from another one of the same name made later (its creation time). Text form, opaque to
// callers: `stream:incarnation:sequence`, several joined by commas, ordered by stream. A plain value.
//
// Tokens come from callers, so Parse takes only what ToToken writes, with stream names that are safe inside a subject.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace persistd::domain {

struct StreamPosition {
  std::string stream;
  uint64_t incarnation = 0;
  uint64_t sequence = 0;

  bool operator==(const StreamPosition&) const = default;
};

class Position {
 public:
  Position() = default;
  explicit Position(StreamPosition single) { streams_.push_back(std::move(single)); }

  static std::optional<Position> Parse(absl::string_view token);
  std::string ToToken() const;

  // Whether it is behind `other` in one of the streams that both know, and ahead in none. A stream that was made anew
  // begins behind nothing.
  bool IsBehind(const Position& other) const;
  // Takes over what `other` knows of other streams, and where it is ahead.
  void Advance(const Position& other);

  const std::vector<StreamPosition>& streams() const { return streams_; }
  bool operator==(const Position&) const = default;

 private:
  std::vector<StreamPosition> streams_;  // Ordered by stream, each once.
};

}  // namespace persistd::domain
