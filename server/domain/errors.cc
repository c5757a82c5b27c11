#include "server/domain/errors.h"

#include "absl/strings/cord.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace persistd::domain {
namespace {

namespace pb = cim::persistence::v1;

constexpr int kOverloadRetrySeconds = 1;

absl::Status Make(absl::StatusCode code, absl::string_view message, const pb::ErrorDetail& detail) {
  absl::Status status(code, message);
  status.SetPayload(kErrorDetailUrl, absl::Cord(detail.SerializeAsString()));
  return status;
}

pb::ErrorDetail Detail(pb::ErrorReason reason, bool retryable = false) {
  pb::ErrorDetail detail;
  detail.set_reason(reason);
  detail.set_retryable(retryable);
  return detail;
}

void SetRef(const AggregateRef& ref, pb::ErrorDetail& detail) {
  detail.mutable_ref()->set_context(ref.context);
  detail.mutable_ref()->set_aggregate(ref.aggregate);
  detail.mutable_ref()->set_entity_id(ref.entity_id);
}

// gRPC status messages are shown on terminals: entity ids may hold anything, so what a terminal obeys is escaped.
std::string Printable(absl::string_view text) {
  std::string out;
  size_t done = 0;
  for (size_t i = 0; i + 1 < text.size(); ++i) {
    // U+0080 to U+009F, the second set of control characters, which Utf8SafeCHexEscape leaves.
    if (text[i] != '\xC2' || static_cast<unsigned char>(text[i + 1]) > 0x9F) continue;
    absl::StrAppend(&out, absl::Utf8SafeCHexEscape(text.substr(done, i - done)), absl::CHexEscape(text.substr(i, 2)));
    done = i + 2;
  }
  return absl::StrCat(out, absl::Utf8SafeCHexEscape(text.substr(done)));
}

std::string Name(const AggregateRef& ref) {
  if (IsChain(ref)) return absl::StrCat("chain ", Printable(ref.entity_id));
  return absl::StrCat(ref.context, "/", ref.aggregate, "/", Printable(ref.entity_id));
}

// At the beginning of a message, or after `of`.
std::string Name(const ReadModelKey& key) { return absl::StrCat(key.type, "/", Printable(key.id)); }

void SetKey(const ReadModelKey& key, pb::ErrorDetail& detail) {
  detail.mutable_read_model()->set_type(key.type);
  detail.mutable_read_model()->set_id(key.id);
}

std::string Called(const AggregateRef& ref) { return absl::StrCat(IsChain(ref) ? "" : "aggregate ", Name(ref)); }

void SetLimit(const LimitExceeded& limit, pb::ErrorDetail& detail) {
  detail.mutable_limit()->set_name(limit.name);
  detail.mutable_limit()->set_limit(limit.limit);
  detail.mutable_limit()->set_value(limit.value);
  detail.mutable_limit()->set_config_key(limit.config_key);
}

}  // namespace

std::optional<pb::ErrorDetail> GetErrorDetail(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kErrorDetailUrl);
  pb::ErrorDetail detail;
  if (!payload.has_value() || !detail.ParseFromString(std::string(*payload))) return std::nullopt;
  return detail;
}

bool HasReason(const absl::Status& status, pb::ErrorReason reason) {
  const std::optional<pb::ErrorDetail> detail = GetErrorDetail(status);
  return detail.has_value() && detail->reason() == reason;
}

absl::Status InvalidField(absl::string_view field, absl::string_view description) {
  pb::ErrorDetail detail = Detail(pb::ERROR_REASON_INVALID_FIELD);
  detail.mutable_field_violation()->set_field(std::string(field));
  detail.mutable_field_violation()->set_description(std::string(description));
  return Make(absl::StatusCode::kInvalidArgument, absl::StrCat(field, ": ", description), detail);
}

