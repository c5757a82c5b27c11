#include "server/jetstream/tail.h"

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/mutex.h"
#include "server/jetstream/tails.h"
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

// Notes what a tail tells.
class Noted final : public TailsSink {
 public:
  std::optional<TailPosition> StartOf(const std::string&) override {
    base::MutexLock lock(mutex_);
    ++starts_;
    return start_;
  }
  void OnMessage(const std::string&, Message message, uint64_t pending) override {
    base::MutexLock lock(mutex_);
    if (pending == 0) ++caught_up_;
    messages_.push_back(std::move(message));
  }
  void OnReset(const std::string&, uint64_t incarnation) override {
    base::MutexLock lock(mutex_);
    incarnation_ = incarnation;
    ++resets_;
    messages_.clear();
  }
  void OnCaughtUp(const std::string&) override {
    base::MutexLock lock(mutex_);
    ++caught_up_;
  }
  void OnGone(const std::string&) override {
    base::MutexLock lock(mutex_);
    ++gone_;
  }
  void OnStreams(const std::vector<std::string>& streams) override {
    base::MutexLock lock(mutex_);
    streams_ = streams;
  }

  void StartAt(std::optional<TailPosition> start) {
    base::MutexLock lock(mutex_);
    start_ = start;
  }
  std::vector<Message> messages() const { return Locked(messages_); }
  int resets() const { return Locked(resets_); }
  int gone() const { return Locked(gone_); }
  int caught_up() const { return Locked(caught_up_); }
  uint64_t incarnation() const { return Locked(incarnation_); }
  std::vector<std::string> streams() const { return Locked(streams_); }
  [[nodiscard]] bool WaitFor(size_t count) const {
    return PollUntil([&] { return messages().size() >= count; }, kPatience);
  }
  TailPosition position() const {
    const std::vector<Message> all = messages();
    return {.incarnation = incarnation(), .sequence = all.back().sequence, .fingerprint = Fingerprint(all.back())};
  }

 private:
  template <typename T>
  T Locked(const T& value) const {
    base::MutexLock lock(mutex_);
    return value;
  }

  mutable base::Mutex mutex_;
  std::optional<TailPosition> start_ GUARDED_BY(mutex_) = TailPosition{};
  std::vector<Message> messages_ GUARDED_BY(mutex_);
  std::vector<std::string> streams_ GUARDED_BY(mutex_);
  int starts_ GUARDED_BY(mutex_) = 0;
  int resets_ GUARDED_BY(mutex_) = 0;
  int gone_ GUARDED_BY(mutex_) = 0;
  int caught_up_ GUARDED_BY(mutex_) = 0;
  uint64_t incarnation_ GUARDED_BY(mutex_) = 0;
};

// A nats-server, and a tail of its stream S. Stops the tail before the connection.
struct World {
  World() : nats(Must(NatsServer::Start({}))), live(To(nats->url())) {}
  ~World() {
    if (tail != nullptr) tail->Stop();
  }

  void MakeStream() { live.MakeStream(EventStreamConfig("S", "s.>")); }
  void RemoveStream() { CHECK_FALSE(live.Api("STREAM.DELETE.S").error.has_value()); }
  // count messages, numbered on.
  void Publish(int count) {
    std::vector<base::Future<absl::StatusOr<Message>>> answers;
    for (int i = 0; i < count; ++i, ++published) {
      OutgoingMessage message;
      message.subject = absl::StrCat("s.", published);
      message.headers.Add("ce-id", absl::StrCat("id-", published));
      message.data = "a body";
      answers.push_back(live.connection().Request(message, In(kPatience)));
    }
    for (auto& answer : answers) REQUIRE(Await(std::move(answer)).ok());
  }
  void Follow(uint64_t window = 1024) {
    tail = Tail::Create({.stream = "S", .window = window, .heartbeat = std::chrono::milliseconds(300)},
                        &live.connection(), &live.executor(), &noted);
    tail->Start();
  }
  // What was noted is all that was published since number `first`, in order.
  void CheckAll(int first = 0) const {
    const std::vector<Message> messages = noted.messages();
    REQUIRE(messages.size() == static_cast<size_t>(published - first));
    uint64_t last = 0;
    for (int i = first; i < published; ++i) {
      const Message& message = messages[static_cast<size_t>(i - first)];
      REQUIRE(message.subject == absl::StrCat("s.", i));
      REQUIRE(message.headers.Find("ce-id") != nullptr);
      REQUIRE(message.data.empty());
      REQUIRE(message.sequence > last);
      last = message.sequence;
    }
  }

