// What travels beside the payloads: who and why, the trace, times, and what a save survives.
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "tests/integration/api.h"
#include "tests/testing/catch.h"
#include "tests/testing/daemon.h"
#include "tests/testing/must.h"
#include "tests/testing/nats_server.h"

namespace persistd::integration {
namespace {

using pb::Durability;
using testing::Daemon;
using testing::Must;
using testing::NatsServer;

constexpr char kTrace[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
constexpr char kOtherTrace[] = "00-11111111111111111111111111111111-2222222222222222-00";

TEST_CASE("The trace context comes from the call where an event has none of its own", "[metadata]") {
  const auto daemon = Must(Daemon::Start({}));
  Api api(daemon->address());
  pb::SaveRequest save = SaveOf(Order("1"), 2);
  save.mutable_events(1)->mutable_metadata()->set_traceparent(kOtherTrace);
  Must(api.Save(save, {.metadata = {{"traceparent", kTrace}}}).status());
  // What is no trace context is not worth losing a save for.
  Must(api.Save(SaveOf(Order("1")), {.metadata = {{"traceparent", "nonsense"}}}).status());
  Must(api.Save(SaveOf(Order("1"))).status());
  const std::vector<pb::RecordedEvent> events = Must(api.History(Order("1")));
  REQUIRE(events.size() == 4);
  CHECK(events[0].metadata().traceparent() == kTrace);
  CHECK(events[1].metadata().traceparent() == kOtherTrace);
  CHECK(events[2].metadata().traceparent().empty());
  CHECK(events[3].metadata().traceparent().empty());
  save.mutable_events(1)->mutable_metadata()->set_traceparent("nonsense");
  CHECK(DetailOf(api.Save(save).status()).field_violation().field() == "events[1].metadata.traceparent");
}

TEST_CASE("Metadata, times and ids come back as they were given, and defaults are filled in", "[metadata]") {
  const auto daemon = Must(Daemon::Start({}));
  Api api(daemon->address());
  pb::SaveRequest save = SaveOf(Order("1"), 2);
  pb::NewEvent& event = *save.mutable_events(0);
  event.set_event_id("my-id");
  event.set_schema_version(7);
  event.mutable_time()->set_seconds(-1);  // The last second of 1969.
  event.mutable_time()->set_nanos(999'999'999);
  event.mutable_metadata()->set_correlation_id("corr");
  event.mutable_metadata()->set_causation_id("cause");
  event.mutable_metadata()->set_actor("Zoë");
  (*event.mutable_metadata()->mutable_custom())["Ключ"] = "значение";
  save.mutable_events(1)->clear_payload();
  save.mutable_options()->add_tags("a b");
  (*save.mutable_options()->mutable_metadata())["region"] = "eu";
  const pb::SaveResponse saved = Must(api.Save(save));
  const std::vector<pb::RecordedEvent> events = Must(api.History(Order("1")));
  REQUIRE(events.size() == 2);
  CHECK(events[0].event_id() == "my-id");
  CHECK(events[0].schema_version() == 7);
  CHECK(events[0].time().SerializeAsString() == event.time().SerializeAsString());
  CHECK(events[0].metadata().actor() == "Zoë");
  CHECK(events[0].metadata().correlation_id() == "corr");
  CHECK(events[0].metadata().causation_id() == "cause");
  CHECK(events[0].metadata().custom().at("Ключ") == "значение");
  CHECK(events[0].subject() == "cim.events.sales.order.1.happened.v7");
  CHECK(events[0].recorded_time().seconds() > 1'700'000'000);
  CHECK(events[1].event_id().size() == 36);
  CHECK(events[1].schema_version() == 1);
  CHECK_FALSE(events[1].has_payload());
  CHECK(events[1].time().seconds() > 1'700'000'000);
  for (int i = 0; i < 2; ++i) {
    const auto index = static_cast<size_t>(i);
    CHECK(events[index].commit_id() == saved.commit_id());
    CHECK(events[index].event_id() == saved.events(i).event_id());
    CHECK(events[index].position().token() == saved.events(i).position().token());
  }
  const pb::AggregateMetadata metadata = Must(api.GetMetadata(Order("1")));
  CHECK(metadata.tags(0) == "a b");
  CHECK(metadata.metadata().at("region") == "eu");
  CHECK(metadata.subject() == "cim.events.sales.order.1.>");
  CHECK(metadata.last_modified().SerializeAsString() == events[1].recorded_time().SerializeAsString());

  // Tags and metadata stay until they are replaced or cleared; what an aggregate was stays as it was.
  Must(api.Save(SaveOf(Order("1"))).status());
  CHECK(Must(api.GetMetadata(Order("1"))).tags_size() == 1);
  pb::SaveRequest clear = SaveOf(Order("1"));
  clear.mutable_options()->set_clear_tags(true);
  Must(api.Save(clear).status());
  CHECK(Must(api.GetMetadata(Order("1"))).tags_size() == 0);
  CHECK(Must(api.GetMetadata(Order("1"))).metadata().at("region") == "eu");
  pb::GetAtVersionRequest then;
  *then.mutable_ref() = Order("1");
  then.set_version(3);
  CHECK(Must(api.GetAtVersion(then)).metadata().tags_size() == 1);
}

// What an answer and GetServerInfo say, and whether they warn of it.
void CheckDurability(std::vector<std::string> sets, Durability::Fsync fsync) {
  const auto daemon = Must(Daemon::Start({.sets = std::move(sets)}));
  Api api(daemon->address());
  const Durability saved = Must(api.Save(SaveOf(Order("1")))).durability();
  CHECK(saved.fsync() == fsync);
  CHECK(saved.replicas() == 1);
  const pb::GetServerInfoResponse info = Must(api.GetServerInfo());
  CHECK(info.durability().fsync() == fsync);
  CHECK(info.durability().replicas() == 1);
  bool warned = false;
  for (const std::string& warning : info.warnings()) warned = warned || absl::StrContains(warning, "fsync");
  CHECK(warned == (fsync != Durability::FSYNC_ALWAYS));
}

TEST_CASE("Answers say what a save survives, with the embedded nats-server", "[durability]") {
  CheckDurability({}, Durability::FSYNC_ALWAYS);
  CheckDurability({"nats.embedded.sync_interval=2m"}, Durability::FSYNC_INTERVAL);
}

TEST_CASE("Answers say what a save survives, with an external NATS, as far as the daemon may ask it", "[durability]") {
  for (const bool always : {false, true}) {
    const auto nats = Must(NatsServer::Start({.sync_always = always}));
    CheckDurability({"nats.urls=" + nats->url()}, Durability::FSYNC_UNKNOWN);
    CheckDurability({"nats.urls=" + nats->url(), "nats.monitoring_url=" + nats->monitoring_url()},
                    always ? Durability::FSYNC_ALWAYS : Durability::FSYNC_INTERVAL);
    // The weakest of several counts, and one that does not answer may be weaker still.
    const auto weak = Must(NatsServer::Start({}));
    CheckDurability(
        {"nats.urls=" + nats->url(), "nats.monitoring_url=" + nats->monitoring_url() + ", " + weak->monitoring_url()},
        Durability::FSYNC_INTERVAL);
    const std::string gone = weak->monitoring_url();
    weak->Kill9();
    CheckDurability({"nats.urls=" + nats->url(), "nats.monitoring_url=" + nats->monitoring_url() + "," + gone},
                    Durability::FSYNC_UNKNOWN);
  }
}

TEST_CASE("The replicas of a type's stream are asked for, and refused where there is no cluster", "[durability]") {
  const auto nats = Must(NatsServer::Start({}));
  const auto daemon = Must(Daemon::Start({.sets = {"repository.stream.replicas=3", "nats.urls=" + nats->url()}}));
  Api api(daemon->address());
  const absl::Status refused = api.Save(SaveOf(Order("1"))).status();
  INFO(refused.ToString());
  CHECK(ReasonOf(refused) == pb::ERROR_REASON_STORAGE_UNSUITABLE);
  CHECK(absl::StrContains(refused.message(), "replicas"));
}

}  // namespace
}  // namespace persistd::integration
