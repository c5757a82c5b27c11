#include "client/cpp/errors.h"

#include "tests/client/fake_server.h"
#include "tests/testing/catch.h"

namespace persistd::client {
namespace {

namespace pb = cim::persistence::v1;
using ::persistd::testing::DaemonError;

pb::ErrorDetail Conflict() {
  pb::ErrorDetail detail;
  detail.set_reason(pb::ERROR_REASON_VERSION_CONFLICT);
  detail.mutable_version_conflict()->set_expected_version(3);
  detail.mutable_version_conflict()->set_actual_version(5);
  return detail;
}

TEST_CASE("A daemon's error keeps its code, message and detail", "[client]") {
  const absl::Status status = FromGrpcStatus(DaemonError(grpc::StatusCode::ABORTED, "somebody was faster", Conflict()));
  CHECK(absl::IsAborted(status));
  CHECK(status.message() == "somebody was faster");
  const auto detail = GetErrorDetail(status);
  REQUIRE(detail.has_value());
  CHECK(detail->reason() == pb::ERROR_REASON_VERSION_CONFLICT);
  CHECK(detail->version_conflict().expected_version() == 3);
  CHECK(detail->version_conflict().actual_version() == 5);
}

TEST_CASE("An annotated error keeps its code and detail", "[client]") {
  const absl::Status status =
      Annotate(FromGrpcStatus(DaemonError(grpc::StatusCode::ABORTED, "stale", Conflict())), "after 2 attempts");
  CHECK(absl::IsAborted(status));
  CHECK(status.message() == "stale (after 2 attempts)");
  CHECK(GetErrorDetail(status).has_value());
}

TEST_CASE("An error without details, with broken or with foreign ones has no ErrorDetail", "[client]") {
  CHECK(FromGrpcStatus(grpc::Status::OK).ok());
  CHECK_FALSE(GetErrorDetail(absl::OkStatus()).has_value());
  CHECK_FALSE(GetErrorDetail(FromGrpcStatus({grpc::StatusCode::UNAVAILABLE, "no route"})).has_value());

  const absl::Status broken = FromGrpcStatus({grpc::StatusCode::INTERNAL, "odd", "\xff\xff\xff"});
  CHECK(absl::IsInternal(broken));
  CHECK_FALSE(GetErrorDetail(broken).has_value());

  pb::Status foreign;
  foreign.add_details()->PackFrom(pb::SaveRequest());
  foreign.add_details()->set_type_url("type.googleapis.com/cim.persistence.v1.ErrorDetail");
  foreign.mutable_details(1)->set_value("\xff");
  CHECK_FALSE(
      GetErrorDetail(FromGrpcStatus({grpc::StatusCode::INTERNAL, "odd", foreign.SerializeAsString()})).has_value());
}

TEST_CASE("A save may be stored unless the daemon's error says otherwise", "[client]") {
  const auto error = [](grpc::StatusCode code, pb::ErrorReason reason) {
    return FromGrpcStatus(DaemonError(code, reason));
  };
  CHECK(MayHaveBeenStored(absl::UnavailableError("connection reset")));
  CHECK(MayHaveBeenStored(absl::DeadlineExceededError("too late")));
  CHECK(MayHaveBeenStored(error(grpc::StatusCode::UNAVAILABLE, pb::ERROR_REASON_OUTCOME_UNKNOWN)));
  CHECK(MayHaveBeenStored(error(grpc::StatusCode::INTERNAL, pb::ERROR_REASON_INTERNAL)));

  CHECK_FALSE(MayHaveBeenStored(absl::OkStatus()));
  CHECK_FALSE(MayHaveBeenStored(absl::UnimplementedError("old daemon")));
  CHECK_FALSE(MayHaveBeenStored(error(grpc::StatusCode::UNAVAILABLE, pb::ERROR_REASON_NATS_UNAVAILABLE)));
  CHECK_FALSE(MayHaveBeenStored(error(grpc::StatusCode::UNAVAILABLE, pb::ERROR_REASON_SHUTTING_DOWN)));
  CHECK_FALSE(MayHaveBeenStored(error(grpc::StatusCode::ABORTED, pb::ERROR_REASON_VERSION_CONFLICT)));
  CHECK_FALSE(MayHaveBeenStored(error(grpc::StatusCode::RESOURCE_EXHAUSTED, pb::ERROR_REASON_OVERLOADED)));
}

}  // namespace
}  // namespace persistd::client
