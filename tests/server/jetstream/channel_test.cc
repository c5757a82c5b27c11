// Channels of a Connection: requests with many answers, and consumers.
#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/mutex.h"
#include "server/jetstream/connection.h"
#include "server/jetstream/reply_token.h"
#include "tests/server/jetstream/live.h"
#include "tests/testing/catch.h"
#include "tests/testing/must.h"
#include "tests/testing/nats_server.h"
#include "tests/testing/poll.h"

namespace persistd::jetstream {
namespace {

using ::persistd::testing::Must;
using ::persistd::testing::NatsServer;
using ::persistd::testing::PollUntil;

// What came over a channel.
class Collected {
 public:
  Connection::Channel channel() {
    return {.on_message =
                [this](Message message) {
                  base::MutexLock lock(mutex_);
                  messages_.push_back(std::move(message));
                },
            .on_lost =
                [this] {
                  base::MutexLock lock(mutex_);
                  ++lost_;
                }};
  }
  std::vector<Message> messages() const {
    base::MutexLock lock(mutex_);
    return messages_;
  }
  int lost() const {
    base::MutexLock lock(mutex_);
    return lost_;
  }
  [[nodiscard]] bool WaitFor(size_t count) const {
    return PollUntil([&] { return messages().size() >= count; }, kPatience);
  }

 private:
  mutable base::Mutex mutex_;
  std::vector<Message> messages_ GUARDED_BY(mutex_);
  int lost_ GUARDED_BY(mutex_) = 0;
};

OutgoingMessage Text(std::string subject, std::string data = "") {
  return {.subject = std::move(subject), .headers = {}, .data = std::move(data)};
}

void Fill(Live& live, int count) {
  live.MakeStream(EventStreamConfig("S", "s.>"));
  for (int i = 0; i < count; ++i) REQUIRE(live.Ask(Text(absl::StrCat("s.", i), absl::StrCat("body ", i))).ok());
}

TEST_CASE("A channel gets all answers to one request, in order", "[jetstream]") {
  const auto nats = Must(NatsServer::Start({}));
  Collected collected;
  Live live(To(nats->url()));
  REQUIRE(live.WaitUntilUp());
  Fill(live, 20);
  const uint64_t channel = Must(live.connection().OpenChannel(collected.channel()));
  const std::string query = R"({"batch":20,"seq":1,"next_by_subj":"s.>"})";
  REQUIRE(live.connection().Send(Text("$JS.API.DIRECT.GET.S", query), channel).ok());
  REQUIRE(collected.WaitFor(21));
  const std::vector<Message> messages = collected.messages();
  for (size_t i = 0; i < 20; ++i) CHECK(messages[i].data == absl::StrCat("body ", i));
  REQUIRE(messages[20].headers.Find("Status") != nullptr);
  CHECK(*messages[20].headers.Find("Status") == "204");
}

TEST_CASE("A channel gets what a consumer delivers, beside requests with their own answers", "[jetstream]") {
  const auto nats = Must(NatsServer::Start({}));
  Collected collected;
  Live live(To(nats->url()));
  REQUIRE(live.WaitUntilUp());
  Fill(live, 50);
  const uint64_t channel = Must(live.connection().OpenChannel(collected.channel()));
  const std::string name = DeliveryName("abc", channel);
  const nlohmann::json create = {
      {"stream_name", "S"},
      {"config", {{"name", name}, {"deliver_policy", "all"}, {"ack_policy", "none"}, {"headers_only", true}}}};
  CHECK_FALSE(live.Api(absl::StrCat("CONSUMER.CREATE.S.", name), create.dump()).error.has_value());
  const OutgoingMessage next = Text(absl::StrCat("$JS.API.CONSUMER.MSG.NEXT.S.", name), R"({"batch":50})");
  REQUIRE(live.connection().Send(next, channel).ok());
  CHECK(live.Ask(Text("$JS.API.INFO")).ok());
  REQUIRE(collected.WaitFor(50));
  const std::vector<Message> messages = collected.messages();
  for (size_t i = 0; i < 50; ++i) {
    CHECK(messages[i].subject == absl::StrCat("s.", i));
    CHECK(messages[i].data.empty());
    const std::optional<Delivery> delivery = ParseDelivery(messages[i].reply);
    REQUIRE(delivery.has_value());
    CHECK(delivery->stream_sequence == i + 1);
    CHECK(delivery->pending == 49 - i);
  }
}

TEST_CASE("A channel is told that nobody listens, and hears nothing after it is closed", "[jetstream]") {
  const auto nats = Must(NatsServer::Start({}));
  Collected collected;
  Live live(To(nats->url()));
  REQUIRE(live.WaitUntilUp());
  const uint64_t channel = Must(live.connection().OpenChannel(collected.channel()));
  REQUIRE(live.connection().Send(Text("nobody.home"), channel).ok());
  REQUIRE(collected.WaitFor(1));
  REQUIRE(collected.messages()[0].headers.Find("Status") != nullptr);
  CHECK(*collected.messages()[0].headers.Find("Status") == "503");
  CHECK(absl::IsInvalidArgument(live.connection().Send(Text("two words"), channel)));
  REQUIRE(live.connection().Send(Text("$JS.API.INFO"), channel).ok());
  live.connection().CloseChannel(channel);
  CHECK(absl::IsUnavailable(live.connection().Send(Text("$JS.API.INFO"), channel)));
  CHECK(live.Ask(Text("$JS.API.INFO")).ok());  // Answered after the one before.
  CHECK(collected.messages().size() <= 2);
  CHECK(collected.lost() == 0);
}

TEST_CASE("A channel ends with its connection, and says so once", "[jetstream]") {
  auto nats = Must(NatsServer::Start({}));
  Collected collected;
  Live live(To(nats->url()));
  REQUIRE(live.WaitUntilUp());
  const uint64_t channel = Must(live.connection().OpenChannel(collected.channel()));
  nats->Kill9();
  REQUIRE(live.WaitUntilDown());
  REQUIRE(PollUntil([&] { return collected.lost() == 1; }, kPatience));
  CHECK(absl::IsUnavailable(live.connection().Send(Text("$JS.API.INFO"), channel)));
  CHECK_FALSE(live.connection().OpenChannel(collected.channel()).ok());
  REQUIRE(nats->Restart().ok());
  REQUIRE(live.WaitUntilUp(2));
  CHECK(absl::IsUnavailable(live.connection().Send(Text("$JS.API.INFO"), channel)));
  CHECK(collected.lost() == 1);
}

}  // namespace
}  // namespace persistd::jetstream
