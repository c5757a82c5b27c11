#include "server/rpc/grpc_status.h"

#include <fstream>
#include <functional>
#include <map>
#include <optional>
#include <regex>
#include <string>

#include "cim/persistence/v1/errors.pb.h"
#include "server/domain/errors.h"
#include "tests/testing/catch.h"
#include "tests/testing/must.h"
#include "tests/testing/runfiles.h"

namespace persistd::rpc {
namespace {

namespace pb = cim::persistence::v1;

const domain::AggregateRef kRef{.context = "sales", .aggregate = "order", .entity_id = "42"};

// Each reason with the way to make it. A reason that is added to errors.proto must be added here.
const std::map<pb::ErrorReason, absl::Status>& Samples() {
  static const std::map<pb::ErrorReason, absl::Status> samples{
      {pb::ERROR_REASON_INVALID_FIELD, domain::InvalidField("a", "b")},
      {pb::ERROR_REASON_REQUEST_ID_REUSED, domain::RequestIdReused(kRef, "id", "other events")},
      {pb::ERROR_REASON_AGGREGATE_NOT_FOUND, domain::AggregateNotFound(kRef)},
      {pb::ERROR_REASON_VERSION_NOT_FOUND, domain::VersionNotFound(kRef, 3, 2)},
      {pb::ERROR_REASON_VERSION_CONFLICT, domain::VersionConflict(kRef, 3, 2)},
      {pb::ERROR_REASON_TOO_LARGE, domain::TooLarge({.name = "a", .limit = 1, .value = 2, .config_key = ""}, "less")},
      {pb::ERROR_REASON_STORAGE_FULL, domain::StorageFull("the disk is full")},
      {pb::ERROR_REASON_OVERLOADED, domain::Overloaded("too much")},
      {pb::ERROR_REASON_FOREIGN_MESSAGE, domain::ForeignMessage(kRef, "S", 1)},
      {pb::ERROR_REASON_TYPE_NOT_DECLARED, domain::TypeNotDeclared(kRef)},
      {pb::ERROR_REASON_STORAGE_UNSUITABLE, domain::StorageUnsuitable("too old")},
      {pb::ERROR_REASON_NATS_UNAVAILABLE, domain::NatsUnavailable("away")},
      {pb::ERROR_REASON_OUTCOME_UNKNOWN, domain::OutcomeUnknown(kRef, "timeout")},
      {pb::ERROR_REASON_SHUTTING_DOWN, domain::ShuttingDown()},
      {pb::ERROR_REASON_CORRUPT_DATA, domain::CorruptData("S", 1, "gone")},
      {pb::ERROR_REASON_INTERNAL, domain::Internal("a defect")},
      {pb::ERROR_REASON_AGGREGATE_DELETED, domain::AggregateDeleted(kRef, 3)},
      {pb::ERROR_REASON_SNAPSHOT_NOT_FOUND, domain::SnapshotNotFound(kRef, 3)},
      {pb::ERROR_REASON_NO_STATE, domain::NoState(kRef, 3)},
      {pb::ERROR_REASON_TRANSFORM_FAILED, domain::TransformFailed(kRef, "a program failed")},
      {pb::ERROR_REASON_INDEX_NOT_READY, domain::IndexNotReady("being built")},
      {pb::ERROR_REASON_POSITION_NOT_REACHED, domain::PositionNotReached(kRef, "S:1:2")},
      {pb::ERROR_REASON_TYPE_EXISTS, domain::TypeExists("sales", "order", "other replicas")},
      {pb::ERROR_REASON_TYPE_NOT_FOUND, domain::TypeNotFound("sales", "order")},
      {pb::ERROR_REASON_BLOCK_NOT_FOUND, domain::BlockNotFound("bafy")},
      {pb::ERROR_REASON_CHAIN_NOT_FOUND, domain::ChainNotFound(kRef)},
      {pb::ERROR_REASON_NOT_CHAINED, domain::ChainsAreOff()},
      {pb::ERROR_REASON_READ_MODEL_NOT_FOUND, domain::ReadModelNotFound({.type = "t", .id = "1"}, true)},
      {pb::ERROR_REASON_REVISION_CONFLICT, domain::RevisionConflict({.type = "t", .id = "1"}, 1, 2)},
      {pb::ERROR_REASON_SCHEMA_VERSION_DIFFERS, domain::SchemaVersionDiffers({.type = "t", .id = "1"}, 1, 2)},
      {pb::ERROR_REASON_HISTORY_REMOVED, domain::HistoryRemoved(kRef, 3)},
  };
  return samples;
}

// What the comments of errors.proto promise: the name of a value to the name of its gRPC code.
std::map<std::string, std::string> DocumentedCodes() {
  std::ifstream file(testing::Must(testing::Runfile("persistd/proto/cim/persistence/v1/errors.proto")));
  REQUIRE(file.good());
  const std::regex code_line(R"(^  // ([A-Z_]+)\. Cause:.*)");
  const std::regex value_line(R"(^  (ERROR_REASON_[A-Z_]+) = \d+;)");
  std::map<std::string, std::string> codes;
  std::string code;
  std::smatch match;
  for (std::string line; std::getline(file, line);) {
    if (std::regex_match(line, match, code_line)) code = match[1];
    if (std::regex_match(line, match, value_line)) codes[match[1]] = std::exchange(code, "");
  }
  return codes;
}

std::optional<pb::ErrorDetail> DetailOf(const grpc::Status& status) {
  pb::Status wire;
  pb::ErrorDetail detail;
  if (!wire.ParseFromString(status.error_details()) || wire.details_size() != 1) return std::nullopt;
  if (wire.code() != status.error_code() || wire.message() != status.error_message()) return std::nullopt;
  if (!wire.details(0).UnpackTo(&detail)) return std::nullopt;
  return detail;
}

TEST_CASE("Every error reason gets the gRPC code that its comment names") {
  const std::map<std::string, std::string> documented = DocumentedCodes();
  const google::protobuf::EnumDescriptor* reasons = pb::ErrorReason_descriptor();
  for (int i = 0; i < reasons->value_count(); ++i) {
    const auto reason = static_cast<pb::ErrorReason>(reasons->value(i)->number());
    if (reason == pb::ERROR_REASON_UNSPECIFIED) continue;
    const std::string& name = reasons->value(i)->name();
    CAPTURE(name);
    REQUIRE(Samples().count(reason) == 1);
    REQUIRE(documented.count(name) == 1);
    const absl::Status& sample = Samples().at(reason);
    const grpc::Status status = ToGrpcStatus(sample);
    CHECK(absl::StatusCodeToString(static_cast<absl::StatusCode>(status.error_code())) == documented.at(name));
    CHECK(status.error_message() == sample.message());
    const auto detail = DetailOf(status);
    REQUIRE(detail.has_value());
    CHECK(detail->reason() == reason);
  }
}

TEST_CASE("An error inside an answer is the one that a failed call carries") {
  for (const auto& [reason, sample] : Samples()) {
    pb::Status trailer;
    REQUIRE(trailer.ParseFromString(ToGrpcStatus(sample).error_details()));
    CHECK(ToWireStatus(sample).SerializeAsString() == trailer.SerializeAsString());
  }
  CHECK(ToWireStatus(absl::CancelledError("gone")).code() == grpc::StatusCode::CANCELLED);
  const pb::Status defect = ToWireStatus(absl::UnknownError("secret"));
  CHECK(defect.code() == grpc::StatusCode::INTERNAL);
  CHECK(defect.SerializeAsString().find("secret") == std::string::npos);
}

TEST_CASE("OK is OK") { CHECK(ToGrpcStatus(absl::OkStatus()).ok()); }

TEST_CASE("A cancelled call needs no detail") {
  const grpc::Status status = ToGrpcStatus(absl::CancelledError("the client went away"));
  CHECK(status.error_code() == grpc::StatusCode::CANCELLED);
  CHECK(status.error_message() == "the client went away");
}

TEST_CASE("A status without a reason is a defect and tells nothing but an id") {
  for (const absl::Status& status : {absl::NotFoundError("secret"), absl::UnknownError("secret"),
                                     absl::Status(static_cast<absl::StatusCode>(99), "secret")}) {
    const grpc::Status wire = ToGrpcStatus(status);
    CHECK(wire.error_code() == grpc::StatusCode::INTERNAL);
    CHECK(wire.error_message().find("secret") == std::string::npos);
    CHECK_THAT(wire.error_message(), testing::ContainsText("log"));
    CHECK(DetailOf(wire).value().reason() == pb::ERROR_REASON_INTERNAL);
  }
}

TEST_CASE("A long message is cut between characters, so that trailers stay small") {
  std::string text;
  for (int i = 0; i < 2000; ++i) text += "ä";
  const grpc::Status status = ToGrpcStatus(domain::Internal("x" + text));
  CHECK(status.error_message().size() <= 1030);
  CHECK(status.error_message().substr(status.error_message().size() - 5) == "ä...");
  CHECK(DetailOf(status).has_value());
}

}  // namespace
}  // namespace persistd::rpc