absl::Status RequestIdReused(const AggregateRef& ref, absl::string_view request_id, absl::string_view difference) {
  pb::ErrorDetail detail = Detail(pb::ERROR_REASON_REQUEST_ID_REUSED);
  SetRef(ref, detail);
  return Make(absl::StatusCode::kInvalidArgument,
              absl::StrCat("request_id ", request_id, " was used before for another save of ", Name(ref), " (",
                           difference, "); use a fresh id for each new save"),
              detail);
}

absl::Status AggregateNotFound(const AggregateRef& ref, bool deleted) {
  pb::ErrorDetail detail = Detail(pb::ERROR_REASON_AGGREGATE_NOT_FOUND);
  SetRef(ref, detail);
  detail.set_deleted(deleted);
  return Make(absl::StatusCode::kNotFound, absl::StrCat(Called(ref), deleted ? " is deleted" : " does not exist"),
              detail);
}

absl::Status VersionNotFound(const AggregateRef& ref, uint64_t wanted, uint64_t actual) {
  pb::ErrorDetail detail = Detail(pb::ERROR_REASON_VERSION_NOT_FOUND);
  SetRef(ref, detail);
  detail.mutable_version_conflict()->set_expected_version(wanted);
  detail.mutable_version_conflict()->set_actual_version(actual);
  return Make(absl::StatusCode::kNotFound,
              absl::StrCat(Called(ref), " has no version ", wanted, " yet; it is at version ", actual), detail);
}

absl::Status NothingRecordedBy(const AggregateRef& ref, absl::string_view time, uint64_t actual) {
  pb::ErrorDetail detail = Detail(pb::ERROR_REASON_VERSION_NOT_FOUND);
  SetRef(ref, detail);
  detail.mutable_version_conflict()->set_actual_version(actual);
  return Make(absl::StatusCode::kNotFound, absl::StrCat(Called(ref), " did not exist yet at ", time), detail);
}

absl::Status VersionConflict(const AggregateRef& ref, std::optional<uint64_t> expected, uint64_t actual) {
  pb::ErrorDetail detail = Detail(pb::ERROR_REASON_VERSION_CONFLICT);
  SetRef(ref, detail);
  if (expected.has_value()) detail.mutable_version_conflict()->set_expected_version(*expected);
  detail.mutable_version_conflict()->set_actual_version(actual);
  std::string message = absl::StrCat(Called(ref), " is at version ", actual);
  if (!expected.has_value()) {
    message = absl::StrCat(Called(ref), " does not exist, but must");
  } else if (*expected == 0) {
    absl::StrAppend(&message, ", but must not exist");
  } else {
    absl::StrAppend(&message, ", not at the expected version ", *expected);
  }
  return Make(absl::StatusCode::kAborted, absl::StrCat(message, "; load it and decide again"), detail);
}

absl::Status TooLarge(const LimitExceeded& limit, absl::string_view advice) {
  pb::ErrorDetail detail = Detail(pb::ERROR_REASON_TOO_LARGE);
  SetLimit(limit, detail);
  std::string message = absl::StrCat(limit.name, ": ", limit.value, " is over the limit of ", limit.limit);
  if (!limit.config_key.empty()) absl::StrAppend(&message, " (", limit.config_key, ")");
  return Make(absl::StatusCode::kResourceExhausted, absl::StrCat(message, "; ", advice), detail);
}

absl::Status StorageFull(absl::string_view what, const std::optional<LimitExceeded>& limit) {
  pb::ErrorDetail detail = Detail(pb::ERROR_REASON_STORAGE_FULL);
  if (limit.has_value()) SetLimit(*limit, detail);
  return Make(absl::StatusCode::kResourceExhausted,
              absl::StrCat(what, "; nothing of this request was stored, an operator must make room"), detail);
}

absl::Status Overloaded(absl::string_view what, const std::optional<LimitExceeded>& limit) {
  pb::ErrorDetail detail = Detail(pb::ERROR_REASON_OVERLOADED, /*retryable=*/true);
  if (limit.has_value()) SetLimit(*limit, detail);
  detail.mutable_retry_delay()->set_seconds(kOverloadRetrySeconds);
  return Make(absl::StatusCode::kResourceExhausted, absl::StrCat(what, "; retry in a second"), detail);
}

