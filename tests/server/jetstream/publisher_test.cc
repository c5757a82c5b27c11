#include "server/jetstream/publisher.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "cim/persistence/v1/errors.pb.h"
#include "server/domain/errors.h"
#include "tests/server/jetstream/live.h"
#include "tests/testing/catch.h"
#include "tests/testing/must.h"
#include "tests/testing/nats_server.h"

namespace persistd::jetstream {
namespace {

namespace pb = cim::persistence::v1;
using Kind = PublishOutcome::Kind;
using ::persistd::testing::Must;
using ::persistd::testing::NatsServer;

std::vector<OutgoingMessage> Messages(int count, const std::string& entity = "a", const std::string& data = "x") {
  std::vector<OutgoingMessage> messages;
  for (int i = 0; i < count; ++i) {
    messages.push_back({.subject = absl::StrCat("s.", entity, ".", i), .headers = {}, .data = data});
  }
  return messages;
}

ExpectedLast Expect(uint64_t sequence, const std::string& entity = "a") {
  return {.filter = absl::StrCat("s.", entity, ".>"), .last_sequence = sequence};
}

base::Task<PublishOutcome> PublishChecked(Publisher& publisher, std::vector<OutgoingMessage> messages,
                                          ExpectedLast expected, base::SteadyTime deadline, std::string stream = "S") {
  std::vector<const OutgoingMessage*> pointers;
  for (OutgoingMessage& message : messages) {
    AddCheck(expected, message);
    pointers.push_back(&message);
  }
  co_return co_await publisher.Publish(std::move(stream), std::move(pointers), deadline);
}

// A server with the stream S, and a publisher to it.
struct Bench {
  explicit Bench(const NatsServer::Options& options = {}, nlohmann::json config = EventStreamConfig("S", "s.>"))
      : nats(Must(NatsServer::Start(options))), live(To(nats->url())), publisher(&live.connection()) {
    REQUIRE(live.WaitUntilUp());
    live.MakeStream(config);
  }
  PublishOutcome Publish(std::vector<OutgoingMessage> messages, ExpectedLast expected,
                         std::chrono::milliseconds wait = kPatience) {
    return base::BlockOn(PublishChecked(publisher, std::move(messages), std::move(expected), In(wait)));
  }
  uint64_t stored() { return live.CountMessages("S"); }

