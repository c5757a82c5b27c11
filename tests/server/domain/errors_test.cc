// Every error a caller may see: its code, its reason, its details, and a message that says what to do.
#include "server/domain/errors.h"

#include <set>
#include <string>
#include <vector>

#include "tests/testing/catch.h"

namespace persistd::domain {
namespace {

namespace pb = cim::persistence::v1;

const AggregateRef kRef{.context = "sales", .aggregate = "order", .entity_id = "A-1"};

pb::ErrorDetail DetailOf(const absl::Status& status) {
  const std::optional<pb::ErrorDetail> detail = GetErrorDetail(status);
  REQUIRE(detail.has_value());
  return *detail;
}

std::string Text(const absl::Status& status) { return std::string(status.message()); }

struct Case {
  absl::Status status;
  absl::StatusCode code;
  pb::ErrorReason reason;
  bool retryable;
  std::string message;
};

std::vector<Case> Cases() {
  using absl::StatusCode;
  return {
      {InvalidField("events[2].type", "must not be empty"), StatusCode::kInvalidArgument,
       pb::ERROR_REASON_INVALID_FIELD, false, "events[2].type: must not be empty"},
      {RequestIdReused(kRef, "r-1", "it had 2 events"), StatusCode::kInvalidArgument,
       pb::ERROR_REASON_REQUEST_ID_REUSED, false,
       "request_id r-1 was used before for another save of sales/order/A-1 (it had 2 events); use a fresh id for each "
       "new "
       "save"},
      {AggregateNotFound(kRef), StatusCode::kNotFound, pb::ERROR_REASON_AGGREGATE_NOT_FOUND, false,
       "aggregate sales/order/A-1 does not exist"},
      {AggregateNotFound(kRef, /*deleted=*/true), StatusCode::kNotFound, pb::ERROR_REASON_AGGREGATE_NOT_FOUND, false,
       "aggregate sales/order/A-1 is deleted"},
      {VersionNotFound(kRef, 9, 4), StatusCode::kNotFound, pb::ERROR_REASON_VERSION_NOT_FOUND, false,
       "aggregate sales/order/A-1 has no version 9 yet; it is at version 4"},
      {NothingRecordedBy(kRef, "2026-01-01T00:00:00Z", 4), StatusCode::kNotFound, pb::ERROR_REASON_VERSION_NOT_FOUND,
       false, "aggregate sales/order/A-1 did not exist yet at 2026-01-01T00:00:00Z"},
      {VersionConflict(kRef, 3, 5), StatusCode::kAborted, pb::ERROR_REASON_VERSION_CONFLICT, false,
       "aggregate sales/order/A-1 is at version 5, not at the expected version 3; load it and decide again"},
      {VersionConflict(kRef, 0, 5), StatusCode::kAborted, pb::ERROR_REASON_VERSION_CONFLICT, false,
       "aggregate sales/order/A-1 is at version 5, but must not exist; load it and decide again"},
      {VersionConflict(kRef, std::nullopt, 0), StatusCode::kAborted, pb::ERROR_REASON_VERSION_CONFLICT, false,
       "aggregate sales/order/A-1 does not exist, but must; load it and decide again"},
      {TooLarge({.name = "events[0].payload", .limit = 10, .value = 11, .config_key = "limits.max_event_size"},
                "send less at once"),
       StatusCode::kResourceExhausted, pb::ERROR_REASON_TOO_LARGE, false,
       "events[0].payload: 11 is over the limit of 10 (limits.max_event_size); send less at once"},
      {TooLarge({.name = "events", .limit = 1000, .value = 1001, .config_key = ""}, "split the save"),
       StatusCode::kResourceExhausted, pb::ERROR_REASON_TOO_LARGE, false,
       "events: 1001 is over the limit of 1000; split the save"},
      {StorageFull("stream S is full"), StatusCode::kResourceExhausted, pb::ERROR_REASON_STORAGE_FULL, false,
       "stream S is full; nothing of this request was stored, an operator must make room"},
      {Overloaded("too many saves wait"), StatusCode::kResourceExhausted, pb::ERROR_REASON_OVERLOADED, true,
       "too many saves wait; retry in a second"},
      {ForeignMessage(kRef, "S", 7), StatusCode::kFailedPrecondition, pb::ERROR_REASON_FOREIGN_MESSAGE, false,
       "the last message of aggregate sales/order/A-1 (stream S, sequence 7) was not written by persistd; an operator "
       "must find who publishes there, stop it, and restore the stream from a backup made before. Reads go on"},
      {TypeNotDeclared(kRef), StatusCode::kFailedPrecondition, pb::ERROR_REASON_TYPE_NOT_DECLARED, false,
       "aggregate type sales/order is not declared and repository.auto_create is false; declare it in "
       "repository.aggregates, or create it with CreateAggregateType"},
      {StorageUnsuitable("stream S must be of storage file"), StatusCode::kFailedPrecondition,
       pb::ERROR_REASON_STORAGE_UNSUITABLE, false, "stream S must be of storage file"},
      {NatsUnavailable("not connected"), StatusCode::kUnavailable, pb::ERROR_REASON_NATS_UNAVAILABLE, true,
       "not connected; nothing was stored, retry is safe"},
      {OutcomeUnknown(kRef, "the connection was lost"), StatusCode::kUnavailable, pb::ERROR_REASON_OUTCOME_UNKNOWN,
       true,
       "whether the save of sales/order/A-1 is stored is not known (the connection was lost); repeat it with the same "
       "request_id"},
      {WriteOutcomeUnknown("writing b/k", "no answer"), StatusCode::kUnavailable, pb::ERROR_REASON_OUTCOME_UNKNOWN,
       true, "writing b/k: whether it took place is not known (no answer); repeat the call"},
      {ShuttingDown(), StatusCode::kUnavailable, pb::ERROR_REASON_SHUTTING_DOWN, true,
       "the daemon is stopping; nothing was stored, retry is safe"},
      {CorruptData("S", 7, "header ce-id is missing"), StatusCode::kDataLoss, pb::ERROR_REASON_CORRUPT_DATA, false,
       "stream S, sequence 7: header ce-id is missing"},
      {HistoryRemoved(kRef, 5), StatusCode::kFailedPrecondition, pb::ERROR_REASON_HISTORY_REMOVED, false,
       "the events of aggregate sales/order/A-1 before version 5 were removed after a snapshot (retention: "
       "truncate_before_snapshot); ask for version 5 or a later one, or load the aggregate as it is now"},
      {HistoryRemoved(kRef, 5, "do that"), StatusCode::kFailedPrecondition, pb::ERROR_REASON_HISTORY_REMOVED, false,
       "the events of aggregate sales/order/A-1 before version 5 were removed after a snapshot (retention: "
       "truncate_before_snapshot); do that"},
      {Internal("a defect"), StatusCode::kInternal, pb::ERROR_REASON_INTERNAL, false, "a defect"},
      {ChecksFailed({{.ref = kRef, .expected = 3, .actual = 5}}), StatusCode::kAborted,
       pb::ERROR_REASON_VERSION_CONFLICT, false,
       "nothing was saved: sales/order/A-1 is at version 5, expected 3; load them and decide again"},
      {AggregateDeleted(kRef, 5), StatusCode::kFailedPrecondition, pb::ERROR_REASON_AGGREGATE_DELETED, false,
       "aggregate sales/order/A-1 is deleted; to undelete it, save with expected_version 5"},
      {SnapshotNotFound(kRef, 5), StatusCode::kNotFound, pb::ERROR_REASON_SNAPSHOT_NOT_FOUND, false,
       "aggregate sales/order/A-1 has no snapshot of version 5"},
      {NoState(kRef, 5), StatusCode::kFailedPrecondition, pb::ERROR_REASON_NO_STATE, false,
       "there is no state of aggregate sales/order/A-1 at version 5: none is stored and its type has no fold; give the "
       "state in the request"},
      {TransformFailed(kRef, "the fold failed"), StatusCode::kFailedPrecondition, pb::ERROR_REASON_TRANSFORM_FAILED,
       false, "aggregate sales/order/A-1: the fold failed"},
      {IndexNotReady("the index is being built"), StatusCode::kUnavailable, pb::ERROR_REASON_INDEX_NOT_READY, true,
       "the index is being built"},
      {PositionNotReached(kRef, "S:1:2"), StatusCode::kUnavailable, pb::ERROR_REASON_POSITION_NOT_REACHED, true,
       "the position S:1:2 was not reached in the call's time"},
      {TypeExists("sales", "order", "replicas"), StatusCode::kAlreadyExists, pb::ERROR_REASON_TYPE_EXISTS, false,
       "aggregate type sales/order exists with other settings: replicas"},
      {TypeNotFound("sales", "order"), StatusCode::kNotFound, pb::ERROR_REASON_TYPE_NOT_FOUND, false,
       "there is no aggregate type sales/order"},
      {BlockNotFound("bafy"), StatusCode::kNotFound, pb::ERROR_REASON_BLOCK_NOT_FOUND, false,
       "there is no block bafy, and the index of this daemon knows no event or payload of it"},
      {ChainNotFound({.context = "_chains", .aggregate = "chain", .entity_id = "audit"}), StatusCode::kNotFound,
       pb::ERROR_REASON_CHAIN_NOT_FOUND, false, "chain audit does not exist: nothing was appended to it"},
      {NotChained(kRef), StatusCode::kFailedPrecondition, pb::ERROR_REASON_NOT_CHAINED, false,
       "the last event of aggregate sales/order/A-1 has no content identifier: it was saved without "
       "repository.enable_ipld"},
      {ChainsAreOff(), StatusCode::kFailedPrecondition, pb::ERROR_REASON_NOT_CHAINED, false,
       "entries of a chain need content identifiers, which this daemon does not make; set repository.enable_ipld to "
       "true"},
      {ReadModelNotFound({.type = "products", .id = "a.1"}, true), StatusCode::kNotFound,
       pb::ERROR_REASON_READ_MODEL_NOT_FOUND, false, "read model products/a.1 was deleted"},
      {ReadModelNotFound({.type = "products", .id = "a.1"}, false), StatusCode::kNotFound,
       pb::ERROR_REASON_READ_MODEL_NOT_FOUND, false, "read model products/a.1 does not exist"},
      {RevisionConflict({.type = "products", .id = "a.1"}, 4, 7), StatusCode::kAborted,
       pb::ERROR_REASON_REVISION_CONFLICT, false,
       "read model products/a.1 was expected at revision 4, but it has revision 7"},
      {RevisionConflict({.type = "products", .id = "a.1"}, 4, 0), StatusCode::kAborted,
       pb::ERROR_REASON_REVISION_CONFLICT, false,
       "read model products/a.1 was expected at revision 4, but there is none"},
      {RevisionConflict({.type = "products", .id = "a.1"}, 0, 7), StatusCode::kAborted,
       pb::ERROR_REASON_REVISION_CONFLICT, false, "read model products/a.1 exists: it has revision 7"},
      {SchemaVersionDiffers({.type = "products", .id = "a.1"}, 1, 2), StatusCode::kFailedPrecondition,
       pb::ERROR_REASON_SCHEMA_VERSION_DIFFERS, false, "read model products/a.1 has schema version 2, not 1"},
  };
}

TEST_CASE("Every factory gives its code, reason, retry advice and message", "[domain]") {
  for (const Case& c : Cases()) {
    INFO(c.message);
    CHECK(c.status.code() == c.code);
    CHECK(DetailOf(c.status).reason() == c.reason);
    CHECK(HasReason(c.status, c.reason));
    CHECK(DetailOf(c.status).retryable() == c.retryable);
    CHECK(Text(c.status) == c.message);
  }
}

TEST_CASE("Every reason of the API has a factory", "[domain]") {
  std::set<int> made;
  for (const Case& c : Cases()) made.insert(DetailOf(c.status).reason());
  for (int reason = pb::ErrorReason_MIN; reason <= pb::ErrorReason_MAX; ++reason) {
    if (reason == pb::ERROR_REASON_UNSPECIFIED || !pb::ErrorReason_IsValid(reason)) continue;
    INFO(pb::ErrorReason_Name(reason));
    CHECK(made.count(reason) == 1);
  }
}

TEST_CASE("The details hold what a program needs", "[domain]") {
  const pb::ErrorDetail field = DetailOf(InvalidField("ref.context", "must not be empty"));
  CHECK(field.field_violation().field() == "ref.context");
  CHECK(field.field_violation().description() == "must not be empty");

  CHECK(DetailOf(AggregateNotFound(kRef, true)).deleted());
  CHECK_FALSE(DetailOf(AggregateNotFound(kRef)).deleted());
  for (const absl::Status& status :
       {RequestIdReused(kRef, "r", "d"), AggregateNotFound(kRef), VersionNotFound(kRef, 2, 1),
        NothingRecordedBy(kRef, "t", 1), VersionConflict(kRef, 1, 2), ForeignMessage(kRef, "S", 1),
        HistoryRemoved(kRef, 2), TypeNotDeclared(kRef), OutcomeUnknown(kRef, "w")}) {
    const pb::AggregateRef ref = DetailOf(status).ref();
    CHECK(AggregateRef{ref.context(), ref.aggregate(), ref.entity_id()} == kRef);
  }

  const pb::ErrorDetail::VersionConflict conflict = DetailOf(VersionConflict(kRef, 3, 5)).version_conflict();
  CHECK(conflict.expected_version() == 3);
  CHECK(conflict.actual_version() == 5);
  CHECK(DetailOf(VersionConflict(kRef, 0, 5)).version_conflict().has_expected_version());
  CHECK_FALSE(DetailOf(VersionConflict(kRef, std::nullopt, 0)).version_conflict().has_expected_version());
  CHECK(DetailOf(HistoryRemoved(kRef, 9)).history_removed().first_version() == 9);
  CHECK(DetailOf(VersionNotFound(kRef, 9, 4)).version_conflict().expected_version() == 9);
  CHECK(DetailOf(VersionNotFound(kRef, 9, 4)).version_conflict().actual_version() == 4);
  CHECK_FALSE(DetailOf(NothingRecordedBy(kRef, "t", 4)).version_conflict().has_expected_version());
  CHECK(DetailOf(NothingRecordedBy(kRef, "t", 4)).version_conflict().actual_version() == 4);

  const LimitExceeded exceeded{
      .name = "event streams", .limit = 200, .value = 201, .config_key = "repository.max_streams"};
  for (const absl::Status& status : {TooLarge(exceeded, "advice"), StorageFull("full", exceeded)}) {
    const pb::ErrorDetail::Limit limit = DetailOf(status).limit();
    CHECK(limit.name() == "event streams");
    CHECK(limit.limit() == 200);
    CHECK(limit.value() == 201);
    CHECK(limit.config_key() == "repository.max_streams");
  }
  CHECK_FALSE(DetailOf(StorageFull("full")).has_limit());
  CHECK(DetailOf(Overloaded("x")).retry_delay().seconds() == 1);

  const pb::ErrorDetail::DataLoss loss = DetailOf(CorruptData("S", 7, "bad")).data_loss();
  CHECK(loss.stream() == "S");
  CHECK(loss.sequence() == 7);
  CHECK(loss.description() == "bad");
}

TEST_CASE("A hostile entity id cannot drive the terminal that shows the message", "[domain]") {
  const std::string hostile = std::string("a\r\n\x1b[2J\"\\\0", 10) + "\xC2\x9B" + "31m\x7F";
  const AggregateRef ref{.context = "sales", .aggregate = "order", .entity_id = hostile};
  for (const absl::Status& status : {RequestIdReused(ref, "r", "d"), AggregateNotFound(ref), VersionNotFound(ref, 2, 1),
                                     NothingRecordedBy(ref, "t", 1), VersionConflict(ref, 1, 2),
                                     ForeignMessage(ref, "S", 1), TypeNotDeclared(ref), OutcomeUnknown(ref, "w")}) {
    const std::string text = Text(status);
    INFO(text);
    for (const char c : text) CHECK((static_cast<unsigned char>(c) >= 0x20 && c != '\x7F'));
    CHECK(text.find("\xC2\x9B") == std::string::npos);
    CHECK(DetailOf(status).ref().entity_id() == hostile);  // Programs get it as it is.
  }
  // Letters of any language stay readable.
  const AggregateRef umlaut{.context = "sales", .aggregate = "order", .entity_id = "\xC3\x9C\xC2\xA0\xE2\x82\xAC"};
  CHECK(Text(AggregateNotFound(umlaut)) == "aggregate sales/order/\xC3\x9C\xC2\xA0\xE2\x82\xAC does not exist");
}

TEST_CASE("A status that was not made here has no details", "[domain]") {
  CHECK_FALSE(GetErrorDetail(absl::OkStatus()).has_value());
  CHECK_FALSE(GetErrorDetail(absl::UnknownError("x")).has_value());
  absl::Status garbage = absl::UnknownError("x");
  garbage.SetPayload(kErrorDetailUrl, absl::Cord("\xFF\xFF\xFF"));
  CHECK_FALSE(GetErrorDetail(garbage).has_value());
  CHECK_FALSE(HasReason(garbage, pb::ERROR_REASON_INTERNAL));
}

}  // namespace
}  // namespace persistd::domain