absl::Status ForeignMessage(const AggregateRef& ref, absl::string_view stream, uint64_t sequence) {
  pb::ErrorDetail detail = Detail(pb::ERROR_REASON_FOREIGN_MESSAGE);
  SetRef(ref, detail);
  return Make(
      absl::StatusCode::kFailedPrecondition,
      absl::StrCat("the last message of ", Called(ref), " (stream ", stream, ", sequence ", sequence,
                   ") was not written by persistd; an operator must find who publishes there, stop it, and restore "
                   "the stream from a backup made before. Reads go on"),
      detail);
}

absl::Status TypeNotDeclared(const AggregateRef& ref) {
  pb::ErrorDetail detail = Detail(pb::ERROR_REASON_TYPE_NOT_DECLARED);
  SetRef(ref, detail);
  return Make(absl::StatusCode::kFailedPrecondition,
              absl::StrCat("aggregate type ", ref.context, "/", ref.aggregate,
                           " is not declared and repository.auto_create is false; declare it in "
                           "repository.aggregates, or create it with CreateAggregateType"),
              detail);
}

absl::Status StorageUnsuitable(absl::string_view what) {
  return Make(absl::StatusCode::kFailedPrecondition, what, Detail(pb::ERROR_REASON_STORAGE_UNSUITABLE));
}

absl::Status NatsUnavailable(absl::string_view what) {
  return Make(absl::StatusCode::kUnavailable, absl::StrCat(what, "; nothing was stored, retry is safe"),
              Detail(pb::ERROR_REASON_NATS_UNAVAILABLE, /*retryable=*/true));
}

absl::Status OutcomeUnknown(const AggregateRef& ref, absl::string_view why, bool repeatable) {
  pb::ErrorDetail detail = Detail(pb::ERROR_REASON_OUTCOME_UNKNOWN, /*retryable=*/repeatable);
  SetRef(ref, detail);
  return Make(absl::StatusCode::kUnavailable,
              absl::StrCat("whether the save of ", Name(ref), " is stored is not known (", why, "); ",
                           repeatable ? "repeat it with the same request_id"
                                      : "it had no request_id, so look at the aggregate before you save it again"),
              detail);
}

absl::Status WriteOutcomeUnknown(absl::string_view what, absl::string_view why) {
  return Make(absl::StatusCode::kUnavailable,
              absl::StrCat(what, ": whether it took place is not known (", why, "); repeat the call"),
              Detail(pb::ERROR_REASON_OUTCOME_UNKNOWN, /*retryable=*/true));
}

absl::Status ShuttingDown() {
  return Make(absl::StatusCode::kUnavailable, "the daemon is stopping; nothing was stored, retry is safe",
              Detail(pb::ERROR_REASON_SHUTTING_DOWN, /*retryable=*/true));
}

absl::Status CorruptData(absl::string_view stream, uint64_t sequence, absl::string_view what, const CidPair& cids) {
  pb::ErrorDetail detail = Detail(pb::ERROR_REASON_CORRUPT_DATA);
  detail.mutable_data_loss()->set_stream(std::string(stream));
  detail.mutable_data_loss()->set_sequence(sequence);
  detail.mutable_data_loss()->set_description(std::string(what));
  detail.mutable_data_loss()->set_expected_cid(cids.expected);
  detail.mutable_data_loss()->set_actual_cid(cids.actual);
  return Make(absl::StatusCode::kDataLoss, absl::StrCat("stream ", stream, ", sequence ", sequence, ": ", what),
              detail);
}

absl::Status Internal(absl::string_view what) {
  return Make(absl::StatusCode::kInternal, what, Detail(pb::ERROR_REASON_INTERNAL));
}