  std::unique_ptr<NatsServer> nats;
  Live live;
  Publisher publisher;
};

TEST_CASE("One message or a thousand are stored together and their last sequence is told", "[jetstream]") {
  Bench bench;
  uint64_t last = 0;
  for (const int count : {1, 2, 3, 1, 1000}) {
    const PublishOutcome outcome = bench.Publish(Messages(count), Expect(last));
    INFO(outcome.status);
    REQUIRE(outcome.kind == Kind::kStored);
    CHECK(outcome.last_sequence == last + static_cast<uint64_t>(count));
    last = outcome.last_sequence;
  }
  // Another aggregate has a check of its own.
  CHECK(bench.Publish(Messages(2, "b"), Expect(0, "b")).kind == Kind::kStored);
  CHECK(bench.stored() == 1009);
}

TEST_CASE("A stale check stores nothing, of one message or of many", "[jetstream]") {
  Bench bench;
  REQUIRE(bench.Publish(Messages(3), Expect(0)).kind == Kind::kStored);
  for (const int count : {1, 2, 100}) {
    for (const uint64_t wrong : {0u, 1u, 2u, 4u, 999u}) {
      CHECK(bench.Publish(Messages(count), Expect(wrong)).kind == Kind::kConflict);
    }
  }
  CHECK(bench.stored() == 3);
  CHECK(bench.Publish(Messages(2), Expect(3)).last_sequence == 5);
}

TEST_CASE("When the server does not answer in time the outcome is unknown, and sending again settles it",
          "[jetstream]") {
  Bench bench;
  for (const int count : {1, 3}) {
    const uint64_t before = bench.stored();
    bench.nats->Pause();
    const PublishOutcome outcome = bench.Publish(Messages(count), Expect(before), std::chrono::milliseconds(100));
    CHECK(outcome.kind == Kind::kUnknown);
    bench.nats->Resume();
    // The first copy arrives first, so the second one meets it.
    CHECK(bench.Publish(Messages(count), Expect(before)).kind == Kind::kConflict);
    CHECK(bench.stored() == before + static_cast<uint64_t>(count));
  }
}

TEST_CASE("When the server dies under a publish the outcome is unknown; while it is away nothing is stored",
          "[jetstream]") {
  Bench bench;
  bench.nats->Pause();
  base::Promise<PublishOutcome> promise;
  base::Spawn([](Publisher& publisher, base::Promise<PublishOutcome> out) -> base::Task<void> {
    out.TrySet(co_await PublishChecked(publisher, Messages(2), Expect(0), In(std::chrono::minutes(10))));
  }(bench.publisher, promise));
  bench.nats->Kill9();
  CHECK(Await(promise.future()).kind == Kind::kUnknown);

  REQUIRE(bench.live.WaitUntilDown());
  for (const int count : {1, 3}) {
    const PublishOutcome away = bench.Publish(Messages(count), Expect(0));
    CHECK(away.kind == Kind::kNotStored);
    CHECK(domain::HasReason(away.status, pb::ERROR_REASON_NATS_UNAVAILABLE));
  }
  Must(bench.nats->Restart());
  REQUIRE(bench.live.WaitUntilUp(2));
  CHECK(bench.stored() == 0);
  CHECK(bench.Publish(Messages(2), Expect(0)).last_sequence == 2);
}

TEST_CASE("A full stream refuses the whole save", "[jetstream]") {
  nlohmann::json config = EventStreamConfig("S", "s.>");
  config["max_bytes"] = 10'000;
  Bench bench({}, config);
  REQUIRE(bench.Publish(Messages(1, "a", std::string(5000, 'x')), Expect(0)).kind == Kind::kStored);
  for (const int count : {1, 3}) {
    const PublishOutcome outcome = bench.Publish(Messages(count, "a", std::string(6000, 'x')), Expect(1));
    CHECK(outcome.kind == Kind::kRefused);
    CHECK(domain::HasReason(outcome.status, pb::ERROR_REASON_STORAGE_FULL));
    CHECK(absl::StrContains(outcome.status.message(), "stream S"));
  }
  CHECK(bench.stored() == 1);
  CHECK(bench.Publish(Messages(2), Expect(1)).kind == Kind::kStored);  // What fits still goes in.
}

TEST_CASE("A message over the server's max_payload refuses the whole save and leaves nothing of it behind",
          "[jetstream]") {
  Bench bench({.extra_config = "max_payload: 8192"});
  std::vector<OutgoingMessage> messages = Messages(3);
  messages[1].data = std::string(9000, 'x');
  for (const auto& save : {messages, std::vector<OutgoingMessage>{messages[1]}}) {
    const PublishOutcome outcome = bench.Publish(save, Expect(0));
    CHECK(outcome.kind == Kind::kRefused);
    CHECK(domain::HasReason(outcome.status, pb::ERROR_REASON_STORAGE_UNSUITABLE));
    CHECK(absl::StrContains(outcome.status.message(), "max_payload"));
  }
  CHECK(bench.stored() == 0);
  CHECK(bench.live.connection().connects() == 1);
}

TEST_CASE("A message over the stream's own size, a header that breaks lines and headers over 64 KiB are refused",
          "[jetstream]") {
  nlohmann::json config = EventStreamConfig("S", "s.>");
  config["max_msg_size"] = 1000;
  {
    Bench small({}, config);
    for (const int count : {1, 2}) {
      const PublishOutcome outcome = small.Publish(Messages(count, "a", std::string(2000, 'x')), Expect(0));
      INFO(outcome.status);
      CHECK(outcome.kind == Kind::kRefused);
    }
  }
  Bench bench;
  std::vector<OutgoingMessage> broken = Messages(1);
  broken[0].headers.Add("ce-id", "a\r\nNats-Rollup: all");
  const PublishOutcome injected = bench.Publish(broken, Expect(0));
  CHECK(injected.kind == Kind::kRefused);
  CHECK(domain::HasReason(injected.status, pb::ERROR_REASON_INTERNAL));
  std::vector<OutgoingMessage> large = Messages(1);
  large[0].headers.Add("ce-custommetadata", std::string(70'000, 'x'));
  const PublishOutcome headers = bench.Publish(large, Expect(0));
  INFO(headers.status);
  CHECK(headers.kind == Kind::kRefused);
  CHECK(bench.stored() == 0);
}

TEST_CASE("Where there is no stream nothing is stored", "[jetstream]") {
  Bench bench;
  std::vector<OutgoingMessage> astray = Messages(1);
  astray[0].subject = "other.a";
  CHECK(bench.Publish(astray, Expect(0)).kind == Kind::kNotStored);
  // It went into a stream that the caller did not mean.
  const PublishOutcome other =
      base::BlockOn(PublishChecked(bench.publisher, Messages(1), Expect(0), In(kPatience), "T"));
  CHECK(other.kind == Kind::kUnknown);
  CHECK(absl::StrContains(other.status.message(), "not T"));
}

TEST_CASE("Every answer of the server is an outcome", "[jetstream]") {
  const auto interpret = [](const std::string& data, size_t count = 1) {
    return InterpretAnswer(data, "S", "b1", count);
  };
  CHECK(interpret(R"({"stream":"S","seq":7})").kind == Kind::kStored);
  CHECK(interpret(R"({"stream":"S","seq":7})").last_sequence == 7);
  CHECK(interpret(R"({"stream":"S","seq":7,"batch":"b1","count":3})", 3).kind == Kind::kStored);
  for (const char* data :
       {"", "x", "[]", "{}", R"({"stream":"S"})", R"({"stream":"S","seq":0})", R"({"stream":"T","seq":1})",
        R"({"error":{}})", R"({"error":{"err_code":1}})", R"({"error":{"err_code":"10071"}})"}) {
    INFO(data);
    CHECK(interpret(data).kind == Kind::kUnknown);
  }
  // An old server stores the last message of a batch alone and says so.
  for (const char* data : {R"({"stream":"S","seq":7})", R"({"stream":"S","seq":7,"batch":"b2","count":3})",
                           R"({"stream":"S","seq":7,"batch":"b1","count":2})"}) {
    CHECK(interpret(data, 3).kind == Kind::kUnknown);
  }
  const auto error = [&](int code) {
    return interpret(absl::StrCat(R"({"error":{"code":400,"err_code":)", code, R"(,"description":"d"}})"));
  };
  for (const int code : {10071, 10164}) CHECK(error(code).kind == Kind::kConflict);
  for (const int code : {10002, 10023, 10028, 10047, 10077}) {
    CHECK(error(code).kind == Kind::kRefused);
    CHECK(domain::HasReason(error(code).status, pb::ERROR_REASON_STORAGE_FULL));
  }
  for (const int code : {10054, 10097, 10199, 10109, 10165, 10166, 10174, 10177, 10185, 10198}) {
    CHECK(error(code).kind == Kind::kRefused);
    CHECK(domain::HasReason(error(code).status, pb::ERROR_REASON_STORAGE_UNSUITABLE));
  }
  for (const int code : {10158, 10167, 10210}) {
    CHECK(error(code).kind == Kind::kNotStored);
    CHECK(domain::HasReason(error(code).status, pb::ERROR_REASON_OVERLOADED));
  }
  for (const int code : {10008, 10176, 10059}) {
    CHECK(error(code).kind == Kind::kNotStored);
    CHECK(domain::HasReason(error(code).status, pb::ERROR_REASON_NATS_UNAVAILABLE));
  }
  CHECK(error(19'999).kind == Kind::kUnknown);
  CHECK(absl::StrContains(error(10077).status.message(), "stream S: d (10077)"));
}

}  // namespace
}  // namespace persistd::jetstream
