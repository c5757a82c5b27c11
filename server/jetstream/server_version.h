// Which nats-server releases persistd may use.
//
// Releases before 2.12.14 and 2.14.0 to 2.14.3 refuse correct saves of several aggregates (nats-server issue 8376: the
// expected-sequence checks of one batch share a buffer); those before 2.12 do not know atomic batches and silently
// store half of one. Pure functions.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace persistd::jetstream {

// A semantic version (semver.org 2.0.0); build metadata after '+' is dropped.
struct ServerVersion {
  int major = 0;
  int minor = 0;
  int patch = 0;
  std::string pre_release;  // "RC.1" in 2.12.14-RC.1.

  std::string ToString() const;
};

// Parses "2.15.1" or "v2.12.14-RC.1". INVALID_ARGUMENT, quoting `text`, when it is neither.
absl::StatusOr<ServerVersion> ParseServerVersion(absl::string_view text);

// Negative, zero or positive as `a` comes before, with or after `b` by the precedence rules of semver.org: a
// pre-release comes before its release.
int Compare(const ServerVersion& a, const ServerVersion& b);

// OK for releases that keep persistd's guarantees. FAILED_PRECONDITION for others, naming the version and what to
// install; INVALID_ARGUMENT when `version` is no version.
absl::Status CheckServerVersion(absl::string_view version);

// True for releases before 2.15, which may acknowledge an atomic batch although they failed to store a message in the
// middle of it (no room in the account): the commit loop of a stream without replicas goes on after such a failure.
bool MayAcknowledgeTornBatch(absl::string_view version);

}  // namespace persistd::jetstream
