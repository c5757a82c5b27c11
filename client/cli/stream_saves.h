// Carries out the saves of a stream of lines, many at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <istream>
#include <ostream>

#include "absl/status/status.h"
#include "client/cpp/client.h"

namespace persistd::cli {

struct StreamSummary {
  uint64_t saved = 0;         // Saves that are stored.
  uint64_t deduplicated = 0;  // Of these, those that had been stored before.
  uint64_t events = 0;        // Of all that are stored.
  uint64_t failed = 0;        // Lines that are not stored, or not known to be.
  double seconds = 0;
  absl::Status end;  // Why the stream broke; OK when every line was carried out.
};

// Reads a SaveRequest as JSON from each line of `in` that is not empty, until its end. `err` gets a line for each that
// fails, with its number, and every second how far it is.
StreamSummary StreamSaves(const client::Client& client, size_t window, std::istream& in, std::ostream& err);

}  // namespace persistd::cli
