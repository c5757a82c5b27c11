// A repository over three nats-servers: streams and buckets with three replicas (R3).

#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cim/persistence/v1/errors.pb.h"
#include "server/domain/errors.h"
#include "server/domain/subject.h"
#include "server/jetstream/api.h"
#include "server/repository/block_collector.h"
#include "tests/server/repository/repository_fixture.h"
#include "tests/server/repository/verify_fixture.h"
#include "tests/testing/catch.h"
#include "tests/testing/must.h"
#include "tests/testing/nats_cluster.h"
#include "tests/testing/poll.h"

namespace persistd::repository {
namespace {

namespace pb = cim::persistence::v1;
using ::persistd::testing::Must;
using ::persistd::testing::NatsCluster;
using ::persistd::testing::PollUntil;

constexpr size_t kLarge = 1'200'000;

RepositoryOptions Replicated() {
  RepositoryOptions options;
  options.storage.defaults.replicas = 3;
  options.snapshot_bucket.replicas = 3;
  options.block_bucket.replicas = 3;
  return options;
}

SaveCommand WithState(SaveCommand command, std::string data) {
  command.state.emplace();
  command.state->payload = {.content_type = "application/json", .data = std::move(data)};
  return command;
}

std::string Content(uint32_t seed) {
  std::string content(kLarge, '\0');
  for (char& c : content) {
    seed = seed * 1664525 + 1013904223;
    c = static_cast<char>(seed >> 24);
  }
  return content;
}

nlohmann::json InfoOf(TestRepository& daemon, const std::string& stream) {
  return Must(base::BlockOn(jetstream::CallApi(daemon.writes(), absl::StrCat("$JS.API.STREAM.INFO.", stream), "",
                                               TestRepository::In(20s))))
      .body;
}

// While a leader is being elected the daemon says so; its clients repeat.
template <typename Call>
auto Repeated(Call call) -> std::decay_t<decltype(*call())> {
  auto result = call();
  (void)PollUntil(
      [&] {
        if (!absl::IsUnavailable(result.status())) return true;
        result = call();
        return result.ok();
      },
      60s);
  return Must(std::move(result));
}

std::string StateOf(const LoadResult& loaded) { return loaded.state.has_value() ? loaded.state->payload.data : ""; }

TEST_CASE("A load that must have seen a save has, whichever server answers it", "[replicated]") {
  const auto cluster = Must(NatsCluster::Start({}));
  TestRepository writer(cluster->server(0).url(), Replicated());
  Must(writer.Save(WithState(Command(Order("1"), 0), "1")));
  REQUIRE(jetstream::UnsignedField(InfoOf(writer, "CIM-EVENTS+sales+order")["config"], "num_replicas") == 3);
  // One reader at each server: what leads the stream, and what follows it.
  TestRepository readers[] = {TestRepository(cluster->server(0).url(), Replicated()),
                              TestRepository(cluster->server(1).url(), Replicated()),
                              TestRepository(cluster->server(2).url(), Replicated())};
  for (uint64_t version = 1; version < 60; ++version) {
    const SaveResult saved = Must(writer.Save(WithState(Command(Order("1"), version), absl::StrCat(version + 1))));
    for (TestRepository& reader : readers) {
      LoadCommand command{.ref = Order("1"), .consistency = Consistency::kAtLeast};
      command.at_least = saved.info.position;
      const LoadResult loaded = Must(reader.Load(std::move(command)));
      REQUIRE(loaded.info.version == version + 1);
      // The state may be behind: then the events after it come along.
      REQUIRE(loaded.state.has_value());
      REQUIRE(loaded.state->version + loaded.events.size() == version + 1);
      REQUIRE(StateOf(loaded) == absl::StrCat(loaded.state->version));
    }
  }
  // A save of another aggregate: what came before it is seen.
  const SaveResult other = Must(writer.Save(Command(Order("2"), 0)));
  for (TestRepository& reader : readers) {
    LoadCommand command{.ref = Order("1"), .consistency = Consistency::kAtLeast};
    command.at_least = other.info.position;
    CHECK(Must(reader.Load(command)).info.version == 60);
    // One that nobody has made yet.
    domain::StreamPosition later = other.info.position.streams().front();
    later.sequence += 1000;
    command.at_least = domain::Position(later);
    CHECK(domain::HasReason(reader.Load(command, 300ms).status(), pb::ERROR_REASON_POSITION_NOT_REACHED));
  }
}

TEST_CASE("Snapshots and large states have three copies, and outlive the loss of one", "[replicated]") {
  const auto cluster = Must(NatsCluster::Start({}));
  TestRepository daemon(cluster->server(0).url(), Replicated());
  Must(daemon.Save(WithState(Command(Order("1"), 0), Content(1))));
  const auto snapshot = [&] {
    SnapshotCommand command;
    command.ref = Order("1");
    return base::BlockOn(daemon.repository().CreateSnapshot(std::move(command), TestRepository::In(60s)));
  };
  CHECK(Must(snapshot()).version == 1);
  Must(daemon.Save(WithState(Command(Order("1"), 1), Content(2))));
  for (const char* stream : {"KV_cim-snapshots", "KV_cim-blocks", "CIM-AGGREGATES+sales+order"}) {
    INFO(stream);
    CHECK(jetstream::UnsignedField(InfoOf(daemon, stream)["config"], "num_replicas") == 3);
  }

  cluster->Kill9(2);
  CHECK((StateOf(Repeated([&] { return daemon.Load(Order("1")); })) == Content(2)));
  const SaveCommand third = WithId(WithState(Command(Order("1"), 2), Content(3)), FreshId());
  const SaveResult saved = Repeated([&] { return daemon.Save(third, 60s); });
  CHECK(saved.state == StateResult::kWritten);
  CHECK(Repeated(snapshot).version == 3);
  Must(cluster->Restart(2));
  Must(cluster->WaitUntilWhole());

  // Read at the server that was away.
  TestRepository other(cluster->server(2).url(), Replicated());
  CHECK((StateOf(Repeated([&] { return other.Load(Order("1")); })) == Content(3)));
  CHECK((StateOf(Repeated([&] { return other.LoadVersion(Order("1"), 1); })) == Content(1)));

  // The blocks of the second state are listed no more.
  BlockCollector collector({.min_age = 0ms, .grace = 0ms}, &other.writes(), &other.writes(), &other.executor());
  const Collection collected = Repeated([&] { return collector.Run(); });
  CHECK(collected.candidates == 9);
  CHECK(collected.lists == 3);
  CHECK(collected.collected == 3);
  for (TestRepository* reader : {&daemon, &other}) {
    CHECK((StateOf(Must(reader->Load(Order("1")))) == Content(3)));
    CHECK((StateOf(Must(reader->LoadVersion(Order("1"), 1))) == Content(1)));
  }
}

TEST_CASE("Nothing is collected while the leader of what lists blocks is away", "[replicated]") {
  const auto cluster = Must(NatsCluster::Start({}));
  TestRepository daemon(cluster->server(0).url(), Replicated());
  Must(daemon.Save(WithState(Command(Order("1"), 0), Content(1))));
  Must(daemon.Save(WithState(Command(Order("1"), 1), Content(2))));
  cluster->Kill9(1);
  cluster->Kill9(2);
  BlockCollector collector({.min_age = 0ms, .grace = 0ms}, &daemon.writes(), &daemon.writes(), &daemon.executor());
  CHECK_FALSE(collector.Run().ok());
  Must(cluster->Restart(1));
  Must(cluster->Restart(2));
  Must(cluster->WaitUntilWhole());
  // A run that a change of leader ends leaves the rest to the next one.
  Repeated([&] { return collector.Run(); });
  CHECK(Repeated([&] { return collector.Run(); }).candidates == 3);
  CHECK((StateOf(Repeated([&] { return daemon.Load(Order("1")); })) == Content(2)));
}

// One entry, as the service makes it.
SaveCommand Append(const std::string& chain, uint64_t expected) {
  SaveCommand command = WithId(Command(domain::ChainRef(chain), expected, 0), FreshId());
  command.events.push_back(NewEvent(domain::kChainEntryType));
  return command;
}

int LeaderOf(const NatsCluster& cluster, TestRepository& daemon, const std::string& stream) {
  const std::string leader = InfoOf(daemon, stream)["cluster"].value("leader", "");
  for (int i = 0; i < cluster.size(); ++i) {
    if (leader == absl::StrCat("n", i)) return i;
  }
  FAIL("stream " << stream << " has no leader");
  return 0;
}

// What a healthy history must always come to: all of it, and no break. What is asked of a stream without leader is not
// answered: to ask anew is quicker than to wait.
void CheckWhole(TestRepository& reader, const domain::AggregateRef& ref, const SaveResult& saved) {
  const VerifyCommand command{.ref = ref, .expected_head_cid = saved.info.head_cid};
  const Verification verification = Repeated([&] { return TryVerify(reader, command, nullptr, 5s); });
  INFO((verification.chain.first_break.has_value() ? verification.chain.first_break->detail : ""));
  CHECK_FALSE(verification.chain.first_break.has_value());
  CHECK(verification.chain.verified == saved.info.version);
  CHECK(verification.chain.head_cid == saved.info.head_cid);
}

TEST_CASE("A history verifies right after saves through another server, also when its leader dies", "[replicated]") {
  const auto cluster = Must(NatsCluster::Start({}));
  const domain::AggregateRef chain = domain::ChainRef("log");
  const domain::AggregateRef order = Order("1");
  SaveResult entries;
  SaveResult events;
  const auto grow = [&](TestRepository& daemon, size_t count) {
    for (size_t i = 0; i < count; ++i) {
      const SaveCommand append = Append("log", entries.info.version);
      entries = Repeated([&] { return daemon.Save(append, 5s); });
    }
    const SaveCommand save = WithId(Command(order, events.info.version, count), FreshId());
    events = Repeated([&] { return daemon.Save(save, 5s); });
  };
  TestRepository writer(cluster->server(0).url(), Replicated());
  TestRepository readers[] = {TestRepository(cluster->server(0).url(), Replicated()),
                              TestRepository(cluster->server(1).url(), Replicated()),
                              TestRepository(cluster->server(2).url(), Replicated())};
  for (int i = 0; i < 20; ++i) {
    grow(writer, 3);
    for (TestRepository& reader : readers) {
      CheckWhole(reader, chain, entries);
      CheckWhole(reader, order, events);
    }
  }
  for (int i = 0; i < 3; ++i) grow(writer, 100);  // So many that the progress is told.
  // Before a verification, and while it reads.
  for (const bool during : {false, true}) {
    for (const domain::AggregateRef& ref : {chain, order}) {
      INFO(ref.entity_id << (during ? " during" : " before"));
      TestRepository asking(cluster->server(0).url(), Replicated());
      const int leader = LeaderOf(*cluster, asking, ref == chain ? "CIM-CHAINS" : "CIM-EVENTS+sales+order");
      TestRepository reader(cluster->server((leader + 1) % 3).url(), Replicated());
      TestRepository saver(cluster->server((leader + 2) % 3).url(), Replicated());
      bool dead = false;
      const VerifyProgressSink kill = [&](VerifyProgress) -> base::Task<bool> {
        if (!dead) cluster->Kill9(leader);
        dead = true;
        co_return true;
      };
      if (during) {
        const absl::StatusOr<Verification> interrupted =
            base::BlockOn(reader.repository().VerifyChain({.ref = ref}, kill, TestRepository::In(20s)));
        INFO(interrupted.status());
        CHECK((interrupted.ok() || absl::IsUnavailable(interrupted.status())));
        if (interrupted.ok()) CHECK_FALSE(interrupted->chain.first_break.has_value());
      } else {
        cluster->Kill9(leader);
        dead = true;
      }
      REQUIRE(dead);
      const SaveResult& last = ref == chain ? entries : events;
      CheckWhole(reader, ref, last);
      grow(saver, 2);
      CheckWhole(reader, ref, last);
      Must(cluster->Restart(leader));
      Must(cluster->WaitUntilWhole());
      CheckWhole(reader, ref, last);
    }
  }
}

}  // namespace
}  // namespace persistd::repository
