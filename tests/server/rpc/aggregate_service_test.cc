// The services over the wire, with a repository whose answers the test writes.
#include "server/rpc/aggregate_service.h"

#include <string>
#include <vector>

#include "cim/persistence/v1/admin.grpc.pb.h"
#include "cim/persistence/v1/aggregates.grpc.pb.h"
#include "server/base/rfc3339.h"
#include "server/domain/errors.h"
#include "server/rpc/admin_service.h"
#include "tests/server/rpc/fake_repository.h"
#include "tests/server/rpc/rpc_testing.h"
#include "tests/testing/catch.h"

namespace persistd::rpc {
namespace {

namespace pb = cim::persistence::v1;
using testing::DetailOf;
using testing::NewContext;

constexpr char kTrace[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const base::WallTime kTime = *base::ParseRfc3339("1969-12-31T23:59:59.250Z");
const domain::AggregateRef kRef{.context = "sales", .aggregate = "order", .entity_id = "a.b"};

domain::Position PositionOf(uint64_t sequence) {
  return domain::Position({.stream = "S", .incarnation = 5, .sequence = sequence});
}

repository::AggregateInfo Info() {
  return {.ref = kRef,
          .version = 2,
          .state_schema_version = 3,
          .last_modified = kTime,
          .state_cid = "state-cid",
          .head_cid = "head-cid",
          .tags = {"t1", "t2"},
          .metadata = {{"k", "v"}},
          .position = PositionOf(9)};
}

void CheckInfo(const pb::AggregateMetadata& info) {
  CHECK(info.ref().context() == "sales");
  CHECK(info.ref().aggregate() == "order");
  CHECK(info.ref().entity_id() == "a.b");
  CHECK(info.version() == 2);
  CHECK(info.state_schema_version() == 3);
  CHECK(info.last_modified().seconds() == -1);
  CHECK(info.last_modified().nanos() == 250'000'000);
  CHECK(info.state_cid() == "state-cid");
  CHECK(info.head_cid() == "head-cid");
  CHECK(info.subject() == "cim.events.sales.order.a=2Eb.>");
  CHECK(std::vector<std::string>(info.tags().begin(), info.tags().end()) == std::vector<std::string>{"t1", "t2"});
  CHECK(info.metadata().at("k") == "v");
  CHECK_FALSE(info.deleted());
  CHECK(info.position().token() == PositionOf(9).ToToken());
}

repository::Event EventOf(uint64_t version, domain::Payload payload = {}) {
  repository::Event event;
  event.event = {.ref = kRef,
                 .version = version,
                 .event_id = "event-" + std::to_string(version),
                 .type = "placed",
                 .schema_version = 4,
                 .payload = std::move(payload),
                 .metadata = {},
                 .time = kTime,
                 .recorded_time = kTime,
                 .commit_id = "commit",
                 .cid = "cid",
                 .payload_cid = {},
                 .prev_cid = "prev"};
  event.position = PositionOf(version);
  return event;
}

repository::LoadResult Loaded() {
  repository::LoadResult result;
  result.info = Info();
  result.state = domain::StateRecord{.ref = kRef,
                                     .version = 1,
                                     .schema_version = 3,
                                     .payload = {"application/json", R"({"n":1})"},
                                     .commit_id = {},
                                     .cid = "state-cid",
                                     .recorded_time = kTime};
  result.events.push_back(EventOf(2, {"application/json", R"({"n":9007199254740993})"}));
  return result;
}

// A client of the services over one repository.
struct Fixture {
  testing::FakeRepository repository;
  AggregateService aggregates{
      &repository, {.limits = {.max_event_bytes = 100}, .fsync = [](int) { return pb::Durability::FSYNC_ALWAYS; }}};
  AdminService admin{[] {
                       pb::GetServerInfoResponse info;
                       info.set_version("1.2.3");
                       return info;
                     },
                     nullptr};
  testing::RpcServer server{Services()};
  std::unique_ptr<pb::AggregateService::Stub> stub = pb::AggregateService::NewStub(server.channel());

  std::vector<Service> Services() {
    std::vector<Service> services;
    services.push_back(aggregates.MakeService());
    services.push_back(admin.MakeService());
    return services;
  }
};

pb::AggregateRef Ref() {
  pb::AggregateRef ref;
  ref.set_context("sales");
  ref.set_aggregate("order");
  ref.set_entity_id("a.b");
  return ref;
}

TEST_CASE("Save passes the command on and answers with the result") {
  Fixture fixture;
  repository::SaveCommand seen;
  base::SteadyTime seen_deadline;
  fixture.repository.on_save = [&](repository::SaveCommand command, base::SteadyTime deadline) {
    seen = std::move(command);
    seen_deadline = deadline;
    return repository::SaveResult{.info = Info(),
                                  .events = {{.version = 2, .event_id = "e", .cid = "c", .position = PositionOf(9)}},
                                  .replicas = 3,
                                  .state = repository::StateResult::kPending,
                                  .deduplicated = true,
                                  .commit_id = "commit"};
  };
  pb::SaveRequest request;
  *request.mutable_ref() = Ref();
  request.set_expected_version(1);
  request.add_events()->set_type("placed");
  pb::SaveResponse response;
  const auto context = NewContext(std::chrono::seconds(10));
  context->AddMetadata("traceparent", kTrace);
  REQUIRE(fixture.stub->Save(context.get(), request, &response).ok());

  CHECK(seen.ref == kRef);
  CHECK(seen.expectation.version == 1);
  REQUIRE(seen.events.size() == 1);
  CHECK(seen.events[0].event.metadata.traceparent == kTrace);
  CHECK(seen_deadline < std::chrono::steady_clock::now() + std::chrono::seconds(10));

  CheckInfo(response.metadata());
  REQUIRE(response.events_size() == 1);
  CHECK(response.events(0).version() == 2);
  CHECK(response.events(0).event_id() == "e");
  CHECK(response.events(0).cid() == "c");
  CHECK(response.events(0).position().token() == PositionOf(9).ToToken());
  CHECK(response.durability().replicas() == 3);
  CHECK(response.durability().fsync() == pb::Durability::FSYNC_ALWAYS);
  CHECK(response.state_result() == pb::STATE_RESULT_PENDING);
  CHECK(response.deduplicated());
  CHECK(response.commit_id() == "commit");
}

TEST_CASE("An invalid save never reaches the repository") {
  Fixture fixture;
  pb::SaveRequest request;
  *request.mutable_ref() = Ref();
  request.add_events()->set_type("placed");
  request.add_events()->mutable_payload()->set_data(std::string(101, 'x'));
  pb::SaveResponse response;
  grpc::Status status = fixture.stub->Save(NewContext().get(), request, &response);
  CHECK(status.error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  CHECK(DetailOf(status).value().field_violation().field() == "events[1].type");
  request.mutable_events(1)->set_type("paid");
  status = fixture.stub->Save(NewContext().get(), request, &response);
  CHECK(status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED);
  CHECK(DetailOf(status).value().limit().name() == "events[1].payload");
}

TEST_CASE("A conflict arrives with both versions") {
  Fixture fixture;
  fixture.repository.on_save = [](repository::SaveCommand command, base::SteadyTime) {
    return domain::VersionConflict(command.ref, command.expectation.version, 5);
  };
  pb::SaveRequest request;
  *request.mutable_ref() = Ref();
  request.set_expected_version(0);
  request.add_events()->set_type("placed");
  pb::SaveResponse response;
  const grpc::Status status = fixture.stub->Save(NewContext().get(), request, &response);
  CHECK(status.error_code() == grpc::StatusCode::ABORTED);
  const pb::ErrorDetail detail = DetailOf(status).value();
  CHECK(detail.version_conflict().has_expected_version());
  CHECK(detail.version_conflict().expected_version() == 0);
  CHECK(detail.version_conflict().actual_version() == 5);
}

TEST_CASE("Load answers with state and events, as bytes") {
  Fixture fixture;
  repository::Consistency seen = repository::Consistency::kStrong;
  fixture.repository.on_load = [&](repository::LoadCommand command, base::SteadyTime) {
    CHECK(command.ref == kRef);
    seen = command.consistency;
    return Loaded();
  };
  pb::LoadRequest request;
  *request.mutable_ref() = Ref();
  request.mutable_options()->set_consistency(pb::CONSISTENCY_CACHED);
  pb::LoadResponse response;
  REQUIRE(fixture.stub->Load(NewContext().get(), request, &response).ok());
  CHECK(seen == repository::Consistency::kCached);
  CheckInfo(response.metadata());
  CHECK(response.state().version() == 1);
  CHECK(response.state().schema_version() == 3);
  CHECK(response.state().cid() == "state-cid");
  CHECK(response.state().payload().content_type() == "application/json");
  CHECK(response.state().payload().data() == R"({"n":1})");
  REQUIRE(response.events_size() == 1);
  CHECK(response.events(0).payload().data() == R"({"n":9007199254740993})");
}

TEST_CASE("Load shows JSON where nothing is lost by it") {
  Fixture fixture;
  fixture.repository.on_load = [&](repository::LoadCommand, base::SteadyTime) {
    repository::LoadResult result = Loaded();
    result.events.push_back(EventOf(3, {"text/plain", "{}"}));
    result.events.push_back(EventOf(4));
    result.events.push_back(EventOf(5, {"application/octet-stream", ""}));
    return result;
  };
  pb::LoadRequest request;
  *request.mutable_ref() = Ref();
  request.set_payload_view(pb::PAYLOAD_VIEW_JSON);
  pb::LoadResponse response;
  REQUIRE(fixture.stub->Load(NewContext().get(), request, &response).ok());
  REQUIRE(response.state().payload().has_json());
  CHECK(response.state().payload().json().fields().at("n").number_value() == 1);
  CHECK(response.state().payload().content_type() == "application/json");
  REQUIRE(response.events_size() == 4);
  CHECK(response.events(0).payload().has_data());  // A number that a double would round.
  CHECK(response.events(1).payload().has_data());  // Not JSON by its type.
  CHECK_FALSE(response.events(2).has_payload());
  CHECK(response.events(3).payload().has_data());  // Empty, but there.
}

TEST_CASE("GetAtVersion asks for a version or for a time") {
  Fixture fixture;
  fixture.repository.on_load = [](repository::LoadCommand command,
                                  base::SteadyTime) -> absl::StatusOr<repository::LoadResult> {
    if (const auto* version = std::get_if<uint64_t>(&command.at)) {
      return domain::VersionNotFound(command.ref, *version, 2);
    }
    CHECK(std::get<base::WallTime>(command.at) == kTime);
    return Loaded();
  };
  pb::GetAtVersionRequest request;
  *request.mutable_ref() = Ref();
  request.set_version(8);
  pb::LoadResponse response;
  const grpc::Status status = fixture.stub->GetAtVersion(NewContext().get(), request, &response);
  CHECK(status.error_code() == grpc::StatusCode::NOT_FOUND);
  CHECK(DetailOf(status).value().version_conflict().expected_version() == 8);
  request.mutable_as_of()->set_seconds(-1);
  request.mutable_as_of()->set_nanos(250'000'000);
  REQUIRE(fixture.stub->GetAtVersion(NewContext().get(), request, &response).ok());
  CheckInfo(response.metadata());
}

TEST_CASE("GetMetadata answers with what is known") {
  Fixture fixture;
  fixture.repository.on_info = [](domain::AggregateRef ref) -> absl::StatusOr<repository::AggregateInfo> {
    if (ref.entity_id == "a.b") return Info();
    return domain::AggregateNotFound(ref, /*deleted=*/true);
  };
  pb::GetMetadataRequest request;
  *request.mutable_ref() = Ref();
  pb::AggregateMetadata response;
  REQUIRE(fixture.stub->GetMetadata(NewContext().get(), request, &response).ok());
  CheckInfo(response);
  request.mutable_ref()->set_entity_id("other");
  const grpc::Status status = fixture.stub->GetMetadata(NewContext().get(), request, &response);
  CHECK(status.error_code() == grpc::StatusCode::NOT_FOUND);
  CHECK(DetailOf(status).value().deleted());
}

TEST_CASE("GetHistory streams the events and ends with the history's end") {
  Fixture fixture;
  repository::HistoryQuery seen;
  fixture.repository.on_history = [&](repository::HistoryQuery query,
                                      repository::EventSink sink) -> base::Task<absl::Status> {
    seen = std::move(query);
    for (uint64_t version = 1; version <= 1000; ++version) {
      repository::Event event = EventOf(version, {"application/json", R"({"n":1})"});
      event.event.metadata.actor = "me";
      event.event.metadata.custom["k"] = "v";
      if (!co_await sink(std::move(event))) co_return absl::OkStatus();
    }
    co_return domain::CorruptData("S", 1001, "gone");
  };
  pb::GetHistoryRequest request;
  *request.mutable_ref() = Ref();
  request.set_to_version(5000);
  request.set_payload_view(pb::PAYLOAD_VIEW_JSON);
  const auto context = NewContext();
  const auto reader = fixture.stub->GetHistory(context.get(), request);
  pb::RecordedEvent event;
  uint64_t count = 0;
  while (reader->Read(&event)) CHECK(event.version() == ++count);
  CHECK(count == 1000);
  CHECK(seen.to_version == 5000);
  CHECK(event.ref().entity_id() == "a.b");
  CHECK(event.event_id() == "event-1000");
  CHECK(event.type() == "placed");
  CHECK(event.schema_version() == 4);
  CHECK(event.payload().json().fields().at("n").number_value() == 1);
  CHECK(event.metadata().actor() == "me");
  CHECK(event.metadata().custom().at("k") == "v");
  CHECK(event.time().seconds() == -1);
  CHECK(event.recorded_time().nanos() == 250'000'000);
  CHECK(event.commit_id() == "commit");
  CHECK(event.cid() == "cid");
  CHECK(event.prev_cid() == "prev");
  CHECK(event.subject() == "cim.events.sales.order.a=2Eb.placed.v4");
  CHECK(event.position().token() == PositionOf(1000).ToToken());
  const grpc::Status status = reader->Finish();
  CHECK(status.error_code() == grpc::StatusCode::DATA_LOSS);
  CHECK(DetailOf(status).value().data_loss().sequence() == 1001);
}

TEST_CASE("An invalid history ends before it begins") {
  Fixture fixture;
  pb::GetHistoryRequest request;
  *request.mutable_ref() = Ref();
  request.add_event_types("a.b");
  const auto context = NewContext();
  const auto reader = fixture.stub->GetHistory(context.get(), request);
  pb::RecordedEvent event;
  CHECK_FALSE(reader->Read(&event));
  CHECK(DetailOf(reader->Finish()).value().field_violation().field() == "event_types[0]");
}

TEST_CASE("GetServerInfo answers what the daemon provides") {
  Fixture fixture;
  pb::GetServerInfoResponse info;
  REQUIRE(pb::AdminService::NewStub(fixture.server.channel())->GetServerInfo(NewContext().get(), {}, &info).ok());
  CHECK(info.version() == "1.2.3");
}

}  // namespace
}  // namespace persistd::rpc
