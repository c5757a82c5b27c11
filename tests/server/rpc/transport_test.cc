// The generic layer, with handlers written by the test under the names of the real services.
#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <numeric>
#include <string>
#include <thread>

#include "cim/persistence/v1/admin.grpc.pb.h"
#include "cim/persistence/v1/aggregates.grpc.pb.h"
#include "grpcpp/create_channel_posix.h"
#include "grpcpp/generic/generic_stub.h"
#include "server/base/executor.h"
#include "server/base/unique_fd.h"
#include "server/domain/errors.h"
#include "server/rpc/admin_service.h"
#include "tests/server/rpc/rpc_testing.h"
#include "tests/testing/catch.h"
#include "tests/testing/poll.h"

namespace persistd::rpc {
namespace {

namespace pb = cim::persistence::v1;
using testing::DetailOf;
using testing::kPatience;
using testing::NewContext;
using testing::ReasonOf;
using testing::RpcServer;

using MetadataHandler = UnaryHandler<pb::GetMetadataRequest, pb::AggregateMetadata>;
using HistoryHandler = StreamHandler<pb::GetHistoryRequest, pb::RecordedEvent>;

std::vector<Service> Metadata(MetadataHandler handler) {
  std::vector<Service> services;
  services.emplace_back("cim.persistence.v1.AggregateService");
  services.back().AddUnary<pb::GetMetadataRequest, pb::AggregateMetadata>("GetMetadata", std::move(handler));
  return services;
}

std::vector<Service> History(HistoryHandler handler) {
  std::vector<Service> services;
  services.emplace_back("cim.persistence.v1.AggregateService");
  services.back().AddServerStreaming<pb::GetHistoryRequest, pb::RecordedEvent>("GetHistory", std::move(handler));
  return services;
}

base::Task<absl::Status> AnswerOk(const CallContext&, const pb::GetMetadataRequest&, pb::AggregateMetadata&) {
  co_return absl::OkStatus();
}

grpc::Status CallMetadata(const RpcServer& server, const pb::GetMetadataRequest& request = {}) {
  const auto stub = pb::AggregateService::NewStub(server.channel());
  pb::AggregateMetadata response;
  return stub->GetMetadata(NewContext().get(), request, &response);
}

// A unary handler that waits until the test lets it go on, or until the call is cancelled.
class Gate {
 public:
  MetadataHandler handler() {
    return [this](const CallContext& context, const pb::GetMetadataRequest&,
                  pb::AggregateMetadata& response) -> base::Task<absl::Status> {
      context.OnCancelled([release = release_] { release.TrySet(false); });
      entered_.set_value();
      const bool released = co_await release_.future();
      left_.set_value(context.cancelled());
      if (!released) co_return absl::CancelledError("cancelled");
      response.set_version(7);
      co_return absl::OkStatus();
    };
  }
  void WaitUntilEntered() { REQUIRE(entered_.get_future().wait_for(kPatience) == std::future_status::ready); }
  // Whether the handler was cancelled.
  bool WaitUntilLeft() {
    std::future<bool> left = left_.get_future();
    REQUIRE(left.wait_for(kPatience) == std::future_status::ready);
    return left.get();
  }
  void Release() { release_.TrySet(true); }

