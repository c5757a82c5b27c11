// A compiled jq program that folds events into a state: the only user of libjq. One thread at a time.
//
// Runs inside a transform worker (worker.h), never in the daemon's own process: libjq 1.6 can neither be interrupted
// nor bounded, and some programs make it crash or write beyond its memory (`.[1431655765] = 1`).
#pragma once

extern "C" {  // The header does not say so itself.
#include <jq.h>
}

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace persistd::transform {

class JqProgram {
 public:
  // INVALID_ARGUMENT with jq's message and the line in `source`.
  static absl::StatusOr<std::unique_ptr<JqProgram>> Compile(absl::string_view source);
  ~JqProgram();
  JqProgram(const JqProgram&) = delete;
  JqProgram& operator=(const JqProgram&) = delete;

  // Starts a fold with `state`, a JSON text; empty: null.
  absl::Status Begin(absl::string_view state);
  // Runs the program on one event: `fields` is a JSON object, whose `data` becomes the JSON text `data` (empty: null).
  // The one output becomes the state. After an error the fold is over.
  absl::Status Step(absl::string_view fields, absl::string_view data);
  // The state as compact JSON.
  absl::StatusOr<std::string> Finish(size_t max_bytes);

 private:
  JqProgram();

  jq_state* jq_ = nullptr;
  jv state_;
  std::string messages_;  // Of a failed compilation.
};

}  // namespace persistd::transform
