// Read models through whole daemons.
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/integration/api.h"
#include "tests/integration/world.h"
#include "tests/testing/catch.h"
#include "tests/testing/poll.h"

namespace persistd::integration {
namespace {

using testing::Daemon;
using testing::PollUntil;

std::string FieldOf(const absl::Status& status) { return DetailOf(status).field_violation().field(); }

TEST_CASE("A read model made from a save is never replaced by what an older save made", "[read-models]") {
  World world;
  const auto other_daemon = Must(Daemon::Start({.sets = {"nats.urls=" + world.nats().url()}}));
  Api other(other_daemon->address());
  std::vector<pb::Position> positions;
  for (int i = 0; i < 3; ++i) positions.push_back(Must(world.api().Save(SaveOf(Order("1")))).metadata().position());
  pb::SaveReadModelRequest write = WriteOf("orders", "1", "{\"events\":3}");
  *write.mutable_write()->mutable_source() = positions[2];
  CHECK(Must(world.api().SaveReadModel(write)).outcome() == pb::WRITE_OUTCOME_WRITTEN);
  pb::SaveReadModelRequest late = WriteOf("orders", "1", "{\"events\":2}");
  *late.mutable_write()->mutable_source() = positions[1];
  CHECK(Must(other.SaveReadModel(late)).outcome() == pb::WRITE_OUTCOME_SUPERSEDED);
  const pb::ReadModel model = Must(other.GetReadModel(GetOf("orders", "1")));
  CHECK(model.payload().data() == "{\"events\":3}");
  CHECK(model.source().token() == positions[2].token());
  CHECK(model.schema_version() == 1);
  CHECK(model.has_update_time());
  CHECK_FALSE(model.has_expire_time());

  pb::DeleteReadModelRequest remove;
  *remove.mutable_key() = model.key();
  *remove.mutable_source() = positions[2];
  CHECK(Must(other.DeleteReadModel(remove)).existed());
  CHECK(Must(world.api().SaveReadModel(late)).outcome() == pb::WRITE_OUTCOME_SUPERSEDED);
  CHECK(DetailOf(world.api().GetReadModel(GetOf("orders", "1")).status()).deleted());
}

TEST_CASE("What is acknowledged is there after kill -9 of nats-server and of the daemon", "[read-models]") {
  World world({}, {.sync_always = true});
  for (int i = 0; i < 20; ++i) Must(world.api().SaveReadModel(WriteOf("t", absl::StrCat("k", i), absl::StrCat(i))));
  world.nats().Kill9();
  world.daemon().Kill9();
  Must(world.nats().Restart());
  Must(world.daemon().Restart());
  REQUIRE(world.api().WaitUntilServing(true));
  pb::ListReadModelsRequest list;
  list.set_type("t");
  list.set_page_size(7);
  int count = 0;
  while (true) {
    const pb::ListReadModelsResponse page = Must(world.api().ListReadModels(list));
    for (const pb::ReadModel& model : page.read_models()) {
      CHECK(absl::StrCat("k", model.payload().data()) == model.key().id());
      ++count;
    }
    if (page.next_page_token().empty()) break;
    list.set_page_token(page.next_page_token());
  }
  CHECK(count == 20);
  list.set_type("other");
  CHECK(FieldOf(world.api().ListReadModels(list).status()) == "page_token");
}

TEST_CASE("Changes of read models are announced", "[read-models]") {
  World world;
  // Who listens to them here is a stream.
  world.live().MakeStream({{"name", "HEARD"}, {"subjects", {"cim.readmodels.>"}}});
  Must(world.api().SaveReadModel(WriteOf("products", "electronics.42")));
  pb::DeleteReadModelRequest remove;
  *remove.mutable_key() = GetOf("products", "electronics.42").key();
  Must(world.api().DeleteReadModel(remove));
  const nlohmann::json expected = {{"cim.readmodels.products.electronics.42.saved", 1},
                                   {"cim.readmodels.products.electronics.42.deleted", 1}};
  CHECK(PollUntil(
      [&] {
        const auto info = world.live().Api("STREAM.INFO.HEARD", R"({"subjects_filter":">"})").body;
        return info.at("state").value("subjects", nlohmann::json()) == expected;
      },
      kPatience));
}

TEST_CASE("Bad requests for read models name the field", "[read-models]") {
  World world;
  Api& api = world.api();
  const auto field_of_write = [&](const pb::SaveReadModelRequest& request) {
    return FieldOf(api.SaveReadModel(request).status());
  };
  CHECK(field_of_write(WriteOf("_t", "1")) == "write.key.type");
  CHECK(field_of_write(WriteOf("t", "a..b")) == "write.key.id");
  pb::SaveReadModelRequest request = WriteOf("t", "1");
  request.mutable_write()->mutable_ttl()->set_nanos(5);
  CHECK(field_of_write(request) == "write.ttl");
  request = WriteOf("t", "1");
  request.mutable_write()->mutable_source()->set_token("x");
  CHECK(field_of_write(request).find("write.source") == 0);
  request = WriteOf("t", "1");
  request.mutable_write()->clear_payload();
  CHECK(field_of_write(request) == "write.payload");
  request.mutable_write()->set_delete_(true);
  request.mutable_write()->mutable_ttl()->set_seconds(5);
  CHECK(field_of_write(request) == "write.ttl");
  request = WriteOf("t", "1");
  request.set_request_id("with blank");
  CHECK(field_of_write(request) == "request_id");
  request = WriteOf("t", "1", std::string(600u << 10, 'x'));
  CHECK(ReasonOf(api.SaveReadModel(request).status()) == pb::ERROR_REASON_TOO_LARGE);

  pb::SaveReadModelsRequest several;
  CHECK(FieldOf(api.SaveReadModels(several).status()) == "writes");
  *several.add_writes() = WriteOf("t", "1").write();
  *several.add_writes() = WriteOf("t", "1").write();
  CHECK(FieldOf(api.SaveReadModels(several).status()) == "writes[1].key");
  several.mutable_writes(1)->mutable_key()->set_id("2");
  std::string token = "S0:1:1";
  for (int i = 100; i < 164; ++i) absl::StrAppend(&token, ",S", i, ":1:1");
  several.mutable_writes(1)->mutable_source()->set_token(token);
  CHECK(FieldOf(api.SaveReadModels(several).status()) == "writes[1].source");
  pb::ListReadModelsRequest list;
  list.set_type("t");
  list.set_id_pattern(">.a");
  CHECK(FieldOf(api.ListReadModels(list).status()) == "id_pattern");
  list.clear_id_pattern();
  list.set_page_token("???");
  CHECK(FieldOf(api.ListReadModels(list).status()) == "page_token");
}

}  // namespace
}  // namespace persistd::integration
