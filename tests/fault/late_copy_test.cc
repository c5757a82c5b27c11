// Saves whose first copy arrives late or whose answer is lost, repeated by the client through another daemon or by the
// same daemon over a new connection: stored exactly once, whatever comes first. A is behind a proxy, B is not.

#include <future>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/domain/errors.h"
#include "tests/server/repository/repository_fixture.h"
#include "tests/testing/catch.h"
#include "tests/testing/poll.h"
#include "tests/testing/tcp_proxy.h"

namespace persistd::fault {
namespace {

namespace pb = cim::persistence::v1;
using namespace std::chrono_literals;  // NOLINT(google-build-using-namespace): literals only.
using domain::HasReason;
using repository::Command;
using repository::Event;
using repository::FreshId;
using repository::Nats;
using repository::SaveCommand;
using repository::SaveResult;
using repository::TestRepository;
using repository::WithId;
using testing::Must;
using testing::TcpProxy;
using Strike = TcpProxy::Strike;

// How a publish of events looks on the wire.
constexpr const char* kPublish = "HPUB cim.events.";

struct Setup {
  std::unique_ptr<TcpProxy> proxy = Must(TcpProxy::Start(Nats().port()));
  TestRepository a{absl::StrCat("nats://127.0.0.1:", proxy->port())};
  TestRepository b{Nats().url()};
  domain::AggregateRef ref = repository::Order(FreshId());
  uint64_t version = 0;

  Setup() { version = Must(a.Save(Command(ref, 0, 2))).info.version; }

  std::future<absl::StatusOr<SaveResult>> SaveThroughA(SaveCommand command, std::chrono::milliseconds timeout) {
    return std::async(std::launch::async, [this, command = std::move(command), timeout]() mutable {
      return a.Save(std::move(command), timeout);
    });
  }

  // All copies that were on their way have been dealt with once a later save of the same stream has.
  void Fence() {
    REQUIRE(
        testing::PollUntil([this] { return a.Info(ref).ok() && a.writes().status().ok(); }, 10s));  // Connected again.
    for (TestRepository* repository : {&a, &b})
      Must(repository->Save(Command(repository::Order("fence"), std::nullopt)));
  }

  // The save is stored once and whole, `others` other events are there beside the first ones, and a repository that was
  // never here sees the same.
  void RequireOnce(const SaveCommand& command, size_t others = 0) { RequireCopies(command, 1, others); }
  void RequireNone(const SaveCommand& command, size_t others) { RequireCopies(command, 0, others); }

