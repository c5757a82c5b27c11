// Verification of histories that change while they are read: more is saved, what a snapshot stands for is removed.
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cim/persistence/v1/errors.pb.h"
#include "server/domain/errors.h"
#include "server/ipld/cid.h"
#include "server/jetstream/api.h"
#include "tests/fault/torn.h"
#include "tests/server/repository/stream_rebuild.h"
#include "tests/server/repository/truncation_fixture.h"
#include "tests/server/repository/verify_fixture.h"
#include "tests/testing/catch.h"
#include "tests/testing/must.h"
#include "tests/testing/nats_server.h"

namespace persistd::repository {
namespace {

namespace pb = cim::persistence::v1;
using ipld::BreakReason;
using testing::Must;
using testing::NatsServer;

void SaveInHundreds(TestRepository& repository, const domain::AggregateRef& ref, uint64_t from, uint64_t to) {
  for (uint64_t version = from; version < to; version += 100) Must(repository.Save(Command(ref, version, 100)));
}

// So that the history is read by subject.
void Tear(TestRepository& repository, const domain::AggregateRef& ref) {
  fault::PublishTorn(repository, WithId(Command(ref, std::nullopt, 3), FreshId()), 2);
}

// Verifies, and does something else the first time that the progress is told.
absl::StatusOr<Verification> VerifyInterrupted(TestRepository& repository, VerifyCommand command,
                                               const std::function<void()>& interrupt) {
  base::Promise<bool> reached;
  base::Promise<bool> go_on;
  std::atomic<bool> first = true;
  const VerifyProgressSink sink = [&](VerifyProgress) -> base::Task<bool> {
    if (!first.exchange(false)) co_return true;
    base::Future<bool> may_go_on = go_on.future();
    reached.TrySet(true);
    co_return co_await may_go_on;
  };
  std::optional<absl::StatusOr<Verification>> result;
  std::thread verifying([&] {
    result = base::BlockOn(repository.repository().VerifyChain(std::move(command), sink, TestRepository::In(60s)));
    reached.TrySet(true);
  });
  const auto wait = [](base::Future<bool> future) -> base::Task<bool> { co_return co_await future; };
  base::BlockOn(wait(reached.future()));
  interrupt();
  go_on.TrySet(true);
  verifying.join();
  CHECK_FALSE(first);
  return *std::move(result);
}

std::string Told(const Verification& verification) {
  const std::optional<ipld::ChainBreak>& found = verification.chain.first_break;
  return found.has_value() ? std::string(ToString(found->reason)) + ": " + found->detail : "";
}

TEST_CASE("A history whose beginning was removed after a snapshot verifies from what is kept", "[verify]") {
  const std::unique_ptr<NatsServer> nats = Must(NatsServer::Start({.sync_always = true}));
  Truncated truncated(*nats);
  const domain::AggregateRef ref = Order("truncated");
  std::vector<std::string> cids = {""};
  for (uint64_t version = 0; version < 10; ++version) {
    truncated.Grow(ref, version, 1);
    cids.push_back(Must(truncated.daemon.Info(ref)).head_cid);
  }
  REQUIRE(truncated.FirstBecomes(ref, 8));  // By the policy for each fourth one.
  const auto refused = [&](VerifyCommand command) {
    const absl::Status status = TryVerify(truncated.daemon, std::move(command)).status();
    return domain::HasReason(status, pb::ERROR_REASON_HISTORY_REMOVED) &&
           domain::GetErrorDetail(status)->history_removed().first_version() == 8;
  };
  const bool by_subject = GENERATE(false, true);
  if (by_subject) Tear(truncated.daemon, ref);
  const ipld::ChainResult result = Verify(truncated.daemon, {.ref = ref});
  CHECK_FALSE(result.first_break.has_value());
  CHECK(result.verified == 3);
  CHECK(result.verifiable_from == 8);
  CHECK(refused({.ref = ref, .from_version = 3}));
  CHECK(refused({.ref = ref, .from_version = 7}));
  CHECK(refused({.ref = ref, .to_version = 7}));
  CHECK(Verify(truncated.daemon, {.ref = ref, .from_version = 8}).verified == 2);
  // CIDs that somebody kept: of what is there, of what was just before, and of what nobody can tell any more.
  for (uint64_t version = 7; version <= 10; ++version) {
    INFO(version);
    CHECK_FALSE(Verify(truncated.daemon, {.ref = ref, .expected_head_cid = cids[version]}).first_break.has_value());
  }
  CHECK(refused({.ref = ref, .expected_head_cid = cids[6]}));
  CHECK(refused({.ref = ref, .expected_head_cid = ipld::RawCid("x").ToString()}));
  const ipld::ChainResult later =
      Verify(truncated.daemon, {.ref = ref, .from_version = 8, .expected_head_cid = cids[7]});
  REQUIRE(later.first_break.has_value());
  CHECK(later.first_break->reason == BreakReason::kTailCut);
}

TEST_CASE("An altered event that a snapshot stands for is told where it is", "[verify]") {
  const std::unique_ptr<NatsServer> nats = Must(NatsServer::Start({.sync_always = true}));
  const domain::AggregateRef ref = Order("altered");
  const bool some_come_back = GENERATE(false, true);  // As when nats-server is killed.
  {
    Truncated truncated(*nats);
    StreamRebuild stream(&truncated.daemon, kOrderEvents);
    truncated.Grow(ref, 0, 7);
    REQUIRE(truncated.FirstBecomes(ref, 4));
    std::vector<jetstream::Message> messages = stream.ReadAll();
    REQUIRE(messages.size() == 4);
    messages.erase(messages.begin());
    if (!some_come_back) messages.clear();
    truncated.Grow(ref, 7, 3);
    REQUIRE(truncated.FirstBecomes(ref, 8));
    std::vector<jetstream::Message> kept = stream.ReadAll();
    REQUIRE(kept.size() == 3);
    kept[0].data = "{\"n\":7}";
    messages.insert(messages.end(), kept.begin(), kept.end());
    stream.Replace(messages);
  }
  TestRepository fresh(nats->url(), Truncating());
  const ipld::ChainResult result = Verify(fresh, {.ref = ref});
  REQUIRE(result.first_break.has_value());
  CHECK(result.first_break->reason == BreakReason::kPayloadAltered);
  CHECK(result.first_break->version == 8);
  CHECK(result.verified == (some_come_back ? 3 : 0));
  const absl::Status history = fresh.History(AllOf(ref)).status();
  REQUIRE(domain::HasReason(history, pb::ERROR_REASON_CORRUPT_DATA));
  CHECK(domain::GetErrorDetail(history)->data_loss().sequence() == 8);
}

TEST_CASE("Events that are removed after a snapshot while they are verified are no break", "[verify]") {
  const std::unique_ptr<NatsServer> nats = Must(NatsServer::Start({.sync_always = true}));
  Truncated truncated(*nats);
  const domain::AggregateRef ref = Order("overtaken");
  SaveInHundreds(truncated.daemon, ref, 0, 300);
  Tear(truncated.daemon, ref);
  SaveInHundreds(truncated.daemon, ref, 300, 600);
  const auto truncate = [&] {
    Must(truncated.Snapshot(ref, 0, StateOf("{\"all\":true}")));
    REQUIRE(truncated.FirstBecomes(ref, 501));
  };
  const uint64_t from = GENERATE(uint64_t{0}, uint64_t{100});
  const absl::StatusOr<Verification> result =
      VerifyInterrupted(truncated.daemon, {.ref = ref, .from_version = from}, truncate);
  if (from > 0) {
    CHECK(domain::HasReason(result.status(), pb::ERROR_REASON_HISTORY_REMOVED));
    return;
  }
  Must(result.status());
  CHECK(Told(*result).empty());
  CHECK(result->chain.verified == 100);
  CHECK(result->chain.verifiable_from == 501);
}

TEST_CASE("A history verifies again and again while it grows and is truncated", "[verify]") {
  const std::unique_ptr<NatsServer> nats = Must(NatsServer::Start({.sync_always = true}));
  Truncated truncated(*nats);
  const domain::AggregateRef ref = Order("shrinking");
  truncated.Grow(ref, 0, 1);
  TestRepository other(nats->url(), Truncating());
  std::atomic<bool> grown = false;
  std::thread growing([&] {
    truncated.Grow(ref, 1, 199);
    grown = true;
  });
  uint64_t times = 0;
  while (!grown) {
    const absl::StatusOr<Verification> result = TryVerify(other, {.ref = ref});
    ++times;
    if (absl::IsUnavailable(result.status())) continue;
    CHECK(result.status() == absl::OkStatus());
    if (result.ok()) CHECK(Told(*result).empty());
  }
  growing.join();
  CHECK(times > 1);
  const ipld::ChainResult result = Verify(other, {.ref = ref});
  CHECK_FALSE(result.first_break.has_value());
  CHECK(result.head_version == 200);
}

TEST_CASE("A history that two daemons save to verifies again and again", "[verify]") {
  const domain::AggregateRef ref = Order("busy");
  TestRepository daemons[] = {TestRepository(Nats().url()), TestRepository(Nats().url())};
  Must(daemons[0].Save(Command(ref, 0)));
  std::atomic<int> saving = 2;
  std::vector<std::thread> savers;
  for (TestRepository& daemon : daemons) {
    savers.emplace_back([&daemon, &saving, &ref] {
      for (size_t i = 0; i < 100; ++i) Must(daemon.Save(WithId(Command(ref, std::nullopt, 1 + i % 3), FreshId())));
      --saving;
    });
  }
  TestRepository reader(Nats().url());
  uint64_t times = 0;
  uint64_t last = 0;
  std::string head;
  while (saving > 0) {
    const std::string expected = head;
    const Verification verification = Must(TryVerify(reader, {.ref = ref, .expected_head_cid = expected}));
    ++times;
    CHECK(Told(verification).empty());
    CHECK(verification.chain.head_version >= last);
    CHECK(verification.chain.verified == verification.chain.head_version);
    last = verification.chain.head_version;
    head = verification.chain.head_cid;
  }
  for (std::thread& saver : savers) saver.join();
  CHECK(times > 1);
  CHECK(Verify(reader, {.ref = ref}).verified == Must(reader.Info(ref)).version);
}

TEST_CASE("A stream that ends early while it is verified is no result", "[verify]") {
  const std::unique_ptr<NatsServer> nats = Must(NatsServer::Start({.sync_always = true}));
  Truncated truncated(*nats);
  const domain::AggregateRef ref = Order("gone");
  SaveInHundreds(truncated.daemon, ref, 0, 300);
  Tear(truncated.daemon, ref);
  SaveInHundreds(truncated.daemon, ref, 300, 600);
  const auto purge = [&] {
    const jetstream::ApiAnswer answer = Must(base::BlockOn(jetstream::CallApi(
        truncated.daemon.writes(), std::string("$JS.API.STREAM.PURGE.") + kOrderEvents, "", TestRepository::In(20s))));
    REQUIRE_FALSE(answer.error.has_value());
  };
  CHECK(absl::IsUnavailable(VerifyInterrupted(truncated.daemon, {.ref = ref}, purge).status()));
}

TEST_CASE("Once a break is known, a history is read no further", "[verify]") {
  const std::unique_ptr<NatsServer> nats = Must(NatsServer::Start({}));
  TestRepository repository(nats->url());
  const domain::AggregateRef ref = Order("long");
  SaveInHundreds(repository, ref, 0, 1000);
  StreamRebuild stream(&repository, kOrderEvents);
  std::vector<jetstream::Message> messages = stream.ReadAll();
  messages[4].data = "{\"n\":7}";
  stream.Replace(messages);
  TestRepository fresh(nats->url());
  std::vector<VerifyProgress> told;
  const Verification verification = Must(TryVerify(fresh, {.ref = ref}, &told));
  REQUIRE(verification.chain.first_break.has_value());
  CHECK(verification.chain.first_break->version == 5);
  CHECK(told.size() == 1);
}

}  // namespace
}  // namespace persistd::repository