  std::unique_ptr<NatsServer> nats;
  Noted noted;
  Live live;
  std::shared_ptr<Tail> tail;
  int published = 0;
};

TEST_CASE("A tail reads what is there, then what comes, without bodies", "[tail]") {
  World world;
  REQUIRE(world.live.WaitUntilUp());
  world.MakeStream();
  world.Publish(300);
  world.Follow();
  REQUIRE(world.noted.WaitFor(300));
  REQUIRE(PollUntil([&] { return world.noted.caught_up() > 0; }, kPatience));
  world.Publish(200);
  REQUIRE(world.noted.WaitFor(500));
  world.CheckAll();
  CHECK(world.noted.resets() == 1);
  CHECK(world.tail->pending() == 0);
}

TEST_CASE("A tail of an empty stream says that it has caught up", "[tail]") {
  World world;
  REQUIRE(world.live.WaitUntilUp());
  world.MakeStream();
  world.Follow();
  REQUIRE(PollUntil([&] { return world.noted.caught_up() == 1; }, kPatience));
  CHECK(world.noted.resets() == 1);
}

TEST_CASE("A tail that is stopped while it begins ends", "[tail]") {
  World world;
  REQUIRE(world.live.WaitUntilUp());
  world.MakeStream();
  world.Publish(10);
  // After as many round trips as it has made some step of its beginning.
  for (int trips = 0; trips < 40; ++trips) {
    world.Follow();
    for (int i = 0; i < trips % 8; ++i) world.live.Api("STREAM.INFO.S");
    world.tail->Stop();
  }
  // None of them has left a consumer behind.
  CHECK(PollUntil(
      [&] { return UnsignedField(ObjectField(world.live.Api("STREAM.INFO.S").body, "state"), "consumer_count") == 0; },
      kPatience));
}

TEST_CASE("A tail gives no more than its window to a sink that does not finish", "[tail]") {
  World world;
  REQUIRE(world.live.WaitUntilUp());
  world.MakeStream();
  world.Publish(100);
  world.Follow(16);
  REQUIRE(world.noted.WaitFor(16));
  // The heartbeats of a pull that waits would break a tail that takes silence for loss.
  world.Publish(1);
  CHECK(world.noted.messages().size() <= 16);
  while (world.noted.messages().size() < 101) {
    const size_t before = world.noted.messages().size();
    world.tail->Done(8);
    REQUIRE(PollUntil([&] { return world.noted.messages().size() > before || before == 101; }, kPatience));
  }
  world.CheckAll();
  CHECK(world.noted.resets() == 1);
}

TEST_CASE("A tail goes on after a restart of the server, a lost consumer and silence", "[tail]") {
  World world;
  REQUIRE(world.live.WaitUntilUp());
  world.MakeStream();
  world.Publish(20);
  world.Follow();
  REQUIRE(world.noted.WaitFor(20));

  const ApiAnswer consumers = world.live.Api("CONSUMER.NAMES.S");
  const std::string consumer = consumers.body.at("consumers").at(0).get<std::string>();
  CHECK_FALSE(world.live.Api(absl::StrCat("CONSUMER.DELETE.S.", consumer)).error.has_value());
  world.Publish(20);
  REQUIRE(world.noted.WaitFor(40));

  world.nats->Kill9();
  REQUIRE(world.live.WaitUntilDown());
  REQUIRE(world.nats->Restart().ok());
  REQUIRE(world.live.WaitUntilUp(2));
  world.Publish(20);
  REQUIRE(world.noted.WaitFor(60));
  world.CheckAll();
  CHECK(world.noted.resets() == 1);
}

