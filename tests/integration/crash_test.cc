// kill -9 of a daemon at moments that random kills (tests/fault) seldom hit.
#include <cstdint>
#include <future>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cpp/client.h"
#include "tests/integration/api.h"
#include "tests/integration/world.h"
#include "tests/testing/catch.h"
#include "tests/testing/poll.h"

namespace persistd::integration {
namespace {

using testing::Daemon;
using testing::PollUntil;

constexpr size_t kStateBytes = 48u << 20;
constexpr size_t kBlocks = 96;

std::string Bytes(size_t count) {
  std::mt19937_64 random(7);
  std::string bytes(count, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

TEST_CASE(
    "A daemon that is killed between the blocks of a state and the state leaves the older one, and a repeat ends it",
    "[crash]") {
  World world({"limits.max_request_size=64MiB", "limits.max_state_size=60MiB", "limits.max_load_size=64MiB"});
  pb::SaveRequest first = SaveOf(Order("1"), 0, 1, "{}");
  first.mutable_state()->set_content_type("text/plain");
  first.mutable_state()->set_data("older");
  Must(world.api().Save(first).status());
  pb::SaveRequest save = SaveOf(Order("1"), 1, 1, "{}");
  save.set_request_id(client::NewRequestId());
  save.mutable_state()->set_content_type("text/plain");
  save.mutable_state()->set_data(Bytes(kStateBytes));
  absl::Status killed;
  std::thread saving([&] { killed = world.api().Save(save).status(); });
  const bool begun = PollUntil([&] { return world.live().CountMessages("KV_cim-blocks") > 0; }, kPatience);
  world.nats().Pause();
  world.daemon().Kill9();
  world.nats().Resume();
  saving.join();
  REQUIRE(begun);
  CHECK_FALSE(killed.ok());
  const uint64_t blocks = world.live().CountMessages("KV_cim-blocks");
  INFO(blocks);
  REQUIRE(blocks < kBlocks);

  Must(world.daemon().Restart());
  Api api(world.daemon().address());
  const pb::LoadResponse older = Must(api.Load(Order("1")));
  CHECK(older.metadata().version() == 2);
  CHECK(older.state().version() == 1);
  CHECK(older.state().payload().data() == "older");
  REQUIRE(older.events_size() == 1);
  CHECK(older.events(0).version() == 2);

  const pb::SaveResponse again = Must(api.Save(save));
  CHECK(again.deduplicated());
  CHECK(again.state_result() == pb::STATE_RESULT_WRITTEN);
  const pb::LoadResponse loaded = Must(api.Load(Order("1")));
  CHECK(loaded.state().version() == 2);
  CHECK((loaded.state().payload().data() == save.state().data()));
  CHECK(loaded.events_size() == 0);
  CHECK(world.live().CountMessages("KV_cim-blocks") == kBlocks);
}

using Versions = std::map<std::string, uint64_t>;

// What a list says there is. An error while the index is not there yet.
absl::StatusOr<Versions> ListAll(const client::Client& daemon) {
  Versions versions;
  pb::ListAggregatesRequest request;
  request.set_page_size(1000);
  do {
    const absl::StatusOr<pb::ListAggregatesResponse> page = daemon.ListAggregates(request);
    if (!page.ok()) return page.status();
    for (const pb::AggregateMetadata& aggregate : page->aggregates()) {
      CHECK(versions.emplace(aggregate.ref().entity_id(), aggregate.version()).second);
    }
    request.set_page_token(page->next_page_token());
  } while (!request.page_token().empty());
  return versions;
}

client::Client ClientOf(const Daemon& daemon, std::chrono::milliseconds timeout = kPatience) {
  return Must(client::Client::Connect({.address = daemon.address(), .default_timeout = timeout}));
}

TEST_CASE("An index whose daemon is killed while it is made lists everything after the restart", "[crash]") {
  constexpr int kAggregates = 4000;
  World world;
  Versions truth;
  const auto save = [&](const client::Client& to, int first, int count) {
    const std::unique_ptr<client::SaveStream> stream = to.OpenSaveStream();
    std::vector<std::future<client::SaveStream::Response>> saved;
    for (int i = first; i < first + count; ++i) {
      saved.push_back(stream->Save(SaveOf(Order(absl::StrCat(i)), 1 + i % 3)));
      truth[absl::StrCat(i)] += static_cast<uint64_t>(1 + i % 3);
    }
    for (auto& one : saved) Must(one.get().status());
    Must(stream->Finish());
  };
  save(ClientOf(world.daemon()), 0, kAggregates);
  // Another daemon, which has to make its index from the beginning.
  const auto other = Must(Daemon::Start({.sets = {"nats.urls=" + world.nats().url()}}));
  std::mt19937 random(11);
  for (int kill = 0; kill < 6; ++kill) {
    // At a moment of its own each time: the list is refused until the index is there.
    if (kill > 0) ListAll(ClientOf(*other, 40ms * kill)).status().IgnoreError();
    other->Kill9();
    // What comes while it is away belongs to it, too.
    save(ClientOf(world.daemon()), static_cast<int>(random() % (kAggregates - 200)), 200);
    Must(other->Restart());
  }
  const client::Client last = ClientOf(*other);
  CHECK(PollUntil(
      [&] {
        const absl::StatusOr<Versions> listed = ListAll(last);
        return listed.ok() && *listed == truth;
      },
      kPatience));
  CHECK(Must(ListAll(last)) == truth);
}

}  // namespace
}  // namespace persistd::integration
