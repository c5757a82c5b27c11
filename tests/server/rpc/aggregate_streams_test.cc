// SaveStream and BatchLoad over the wire, with a repository whose answers the test gives when it wants.
#include <algorithm>
#include <atomic>
#include <deque>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cim/persistence/v1/aggregates.grpc.pb.h"
#include "server/domain/errors.h"
#include "server/rpc/aggregate_service.h"
#include "tests/server/rpc/fake_repository.h"
#include "tests/server/rpc/rpc_testing.h"
#include "tests/testing/catch.h"
#include "tests/testing/poll.h"

namespace persistd::rpc {
namespace {

namespace pb = cim::persistence::v1;
using testing::kPatience;
using testing::NewContext;

pb::SaveStreamRequest Save(uint64_t id, const std::string& entity, const std::string& data = "x") {
  pb::SaveStreamRequest request;
  request.set_id(id);
  pb::SaveRequest& save = *request.mutable_save();
  save.mutable_ref()->set_context("sales");
  save.mutable_ref()->set_aggregate("order");
  save.mutable_ref()->set_entity_id(entity);
  pb::NewEvent& event = *save.add_events();
  event.set_type("placed");
  event.mutable_payload()->set_data(data);
  return request;
}

pb::LoadRequest Load(const std::string& entity) {
  pb::LoadRequest request;
  *request.mutable_ref() = Save(0, entity).save().ref();
  return request;
}

repository::SaveResult Saved(const repository::SaveCommand& command) {
  repository::SaveResult result;
  result.info.ref = command.ref;
  result.info.version = command.events.size();
  result.commit_id = command.request_id;
  return result;
}

// Holds what reaches the repository until the test lets it go.
template <typename Command, typename Answer>
class Desk {
 public:
  std::function<base::Task<Answer>(Command, base::SteadyTime)> handler() {
    return [this](Command command, base::SteadyTime deadline) -> base::Task<Answer> {
      Entry entry{.command = std::move(command), .deadline = deadline, .promise = {}};
      base::Future<Answer> answer = entry.promise.future();
      {
        std::lock_guard lock(mutex_);
        entries_.push_back(std::move(entry));
        ++arrived_;
      }
      Answer given = co_await answer;
      co_return given;
    };
  }
  size_t arrived() const { return arrived_; }
  bool WaitFor(size_t count) const {
    return testing::PollUntil([&] { return arrived_ >= count; }, kPatience);
  }
  size_t waiting() {
    std::lock_guard lock(mutex_);
    return entries_.size();
  }
  // Takes out the entry at `index` of those that wait; the caller sets its promise.
  auto Take(size_t index) {
    std::lock_guard lock(mutex_);
    Entry entry = std::move(entries_.at(index));
    entries_.erase(entries_.begin() + static_cast<std::ptrdiff_t>(index));
    return entry;
  }

 private:
  struct Entry {
    Command command;
    base::SteadyTime deadline;
    base::Promise<Answer> promise;
  };
  std::mutex mutex_;
  std::deque<Entry> entries_;
  std::atomic<size_t> arrived_ = 0;
};

using SaveDesk = Desk<repository::SaveCommand, testing::FakeRepository::SaveAnswer>;
using LoadDesk = Desk<repository::LoadCommand, testing::FakeRepository::LoadAnswer>;

struct Fixture {
  explicit Fixture(int max_stream_saves = 1024, Server::Options options = {})
      : aggregates(&repository, {.max_stream_saves = max_stream_saves}), server(Services(), options) {}

  std::vector<Service> Services() {
    std::vector<Service> services;
    services.push_back(aggregates.MakeService());
    return services;
  }

