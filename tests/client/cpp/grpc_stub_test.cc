// The client over a real connection to a fake daemon.
#include <atomic>
#include <functional>
#include <future>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "client/cpp/client.h"
#include "grpcpp/create_channel.h"
#include "tests/client/fake_server.h"
#include "tests/testing/catch.h"

namespace persistd::client {
namespace {

namespace pb = cim::persistence::v1;
using ::persistd::testing::DaemonError;
using ::persistd::testing::FakeServer;
using std::chrono::milliseconds;

Client Connect(const FakeServer& server, milliseconds timeout = milliseconds(20'000)) {
  return *Client::Connect({.address = server.address(),
                           .default_timeout = timeout,
                           .retry = {.initial_backoff = milliseconds(1), .max_backoff = milliseconds(2)}});
}

TEST_CASE("Save sends the request as it is and repeats it with one id", "[client]") {
  std::mutex mutex;
  std::vector<pb::SaveRequest> requests;
  FakeServer server;
  server.on_save = [&](const pb::SaveRequest& request, pb::SaveResponse& response) {
    const std::lock_guard lock(mutex);
    requests.push_back(request);
    if (requests.size() == 1) return DaemonError(grpc::StatusCode::UNAVAILABLE, pb::ERROR_REASON_OUTCOME_UNKNOWN);
    if (requests.size() == 2) return DaemonError(grpc::StatusCode::RESOURCE_EXHAUSTED, pb::ERROR_REASON_OVERLOADED);
    response.set_deduplicated(true);
    return grpc::Status::OK;
  };
  server.Start();

  pb::SaveRequest request;
  *request.mutable_ref() = Ref("sales", "order", "42/ü");
  *request.add_events() = JsonEvent("placed", R"({"total": 9007199254740993})");
  const auto saved = Connect(server).Save(request);
  REQUIRE(saved.ok());
  CHECK(saved->deduplicated());
  REQUIRE(requests.size() == 3);
  CHECK(requests[0].ref().entity_id() == "42/ü");
  CHECK(requests[0].events(0).payload().data() == R"({"total": 9007199254740993})");
  CHECK(requests[0].events(0).payload().content_type() == "application/json");
  CHECK(requests[0].SerializeAsString() == requests[1].SerializeAsString());
  CHECK(requests[0].SerializeAsString() == requests[2].SerializeAsString());
}

TEST_CASE("A conflict comes back once, with its versions", "[client]") {
  std::atomic<int> calls = 0;
  FakeServer server;
  server.on_save = [&](const pb::SaveRequest&, pb::SaveResponse&) {
    ++calls;
    pb::ErrorDetail detail;
    detail.set_reason(pb::ERROR_REASON_VERSION_CONFLICT);
    detail.mutable_version_conflict()->set_expected_version(0);
    detail.mutable_version_conflict()->set_actual_version(7);
    return DaemonError(grpc::StatusCode::ABORTED, "stale", detail);
  };
  server.Start();
  const auto saved = Connect(server).Save({});
  CHECK(absl::IsAborted(saved.status()));
  CHECK(GetErrorDetail(saved.status())->version_conflict().actual_version() == 7);
  CHECK(calls == 1);
}

TEST_CASE("All reads reach their methods", "[client]") {
  FakeServer server;
  server.on_load = [](const pb::LoadRequest& request, pb::LoadResponse& response) {
    *response.mutable_metadata()->mutable_ref() = request.ref();
    return grpc::Status::OK;
  };
  server.on_get_at_version = [](const pb::GetAtVersionRequest& request, pb::LoadResponse& response) {
    response.mutable_metadata()->set_version(request.version());
    return grpc::Status::OK;
  };
  server.on_get_metadata = [](const pb::GetMetadataRequest& request, pb::AggregateMetadata& metadata) {
    *metadata.mutable_ref() = request.ref();
    return grpc::Status::OK;
  };
  server.on_get_server_info = [](const pb::GetServerInfoRequest&, pb::GetServerInfoResponse& response) {
    response.set_version("1.2.3");
    return grpc::Status::OK;
  };
  server.Start();
  const Client client = Connect(server);
  CHECK(client.Load(Ref("a", "b", "c"))->metadata().ref().entity_id() == "c");
  pb::GetAtVersionRequest at;
  at.set_version(5);
  CHECK(client.GetAtVersion(at)->metadata().version() == 5);
  CHECK(client.GetMetadata(Ref("a", "b", "d"))->ref().entity_id() == "d");
  CHECK(client.GetServerInfo()->version() == "1.2.3");
}

TEST_CASE("An answer larger than gRPC's default limit arrives", "[client]") {
  const std::string large(20 << 20, 'x');
  FakeServer server;
  server.on_load = [&](const pb::LoadRequest&, pb::LoadResponse& response) {
    response.mutable_state()->mutable_payload()->set_data(large);
    return grpc::Status::OK;
  };
  server.Start();
  const auto loaded = Connect(server).Load(Ref("a", "b", "c"));
  REQUIRE(loaded.ok());
  CHECK((loaded->state().payload().data() == large));
}

// Serves versions 1 to `last`, and breaks each call after `broken_after` events.
FakeServer::HistoryHandler BreakingHistory(uint64_t last, uint64_t broken_after) {
  return [=](const pb::GetHistoryRequest& request, grpc::ServerWriter<pb::RecordedEvent>& writer) {
    const uint64_t to = request.has_to_version() ? std::min(request.to_version(), last) : last;
    uint64_t sent = 0;
    for (uint64_t i = request.from_version(); i < to; ++i) {
      if (sent++ == broken_after) return grpc::Status(grpc::StatusCode::UNAVAILABLE, "broken");
      pb::RecordedEvent event;
      event.set_version(request.reverse() ? to - (i - request.from_version()) : i + 1);
      if (!writer.Write(event)) return grpc::Status::CANCELLED;
    }
    return grpc::Status::OK;
  };
}

TEST_CASE("A history over broken streams is complete in both directions", "[client]") {
  FakeServer server;
  server.on_get_history = BreakingHistory(200, 7);
  server.Start();
  const Client client = Connect(server);
  for (const bool reverse : {false, true}) {
    pb::GetHistoryRequest request;
    request.set_reverse(reverse);
    HistoryReader reader = client.History(request);
    for (uint64_t i = 1; i <= 200; ++i) {
      const auto event = reader.Next();
      REQUIRE(event.ok());
      REQUIRE(event->has_value());
      REQUIRE((*event)->version() == (reverse ? 201 - i : i));
    }
    const auto end = reader.Next();
    REQUIRE(end.ok());
    CHECK_FALSE(end->has_value());
  }
}

TEST_CASE("A reader left half-way cancels the stream", "[client]") {
  std::promise<void> cancelled;
  FakeServer server;
  server.on_get_history = [&](const pb::GetHistoryRequest&, grpc::ServerWriter<pb::RecordedEvent>& writer) {
    pb::RecordedEvent event;
    event.mutable_payload()->set_data(std::string(1 << 16, 'x'));
    // Ends only when the client is gone.
    for (uint64_t version = 1; event.set_version(version), writer.Write(event); ++version) {
    }
    cancelled.set_value();
    return grpc::Status::CANCELLED;
  };
  server.Start();
  {
    HistoryReader reader = Connect(server).History({});
    REQUIRE(reader.Next().ok());
  }
  CHECK(cancelled.get_future().wait_for(std::chrono::seconds(20)) == std::future_status::ready);
}

TEST_CASE("A daemon that does not answer costs no more than the timeout", "[client]") {
  std::promise<void> release;
  const std::shared_future<void> released = release.get_future().share();
  FakeServer server;
  server.on_save = [&](const pb::SaveRequest&, pb::SaveResponse&) {
    released.wait();
    return grpc::Status::OK;
  };
  server.Start();
  const auto start = std::chrono::steady_clock::now();
  const auto saved = Connect(server, milliseconds(100)).Save({});
  const auto elapsed = std::chrono::steady_clock::now() - start;
  release.set_value();
  CHECK(absl::IsDeadlineExceeded(saved.status()));
  CHECK(MayHaveBeenStored(saved.status()));
  CHECK(elapsed >= milliseconds(90));
  CHECK(elapsed < std::chrono::seconds(10));
}

TEST_CASE("Without a daemon a call fails as unavailable in time", "[client]") {
  FakeServer server;
  server.Start();
  const Client client = Connect(server, milliseconds(200));
  server.Stop();
  const auto loaded = client.Load(Ref("a", "b", "c"));
  CHECK((absl::IsUnavailable(loaded.status()) || absl::IsDeadlineExceeded(loaded.status())));
}

TEST_CASE("A call survives the restart of the daemon", "[client]") {
  // A name of our own in place of a port, which somebody else could take meanwhile.
  const std::string address = "unix-abstract:persistd-client-test-" + NewRequestId();
  FakeServer first, second;
  first.on_load = second.on_load = [](const pb::LoadRequest&, pb::LoadResponse&) { return grpc::Status::OK; };
  first.Start(address);

  // Brings the daemon back in the client's second wait.
  struct RestartingClock final : Clock {
    TimePoint Now() override { return real->Now(); }
    void SleepFor(Duration duration) override {
      if (++sleeps == 2) restart();
      real->SleepFor(duration);
    }
    std::shared_ptr<Clock> real = Real();
    std::function<void()> restart;
    int sleeps = 0;
  };
  const auto clock = std::make_shared<RestartingClock>();
  clock->restart = [&] { second.Start(address); };
  const auto channel = grpc::CreateChannel(address, grpc::InsecureChannelCredentials());
  const Client client(NewGrpcStub(channel), {}, clock);

  REQUIRE(client.Load(Ref("a", "b", "c")).ok());
  first.Stop();
  CHECK(client.Load(Ref("a", "b", "c")).ok());
  CHECK(clock->sleeps >= 2);
}

TEST_CASE("One client serves many threads", "[client]") {
  std::mutex mutex;
  std::set<std::string> ids;
  FakeServer server;
  server.on_save = [&](const pb::SaveRequest& request, pb::SaveResponse&) {
    const std::lock_guard lock(mutex);
    ids.insert(request.request_id());
    return grpc::Status::OK;
  };
  server.Start();
  const Client client = Connect(server);
  std::atomic<int> failures = 0;
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 8; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 50; ++i) failures += !client.Save({}).ok();
      });
    }
  }
  CHECK(failures == 0);
  CHECK(ids.size() == 400);
}

}  // namespace
}  // namespace persistd::client
