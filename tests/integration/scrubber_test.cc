// The scrubber of a whole daemon, over what somebody does to its streams behind its back.
#include <string>

#include "tests/integration/api.h"
#include "tests/integration/world.h"
#include "tests/testing/catch.h"
#include "tests/testing/poll.h"

namespace persistd::integration {
namespace {

using testing::PollUntil;

TEST_CASE("What is removed from a stream is found by the scrubber, and remembered", "[scrubber]") {
  // A stream of this retention allows to remove events.
  World world({"scrubber.rate=100000",
               "repository.aggregates=[{context: sales, aggregate: order, snapshots: {every_events: 1000}, retention: "
               "truncate_before_snapshot}]"});
  std::string head;
  for (const char* id : {"1", "2"}) {
    pb::SaveRequest request = SaveOf(Order(id));
    request.mutable_events(0)->set_type("placed");
    Must(world.api().Save(request));
    request.mutable_events(0)->set_type("paid");
    head = Must(world.api().Save(request)).events(0).cid();
  }
  Must(world.api().AppendToChain(AppendTo("audit")));
  pb::GetServerInfoResponse info;
  const auto look = [&] { info = Must(world.api().GetServerInfo()); };
  // The first pass may have found nothing yet.
  REQUIRE(PollUntil([&] { return look(), info.scrubber().events_verified() >= 5; }, kPatience));
  CHECK(info.scrubber().damaged().empty());
  CHECK(info.scrubber().events_per_second() == 100'000);

  jetstream::OutgoingMessage purge;
  purge.subject = "$JS.API.STREAM.PURGE.CIM-EVENTS+sales+order";
  purge.data = R"({"filter":"cim.events.sales.order.2.paid.v1"})";
  const std::string purged = Must(world.live().Ask(purge)).data;
  INFO(purged);
  REQUIRE(purged.find("\"purged\":1") != std::string::npos);
  const auto check = [&] {
    const pb::DamagedHistory& damaged = info.scrubber().damaged(0);
    CHECK(damaged.aggregate().entity_id() == "2");
    CHECK(damaged.first_break().reason() == pb::ChainBreak::REASON_TAIL_CUT);
    CHECK(damaged.first_break().expected() == head);
    bool warned = false;
    for (const std::string& warning : info.warnings()) {
      warned |= warning.find("histories do not match their CIDs") != std::string::npos;
    }
    CHECK(warned);
  };
  // The next pass begins within a minute.
  REQUIRE(PollUntil([&] { return look(), info.scrubber().damaged_size() == 1; }, 120s));
  check();
  world.daemon().Kill9();
  Must(world.daemon().Restart());
  REQUIRE(world.api().WaitUntilServing(true));
  look();
  REQUIRE(info.scrubber().damaged_size() == 1);
  check();
}

TEST_CASE("By default nothing is scrubbed", "[scrubber]") {
  World world;
  const pb::ScrubberInfo info = Must(world.api().GetServerInfo()).scrubber();
  CHECK(info.events_per_second() == 0);
  CHECK_FALSE(info.has_pass_started_at());
}

}  // namespace
}  // namespace persistd::integration