TEST_CASE("A tail goes on where it is told to, if the message there is the one it knew", "[tail]") {
  World world;
  REQUIRE(world.live.WaitUntilUp());
  world.MakeStream();
  world.Publish(10);
  world.Follow();
  REQUIRE(world.noted.WaitFor(10));
  const TailPosition position = world.noted.position();
  world.tail->Stop();
  world.Publish(5);

  SECTION("the same one") {
    world.noted.StartAt(position);
    world.Follow();
    REQUIRE(world.noted.WaitFor(15));
    world.CheckAll();
    CHECK(world.noted.resets() == 1);
  }
  SECTION("another message at that place") {
    TailPosition other = position;
    ++other.fingerprint;
    world.noted.StartAt(other);
    world.Follow();
    REQUIRE(PollUntil([&] { return world.noted.resets() == 2; }, kPatience));
    REQUIRE(world.noted.WaitFor(15));
    world.CheckAll();
  }
  SECTION("no message at that place any more") {
    TailPosition removed = position;
    world.live.Api("STREAM.DELETE.S");
    nlohmann::json config = EventStreamConfig("S", "s.>");
    config["deny_purge"] = false;
    world.live.MakeStream(config);
    world.published = 0;
    world.Publish(15);
    CHECK_FALSE(world.live.Api("STREAM.PURGE.S", R"({"filter":"s.9"})").error.has_value());
    world.Follow();
    REQUIRE(PollUntil([&] { return world.noted.resets() == 2; }, kPatience));
    REQUIRE(world.noted.WaitFor(14));
    world.tail->Stop();
    // The stream as it is now, from a place whose message is gone.
    removed.incarnation = world.noted.incarnation();
    world.noted.StartAt(removed);
    world.Follow();
    REQUIRE(PollUntil([&] { return world.noted.resets() == 3; }, kPatience));
    REQUIRE(world.noted.WaitFor(14));
    CHECK(world.noted.messages().front().subject == "s.0");
  }
  SECTION("a place that the stream has not reached") {
    TailPosition beyond = position;
    beyond.sequence = 1000;
    world.noted.StartAt(beyond);
    world.Follow();
    REQUIRE(PollUntil([&] { return world.noted.resets() == 2; }, kPatience));
    REQUIRE(world.noted.WaitFor(15));
    world.CheckAll();
  }
  SECTION("from now on") {
    world.noted.StartAt(std::nullopt);
    world.Follow();
    REQUIRE(PollUntil([&] { return world.noted.caught_up() > 1; }, kPatience));
    world.Publish(1);
    REQUIRE(world.noted.WaitFor(11));
    CHECK(world.noted.messages().back().subject == "s.15");
  }
}

TEST_CASE("A tail begins anew with a stream that replaces the one it read", "[tail]") {
  World world;
  REQUIRE(world.live.WaitUntilUp());
  world.MakeStream();
  world.Publish(10);
  world.Follow();
  REQUIRE(world.noted.WaitFor(10));
  const uint64_t incarnation = world.noted.incarnation();
  world.RemoveStream();
  REQUIRE(PollUntil([&] { return world.noted.gone() == 1; }, kPatience));
  world.MakeStream();
  const int first = world.published;
  world.Publish(30);
  REQUIRE(PollUntil([&] { return world.noted.resets() == 2; }, kPatience));
  REQUIRE(world.noted.WaitFor(30));
  world.CheckAll(first);
  CHECK(world.noted.incarnation() != incarnation);
}

TEST_CASE("Tails find event streams at the start and later, and no others", "[tail]") {
  const auto nats = Must(NatsServer::Start({}));
  Noted noted;
  Live live(To(nats->url()));
  REQUIRE(live.WaitUntilUp());
  live.MakeStream(EventStreamConfig("EV+a+b", "cim.events.a.b.>"));
  live.MakeStream(EventStreamConfig("OTHER+a+b", "cim.events.x.y.>"));
  live.MakeStream(EventStreamConfig("EVX", "cim.events.x.z.>"));
  live.MakeStream(EventStreamConfig("EV+c+d", "c.d.>"));
  Tails tails({.event_stream_name = "EV", .look_every = std::chrono::hours(1)}, &live.connection(), &live.executor(),
              &noted);
  tails.Start();
  REQUIRE(PollUntil([&] { return noted.resets() == 1; }, kPatience));
  CHECK(noted.streams() == std::vector<std::string>{"EV+a+b"});
  live.MakeStream(EventStreamConfig("EV", "cim.events.e.>"));
  tails.Nudge();
  REQUIRE(PollUntil([&] { return noted.resets() == 2; }, kPatience));
  CHECK(noted.streams() == std::vector<std::string>{"EV", "EV+a+b"});
  tails.Stop();
}

}  // namespace
}  // namespace persistd::jetstream
