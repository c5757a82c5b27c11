#include "client/cpp/save_stream.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "client/cpp/errors.h"
#include "client/cpp/requests.h"
#include "tests/client/cpp/fakes.h"
#include "tests/testing/catch.h"

namespace persistd::client {
namespace {

namespace pb = cim::persistence::v1;

// A call whose answers the test gives.
class FakeCall final : public SaveStreamCall {
 public:
  bool Write(const pb::SaveStreamRequest& request, bool) override {
    std::lock_guard lock(mutex_);
    if (ended_) return false;
    requests_.push_back(request);
    changed_.notify_all();
    return true;
  }
  void WritesDone() override {
    std::lock_guard lock(mutex_);
    writes_done_ = true;
    changed_.notify_all();
  }
  bool Read(pb::SaveStreamResponse& response) override {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !answers_.empty() || ended_ || (writes_done_ && answered_ == requests_.size()); });
    if (answers_.empty()) return false;
    response = answers_.front();
    answers_.pop_front();
    return true;
  }
  absl::Status Finish() override {
    std::lock_guard lock(mutex_);
    return status_;
  }
  void Cancel() override { End(absl::CancelledError("cancelled")); }

  pb::SaveStreamRequest Request(size_t index) {
    std::unique_lock lock(mutex_);
    REQUIRE(changed_.wait_for(lock, std::chrono::seconds(30), [&] { return requests_.size() > index; }));
    return requests_[index];
  }
  size_t sent() {
    std::lock_guard lock(mutex_);
    return requests_.size();
  }
  void Answer(uint64_t id, std::optional<absl::StatusCode> error = std::nullopt) {
    std::lock_guard lock(mutex_);
    pb::SaveStreamResponse& answer = answers_.emplace_back();
    answer.set_id(id);
    if (error.has_value()) {
      answer.mutable_error()->set_code(static_cast<int>(*error));
    } else {
      answer.mutable_saved()->set_commit_id(absl::StrCat("commit-", id));
    }
    ++answered_;
    changed_.notify_all();
  }
  // The call breaks off, after the answers given.
  void End(absl::Status status) {
    std::lock_guard lock(mutex_);
    ended_ = true;
    status_ = std::move(status);
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<pb::SaveStreamRequest> requests_;
  std::deque<pb::SaveStreamResponse> answers_;
  size_t answered_ = 0;
  bool writes_done_ = false;
  bool ended_ = false;
  absl::Status status_;
};

struct Fixture {
  explicit Fixture(int calls = 1) {
    for (int i = 0; i < calls; ++i) stub->save_streams.push_back(std::make_shared<FakeCall>());
    for (const auto& call : stub->save_streams) fakes.push_back(static_cast<FakeCall*>(call.get()));
    kept.assign(stub->save_streams.begin(), stub->save_streams.end());
  }
  FakeCall& call(size_t index = 0) { return *fakes[index]; }

