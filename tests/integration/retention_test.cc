// retention: truncate_before_snapshot through a whole daemon, as clients see it.

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/cpp/client.h"
#include "client/cpp/requests.h"
#include "tests/integration/api.h"
#include "tests/integration/world.h"
#include "tests/testing/catch.h"
#include "tests/testing/poll.h"

namespace persistd::integration {
namespace {

using testing::PollUntil;

std::vector<std::string> Sets(const World& world, const std::string& retention) {
  return {
      "nats.monitoring_url=" + world.nats().monitoring_url(), "repository.truncation_min_age=0s",
      absl::StrCat("repository.aggregates=[{context: sales, aggregate: order, fold: \"{\\\"n\\\": (($state.n // 0) + "
                   "1)}\", snapshots: {every_events: 4, keep: 1}, retention: ",
                   retention, "}]")};
}

uint64_t FirstVersion(Api& api, const pb::AggregateRef& ref) { return Must(api.History(ref)).front().version(); }

std::string StateOf(Api& api, const pb::AggregateRef& ref) { return Must(api.Load(ref)).state().payload().data(); }

TEST_CASE("A daemon truncates a type that says so, and tells what is gone", "[retention]") {
  World world({}, {.sync_always = true});
  world.StartDaemon(Sets(world, "truncate_before_snapshot"));
  const pb::AggregateRef ref = Order("truncated");
  const pb::AggregateRef whole = Order("whole");
  Must(world.api().Save(SaveOf(whole, 3)).status());
  for (int i = 0; i < 3; ++i) Must(world.api().Save(SaveOf(ref, 3)).status());
  // Version 9: the snapshot is of the save that passed version 8.
  REQUIRE(PollUntil([&] { return FirstVersion(world.api(), ref) == 7; }, 20s));
  const auto check = [&] {
    CHECK(StateOf(world.api(), ref) == "{\"n\":9}");
    CHECK(FirstVersion(world.api(), ref) == 7);
    CHECK(FirstVersion(world.api(), whole) == 1);
    pb::GetHistoryRequest history = HistoryOf(ref);
    history.set_from_version(2);
    const absl::Status gone = world.api().History(history).status();
    CHECK(ReasonOf(gone) == pb::ERROR_REASON_HISTORY_REMOVED);
    CHECK(DetailOf(gone).history_removed().first_version() == 7);
    pb::GetAtVersionRequest at;
    *at.mutable_ref() = ref;
    at.set_version(3);
    CHECK(ReasonOf(world.api().GetAtVersion(at).status()) == pb::ERROR_REASON_HISTORY_REMOVED);
    const client::Client caller = Must(client::Client::Connect({.address = world.daemon().address()}));
    pb::DeleteSnapshotRequest drop;
    *drop.mutable_ref() = ref;
    drop.set_version(9);
    CHECK(ReasonOf(caller.DeleteSnapshot(drop)) == pb::ERROR_REASON_HISTORY_REMOVED);
    // From an index that this daemon has made of what is left.
    pb::ListAggregatesRequest list;
    *list.mutable_at_least() = Must(world.api().GetMetadata(ref)).position();
    const pb::ListAggregatesResponse listed = Must(caller.ListAggregates(list));
    REQUIRE(listed.aggregates_size() == 2);
    for (const pb::AggregateMetadata& aggregate : listed.aggregates()) {
      CHECK(aggregate.version() == (aggregate.ref().entity_id() == "truncated" ? 9 : 3));
    }
  };
  check();
  world.StartDaemon(Sets(world, "truncate_before_snapshot"));
  check();
  // Turned off again it is read as before, and nothing more goes.
  world.StartDaemon(Sets(world, "none"));
  check();
  for (int i = 0; i < 8; ++i) Must(world.api().Save(SaveOf(ref, 1)).status());
  CHECK(StateOf(world.api(), ref) == "{\"n\":17}");
  CHECK(FirstVersion(world.api(), ref) == 7);
}

TEST_CASE("A daemon whose stream denies purges keeps everything, and says so", "[retention]") {
  World world({}, {.sync_always = true});
  const pb::AggregateRef ref = Order("kept");
  Must(world.api().Save(SaveOf(ref, 3)).status());
  world.StartDaemon(Sets(world, "truncate_before_snapshot"));
  const auto warned = [&] {
    const pb::GetServerInfoResponse info = Must(world.api().GetServerInfo());
    for (const std::string& warning : info.warnings()) {
      if (absl::StrContains(warning, "deny_purge")) return true;
    }
    return false;
  };
  CHECK(PollUntil(warned, 20s));
  for (int i = 0; i < 3; ++i) Must(world.api().Save(SaveOf(ref, 3)).status());
  CHECK(StateOf(world.api(), ref) == "{\"n\":12}");
  CHECK(FirstVersion(world.api(), ref) == 1);
}

TEST_CASE("Without knowing that NATS calls fsync a daemon removes nothing that is young", "[retention]") {
  World world;
  world.StartDaemon(Sets(world, "truncate_before_snapshot"));
  const pb::AggregateRef ref = Order("young");
  for (int i = 0; i < 5; ++i) Must(world.api().Save(SaveOf(ref, 3)).status());
  CHECK(StateOf(world.api(), ref) == "{\"n\":15}");
  CHECK(FirstVersion(world.api(), ref) == 1);
}

}  // namespace
}  // namespace persistd::integration