 private:
  std::promise<void> entered_;
  std::promise<bool> left_;
  const base::Promise<bool> release_;
};

TEST_CASE("A handler sees the request, the metadata and the caller's deadline, and its answer arrives") {
  base::SteadyTime seen_deadline;
  std::string seen_trace;
  std::string seen_other;
  RpcServer server(Metadata([&](const CallContext& context, const pb::GetMetadataRequest& request,
                                pb::AggregateMetadata& response) -> base::Task<absl::Status> {
    seen_deadline = context.deadline();
    seen_trace = context.metadata("traceparent");
    seen_other = context.metadata("not-there");
    response.mutable_ref()->CopyFrom(request.ref());
    co_return absl::OkStatus();
  }));
  const auto stub = pb::AggregateService::NewStub(server.channel());
  pb::GetMetadataRequest request;
  request.mutable_ref()->set_entity_id("42");
  pb::AggregateMetadata response;
  const auto context = NewContext(std::chrono::seconds(20));
  context->AddMetadata("traceparent", "some trace");
  const grpc::Status status = stub->GetMetadata(context.get(), request, &response);
  REQUIRE(status.ok());
  CHECK(response.ref().entity_id() == "42");
  CHECK(seen_trace == "some trace");
  CHECK(seen_other.empty());
  const auto left = seen_deadline - std::chrono::steady_clock::now();
  CHECK(left < std::chrono::seconds(20));
  CHECK(left > std::chrono::seconds(5));
}

TEST_CASE("A call without a deadline gets the server's default") {
  base::SteadyTime seen;
  RpcServer server(Metadata([&](const CallContext& context, const pb::GetMetadataRequest&,
                                pb::AggregateMetadata&) -> base::Task<absl::Status> {
                     seen = context.deadline();
                     co_return absl::OkStatus();
                   }),
                   {.default_deadline = std::chrono::minutes(5)});
  const auto stub = pb::AggregateService::NewStub(server.channel());
  grpc::ClientContext context;
  pb::AggregateMetadata response;
  REQUIRE(stub->GetMetadata(&context, {}, &response).ok());
  const auto left = seen - std::chrono::steady_clock::now();
  CHECK(left < std::chrono::minutes(5));
  CHECK(left > std::chrono::minutes(4));
}

TEST_CASE("A handler may end on another thread") {
  base::Executor executor("test");
  RpcServer server(Metadata([&](const CallContext&, const pb::GetMetadataRequest&,
                                pb::AggregateMetadata& response) -> base::Task<absl::Status> {
    co_await executor.Sleep(std::chrono::steady_clock::now());
    response.set_version(3);
    co_return absl::OkStatus();
  }));
  for (int i = 0; i < 100; ++i) CHECK(CallMetadata(server).ok());
}

TEST_CASE("An error travels with its code, message and detail") {
  RpcServer server(Metadata(
      [](const CallContext&, const pb::GetMetadataRequest&, pb::AggregateMetadata&) -> base::Task<absl::Status> {
        co_return domain::VersionConflict({.context = "sales", .aggregate = "order", .entity_id = "ü"}, 3, 5);
      }));
  const grpc::Status status = CallMetadata(server);
  CHECK(status.error_code() == grpc::StatusCode::ABORTED);
  const auto detail = DetailOf(status);
  REQUIRE(detail.has_value());
  CHECK(detail->reason() == pb::ERROR_REASON_VERSION_CONFLICT);
  CHECK(detail->version_conflict().expected_version() == 3);
  CHECK(detail->version_conflict().actual_version() == 5);
  CHECK(detail->ref().entity_id() == "ü");
}

TEST_CASE("A request over the limit is refused with the limit, a far larger one by gRPC itself") {
  RpcServer server(Metadata(&AnswerOk), {.max_request_bytes = 1000});
  pb::GetMetadataRequest request;
  request.mutable_ref()->set_entity_id(std::string(900, 'x'));
  CHECK(CallMetadata(server, request).ok());

  request.mutable_ref()->set_entity_id(std::string(1500, 'x'));
  const grpc::Status large = CallMetadata(server, request);
  CHECK(large.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED);
  const auto detail = DetailOf(large);
  REQUIRE(detail.has_value());
  CHECK(detail->reason() == pb::ERROR_REASON_TOO_LARGE);
  CHECK(detail->limit().name() == "request");
  CHECK(detail->limit().limit() == 1000);
  CHECK(detail->limit().value() == request.ByteSizeLong());
  CHECK(detail->limit().config_key() == "limits.max_request_size");

  request.mutable_ref()->set_entity_id(std::string(3u << 20, 'x'));
  CHECK(CallMetadata(server, request).error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED);
  CHECK(CallMetadata(server).ok());
}

TEST_CASE("A compressed request is held to the limit by its real size") {
  RpcServer server(Metadata(&AnswerOk), {.max_request_bytes = 1000});
  const auto stub = pb::AggregateService::NewStub(server.channel());
  pb::GetMetadataRequest request;
  request.mutable_ref()->set_entity_id(std::string(64u << 20, 'x'));
  const auto context = NewContext();
  context->set_compression_algorithm(GRPC_COMPRESS_GZIP);
  pb::AggregateMetadata response;
  CHECK(stub->GetMetadata(context.get(), request, &response).error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED);
}

// Sends bytes of our own as the request of `method`.
grpc::Status CallRaw(const RpcServer& server, const std::string& method, const std::string& bytes) {
  grpc::GenericStub stub(server.channel());
  grpc::CompletionQueue queue;
  const auto context = NewContext();
  grpc::Slice slice(bytes);
  const grpc::ByteBuffer request(&slice, 1);
  const auto call = stub.PrepareUnaryCall(context.get(), method, request, &queue);
  grpc::ByteBuffer response;
  grpc::Status status;
  call->StartCall();
  call->Finish(&response, &status, &status);
  void* tag = nullptr;
  bool ok = false;
  REQUIRE(queue.Next(&tag, &ok));
  return status;
}

TEST_CASE("A request that does not parse is an invalid argument") {
  RpcServer server(Metadata(&AnswerOk));
  const std::string path = "/cim.persistence.v1.AggregateService/GetMetadata";
  const std::string not_utf8 = std::string("\x0a\x03\x1a\x01\xff", 5);  // ref { entity_id: "\xff" }
  for (const std::string& bytes : {std::string("\xff\xff\xff"), not_utf8}) {
    const grpc::Status status = CallRaw(server, path, bytes);
    CHECK(status.error_code() == grpc::StatusCode::INVALID_ARGUMENT);
    const auto detail = DetailOf(status);
    REQUIRE(detail.has_value());
    CHECK(detail->field_violation().field() == "request");
  }
  CHECK(CallMetadata(server).ok());
}

TEST_CASE("A method without a handler is unimplemented") {
  RpcServer server(Metadata(&AnswerOk));
  CHECK(CallRaw(server, "/cim.persistence.v1.AggregateService/Load", "").error_code() ==
        grpc::StatusCode::UNIMPLEMENTED);
  CHECK(CallRaw(server, "/no.such.Service/Method", "").error_code() == grpc::StatusCode::UNIMPLEMENTED);
}

TEST_CASE("Create says why it cannot listen") {
  RpcServer server(Metadata(&AnswerOk));
  const std::string taken = absl::StrCat("127.0.0.1:", server.server().port());
  const auto second = Server::Create({.listen_address = taken}, Metadata(&AnswerOk));
  REQUIRE_FALSE(second.ok());
  CHECK_THAT(std::string(second.status().message()), testing::ContainsText(taken) && testing::ContainsText("in use"));

  const auto foreign = Server::Create({.listen_address = "192.0.2.1:0"}, Metadata(&AnswerOk));
  REQUIRE_FALSE(foreign.ok());
  CHECK_THAT(std::string(foreign.status().message()), testing::ContainsText("assign"));

  for (const char* nonsense : {"nonsense", "127.0.0.1:no-port", ""}) {
    const auto refused = Server::Create({.listen_address = nonsense}, Metadata(&AnswerOk));
    REQUIRE_FALSE(refused.ok());
    CHECK_THAT(std::string(refused.status().message()), testing::ContainsText("cannot listen on"));
  }
}

TEST_CASE("A server that was never started can be shut down and destroyed") {
  {
    const auto server = testing::Must(Server::Create({.listen_address = "127.0.0.1:0"}, Metadata(&AnswerOk)));
    CHECK(server->port() > 0);
  }
  const auto server = testing::Must(Server::Create({.listen_address = "127.0.0.1:0"}, Metadata(&AnswerOk)));
  server->Shutdown(std::chrono::seconds(1));
  server->Start();  // Too late: does nothing.
}

TEST_CASE("More calls than allowed are refused at once, but the daemon can still be looked at") {
  Gate gate;
  std::vector<Service> services = Metadata(gate.handler());
  AdminService admin([] { return pb::GetServerInfoResponse(); }, nullptr);
  services.push_back(admin.MakeService());
  RpcServer server(std::move(services), {.max_concurrent_calls = 1});
  auto first = std::async(std::launch::async, [&] { return CallMetadata(server); });
  gate.WaitUntilEntered();
  const grpc::Status second = CallMetadata(server);
  CHECK(second.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED);
  CHECK(ReasonOf(second) == pb::ERROR_REASON_OVERLOADED);
  pb::GetServerInfoResponse info;
  CHECK(pb::AdminService::NewStub(server.channel())->GetServerInfo(NewContext().get(), {}, &info).ok());
  gate.Release();
  CHECK(first.get().ok());
}

TEST_CASE("Shutdown lets a running call finish and refuses new ones") {
  Gate gate;
  RpcServer server(Metadata(gate.handler()));
  auto running = std::async(std::launch::async, [&] { return CallMetadata(server); });
  gate.WaitUntilEntered();
  auto shutdown = std::async(std::launch::async, [&] { server.server().Shutdown(kPatience); });
  grpc::Status refused;
  // Before the shutdown has begun a call would enter the gate a second time, so ask with one that is refused anyway.
  REQUIRE(testing::PollUntil(
      [&] {
        refused = CallRaw(server, "/grpc.health.v1.Health/Watch", "\xff");
        return refused.error_code() == grpc::StatusCode::UNAVAILABLE;
      },
      kPatience));
  CHECK(ReasonOf(refused) == pb::ERROR_REASON_SHUTTING_DOWN);
  CHECK(ReasonOf(CallMetadata(server)) == pb::ERROR_REASON_SHUTTING_DOWN);
  CHECK(shutdown.wait_for(std::chrono::seconds(0)) == std::future_status::timeout);
  gate.Release();
  CHECK(running.get().ok());
  CHECK_FALSE(gate.WaitUntilLeft());
  CHECK(shutdown.wait_for(kPatience) == std::future_status::ready);
  CHECK(CallMetadata(server).error_code() == grpc::StatusCode::UNAVAILABLE);
}

TEST_CASE("Callers that go on calling while a server stops are told that it does") {
  RpcServer server(Metadata([](const CallContext&, const pb::GetMetadataRequest&,
                               pb::AggregateMetadata&) -> base::Task<absl::Status> { co_return absl::OkStatus(); }));
  REQUIRE(CallMetadata(server).ok());
  // A retry after this wait finds the server gone; until then every answer has a reason.
  auto caller = std::async(std::launch::async, [&] {
    int refused = 0;
    while (refused < 5) {
      const grpc::Status status = CallMetadata(server);
      if (status.ok()) continue;
      if (status.error_code() != grpc::StatusCode::UNAVAILABLE || ReasonOf(status) != pb::ERROR_REASON_SHUTTING_DOWN) {
        return status.error_message() + " after " + std::to_string(refused) + " refusals";
      }
      ++refused;
    }
    return std::string();
  });
  server.server().Shutdown(kPatience);
  CHECK(caller.get() == "");
}

TEST_CASE("Shutdown calls the cut-off when the grace is over, and lets what it ends answer") {
  Gate gate;
  RpcServer server(Metadata(gate.handler()));
  auto running = std::async(std::launch::async, [&] { return CallMetadata(server); });
  gate.WaitUntilEntered();
  server.server().Shutdown(std::chrono::milliseconds(20), [&] { gate.Release(); });
  CHECK(running.get().ok());
}

TEST_CASE("Shutdown cancels what has not finished within the grace") {
  Gate gate;
  RpcServer server(Metadata(gate.handler()));
  auto running = std::async(std::launch::async, [&] { return CallMetadata(server); });
  gate.WaitUntilEntered();
  server.server().Shutdown(std::chrono::milliseconds(20));
  CHECK(gate.WaitUntilLeft());
  CHECK_FALSE(running.get().ok());
}

TEST_CASE("A caller's deadline cancels the call") {
  Gate gate;
  RpcServer server(Metadata(gate.handler()));
  const auto stub = pb::AggregateService::NewStub(server.channel());
  pb::AggregateMetadata response;
  const grpc::Status status = stub->GetMetadata(NewContext(std::chrono::milliseconds(200)).get(), {}, &response);
  CHECK(status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED);
  CHECK(gate.WaitUntilLeft());
}

// Streams `count` messages of 64 KiB, numbered from 1.
struct Producer {
  std::atomic<int> written = 0;
  std::promise<bool> ended;  // Whether all were taken.

