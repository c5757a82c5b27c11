// `persistctl verify --car`: checks an exported history without a daemon. Pure but for reading its stream.
#pragma once

#include <cstdint>
#include <istream>
#include <string>

#include "absl/status/statusor.h"

namespace persistd::cli {

// What a CAR file holds that verifies.
struct CarSummary {
  std::string root{};       // The CID of the last event.
  std::string aggregate{};  // context/aggregate/entity
  uint64_t first_version = 0;
  uint64_t last_version = 0;
  uint64_t events = 0;
  uint64_t payloads = 0;         // That are there.
  uint64_t erased_payloads = 0;  // That an event names, but that are not there.
  std::string before{};  // The CID of the event before the first, which is not in the file; empty: there is none.
};

// Checks every block against its CID, and walks from the root to the first event: each continues the one before, of the
// same aggregate and the version before. expected_root: empty, or the CID that the root must have. DataLoss says what
// is wrong, InvalidArgument that it is no such file. Memory: about 500 bytes for each event.
absl::StatusOr<CarSummary> CheckCar(std::istream& in, const std::string& expected_root);

// As JSON, for people and programs.
std::string ToJson(const CarSummary& summary);

}  // namespace persistd::cli
