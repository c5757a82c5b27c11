// Aggregate types and the settings of their streams, through the daemon.
#include <chrono>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/cpp/client.h"
#include "tests/integration/api.h"
#include "tests/integration/world.h"
#include "tests/testing/catch.h"
#include "tests/testing/daemon.h"
#include "tests/testing/must.h"
#include "tests/testing/nats_cluster.h"
#include "tests/testing/poll.h"

namespace persistd::integration {
namespace {

using nlohmann::json;
using testing::Daemon;
using testing::NatsCluster;

const char kEvents[] = "CIM-EVENTS+sales+order";

json ConfigOf(jetstream::Live& live, const std::string& stream) {
  return jetstream::ObjectField(live.Api(absl::StrCat("STREAM.INFO.", stream)).body, "config");
}

bool Warns(const pb::GetServerInfoResponse& info, const std::string& text) {
  for (const std::string& warning : info.warnings()) {
    if (absl::StrContains(warning, text)) return true;
  }
  return false;
}

client::Client ClientOf(const Daemon& daemon) {
  client::Options options;
  options.address = daemon.address();
  return Must(client::Client::Connect(options));
}

TEST_CASE("Streams follow a changed configuration when the daemon starts, and keep what it does not name", "[types]") {
  World world;
  Must(world.api().Save(SaveOf(Order("1"))).status());
  json by_hand = ConfigOf(world.live(), kEvents);
  by_hand["max_msg_size"] = 700'000;
  world.live().Api(absl::StrCat("STREAM.UPDATE.", kEvents), by_hand.dump());
  world.StartDaemon({"repository.stream.compression=s2",
                     "repository.aggregates=[{context: sales, aggregate: order, max_bytes: 1MiB}]"});
  const json now = ConfigOf(world.live(), kEvents);
  CHECK(now["compression"] == "s2");
  CHECK(now["max_bytes"] == 1 << 20);
  CHECK(now["max_msg_size"] == 700'000);
  CHECK(absl::StrContains(world.daemon().log(), "stream changed"));
  CHECK(Must(world.api().Load(Order("1"))).metadata().version() == 1);
  // Without the keys nothing changes back.
  world.StartDaemon();
  CHECK(ConfigOf(world.live(), kEvents) == now);
}

TEST_CASE("A storage that the stream does not have is refused with what to do", "[types]") {
  World world;
  Must(world.api().Save(SaveOf(Order("1"))).status());
  world.StartDaemon({"repository.aggregates=[{context: sales, aggregate: order, storage: memory}]"});
  const absl::Status refused = world.api().Save(SaveOf(Order("1"))).status();
  CHECK(ReasonOf(refused) == pb::ERROR_REASON_STORAGE_UNSUITABLE);
  CHECK(absl::StrContains(refused.message(), "storage must be memory"));
  CHECK(Warns(Must(world.api().GetServerInfo()), "storage must be memory"));
  CHECK(ConfigOf(world.live(), kEvents)["storage"] == "file");
  // Others are not concerned.
  pb::AggregateRef other = Order("1");
  other.set_aggregate("item");
  CHECK(world.api().Save(SaveOf(other)).ok());
}

TEST_CASE("A full stream names its limit, GetServerInfo warns, and saves go on when it is raised", "[types]") {
  const std::string data = absl::StrCat("\"", std::string(10'000, 'x'), "\"");
  const auto declared = [](const char* max) {
    return absl::StrCat("repository.aggregates=[{context: sales, aggregate: order, max_bytes: ", max, "}]");
  };
  World world({declared("100KiB")});
  uint64_t stored = 0;
  absl::StatusOr<pb::SaveResponse> saved = world.api().Save(SaveOf(Order("1"), 1, data));
  while (saved.ok()) {
    ++stored;
    REQUIRE(stored < 11);
    saved = world.api().Save(SaveOf(Order("1"), 1, data));
  }
  INFO(saved.status());
  REQUIRE(ReasonOf(saved.status()) == pb::ERROR_REASON_STORAGE_FULL);
  CHECK(DetailOf(saved.status()).limit().limit() == 100 << 10);
  CHECK(absl::StrContains(saved.status().message(), "max_bytes"));
  // Below what is stored: not done, and told.
  world.StartDaemon({declared("50KiB")});
  CHECK(ConfigOf(world.live(), kEvents)["max_bytes"] == 100 << 10);
  const pb::GetServerInfoResponse info = Must(world.api().GetServerInfo());
  CHECK(Warns(info, "max_bytes cannot become 51200"));
  CHECK(Warns(info, absl::StrCat("stream ", kEvents, " holds")));
  CHECK(world.live().CountMessages(kEvents) == stored);
  world.StartDaemon({declared("1MiB")});
  CHECK(Must(world.api().Save(SaveOf(Order("1"), 1, data))).metadata().version() == stored + 1);
}

TEST_CASE("Types are created, listed and described over the API, and other daemons know them", "[types]") {
  World world({"repository.auto_create=false"});
  const auto other = Must(Daemon::Start({.sets = {"nats.urls=" + world.nats().url(), "repository.auto_create=false"}}));
  const client::Client client = ClientOf(world.daemon());
  CHECK(ReasonOf(world.api().Save(SaveOf(Order("1"))).status()) == pb::ERROR_REASON_TYPE_NOT_DECLARED);
  pb::CreateAggregateTypeRequest create;
  create.set_context("sales");
  create.set_aggregate("order");
  create.mutable_settings()->set_storage(pb::StreamSettings::STORAGE_MEMORY);
  CHECK(Must(client.CreateAggregateType(create)).created());
  CHECK_FALSE(Must(client.CreateAggregateType(create)).created());
  create.mutable_settings()->set_replicas(1);
  CHECK(ReasonOf(client.CreateAggregateType(create).status()) == pb::ERROR_REASON_TYPE_EXISTS);

  Api second(other->address());
  const pb::SaveResponse saved = Must(second.Save(SaveOf(Order("1"), 2)));
  CHECK(saved.durability().fsync() == pb::Durability::FSYNC_NEVER);

  const pb::ListAggregateTypesResponse listed = Must(ClientOf(*other).ListAggregateTypes({}));
  REQUIRE(listed.types_size() == 1);
  const pb::AggregateType& type = listed.types(0);
  CHECK(type.origin() == pb::AggregateType::ORIGIN_CREATED);
  CHECK(type.events().name() == kEvents);
  CHECK(type.events().messages() == 2);
  CHECK(type.events().settings().storage() == pb::StreamSettings::STORAGE_MEMORY);
  CHECK(type.states().has_settings());
  pb::DescribeAggregateTypeRequest describe;
  describe.set_context("sales");
  describe.set_aggregate("order");
  const pb::DescribeAggregateTypeResponse described = Must(client.DescribeAggregateType(describe));
  CHECK(described.event_types_known());
  REQUIRE(described.event_types_size() == 1);
  CHECK(described.event_types(0).events() == 2);
  CHECK(described.aggregates() == 1);
  describe.set_aggregate("none");
  CHECK(ReasonOf(client.DescribeAggregateType(describe).status()) == pb::ERROR_REASON_TYPE_NOT_FOUND);

  // A daemon that starts now sees it and warns.
  world.StartDaemon({"limits.max_subjects_warning=1"});
  const pb::GetServerInfoResponse info = Must(world.api().GetServerInfo());
  CHECK(Warns(info, "is kept in memory"));
  REQUIRE(info.streams_size() == 2);
  CHECK(info.streams(1).messages() == 2);
  CHECK(info.streams(1).bytes() > 0);
}

TEST_CASE("GetServerInfo warns of many subjects, and tells the memory of the daemon's own server", "[types]") {
  const auto daemon = Must(Daemon::Start({.sets = {"limits.max_subjects_warning=1"}}));
  {
    Api api(daemon->address());
    for (const char* id : {"1", "2", "3"}) Must(api.Save(SaveOf(Order(id))).status());
  }
  Must(daemon->Restart());
  Api api(daemon->address());
  REQUIRE(api.WaitUntilServing(true));
  const pb::GetServerInfoResponse info = Must(api.GetServerInfo());
  CHECK(Warns(info, "the streams have 3 subjects, limits.max_subjects_warning is 1"));
  CHECK(info.nats().memory_bytes() > 1 << 20);
}

TEST_CASE("Replicas are raised when the daemon starts, and every save is still there", "[types]") {
  const auto cluster = Must(NatsCluster::Start({}));
  Must(cluster->WaitForLeader().status());
  const std::string urls = absl::StrCat("nats.urls=[", cluster->url_list(), "]");
  // A stream that was just made in a cluster may have no leader for a moment: then the save is repeated, as the API
  // says.
  const auto save = [](Api& api, uint64_t number) {
    pb::SaveRequest request = SaveOf(Order("1"));
    request.set_request_id(absl::StrCat("save-", number));
    absl::StatusOr<pb::SaveResponse> answer;
    REQUIRE(testing::PollUntil(
        [&] {
          answer = api.Save(request);
          return !absl::IsUnavailable(answer.status());
        },
        std::chrono::seconds(20)));
    return Must(answer);
  };
  {
    const auto daemon = Must(Daemon::Start({.sets = {urls}}));
    Api api(daemon->address());
    for (uint64_t i = 0; i < 20; ++i) CHECK(save(api, i).durability().replicas() == 1);
  }
  const auto daemon = Must(Daemon::Start({.sets = {urls, "repository.stream.replicas=3"}}));
  Api api(daemon->address());
  const pb::SaveResponse saved = save(api, 20);
  CHECK(saved.durability().replicas() == 3);
  CHECK(saved.metadata().version() == 21);
  Must(cluster->WaitUntilWhole().status());
  CHECK(Must(api.History(Order("1"))).size() == 21);
  const pb::GetServerInfoResponse info = Must(api.GetServerInfo());
  CHECK_FALSE(Warns(info, "not as configured"));
  for (const pb::StreamInfo& stream : info.streams()) CHECK(stream.replicas() == 3);

  pb::CreateAggregateTypeRequest create;
  create.set_context("sales");
  create.set_aggregate("placed");
  create.mutable_settings()->mutable_placement()->add_tags("no-such-tag");
  const absl::Status nowhere = ClientOf(*daemon).CreateAggregateType(create).status();
  INFO(nowhere);
  CHECK(ReasonOf(nowhere) == pb::ERROR_REASON_STORAGE_UNSUITABLE);
  CHECK(absl::StrContains(nowhere.message(), "placement"));
}

}  // namespace
}  // namespace persistd::integration
