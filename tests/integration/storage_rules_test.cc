// How the daemon treats types that are not declared, streams that are not as it would make them, and a full store.
#include <chrono>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/cpp/requests.h"
#include "tests/integration/api.h"
#include "tests/integration/world.h"
#include "tests/testing/catch.h"
#include "tests/testing/poll.h"

namespace persistd::integration {
namespace {

using absl::StrContains;

pb::AggregateRef Ref(const std::string& context, const std::string& aggregate) {
  return client::Ref(context, aggregate, "1");
}

void CheckUnsuitable(Api& api, const pb::AggregateRef& ref, const std::vector<std::string>& mentions) {
  const absl::Status status = api.Save(SaveOf(ref)).status();
  INFO(status.ToString());
  CHECK(absl::IsFailedPrecondition(status));
  CHECK(ReasonOf(status) == pb::ERROR_REASON_STORAGE_UNSUITABLE);
  for (const std::string& text : mentions) CHECK(StrContains(status.message(), text));
}

TEST_CASE("Without auto_create only declared types can be saved, and nothing is created for others", "[storage]") {
  World world({"repository.auto_create=false",
               R"(repository.aggregates=[{context: sales, aggregate: order}, {context: a-b, aggregate: c}])"});
  const absl::Status undeclared = world.api().Save(SaveOf(Ref("sales", "invoice"))).status();
  CHECK(ReasonOf(undeclared) == pb::ERROR_REASON_TYPE_NOT_DECLARED);
  CHECK(StrContains(undeclared.message(), "sales/invoice"));
  // The same letters, split otherwise.
  CHECK(ReasonOf(world.api().Save(SaveOf(Ref("a", "b-c"))).status()) == pb::ERROR_REASON_TYPE_NOT_DECLARED);
  CHECK(ReasonOf(world.api().Load(Ref("sales", "invoice")).status()) == pb::ERROR_REASON_AGGREGATE_NOT_FOUND);
  CHECK(jetstream::UnsignedField(world.live().Api("STREAM.NAMES").body, "total") == 0);
  CHECK(world.api().Save(SaveOf(Ref("sales", "order"))).ok());
  CHECK(world.api().Save(SaveOf(Ref("a-b", "c"))).ok());
}

TEST_CASE("Streams are made up to max_streams, and those that are there go on working", "[storage]") {
  World world({"repository.max_streams=2"});
  pb::SaveRequest with_state = SaveOf(Ref("a", "x"));
  *with_state.mutable_state() = client::JsonPayload("{}");
  Must(world.api().Save(with_state).status());  // The stream of states does not count.
  Must(world.api().Save(SaveOf(Ref("a", "y"))).status());
  const absl::Status full = world.api().Save(SaveOf(Ref("a", "z"))).status();
  INFO(full.ToString());
  CHECK(ReasonOf(full) == pb::ERROR_REASON_STORAGE_FULL);
  CHECK(DetailOf(full).limit().limit() == 2);
  CHECK(DetailOf(full).limit().config_key() == "repository.max_streams");
  CHECK(world.api().Save(SaveOf(Ref("a", "x"))).ok());
  CHECK(world.api().Save(SaveOf(Ref("a", "y"))).ok());
}

TEST_CASE("A stream made by hand with unsuitable settings is refused by name and left as it is", "[storage]") {
  World world;
  const std::string name = "CIM-EVENTS+sales+order";
  nlohmann::json config = jetstream::EventStreamConfig(name, "cim.events.sales.order.>");
  config["max_age"] = 3'600'000'000'000;
  config["deny_purge"] = false;
  world.live().MakeStream(config);
  CheckUnsuitable(world.api(), Order("1"), {name, "max_age", "deny_purge"});
  // Reads cannot trust it either.
  CHECK(ReasonOf(world.api().Load(Order("1")).status()) == pb::ERROR_REASON_STORAGE_UNSUITABLE);
  const jetstream::ApiAnswer info = world.live().Api(absl::StrCat("STREAM.INFO.", name));
  CHECK(info.body["config"]["max_age"] == 3'600'000'000'000);

  world.live().MakeStream(jetstream::EventStreamConfig("CIM-EVENTS+sales+invoice", "cim.events.sales.invoice.>"));
  CHECK(world.api().Save(SaveOf(Ref("sales", "invoice"))).ok());  // By hand as well, and suitable.
}

TEST_CASE("A stream of others over our subjects is refused by name", "[storage]") {
  World world;
  world.live().MakeStream(jetstream::EventStreamConfig("audit", "cim.events.>"));
  CheckUnsuitable(world.api(), Order("1"), {"cim.events.sales.order.>"});
}

TEST_CASE("event_streams cannot be switched over existing data, neither for writing nor for reading", "[storage]") {
  const std::vector<std::string> modes = {"per_aggregate_type", "per_context", "single"};
  for (const std::string& before : modes) {
    World world({"repository.event_streams=" + before});
    pb::SaveRequest save = SaveOf(Order("1"));
    *save.mutable_state() = client::JsonPayload("{}");
    Must(world.api().Save(save).status());
    for (const std::string& after : modes) {
      INFO(before << " to " << after);
      world.StartDaemon({"repository.event_streams=" + after});
      if (after == before) {
        CHECK(Must(world.api().Load(Order("1"))).metadata().version() == 1);
        continue;
      }
      CheckUnsuitable(world.api(), Order("1"), {"event_streams"});
      const absl::Status load = world.api().Load(Order("1")).status();
      INFO(load.ToString());
      CHECK(ReasonOf(load) == pb::ERROR_REASON_STORAGE_UNSUITABLE);  // Not "does not exist".
    }
  }
}

TEST_CASE("event_streams per_context and single keep aggregates of several types apart", "[storage]") {
  const std::string mode = GENERATE("per_context", "single");
  World world({"repository.event_streams=" + mode});
  for (const char* context : {"sales", "stock"}) {
    for (const char* aggregate : {"order", "item"}) {
      pb::SaveRequest save = SaveOf(Ref(context, aggregate), 0, 3, absl::StrCat("\"", context, aggregate, "\""));
      *save.mutable_state() = client::JsonPayload("{}");
      Must(world.api().Save(save).status());
    }
  }
  for (const char* context : {"sales", "stock"}) {
    for (const char* aggregate : {"order", "item"}) {
      const std::vector<pb::RecordedEvent> events = Must(world.api().History(Ref(context, aggregate)));
      REQUIRE(events.size() == 3);
      for (const pb::RecordedEvent& event : events) {
        CHECK(event.payload().data() == absl::StrCat("\"", context, aggregate, "\""));
      }
      CHECK(Must(world.api().Load(Ref(context, aggregate))).state().version() == 3);
    }
  }
  CHECK(jetstream::UnsignedField(world.live().Api("STREAM.NAMES").body, "total") == (mode == "single" ? 2 : 4));
}

TEST_CASE("A store that is full refuses saves whole, keeps what it has, and says so", "[storage]") {
  World world;
  Must(world.api().Save(SaveOf(Order("1"))).status());
  const std::string name = "CIM-EVENTS+sales+order";
  nlohmann::json config = world.live().Api(absl::StrCat("STREAM.INFO.", name)).body["config"];
  config["max_msgs"] = 4;
  REQUIRE_FALSE(world.live().Api(absl::StrCat("STREAM.UPDATE.", name), config.dump()).error.has_value());
  Must(world.api().Save(SaveOf(Order("1"), 2)).status());
  const absl::Status full = world.api().Save(SaveOf(Order("1"), 2)).status();
  INFO(full.ToString());
  CHECK(ReasonOf(full) == pb::ERROR_REASON_STORAGE_FULL);
  CHECK(absl::IsResourceExhausted(full));
  CHECK(Must(world.api().History(Order("1"))).size() == 3);
  CHECK(world.api().Save(SaveOf(Order("1"))).ok());  // One still fits.
}

TEST_CASE("A stream that is removed while the daemon runs is missed, not taken for NATS being away", "[storage]") {
  World world;
  Must(world.api().Save(SaveOf(Order("1"), 3)).status());
  REQUIRE_FALSE(world.live().Api("STREAM.DELETE.CIM-EVENTS+sales+order").error.has_value());
  REQUIRE(testing::PollUntil(
      [&] { return ReasonOf(world.api().Load(Order("1")).status()) == pb::ERROR_REASON_AGGREGATE_NOT_FOUND; },
      std::chrono::seconds(10)));
  CHECK(Must(world.api().Save(SaveOf(Order("1")))).metadata().version() == 1);

  // With states the loss is certain.
  pb::SaveRequest with_state = SaveOf(Order("1"));
  *with_state.mutable_state() = client::JsonPayload("{}");
  Must(world.api().Save(with_state).status());
  REQUIRE_FALSE(world.live().Api("STREAM.DELETE.CIM-EVENTS+sales+order").error.has_value());
  const auto load = [&] { return world.api().Load(Order("1")).status(); };
  REQUIRE(testing::PollUntil([&] { return ReasonOf(load()) == pb::ERROR_REASON_STORAGE_UNSUITABLE; },
                             std::chrono::seconds(10)));
  CHECK(StrContains(load().message(), "CIM-EVENTS+sales+order is gone"));
  CheckUnsuitable(world.api(), Order("1"), {"CIM-AGGREGATES+sales+order"});
  world.StartDaemon();
  CheckUnsuitable(world.api(), Order("1"), {"CIM-AGGREGATES+sales+order"});
  REQUIRE_FALSE(world.live().Api("STREAM.DELETE.CIM-AGGREGATES+sales+order").error.has_value());
  REQUIRE(testing::PollUntil([&] { return world.api().Save(SaveOf(Order("1"))).ok(); }, std::chrono::seconds(10)));
}

TEST_CASE("What others publish in place of a state is ignored, counted, and replaced by the next state", "[storage]") {
  World world;
  pb::SaveRequest save = SaveOf(Order("1"));
  *save.mutable_state() = client::JsonPayload("1");
  Must(world.api().Save(save).status());
  world.Publish("cim.aggregates.sales.order.1.state.v1");
  const pb::LoadResponse loaded = Must(world.api().Load(Order("1")));
  CHECK_FALSE(loaded.has_state());
  CHECK(loaded.events_size() == 1);
  CHECK(Must(world.api().GetMetadata(Order("1"))).version() == 1);
  uint64_t met = 0;
  const pb::GetServerInfoResponse info = Must(world.api().GetServerInfo());
  for (const pb::StreamInfo& stream : info.streams()) met += stream.foreign_messages();
  CHECK(met == 1);
  *save.mutable_state() = client::JsonPayload("2");
  CHECK(Must(world.api().Save(save)).state_result() == pb::STATE_RESULT_WRITTEN);
  CHECK(Must(world.api().Load(Order("1"))).state().payload().data() == "2");

  // One that says that it is ours, and is not.
  jetstream::Headers headers;
  headers.Add("ce-persistd", "1");
  world.Publish("cim.aggregates.sales.order.1.state.v1", std::move(headers));
  world.StartDaemon();  // One that does not remember the state.
  CHECK(ReasonOf(world.api().Load(Order("1")).status()) == pb::ERROR_REASON_CORRUPT_DATA);
  *save.mutable_state() = client::JsonPayload("3");
  CHECK(Must(world.api().Save(save)).state_result() == pb::STATE_RESULT_WRITTEN);
  CHECK(Must(world.api().Load(Order("1"))).state().payload().data() == "3");
}

TEST_CASE("Mirrors of a stream, which answer reads for it, do not make them stale", "[storage]") {
  World world;
  Must(world.api().Save(SaveOf(Order("1"))).status());
  // nats-server lets a mirror answer direct gets of its origin. One of these has nothing of ours, the other stays
  // behind.
  const std::string name = "CIM-EVENTS+sales+order";
  world.live().MakeStream({{"name", "empty"},
                           {"mirror", {{"name", name}, {"filter_subject", "cim.events.sales.order.other.>"}}},
                           {"mirror_direct", true}});
  world.live().MakeStream(
      {{"name", "behind"}, {"mirror", {{"name", name}}}, {"mirror_direct", true}, {"max_msgs", 1}, {"discard", "new"}});
  REQUIRE(testing::PollUntil([&] { return world.live().CountMessages("behind") == 1; }, std::chrono::seconds(10)));
  for (uint64_t version = 2; version < 40; ++version) {
    CAPTURE(version);
    REQUIRE(Must(world.api().Save(SaveOf(Order("1"), version - 1, 1, "{}"))).metadata().version() == version);
    REQUIRE(Must(world.api().Load(Order("1"))).events_size() == static_cast<int>(version));
    REQUIRE(Must(world.api().GetMetadata(Order("1"))).version() == version);
    if (version % 10 == 0) world.StartDaemon();  // One that does not remember the head.
  }
}

}  // namespace
}  // namespace persistd::integration
