// Must(x): what a test cannot go on without. Gives the value of a StatusOr, or throws with the status, which Catch2
// reports as the failure of the test case.
//
//   auto nats = Must(NatsServer::Start({.sync_always = true}));
//   Must(nats->Restart());
#pragma once

#include <stdexcept>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace persistd::testing {

inline void Must(const absl::Status& status) {
  if (!status.ok()) throw std::runtime_error(status.ToString());
}

template <typename T>
T Must(absl::StatusOr<T> value) {
  Must(value.status());
  return std::move(*value);
}

}  // namespace persistd::testing