absl::Status HistoryRemoved(const AggregateRef& ref, uint64_t first_version, absl::string_view advice) {
  pb::ErrorDetail detail = Detail(pb::ERROR_REASON_HISTORY_REMOVED);
  SetRef(ref, detail);
  detail.mutable_history_removed()->set_first_version(first_version);
  const std::string later =
      absl::StrCat("ask for version ", first_version, " or a later one, or load the aggregate as it is now");
  return Make(absl::StatusCode::kFailedPrecondition,
              absl::StrCat("the events of ", Called(ref), " before version ", first_version,
                           " were removed after a snapshot (retention: truncate_before_snapshot); ",
                           advice.empty() ? absl::string_view(later) : advice),
              detail);
}

absl::Status ChecksFailed(const std::vector<FailedCheck>& failed) {
  const FailedCheck& first = failed.front();
  pb::ErrorDetail detail = *GetErrorDetail(VersionConflict(first.ref, first.expected, first.actual));
  std::string message;
  for (const FailedCheck& check : failed) {
    pb::ErrorDetail::FailedCheck& listed = *detail.add_failed_checks();
    listed.mutable_ref()->set_context(check.ref.context);
    listed.mutable_ref()->set_aggregate(check.ref.aggregate);
    listed.mutable_ref()->set_entity_id(check.ref.entity_id);
    if (check.expected.has_value()) listed.mutable_conflict()->set_expected_version(*check.expected);
    listed.mutable_conflict()->set_actual_version(check.actual);
    listed.set_deleted(check.deleted);
    absl::StrAppend(&message, message.empty() ? "" : ", ", Name(check.ref), " is at version ", check.actual,
                    check.deleted ? " (deleted)" : "",
                    check.expected.has_value() ? absl::StrCat(", expected ", *check.expected) : ", but must exist");
  }
  return Make(absl::StatusCode::kAborted, absl::StrCat("nothing was saved: ", message, "; load them and decide again"),
              detail);
}

absl::Status AggregateDeleted(const AggregateRef& ref, uint64_t actual) {
  pb::ErrorDetail detail = Detail(pb::ERROR_REASON_AGGREGATE_DELETED);
  SetRef(ref, detail);
  detail.set_deleted(true);
  detail.mutable_version_conflict()->set_actual_version(actual);
  return Make(absl::StatusCode::kFailedPrecondition,
              absl::StrCat(Called(ref), " is deleted; to undelete it, save with expected_version ", actual), detail);
}

absl::Status SnapshotNotFound(const AggregateRef& ref, uint64_t version) {
  pb::ErrorDetail detail = Detail(pb::ERROR_REASON_SNAPSHOT_NOT_FOUND);
  SetRef(ref, detail);
  return Make(absl::StatusCode::kNotFound, absl::StrCat(Called(ref), " has no snapshot of version ", version), detail);
}

absl::Status NoState(const AggregateRef& ref, uint64_t version) {
  pb::ErrorDetail detail = Detail(pb::ERROR_REASON_NO_STATE);
  SetRef(ref, detail);
  return Make(absl::StatusCode::kFailedPrecondition,
              absl::StrCat("there is no state of ", Called(ref), " at version ", version,
                           ": none is stored and its type has no fold; give the state in the request"),
              detail);
}

absl::Status TransformFailed(const AggregateRef& ref, absl::string_view what) {
  pb::ErrorDetail detail = Detail(pb::ERROR_REASON_TRANSFORM_FAILED);
  SetRef(ref, detail);
  return Make(absl::StatusCode::kFailedPrecondition, absl::StrCat(Called(ref), ": ", what), detail);
}

absl::Status IndexNotReady(absl::string_view what) {
  pb::ErrorDetail detail = Detail(pb::ERROR_REASON_INDEX_NOT_READY, /*retryable=*/true);
  detail.mutable_retry_delay()->set_seconds(kOverloadRetrySeconds);
  return Make(absl::StatusCode::kUnavailable, what, detail);
}

