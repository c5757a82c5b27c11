// The queue of snapshots that wait to be taken, where they cannot be taken as fast as they are due.

#include "server/repository/snapshotter.h"

#include <memory>
#include <string>
#include <vector>

#include "server/repository/blocks.h"
#include "server/repository/snapshot_store.h"
#include "server/repository/truncator.h"
#include "tests/server/repository/repository_fixture.h"
#include "tests/testing/catch.h"
#include "tests/testing/must.h"
#include "tests/testing/nats_server.h"
#include "tests/testing/poll.h"

namespace persistd::repository {
namespace {

using ::persistd::testing::Must;
using ::persistd::testing::NatsServer;
using ::persistd::testing::PollUntil;

// Snapshots go to a NATS of their own, which can be made to hang.
struct Bench {
  explicit Bench(Snapshotter::Options options)
      : nats(Must(NatsServer::Start({}))),
        hanging(Must(NatsServer::Start({}))),
        daemon(nats->url()),
        there(hanging->url()),
        snapshot_bucket({.bucket = "cim-snapshots"}, &there.writes(), &there.writes(), &there.executor()),
        block_bucket({.bucket = "cim-blocks"}, &there.writes(), &there.writes(), &there.executor()),
        blocks(&block_bucket),
        store(&snapshot_bucket, &blocks, &there.writes(), &there.executor(), &base::Clock::System()),
        storage(StorageOptions(), {.writes = &daemon.writes(), .reads = &daemon.writes()}, &daemon.executor(),
                &base::Clock::System()),
        truncator(Truncator::Options(), &storage, nullptr, &store, &daemon.executor(), &base::Clock::System()),
        // History and loader are for snapshots of states that did not come with the save.
        snapshotter(std::move(options), &storage, nullptr, nullptr, &store, &truncator, &daemon.executor(),
                    &base::Clock::System()) {}

  // A save as the repository does it, which asks for a snapshot.
  void Save(uint64_t version, size_t state_bytes) {
    SaveCommand command = Command(Order("1"), version - 1);
    NewState state;
    state.payload = {.content_type = "application/json", .data = std::string(state_bytes, 'x')};
    const SaveResult saved = Must(daemon.Save(command));
    snapshotter.OnSaved({.ref = command.ref,
                         .first_version = version,
                         .last_version = version,
                         .commit_id = saved.commit_id,
                         .recorded_time = base::Clock::System().WallNow(),
                         .event_types = {"happened"},
                         .state = &state,
                         .requested = true});
  }
  bool Eventually(uint64_t taken) {
    return PollUntil([&] { return snapshotter.stats().taken == taken; }, 60s);
  }

  std::unique_ptr<NatsServer> nats;
  std::unique_ptr<NatsServer> hanging;
  TestRepository daemon;
  TestRepository there;
  jetstream::Kv snapshot_bucket;
  jetstream::Kv block_bucket;
  Blocks blocks;
  SnapshotStore store;
  Storage storage;
  Truncator truncator;
  Snapshotter snapshotter;
};

TEST_CASE("A queue of snapshots that is full drops them, counts that, and lets the saves go on", "[snapshots]") {
  Bench bench({.policies = {}, .queue_entries = 5, .workers = 2, .patience = 60s});
  bench.hanging->Pause();
  constexpr uint64_t kSaves = 40;
  for (uint64_t version = 1; version <= kSaves; ++version) bench.Save(version, 10);
  CHECK(Must(bench.daemon.Load(Order("1"))).info.version == kSaves);
  const SnapshotStats full = bench.snapshotter.stats();
  CHECK(full.taken == 0);
  CHECK(full.failed == 0);
  // Five wait, and two are being taken.
  CHECK(full.dropped >= kSaves - 7);
  CHECK(full.dropped <= kSaves - 5);
  bench.hanging->Resume();
  REQUIRE(bench.Eventually(kSaves - full.dropped));
  // Then there is room again.
  bench.Save(kSaves + 1, 10);
  REQUIRE(bench.Eventually(kSaves + 1 - full.dropped));
  CHECK(bench.snapshotter.stats().dropped == full.dropped);
}

TEST_CASE("States that wait as snapshots do not take more than their memory", "[snapshots]") {
  Bench bench({.policies = {}, .queue_bytes = 50'000, .workers = 1, .patience = 60s});
  bench.hanging->Pause();
  for (uint64_t version = 1; version <= 10; ++version) bench.Save(version, 20'000);
  const SnapshotStats full = bench.snapshotter.stats();
  // Two wait, and one is being taken.
  CHECK(full.dropped >= 7);
  CHECK(full.dropped <= 8);
  bench.hanging->Resume();
  REQUIRE(bench.Eventually(10 - full.dropped));
}

}  // namespace
}  // namespace persistd::repository