 private:
  void RequireCopies(const SaveCommand& command, size_t copies, size_t others) {
    Fence();
    TestRepository fresh(Nats().url());
    for (TestRepository* reader : {&a, &b, &fresh}) {
      repository::HistoryQuery query;
      query.ref = ref;
      const std::vector<Event> events = Must(reader->History(query));
      REQUIRE(events.size() == version + others + copies * command.events.size());
      size_t index = 0;
      for (size_t i = 0; i < events.size(); ++i) {
        REQUIRE(events[i].event.version == i + 1);
        if (events[i].event.commit_id != command.request_id) continue;
        REQUIRE(events[i].event.commit_index == index);
        REQUIRE(events[i].event.payload == command.events[index].event.payload);
        ++index;
      }
      REQUIRE(index == copies * command.events.size());
    }
  }
};

SaveCommand Generated(const Setup& setup) {
  const bool exact = GENERATE(true, false);
  const size_t events = GENERATE(1u, 3u);
  return WithId(Command(setup.ref, exact ? std::optional(setup.version) : std::nullopt, events), FreshId());
}

bool IsExact(const SaveCommand& command) { return command.expectation.kind == repository::Expectation::Kind::kExact; }

TEST_CASE("A copy that arrives after the save was repeated elsewhere is not stored again", "[fault]") {
  Setup setup;
  const SaveCommand command = Generated(setup);
  const bool cut = GENERATE(true, false);
  setup.proxy->StrikeAt(kPublish, Strike::kHold);
  auto first = setup.SaveThroughA(command, 300ms);
  REQUIRE(HasReason(first.get().status(), pb::ERROR_REASON_OUTCOME_UNKNOWN));
  const SaveResult stored = Must(setup.b.Save(command));
  REQUIRE_FALSE(stored.deduplicated);
  if (cut) setup.proxy->CutStruck();
  setup.proxy->Release();
  setup.RequireOnce(command);
  REQUIRE(Must(setup.a.Save(command)).deduplicated);
}

TEST_CASE("A copy that arrives before the save is repeated elsewhere is the only one", "[fault]") {
  Setup setup;
  const SaveCommand command = Generated(setup);
  setup.proxy->StrikeAt(kPublish, Strike::kHold);
  auto first = setup.SaveThroughA(command, 300ms);
  REQUIRE(HasReason(first.get().status(), pb::ERROR_REASON_OUTCOME_UNKNOWN));
  setup.proxy->Release();
  setup.Fence();
  const SaveResult repeated = Must(setup.b.Save(command));
  REQUIRE(repeated.deduplicated);
  REQUIRE(repeated.info.version == setup.version + command.events.size());
  setup.RequireOnce(command);
}

TEST_CASE("A copy that arrives after another save and the repeated one is not stored again", "[fault]") {
  Setup setup;
  const SaveCommand command = Generated(setup);
  setup.proxy->StrikeAt(kPublish, Strike::kHold);
  auto first = setup.SaveThroughA(command, 300ms);
  REQUIRE(HasReason(first.get().status(), pb::ERROR_REASON_OUTCOME_UNKNOWN));
  Must(setup.b.Save(Command(setup.ref, std::nullopt)));
  if (IsExact(command)) {
    REQUIRE(HasReason(setup.b.Save(command).status(), pb::ERROR_REASON_VERSION_CONFLICT));
    setup.proxy->Release();
    setup.RequireNone(command, 1);
    REQUIRE(HasReason(setup.a.Save(command).status(), pb::ERROR_REASON_VERSION_CONFLICT));
    return;
  }
  REQUIRE(Must(setup.b.Save(command)).info.version == setup.version + 1 + command.events.size());
  Must(setup.b.Save(Command(setup.ref, std::nullopt)));
  setup.proxy->Release();
  setup.RequireOnce(command, 2);
}

TEST_CASE("The end of a batch that arrives after the save was repeated is not stored", "[fault]") {
  Setup setup;
  const SaveCommand command = WithId(Command(setup.ref, std::nullopt, 4), FreshId());
  setup.proxy->StrikeAt("Nats-Batch-Sequence: 3", Strike::kHold);
  auto first = setup.SaveThroughA(command, 300ms);
  REQUIRE(HasReason(first.get().status(), pb::ERROR_REASON_OUTCOME_UNKNOWN));
  Must(setup.b.Save(command));
  setup.proxy->Release();
  setup.RequireOnce(command);
}

TEST_CASE("A daemon that sends a save again over a new connection stores it once, though the first copy comes late",
          "[fault]") {
  Setup setup;
  const SaveCommand command = Generated(setup);
  setup.proxy->StrikeAt(kPublish, Strike::kHold);
  auto saving = setup.SaveThroughA(command, 20s);
  REQUIRE(setup.proxy->WaitForStrike(10s));
  setup.proxy->CutStruck();
  const bool late = GENERATE(true, false);
  if (!late) setup.proxy->Release();  // Before the daemon is connected again, or while it is.
  const SaveResult saved = Must(saving.get());
  REQUIRE(saved.info.version == setup.version + command.events.size());
  if (late) setup.proxy->Release();
  setup.RequireOnce(command);
}

TEST_CASE("A save whose answer is lost is answered from what is stored", "[fault]") {
  Setup setup;
  const SaveCommand command = Generated(setup);
  setup.proxy->StrikeAt(kPublish, Strike::kLoseAnswers);
  auto saving = setup.SaveThroughA(command, 20s);
  REQUIRE(setup.proxy->WaitForStrike(10s));
  const uint64_t version = setup.version + command.events.size();
  REQUIRE(testing::PollUntil([&] { return Must(setup.b.Info(setup.ref)).version == version; }, 10s));
  const bool another_after = GENERATE(true, false);
  if (another_after) Must(setup.b.Save(Command(setup.ref, std::nullopt)));
  setup.proxy->CutStruck();
  const SaveResult saved = Must(saving.get());
  REQUIRE(saved.info.version == version);
  REQUIRE_FALSE(saved.deduplicated);
  setup.RequireOnce(command, another_after ? 1 : 0);
  // What the daemon remembers of it is true: the next save of it goes on from there.
  const SaveResult next = Must(setup.a.Save(Command(setup.ref, version + (another_after ? 1 : 0))));
  REQUIRE(next.info.version == version + (another_after ? 2 : 1));
  const SaveResult repeated = Must(setup.b.Save(command));
  for (size_t i = 0; i < command.events.size(); ++i) {
    REQUIRE(saved.events[i].event_id == repeated.events[i].event_id);
    REQUIRE(saved.events[i].position == repeated.events[i].position);
  }
}

TEST_CASE("A save that another daemon stored meanwhile is answered with the ids that are stored", "[fault]") {
  Setup setup;
  const SaveCommand command = Generated(setup);
  setup.proxy->StrikeAt(kPublish, Strike::kHold);
  auto saving = setup.SaveThroughA(command, 20s);
  REQUIRE(setup.proxy->WaitForStrike(10s));
  // Each daemon makes up the event ids that a caller left out.
  SaveCommand repeated = command;
  for (repository::SaveEvent& event : repeated.events) event.event.event_id = FreshId();
  const SaveResult stored = Must(setup.b.Save(repeated));
  const bool another_after = GENERATE(true, false);
  if (another_after) Must(setup.b.Save(Command(setup.ref, std::nullopt)));
  setup.proxy->CutStruck();
  const SaveResult saved = Must(saving.get());
  REQUIRE(saved.deduplicated);
  REQUIRE((saved.info.last_modified == stored.info.last_modified));
  for (size_t i = 0; i < command.events.size(); ++i) {
    REQUIRE(saved.events[i].event_id == stored.events[i].event_id);
    REQUIRE(saved.events[i].position == stored.events[i].position);
  }
  setup.proxy->Release();
  setup.RequireOnce(command, another_after ? 1 : 0);
}

TEST_CASE("A request id that another daemon stored other content under meanwhile is refused", "[fault]") {
  Setup setup;
  const SaveCommand command = Generated(setup);
  const bool longer = GENERATE(true, false);
  setup.proxy->StrikeAt(kPublish, Strike::kHold);
  auto saving = setup.SaveThroughA(command, 20s);
  REQUIRE(setup.proxy->WaitForStrike(10s));
  SaveCommand different = command;
  if (longer) {
    different.events.push_back(repository::NewEvent("happened"));
  } else {
    different.events[0].event.payload.data = "other";
  }
  Must(setup.b.Save(different));
  setup.proxy->CutStruck();
  REQUIRE(HasReason(saving.get().status(), pb::ERROR_REASON_REQUEST_ID_REUSED));
  setup.proxy->Release();
  setup.RequireOnce(different);
}

}  // namespace
}  // namespace persistd::fault