  testing::FakeRepository repository;
  AggregateService aggregates;
  testing::RpcServer server;
  std::unique_ptr<pb::AggregateService::Stub> stub = pb::AggregateService::NewStub(server.channel());
  std::unique_ptr<grpc::ClientContext> context = NewContext(2 * kPatience);
};

pb::ErrorDetail DetailOf(const pb::Status& status) {
  pb::ErrorDetail detail;
  REQUIRE(status.details_size() == 1);
  REQUIRE(status.details(0).UnpackTo(&detail));
  return detail;
}

TEST_CASE("Saves of a stream start in the order sent and are answered by their ids as they end") {
  Fixture fixture;
  SaveDesk desk;
  fixture.repository.on_slow_save = desk.handler();
  const auto stream = fixture.stub->SaveStream(fixture.context.get());
  for (uint64_t id = 1; id <= 5; ++id) REQUIRE(stream->Write(Save(id * 10, absl::StrCat("e", id))));
  REQUIRE(desk.WaitFor(5));
  pb::SaveStreamResponse answer;
  for (const size_t index : {4, 0, 1, 1, 0}) {  // The fifth, first, third, fourth, second.
    const auto entry = desk.Take(index);
    entry.promise.TrySet(Saved(entry.command));
    REQUIRE(stream->Read(&answer));
    CHECK(answer.saved().metadata().ref().entity_id() == entry.command.ref.entity_id);
    CHECK(absl::StrCat("e", answer.id() / 10) == entry.command.ref.entity_id);
  }
  stream->WritesDone();
  CHECK_FALSE(stream->Read(&answer));
  CHECK(stream->Finish().ok());
}

TEST_CASE("A save that fails is answered with its error and leaves its neighbours alone") {
  Fixture fixture;
  fixture.repository.on_save = [](const repository::SaveCommand& command,
                                  base::SteadyTime) -> testing::FakeRepository::SaveAnswer {
    if (command.ref.entity_id == "conflict") return domain::VersionConflict(command.ref, 3, 5);
    return Saved(command);
  };
  const auto stream = fixture.stub->SaveStream(fixture.context.get());
  REQUIRE(stream->Write(Save(1, "good")));
  REQUIRE(stream->Write(Save(2, "conflict")));
  REQUIRE(stream->Write(Save(3, "")));
  REQUIRE(stream->Write(Save(4, "large", std::string((4u << 20) + 1000, 'x'))));  // Over limits.max_request_size.
  REQUIRE(stream->Write(Save(5, "good")));
  stream->WritesDone();
  std::map<uint64_t, pb::SaveStreamResponse> answers;
  pb::SaveStreamResponse answer;
  while (stream->Read(&answer)) answers[answer.id()] = answer;
  REQUIRE(stream->Finish().ok());
  REQUIRE(answers.size() == 5);
  CHECK(answers[1].has_saved());
  CHECK(answers[2].error().code() == grpc::StatusCode::ABORTED);
  CHECK(DetailOf(answers[2].error()).version_conflict().actual_version() == 5);
  CHECK(answers[3].error().code() == grpc::StatusCode::INVALID_ARGUMENT);
  CHECK(DetailOf(answers[3].error()).field_violation().field() == "ref.entity_id");
  CHECK(answers[4].error().code() == grpc::StatusCode::RESOURCE_EXHAUSTED);
  CHECK(DetailOf(answers[4].error()).limit().config_key() == "limits.max_request_size");
  CHECK(answers[5].has_saved());
}

TEST_CASE("A stream reads no more than its window of saves under way") {
  constexpr size_t kWindow = 8;
  Fixture fixture(kWindow);
  SaveDesk desk;
  fixture.repository.on_slow_save = desk.handler();
  const auto stream = fixture.stub->SaveStream(fixture.context.get());
  for (uint64_t id = 1; id <= 3 * kWindow; ++id) REQUIRE(stream->Write(Save(id, absl::StrCat("e", id))));
  stream->WritesDone();
  REQUIRE(desk.WaitFor(kWindow));
  pb::SaveStreamResponse answer;
  for (size_t answered = 0; answered < 3 * kWindow; ++answered) {
    // Another call shows that the server has had time to read more.
    pb::AggregateMetadata ignored;
    CHECK_FALSE(fixture.stub->GetMetadata(NewContext().get(), pb::GetMetadataRequest(), &ignored).ok());
    CHECK(desk.arrived() <= answered + kWindow);
    REQUIRE(desk.WaitFor(std::min(answered + kWindow, 3 * kWindow)));
    const auto entry = desk.Take(0);
    entry.promise.TrySet(Saved(entry.command));
    REQUIRE(stream->Read(&answer));
    CHECK(answer.id() == answered + 1);
  }
  CHECK_FALSE(stream->Read(&answer));
  CHECK(stream->Finish().ok());
}

TEST_CASE("A client that reads no answers is not read from for ever, and loses none") {
  constexpr uint64_t kSaves = 8'000;
  Fixture fixture(64);
  std::atomic<uint64_t> saved = 0;
  fixture.repository.on_save = [&](const repository::SaveCommand& command, base::SteadyTime) {
    ++saved;
    repository::SaveResult result = Saved(command);
    result.commit_id = std::string(2000, 'c');  // 16 MB of answers: far over what gRPC takes without a reader.
    return result;
  };
  const auto stream = fixture.stub->SaveStream(fixture.context.get());
  std::atomic<uint64_t> sent = 0;
  std::thread sender([&] {
    for (uint64_t id = 1; id <= kSaves && stream->Write(Save(id, "e")); ++id) ++sent;
    stream->WritesDone();
  });
  REQUIRE(testing::PollUntil([&] { return saved > 100; }, kPatience));
  // It stops: the same number after a while in which it could have saved thousands.
  uint64_t before = 0;
  REQUIRE(testing::PollUntil(
      [&] {
        for (int i = 0; i < 200; ++i) {
          pb::AggregateMetadata ignored;
          (void)fixture.stub->GetMetadata(NewContext().get(), pb::GetMetadataRequest(), &ignored);
        }
        return std::exchange(before, saved.load()) == saved.load();
      },
      kPatience));
  CHECK(saved < kSaves);
  pb::SaveStreamResponse answer;
  uint64_t last = 0;
  while (stream->Read(&answer)) {
    if (answer.id() != ++last) FAIL("answer " << answer.id() << " instead of " << last);
  }
  sender.join();
  CHECK(last == kSaves);
  CHECK(sent == kSaves);
  CHECK(stream->Finish().ok());
}

TEST_CASE("An id that is still under way ends the stream, after what is under way") {
  Fixture fixture;
  SaveDesk desk;
  fixture.repository.on_slow_save = desk.handler();
  const auto stream = fixture.stub->SaveStream(fixture.context.get());
  REQUIRE(stream->Write(Save(7, "a")));
  REQUIRE(stream->Write(Save(7, "b")));
  REQUIRE(desk.WaitFor(1));
  const auto entry = desk.Take(0);
  CHECK(entry.command.ref.entity_id == "a");
  // Only once the second one was refused; before, 7 would be free again.
  pb::AggregateMetadata ignored;
  for (int i = 0; i < 20; ++i) (void)fixture.stub->GetMetadata(NewContext().get(), pb::GetMetadataRequest(), &ignored);
  entry.promise.TrySet(Saved(entry.command));
  pb::SaveStreamResponse answer;
  REQUIRE(stream->Read(&answer));
  CHECK(answer.id() == 7);
  CHECK(answer.has_saved());
  CHECK_FALSE(stream->Read(&answer));
  const grpc::Status status = stream->Finish();
  CHECK(status.error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  CHECK(testing::DetailOf(status).value().field_violation().field() == "id");
  CHECK(desk.arrived() == 1);
}

TEST_CASE("An id may be used again once it is answered") {
  Fixture fixture;
  fixture.repository.on_save = [](const repository::SaveCommand& command, base::SteadyTime) { return Saved(command); };
  const auto stream = fixture.stub->SaveStream(fixture.context.get());
  pb::SaveStreamResponse answer;
  for (int i = 0; i < 200; ++i) {
    REQUIRE(stream->Write(Save(7, absl::StrCat("e", i))));
    REQUIRE(stream->Read(&answer));
    CHECK(answer.saved().metadata().ref().entity_id() == absl::StrCat("e", i));
  }
  stream->WritesDone();
  CHECK(stream->Finish().ok());
}

TEST_CASE("A shutdown takes no more saves, answers those under way, and says why it ends the stream") {
  Fixture fixture;
  SaveDesk desk;
  fixture.repository.on_slow_save = desk.handler();
  const auto stream = fixture.stub->SaveStream(fixture.context.get());
  REQUIRE(stream->Write(Save(1, "a")));
  REQUIRE(desk.WaitFor(1));
  std::thread shutdown([&] { fixture.server.server().Shutdown(kPatience); });
  // Saves sent from now on are not taken at some point, whose answer is the end of the stream.
  const auto entry = desk.Take(0);
  pb::AggregateMetadata ignored;
  REQUIRE(testing::PollUntil(
      [&] {
        const grpc::Status status = fixture.stub->GetMetadata(NewContext().get(), pb::GetMetadataRequest(), &ignored);
        return testing::ReasonOf(status) == pb::ERROR_REASON_SHUTTING_DOWN;
      },
      kPatience));
  entry.promise.TrySet(Saved(entry.command));
  pb::SaveStreamResponse answer;
  REQUIRE(stream->Read(&answer));
  CHECK(answer.id() == 1);
  CHECK(answer.has_saved());
  CHECK_FALSE(stream->Read(&answer));
  const grpc::Status status = stream->Finish();
  CHECK(status.error_code() == grpc::StatusCode::UNAVAILABLE);
  CHECK(testing::ReasonOf(status) == pb::ERROR_REASON_SHUTTING_DOWN);
  shutdown.join();
}

TEST_CASE("Saves of a client that cancels are finished") {
  Fixture fixture;
  SaveDesk desk;
  fixture.repository.on_slow_save = desk.handler();
  {
    const auto stream = fixture.stub->SaveStream(fixture.context.get());
    for (uint64_t id = 1; id <= 3; ++id) REQUIRE(stream->Write(Save(id, absl::StrCat("e", id))));
    REQUIRE(desk.WaitFor(3));
    fixture.context->TryCancel();
    CHECK(stream->Finish().error_code() == grpc::StatusCode::CANCELLED);
  }
  CHECK(desk.waiting() == 3);
  while (desk.waiting() > 0) {
    const auto entry = desk.Take(0);
    entry.promise.TrySet(Saved(entry.command));
  }
  fixture.server.server().Shutdown(kPatience);  // Returns: nothing of the call is left.
}

TEST_CASE("A save of a stream has the deadline of a call of its own") {
  Fixture fixture;
  SaveDesk desk;
  fixture.repository.on_slow_save = desk.handler();
  grpc::ClientContext without_deadline;
  const auto stream = fixture.stub->SaveStream(&without_deadline);
  REQUIRE(stream->Write(Save(1, "a")));
  REQUIRE(desk.WaitFor(1));
  const auto entry = desk.Take(0);
  CHECK(entry.deadline < std::chrono::steady_clock::now() + std::chrono::seconds(31));
  CHECK(entry.deadline > std::chrono::steady_clock::now() + std::chrono::seconds(5));
  entry.promise.TrySet(Saved(entry.command));
  stream->WritesDone();
  pb::SaveStreamResponse answer;
  REQUIRE(stream->Read(&answer));
  CHECK_FALSE(stream->Read(&answer));
  CHECK(stream->Finish().ok());
}

TEST_CASE("Loads of a batch run at once and are answered in the order asked, errors among them") {
  constexpr size_t kAtOnce = 64;
  constexpr size_t kLoads = 200;
  Fixture fixture;
  LoadDesk desk;
  fixture.repository.on_slow_load = desk.handler();
  const uint32_t seed = std::random_device()();
  CAPTURE(seed);
  std::mt19937 random(seed);
  const auto stream = fixture.stub->BatchLoad(fixture.context.get());
  for (size_t i = 0; i < kLoads; ++i) REQUIRE(stream->Write(Load(i % 10 == 9 ? "" : absl::StrCat("e", i))));
  stream->WritesDone();
  std::thread answering([&] {
    const size_t valid = kLoads - kLoads / 10;
    for (size_t taken = 0; taken < valid; ++taken) {
      // Refused ones are within the window as well.
      if (!desk.WaitFor(taken + 1)) return;
      const size_t waiting = desk.waiting();
      if (waiting > kAtOnce) return;
      const auto entry = desk.Take(std::uniform_int_distribution<size_t>(0, waiting - 1)(random));
      if (entry.command.ref.entity_id == "e3") {
        entry.promise.TrySet(domain::AggregateNotFound(entry.command.ref));
        continue;
      }
      repository::LoadResult result;
      result.info.ref = entry.command.ref;
      entry.promise.TrySet(std::move(result));
    }
  });
  pb::BatchLoadResponse answer;
  uint64_t next = 0;
  for (; stream->Read(&answer); ++next) {
    REQUIRE(answer.index() == next);
    if (next % 10 == 9) {
      CHECK(DetailOf(answer.error()).field_violation().field() == "ref.entity_id");
    } else if (next == 3) {
      CHECK(answer.error().code() == grpc::StatusCode::NOT_FOUND);
    } else {
      CHECK(answer.loaded().metadata().ref().entity_id() == absl::StrCat("e", next));
    }
  }
  answering.join();
  CHECK(next == kLoads);
  CHECK(stream->Finish().ok());
}

TEST_CASE("A batch whose answers are not read loads no more") {
  Fixture fixture;
  std::atomic<uint64_t> loaded = 0;
  fixture.repository.on_load = [&](const repository::LoadCommand& command,
                                   base::SteadyTime) -> testing::FakeRepository::LoadAnswer {
    ++loaded;
    repository::LoadResult result;
    result.info.ref = command.ref;
    result.state = domain::StateRecord{};
    result.state->payload = {.content_type = "text/plain", .data = std::string(1u << 20, 'x')};
    return result;
  };
  const auto stream = fixture.stub->BatchLoad(fixture.context.get());
  constexpr uint64_t kLoads = 100;
  for (uint64_t i = 0; i < kLoads; ++i) REQUIRE(stream->Write(Load("e")));
  stream->WritesDone();
  uint64_t before = 0;
  REQUIRE(testing::PollUntil(
      [&] {
        for (int i = 0; i < 100; ++i) {
          pb::AggregateMetadata ignored;
          (void)fixture.stub->GetMetadata(NewContext().get(), pb::GetMetadataRequest(), &ignored);
        }
        return loaded > 0 && std::exchange(before, loaded.load()) == loaded.load();
      },
      kPatience));
  CHECK(loaded < 60);
  pb::BatchLoadResponse answer;
  uint64_t answered = 0;
  while (stream->Read(&answer)) ++answered;
  CHECK(answered == kLoads);
  CHECK(stream->Finish().ok());
}

}  // namespace
}  // namespace persistd::rpc