  HistoryHandler handler(int count) {
    return [this, count](const CallContext&, const pb::GetHistoryRequest&,
                         StreamWriter<pb::RecordedEvent>& writer) -> base::Task<absl::Status> {
      pb::RecordedEvent event;
      event.mutable_payload()->set_data(std::string(64u << 10, 'x'));
      for (int i = 1; i <= count; ++i) {
        event.set_version(static_cast<uint64_t>(i));
        if (!co_await writer.Write(event)) {
          ended.set_value(false);
          co_return absl::OkStatus();
        }
        written = i;
      }
      ended.set_value(true);
      co_return absl::OkStatus();
    };
  }
};

TEST_CASE("A slow reader slows the producer down and loses nothing") {
  constexpr int kCount = 2000;  // 125 MiB.
  constexpr int kFewer = 800;
  Producer producer;
  RpcServer server(History(producer.handler(kCount)));
  const auto stub = pb::AggregateService::NewStub(server.channel());
  const auto context = NewContext(2 * kPatience);
  const auto reader = stub->GetHistory(context.get(), {});
  pb::RecordedEvent event;
  REQUIRE(reader->Read(&event));
  // Time enough for an unbounded producer to end: other calls are answered meanwhile, on the same thread.
  for (int i = 0; i < 1000; ++i) CHECK_FALSE(CallMetadata(server).ok());
  CHECK(producer.written < kFewer);
  uint64_t last = event.version();
  while (reader->Read(&event)) CHECK(event.version() == ++last);
  CHECK(last == kCount);
  CHECK(reader->Finish().ok());
}

TEST_CASE("A client that cancels stops the producer") {
  Producer producer;
  RpcServer server(History(producer.handler(1'000'000)));
  const auto stub = pb::AggregateService::NewStub(server.channel());
  const auto context = NewContext();
  const auto reader = stub->GetHistory(context.get(), {});
  pb::RecordedEvent event;
  REQUIRE(reader->Read(&event));
  context->TryCancel();
  std::future<bool> ended = producer.ended.get_future();
  REQUIRE(ended.wait_for(kPatience) == std::future_status::ready);
  CHECK_FALSE(ended.get());
  CHECK(reader->Finish().error_code() == grpc::StatusCode::CANCELLED);
}

TEST_CASE("A client that vanishes stops the producer") {
  Producer producer;
  RpcServer server(History(producer.handler(1'000'000)));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(server.server().port()));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int connection = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  REQUIRE(connect(connection, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
  REQUIRE(fcntl(connection, F_SETFL, O_NONBLOCK) == 0);
  const base::UniqueFd ours(dup(connection));  // The channel closes the other one.
  const auto stub = pb::AggregateService::NewStub(grpc::CreateInsecureChannelFromFd("vanishing", connection));
  const auto context = NewContext();
  const auto reader = stub->GetHistory(context.get(), {});
  pb::RecordedEvent event;
  REQUIRE(reader->Read(&event));
  REQUIRE(shutdown(ours.get(), SHUT_RDWR) == 0);  // No goodbye of gRPC.
  std::future<bool> ended = producer.ended.get_future();
  REQUIRE(ended.wait_for(kPatience) == std::future_status::ready);
  CHECK_FALSE(ended.get());
  while (reader->Read(&event)) {
  }
  CHECK_FALSE(reader->Finish().ok());
}

TEST_CASE("A stream that fails after messages ends with its error") {
  RpcServer server(History([](const CallContext&, const pb::GetHistoryRequest&,
                              StreamWriter<pb::RecordedEvent>& writer) -> base::Task<absl::Status> {
    co_await writer.Write(pb::RecordedEvent());
    co_return domain::CorruptData("CIM-EVENTS", 9, "no such message");
  }));
  const auto stub = pb::AggregateService::NewStub(server.channel());
  const auto context = NewContext();
  const auto reader = stub->GetHistory(context.get(), {});
  pb::RecordedEvent event;
  CHECK(reader->Read(&event));
  CHECK_FALSE(reader->Read(&event));
  const grpc::Status status = reader->Finish();
  CHECK(status.error_code() == grpc::StatusCode::DATA_LOSS);
  CHECK(DetailOf(status).value().data_loss().sequence() == 9);
}

CallCounts CountsOf(const RpcServer& server, const std::string& method) {
  for (const MethodCalls& calls : server.server().calls()) {
    if (calls.service == "cim.persistence.v1.AggregateService" && calls.method == method) return calls.counts;
  }
  FAIL("no such method: " << method);
  return {};
}

uint64_t CountOf(const CallCounts& counts, absl::StatusCode code) {
  return counts.by_code.at(static_cast<size_t>(code));
}

TEST_CASE("Calls are counted by the codes that their callers get") {
  absl::Status answer;
  RpcServer server(Metadata([&](const CallContext&, const pb::GetMetadataRequest&,
                                pb::AggregateMetadata&) -> base::Task<absl::Status> { co_return answer; }));
  CHECK(CallMetadata(server).ok());
  CHECK(CallMetadata(server).ok());
  answer = domain::CorruptData("CIM-EVENTS", 9, "no such message");
  CHECK(CallMetadata(server).error_code() == grpc::StatusCode::DATA_LOSS);
  answer = absl::NotFoundError("an error without a reason, which is a defect");
  CHECK(CallMetadata(server).error_code() == grpc::StatusCode::INTERNAL);
  const CallCounts counts = CountsOf(server, "GetMetadata");
  CHECK(CountOf(counts, absl::StatusCode::kOk) == 2);
  CHECK(CountOf(counts, absl::StatusCode::kDataLoss) == 1);
  CHECK(CountOf(counts, absl::StatusCode::kInternal) == 1);
  CHECK(CountOf(counts, absl::StatusCode::kNotFound) == 0);
  CHECK(counts.running == 0);
}

TEST_CASE("A call is counted as running until it ends, and one that is refused is counted too") {
  Gate gate;
  RpcServer server(Metadata(gate.handler()), {.max_concurrent_calls = 1});
  auto running = std::async(std::launch::async, [&] { return CallMetadata(server); });
  gate.WaitUntilEntered();
  CHECK(CountsOf(server, "GetMetadata").running == 1);
  CHECK(ReasonOf(CallMetadata(server)) == pb::ERROR_REASON_OVERLOADED);
  CHECK(CountOf(CountsOf(server, "GetMetadata"), absl::StatusCode::kResourceExhausted) == 1);
  gate.Release();
  REQUIRE(running.get().ok());
  const CallCounts counts = CountsOf(server, "GetMetadata");
  CHECK(counts.running == 0);
  CHECK(CountOf(counts, absl::StatusCode::kOk) == 1);
  CHECK(counts.total_duration > std::chrono::nanoseconds(0));
}

TEST_CASE("A stream is counted once, when it ends") {
  RpcServer server(History([](const CallContext&, const pb::GetHistoryRequest&,
                              StreamWriter<pb::RecordedEvent>& writer) -> base::Task<absl::Status> {
    for (int i = 0; i < 3; ++i) co_await writer.Write(pb::RecordedEvent());
    co_return absl::OkStatus();
  }));
  const auto stub = pb::AggregateService::NewStub(server.channel());
  const auto context = NewContext();
  const auto reader = stub->GetHistory(context.get(), {});
  pb::RecordedEvent event;
  while (reader->Read(&event)) {
  }
  REQUIRE(reader->Finish().ok());
  const CallCounts counts = CountsOf(server, "GetHistory");
  CHECK(CountOf(counts, absl::StatusCode::kOk) == 1);
  CHECK(std::accumulate(counts.by_duration.begin(), counts.by_duration.end(), uint64_t{0}) == 1);
}

}  // namespace
}  // namespace persistd::rpc