absl::Status PositionNotReached(const AggregateRef& ref, absl::string_view position) {
  pb::ErrorDetail detail = Detail(pb::ERROR_REASON_POSITION_NOT_REACHED, /*retryable=*/true);
  SetRef(ref, detail);
  return Make(absl::StatusCode::kUnavailable,
              absl::StrCat("the position ", position, " was not reached in the call's time"), detail);
}

absl::Status TypeExists(absl::string_view context, absl::string_view aggregate, absl::string_view difference) {
  return Make(absl::StatusCode::kAlreadyExists,
              absl::StrCat("aggregate type ", context, "/", aggregate, " exists with other settings: ", difference),
              Detail(pb::ERROR_REASON_TYPE_EXISTS));
}

absl::Status BlockNotFound(absl::string_view cid) {
  return Make(absl::StatusCode::kNotFound,
              absl::StrCat("there is no block ", cid, ", and the index of this daemon knows no event or payload of it"),
              Detail(pb::ERROR_REASON_BLOCK_NOT_FOUND));
}

absl::Status ChainNotFound(const AggregateRef& chain) {
  pb::ErrorDetail detail = Detail(pb::ERROR_REASON_CHAIN_NOT_FOUND);
  SetRef(chain, detail);
  return Make(absl::StatusCode::kNotFound, absl::StrCat(Called(chain), " does not exist: nothing was appended to it"),
              detail);
}

absl::Status NotChained(const AggregateRef& ref) {
  pb::ErrorDetail detail = Detail(pb::ERROR_REASON_NOT_CHAINED);
  SetRef(ref, detail);
  return Make(absl::StatusCode::kFailedPrecondition,
              absl::StrCat("the last event of ", Called(ref),
                           " has no content identifier: it was saved without repository.enable_ipld"),
              detail);
}

absl::Status ChainsAreOff() {
  return Make(
      absl::StatusCode::kFailedPrecondition,
      "entries of a chain need content identifiers, which this daemon does not make; set repository.enable_ipld "
      "to true",
      Detail(pb::ERROR_REASON_NOT_CHAINED));
}

absl::Status ReadModelNotFound(const ReadModelKey& key, bool deleted) {
  pb::ErrorDetail detail = Detail(pb::ERROR_REASON_READ_MODEL_NOT_FOUND);
  SetKey(key, detail);
  detail.set_deleted(deleted);
  return Make(absl::StatusCode::kNotFound,
              absl::StrCat("read model ", Name(key), deleted ? " was deleted" : " does not exist"), detail);
}

absl::Status RevisionConflict(const ReadModelKey& key, uint64_t expected, uint64_t actual) {
  pb::ErrorDetail detail = Detail(pb::ERROR_REASON_REVISION_CONFLICT);
  SetKey(key, detail);
  detail.mutable_revision_conflict()->set_expected_revision(expected);
  detail.mutable_revision_conflict()->set_actual_revision(actual);
  const std::string there = actual == 0 ? "there is none" : absl::StrCat("it has revision ", actual);
  return Make(absl::StatusCode::kAborted,
              expected == 0
                  ? absl::StrCat("read model ", Name(key), " exists: ", there)
                  : absl::StrCat("read model ", Name(key), " was expected at revision ", expected, ", but ", there),
              detail);
}

absl::Status SchemaVersionDiffers(const ReadModelKey& key, uint32_t expected, uint32_t actual) {
  pb::ErrorDetail detail = Detail(pb::ERROR_REASON_SCHEMA_VERSION_DIFFERS);
  SetKey(key, detail);
  detail.mutable_schema_versions()->set_expected(expected);
  detail.mutable_schema_versions()->set_actual(actual);
  return Make(absl::StatusCode::kFailedPrecondition,
              absl::StrCat("read model ", Name(key), " has schema version ", actual, ", not ", expected), detail);
}

absl::Status TypeNotFound(absl::string_view context, absl::string_view aggregate) {
  return Make(absl::StatusCode::kNotFound, absl::StrCat("there is no aggregate type ", context, "/", aggregate),
              Detail(pb::ERROR_REASON_TYPE_NOT_FOUND));
}

}  // namespace persistd::domain
