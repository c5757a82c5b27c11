// The errors that callers see, one factory for each (proto/cim/persistence/v1/errors.proto says what they mean).
//
// A factory returns an absl::Status of the right code whose payload kErrorDetailUrl holds the serialised ErrorDetail;
// rpc/ only has to copy it to the wire. Pure, thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "cim/persistence/v1/errors.pb.h"
#include "server/domain/aggregate_ref.h"
#include "server/domain/read_model_key.h"

namespace persistd::domain {

inline constexpr absl::string_view kErrorDetailUrl = "type.googleapis.com/cim.persistence.v1.ErrorDetail";

// The detail of an error made here; nullopt for any other status.
std::optional<cim::persistence::v1::ErrorDetail> GetErrorDetail(const absl::Status& status);

// True when `status` was made here with this reason.
bool HasReason(const absl::Status& status, cim::persistence::v1::ErrorReason reason);

// field: its path, such as `events[2].type`; description: what is wrong and what is allowed.
absl::Status InvalidField(absl::string_view field, absl::string_view description);
absl::Status RequestIdReused(const AggregateRef& ref, absl::string_view request_id, absl::string_view difference);
absl::Status AggregateNotFound(const AggregateRef& ref, bool deleted = false);
absl::Status VersionNotFound(const AggregateRef& ref, uint64_t wanted, uint64_t actual);
// No event had been recorded by the time asked for; the aggregate is at `actual` now.
absl::Status NothingRecordedBy(const AggregateRef& ref, absl::string_view time, uint64_t actual);
// expected: nullopt stands for "must exist".
absl::Status VersionConflict(const AggregateRef& ref, std::optional<uint64_t> expected, uint64_t actual);
// What a commit of several aggregates found otherwise than expected.
struct FailedCheck {
  AggregateRef ref;
  std::optional<uint64_t> expected;  // nullopt: it must exist.
  uint64_t actual = 0;
  bool deleted = false;
};
// failed: at least one.
absl::Status ChecksFailed(const std::vector<FailedCheck>& failed);
// actual: the version of its tombstone.
absl::Status AggregateDeleted(const AggregateRef& ref, uint64_t actual);

struct LimitExceeded {
  std::string name;  // The field or resource.
  uint64_t limit = 0;
  uint64_t value = 0;
  std::string config_key;  // Empty: fixed.
};
absl::Status TooLarge(const LimitExceeded& limit, absl::string_view advice);
// These two: `limit` where one is known.
absl::Status StorageFull(absl::string_view what, const std::optional<LimitExceeded>& limit = std::nullopt);
absl::Status Overloaded(absl::string_view what, const std::optional<LimitExceeded>& limit = std::nullopt);
absl::Status ForeignMessage(const AggregateRef& ref, absl::string_view stream, uint64_t sequence);
absl::Status TypeNotDeclared(const AggregateRef& ref);
absl::Status StorageUnsuitable(absl::string_view what);
absl::Status NatsUnavailable(absl::string_view what);
// repeatable: the caller has the request_id, so a repeat is recognised.
absl::Status OutcomeUnknown(const AggregateRef& ref, absl::string_view why, bool repeatable = true);
// Of a write that is no save; what: which, why: no answer came.
absl::Status WriteOutcomeUnknown(absl::string_view what, absl::string_view why);
absl::Status ShuttingDown();
// cids: of what does not match its CID, the recorded one and that of what is there.
struct CidPair {
  std::string expected;
  std::string actual;
};
absl::Status CorruptData(absl::string_view stream, uint64_t sequence, absl::string_view what, const CidPair& cids = {});
absl::Status Internal(absl::string_view what);
// Events before first_version were removed after a snapshot. advice: what the caller can do; empty: ask for later ones.
absl::Status HistoryRemoved(const AggregateRef& ref, uint64_t first_version, absl::string_view advice = "");
absl::Status SnapshotNotFound(const AggregateRef& ref, uint64_t version);
absl::Status NoState(const AggregateRef& ref, uint64_t version);
// what: which program failed, on what, and why.
absl::Status TransformFailed(const AggregateRef& ref, absl::string_view what);
absl::Status IndexNotReady(absl::string_view what);
absl::Status PositionNotReached(const AggregateRef& ref, absl::string_view position);
// The type of an aggregate: context and aggregate.
absl::Status TypeExists(absl::string_view context, absl::string_view aggregate, absl::string_view difference);
absl::Status BlockNotFound(absl::string_view cid);
absl::Status ChainNotFound(const AggregateRef& chain);
// The last event that was asked for has no CID.
absl::Status NotChained(const AggregateRef& ref);
// Nothing can be appended to chains without CIDs.
absl::Status ChainsAreOff();
absl::Status ReadModelNotFound(const ReadModelKey& key, bool deleted);
absl::Status RevisionConflict(const ReadModelKey& key, uint64_t expected, uint64_t actual);
absl::Status SchemaVersionDiffers(const ReadModelKey& key, uint32_t expected, uint32_t actual);
absl::Status TypeNotFound(absl::string_view context, absl::string_view aggregate);

}  // namespace persistd::domain