  std::shared_ptr<FakeStub> stub = std::make_shared<FakeStub>();
  std::shared_ptr<FakeClock> clock = std::make_shared<FakeClock>();
  std::vector<FakeCall*> fakes;
  std::vector<std::shared_ptr<SaveStreamCall>> kept;
};

pb::SaveRequest Request(const std::string& entity) {
  pb::SaveRequest request;
  *request.mutable_ref() = Ref("sales", "order", entity);
  *request.add_events() = JsonEvent("placed", "{}");
  return request;
}

TEST_CASE("Saves are sent in order with ids of their own and answered in any order") {
  Fixture fixture;
  SaveStream stream(fixture.stub, fixture.clock, {});
  auto first = stream.Save(Request("a"));
  auto second = stream.Save(Request("b"));
  CHECK(fixture.call().Request(0).save().ref().entity_id() == "a");
  CHECK(fixture.call().Request(1).save().ref().entity_id() == "b");
  CHECK_FALSE(fixture.call().Request(0).save().request_id().empty());
  CHECK(fixture.call().Request(0).save().request_id() != fixture.call().Request(1).save().request_id());
  fixture.call().Answer(fixture.call().Request(1).id());
  CHECK(second.get()->commit_id() == "commit-2");
  fixture.call().Answer(fixture.call().Request(0).id(), absl::StatusCode::kAborted);
  CHECK(first.get().status().code() == absl::StatusCode::kAborted);
  CHECK(stream.Finish().ok());
}

TEST_CASE("A full window makes the next save wait") {
  Fixture fixture;
  SaveStream stream(fixture.stub, fixture.clock, {.window = 2});
  auto first = stream.Save(Request("a"));
  auto second = stream.Save(Request("b"));
  std::atomic<bool> third_started = false;
  std::thread saver([&] {
    auto third = stream.Save(Request("c"));
    third_started = true;
    CHECK(third.get().ok());
  });
  fixture.call().Request(1);
  CHECK(fixture.call().sent() == 2);
  CHECK_FALSE(third_started);
  fixture.call().Answer(1);
  CHECK(fixture.call().Request(2).save().ref().entity_id() == "c");
  fixture.call().Answer(2);
  fixture.call().Answer(3);
  saver.join();
  CHECK(stream.Finish().ok());
}

TEST_CASE("After a break what was not answered is sent again, in order, with the same request ids") {
  Fixture fixture(2);
  SaveStream stream(fixture.stub, fixture.clock, {});
  auto first = stream.Save(Request("a"));
  auto second = stream.Save(Request("b"));
  auto third = stream.Save(Request("c"));
  const std::string id_of_third = fixture.call(0).Request(2).save().request_id();
  fixture.call(0).Answer(2);
  CHECK(second.get().ok());
  fixture.call(0).End(Error(absl::StatusCode::kUnavailable, pb::ERROR_REASON_SHUTTING_DOWN));
  CHECK(fixture.call(1).Request(0).save().ref().entity_id() == "a");
  CHECK(fixture.call(1).Request(1).save().ref().entity_id() == "c");
  CHECK(fixture.call(1).Request(1).save().request_id() == id_of_third);
  fixture.call(1).Answer(1);
  fixture.call(1).Answer(3);
  CHECK(first.get().ok());
  CHECK(third.get().ok());
  CHECK(stream.Finish().ok());
}

TEST_CASE("A stream that cannot go on fails what is left, and what comes after") {
  Fixture fixture;
  SaveStream stream(fixture.stub, fixture.clock, {});
  auto first = stream.Save(Request("a"));
  fixture.call().Request(0);
  fixture.call().End(absl::InvalidArgumentError("no such thing"));
  CHECK(first.get().status().code() == absl::StatusCode::kInvalidArgument);
  CHECK(stream.Finish().code() == absl::StatusCode::kInvalidArgument);
  CHECK(stream.Save(Request("b")).get().status().code() == absl::StatusCode::kInvalidArgument);
}

TEST_CASE("A daemon that stays away is given up at some time") {
  Fixture fixture;
  SaveStream stream(fixture.stub, fixture.clock, {});
  fixture.call().End(absl::UnavailableError("away"));
  auto first = stream.Save(Request("a"));
  CHECK(first.get().status().code() == absl::StatusCode::kUnavailable);
  CHECK_FALSE(fixture.clock->sleeps.empty());
}

TEST_CASE("A stream that is destroyed cancels what is left") {
  Fixture fixture;
  std::optional<SaveStream::Response> answer;
  {
    SaveStream stream(fixture.stub, fixture.clock, {});
    stream.Save(Request("a"), [&](SaveStream::Response response) { answer = std::move(response); });
    fixture.call().Request(0);
  }
  REQUIRE(answer.has_value());
  CHECK(answer->status().code() == absl::StatusCode::kCancelled);
}

TEST_CASE("A save after the end of a stream is refused") {
  Fixture fixture;
  SaveStream stream(fixture.stub, fixture.clock, {});
  CHECK(stream.Finish().ok());
  CHECK(stream.Save(Request("a")).get().status().code() == absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace persistd::client
