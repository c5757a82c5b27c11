#include "client/cpp/client.h"

#include "tests/client/cpp/fakes.h"
#include "tests/testing/catch.h"

namespace persistd::client {
namespace {

namespace pb = cim::persistence::v1;
using std::chrono::milliseconds;
using std::chrono::seconds;

const absl::Status kUnknownOutcome = Error(absl::StatusCode::kUnavailable, pb::ERROR_REASON_OUTCOME_UNKNOWN);
const absl::Status kNatsAway = Error(absl::StatusCode::kUnavailable, pb::ERROR_REASON_NATS_UNAVAILABLE);
const absl::Status kOverloaded = Error(absl::StatusCode::kResourceExhausted, pb::ERROR_REASON_OVERLOADED);
const absl::Status kConflict = Error(absl::StatusCode::kAborted, pb::ERROR_REASON_VERSION_CONFLICT);

struct Fixture {
  std::shared_ptr<FakeStub> stub = std::make_shared<FakeStub>();
  std::shared_ptr<FakeClock> clock = std::make_shared<FakeClock>();
  Client client{stub, {}, clock};
};

TEST_CASE_METHOD(Fixture, "A save is repeated with the same fresh request id until it succeeds", "[client]") {
  stub->saves = {absl::UnavailableError("reset"), kUnknownOutcome, kOverloaded, pb::SaveResponse()};
  REQUIRE(client.Save({}).ok());
  REQUIRE(stub->save_requests.size() == 4);
  CHECK(stub->save_requests[0].request_id().size() == 36);
  for (const auto& request : stub->save_requests) {
    CHECK(request.request_id() == stub->save_requests[0].request_id());
  }
  for (const auto deadline : stub->deadlines) CHECK(deadline == stub->deadlines[0]);
}

TEST_CASE_METHOD(Fixture, "Two saves get different request ids, and the caller's id is kept", "[client]") {
  stub->saves = {pb::SaveResponse()};
  pb::SaveRequest request;
  REQUIRE(client.Save(request).ok());
  REQUIRE(client.Save(request).ok());
  request.set_request_id("mine");
  REQUIRE(client.Save(request).ok());
  CHECK(stub->save_requests[0].request_id() != stub->save_requests[1].request_id());
  CHECK(stub->save_requests[2].request_id() == "mine");
}

TEST_CASE_METHOD(Fixture, "A version conflict is not repeated", "[client]") {
  stub->saves = {kConflict};
  const auto saved = client.Save({});
  CHECK(absl::IsAborted(saved.status()));
  CHECK(stub->save_requests.size() == 1);
  CHECK(clock->sleeps.empty());
}

TEST_CASE_METHOD(Fixture, "A save gives up at its deadline and says how often it tried", "[client]") {
  stub->saves = {kNatsAway};
  const auto start = clock->Now();
  const auto saved = client.Save({});
  CHECK(absl::IsUnavailable(saved.status()));
  CHECK(GetErrorDetail(saved.status())->reason() == pb::ERROR_REASON_NATS_UNAVAILABLE);
  CHECK_THAT(std::string(saved.status().message()),
             testing::ContainsText("after " + std::to_string(stub->save_requests.size()) + " attempts"));
  CHECK(stub->save_requests.size() > 10);
  CHECK(clock->Now() - start < seconds(30));
  CHECK(clock->Now() - start > seconds(27));
}

TEST_CASE_METHOD(Fixture, "An attempt with an unknown outcome is not hidden by later ones that got nowhere",
                 "[client]") {
  stub->saves = {kUnknownOutcome, kNatsAway};
  const auto away = client.Save({});
  CHECK(MayHaveBeenStored(away.status()));
  CHECK(GetErrorDetail(away.status())->reason() == pb::ERROR_REASON_OUTCOME_UNKNOWN);
  CHECK_THAT(std::string(away.status().message()), testing::ContainsText("NATS_UNAVAILABLE"));

  stub->saves = {absl::UnavailableError("reset"),
                 Error(absl::StatusCode::kResourceExhausted, pb::ERROR_REASON_STORAGE_FULL)};
  CHECK(MayHaveBeenStored(client.Save({}).status()));

  stub->saves = {kUnknownOutcome, Error(absl::StatusCode::kFailedPrecondition, pb::ERROR_REASON_NOT_CHAINED)};
  CHECK(MayHaveBeenStored(client.Save({}).status()));
}

TEST_CASE_METHOD(Fixture, "A conflict after an unknown outcome settles it", "[client]") {
  stub->saves = {kUnknownOutcome, kConflict};
  const auto saved = client.Save({});
  CHECK(absl::IsAborted(saved.status()));
  CHECK_FALSE(MayHaveBeenStored(saved.status()));
}

TEST_CASE_METHOD(Fixture, "Reads are repeated while the daemon is away", "[client]") {
  stub->loads = {absl::UnavailableError("reset"), kOverloaded, pb::LoadResponse()};
  CHECK(client.Load(Ref("sales", "order", "42")).ok());
  stub->loads = {kNatsAway, absl::NotFoundError("no such version")};
  CHECK(absl::IsNotFound(client.GetAtVersion({}).status()));
}

pb::VerifyChainResponse Progress(uint64_t verified) {
  pb::VerifyChainResponse response;
  response.mutable_progress()->set_verified(verified);
  return response;
}

pb::VerifyChainResponse Result(uint64_t verified) {
  pb::VerifyChainResponse response;
  response.mutable_result()->set_valid(true);
  response.mutable_result()->set_verified(verified);
  return response;
}

TEST_CASE_METHOD(Fixture, "A write of a read model is repeated with the same fresh request id", "[client]") {
  stub->read_model_saves = {kUnknownOutcome, kOverloaded, pb::SaveReadModelResponse()};
  REQUIRE(client.SaveReadModel({}).ok());
  REQUIRE(stub->read_model_requests.size() == 3);
  CHECK(stub->read_model_requests[0].request_id().size() == 36);
  CHECK(stub->read_model_requests[2].request_id() == stub->read_model_requests[0].request_id());
}

TEST_CASE_METHOD(Fixture, "A verification tells its progress, and begins anew when it breaks off", "[client]") {
  stub->verifications = {{.items = {Progress(1), Progress(2)}, .end = kNatsAway},
                         {.items = {Progress(3), Result(4)}, .end = absl::OkStatus()}};
  std::vector<uint64_t> told;
  const auto verification =
      client.VerifyChain({}, [&](const pb::VerifyProgress& progress) { told.push_back(progress.verified()); });
  REQUIRE(verification.ok());
  CHECK(verification->verified() == 4);
  CHECK(told == std::vector<uint64_t>{1, 2, 3});
}

TEST_CASE_METHOD(Fixture, "A verification that ends without a result has none", "[client]") {
  stub->verifications = {{.items = {Progress(1)}, .end = absl::OkStatus()}};
  CHECK(absl::IsInternal(client.VerifyChain({}, nullptr).status()));
  stub->verifications = {{.items = {}, .end = absl::NotFoundError("no such aggregate")}};
  CHECK(absl::IsNotFound(client.VerifyChain({}, nullptr).status()));
}

TEST_CASE_METHOD(Fixture, "An export is never repeated, for its beginning was given out, and can be stopped",
                 "[client]") {
  const auto piece = [](const std::string& data) {
    pb::ExportCarResponse response;
    response.set_data(data);
    return response;
  };
  stub->exports = {{.items = {piece("a"), piece("b")}, .end = kNatsAway},
                   {.items = {piece("a"), piece("b"), piece("c")}, .end = absl::OkStatus()}};
  std::string car;
  const auto take = [&car](const std::string& data) {
    car += data;
    return true;
  };
  CHECK(client.ExportCar({}, take) == kNatsAway);
  CHECK(car == "ab");
  car.clear();
  CHECK(client.ExportCar({}, take).ok());
  CHECK(car == "abc");
  int pieces = 0;
  CHECK(absl::IsCancelled(client.ExportCar({}, [&pieces](const std::string&) { return ++pieces < 2; })));
  CHECK(pieces == 2);
}

TEST_CASE("With max_elapsed zero nothing is repeated", "[client]") {
  const auto stub = std::make_shared<FakeStub>();
  stub->saves = {kNatsAway};
  const Client client(stub, {.retry = {.max_elapsed = milliseconds(0)}}, std::make_shared<FakeClock>());
  CHECK(client.Save({}).status() == kNatsAway);
  CHECK(stub->save_requests.size() == 1);
}

TEST_CASE("Connect refuses options that make no sense", "[client]") {
  CHECK(Client::Connect({}).ok());
  CHECK(absl::IsInvalidArgument(Client::Connect({.address = ""}).status()));
  CHECK(absl::IsInvalidArgument(Client::Connect({.default_timeout = seconds(0)}).status()));
  CHECK(absl::IsInvalidArgument(Client::Connect({.default_timeout = std::chrono::hours(25)}).status()));
  CHECK(absl::IsInvalidArgument(Client::Connect({.retry = {.jitter = 2}}).status()));
}

}  // namespace
}  // namespace persistd::client
