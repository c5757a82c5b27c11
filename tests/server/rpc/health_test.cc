#include <future>
#include <string>
#include <thread>

#include "cim/persistence/v1/aggregates.grpc.pb.h"
#include "google/protobuf/descriptor.pb.h"
#include "google/protobuf/message.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpcpp/generic/generic_stub.h"
#include "tests/server/rpc/rpc_testing.h"
#include "tests/testing/catch.h"

namespace persistd::rpc {
namespace {

namespace health = grpc::health::v1;
namespace pb = cim::persistence::v1;
using testing::NewContext;
using testing::RpcServer;

constexpr char kService[] = "cim.persistence.v1.AggregateService";

std::vector<Service> OneService() {
  std::vector<Service> services;
  services.emplace_back(kService);
  services.back().AddUnary<pb::GetMetadataRequest, pb::AggregateMetadata>(
      "GetMetadata",
      [](const CallContext&, const pb::GetMetadataRequest&, pb::AggregateMetadata&) -> base::Task<absl::Status> {
        co_return absl::OkStatus();
      });
  return services;
}

health::HealthCheckResponse::ServingStatus Check(const RpcServer& server, const std::string& service) {
  health::HealthCheckRequest request;
  request.set_service(service);
  health::HealthCheckResponse response;
  const grpc::Status status = health::Health::NewStub(server.channel())->Check(NewContext().get(), request, &response);
  REQUIRE(status.ok());
  return response.status();
}

TEST_CASE("Health is NOT_SERVING until told otherwise, for the server and each service") {
  RpcServer server(OneService());
  for (const char* name : {"", kService}) {
    CHECK(Check(server, name) == health::HealthCheckResponse::NOT_SERVING);
  }
  server.server().SetServing(true);
  for (const char* name : {"", kService}) {
    CHECK(Check(server, name) == health::HealthCheckResponse::SERVING);
  }
  server.server().SetServing(false);
  CHECK(Check(server, "") == health::HealthCheckResponse::NOT_SERVING);
}

TEST_CASE("Health of an unknown service is NOT_FOUND") {
  RpcServer server(OneService());
  health::HealthCheckRequest request;
  request.set_service("no.such.Service");
  health::HealthCheckResponse response;
  const grpc::Status status = health::Health::NewStub(server.channel())->Check(NewContext().get(), request, &response);
  CHECK(status.error_code() == grpc::StatusCode::NOT_FOUND);

  const auto context = NewContext();
  const auto reader = health::Health::NewStub(server.channel())->Watch(context.get(), request);
  REQUIRE(reader->Read(&response));
  CHECK(response.status() == health::HealthCheckResponse::SERVICE_UNKNOWN);
  context->TryCancel();
}

TEST_CASE("A watcher sees each change, and the shutdown ends its call") {
  RpcServer server(OneService());
  const auto context = NewContext();
  const auto reader = health::Health::NewStub(server.channel())->Watch(context.get(), {});
  health::HealthCheckResponse response;
  REQUIRE(reader->Read(&response));
  CHECK(response.status() == health::HealthCheckResponse::NOT_SERVING);
  server.server().SetServing(true);
  REQUIRE(reader->Read(&response));
  CHECK(response.status() == health::HealthCheckResponse::SERVING);
  auto shutdown = std::async(std::launch::async, [&] { server.server().Shutdown(testing::kPatience); });
  REQUIRE(reader->Read(&response));
  CHECK(response.status() == health::HealthCheckResponse::NOT_SERVING);
  CHECK_FALSE(reader->Read(&response));
  CHECK(reader->Finish().error_code() == grpc::StatusCode::UNAVAILABLE);
  CHECK(shutdown.wait_for(testing::kPatience) == std::future_status::ready);
}

TEST_CASE("Watchers that cancel are forgotten") {
  RpcServer server(OneService(), {.max_concurrent_calls = 10});
  for (int i = 0; i < 100; ++i) {
    const auto context = NewContext();
    const auto reader = health::Health::NewStub(server.channel())->Watch(context.get(), {});
    health::HealthCheckResponse response;
    // A slot may be free only after the server has noticed the last cancellation.
    if (reader->Read(&response)) CHECK(response.status() == health::HealthCheckResponse::NOT_SERVING);
    context->TryCancel();
    reader->Finish();
  }
  server.server().SetServing(true);
  CHECK(Check(server, "") == health::HealthCheckResponse::SERVING);
}

// Asks the reflection service, whose messages only the reflection library itself has.
std::string Reflect(const RpcServer& server, const std::string& field, const std::string& value) {
  using google::protobuf::DescriptorPool;
  using google::protobuf::MessageFactory;
  const std::string package = "grpc.reflection.v1alpha.";
  const auto* type = DescriptorPool::generated_pool()->FindMessageTypeByName(package + "ServerReflectionRequest");
  REQUIRE(type != nullptr);
  const std::unique_ptr<google::protobuf::Message> request(
      MessageFactory::generated_factory()->GetPrototype(type)->New());
  request->GetReflection()->SetString(request.get(), type->FindFieldByName(field), value);

  grpc::GenericStub stub(server.channel());
  grpc::CompletionQueue queue;
  const auto context = NewContext();
  const auto call = stub.PrepareCall(context.get(), "/" + package + "ServerReflection/ServerReflectionInfo", &queue);
  const auto wait = [&] {
    void* tag = nullptr;
    bool ok = false;
    return queue.Next(&tag, &ok) && ok;
  };
  call->StartCall(nullptr);
  REQUIRE(wait());
  call->Write(SerializeMessage(*request), nullptr);
  REQUIRE(wait());
  grpc::ByteBuffer answer;
  call->Read(&answer, nullptr);
  REQUIRE(wait());
  call->WritesDone(nullptr);
  REQUIRE(wait());
  grpc::Status status;
  call->Finish(&status, nullptr);
  REQUIRE(wait());
  REQUIRE(status.ok());
  const auto* answer_type =
      DescriptorPool::generated_pool()->FindMessageTypeByName(package + "ServerReflectionResponse");
  const std::unique_ptr<google::protobuf::Message> message(
      MessageFactory::generated_factory()->GetPrototype(answer_type)->New());
  REQUIRE(ParseMessage(answer, *message).ok());
  return message->DebugString();
}

TEST_CASE("Reflection lists the services and describes them, health and error details") {
  RpcServer server(OneService());
  const std::string services = Reflect(server, "list_services", "");
  CHECK_THAT(services, testing::ContainsText(kService) && testing::ContainsText("grpc.health.v1.Health"));
  CHECK_THAT(Reflect(server, "file_containing_symbol", kService), testing::ContainsText("SaveRequest"));
  CHECK_THAT(Reflect(server, "file_containing_symbol", "grpc.health.v1.Health"),
             testing::ContainsText("HealthCheckRequest"));
  CHECK_THAT(Reflect(server, "file_containing_symbol", "cim.persistence.v1.ErrorDetail"),
             testing::ContainsText("VersionConflict"));
}

}  // namespace
}  // namespace persistd::rpc
