#include "server/rpc/admin_mapping.h"

#include <string>

#include "server/domain/errors.h"
#include "tests/testing/catch.h"
#include "tests/testing/must.h"

namespace persistd::rpc {
namespace {

namespace pb = cim::persistence::v1;
using testing::Must;

std::string FieldOf(const absl::Status& status) {
  const auto detail = domain::GetErrorDetail(status);
  return detail.has_value() ? detail->field_violation().field() : "";
}

TEST_CASE("Settings survive the way there and back, and what is left out stays so", "[admin]") {
  CHECK(Must(ToSettings({})) == jetstream::StreamSettings{});
  const jetstream::StreamSettings all{.replicas = 5,
                                      .storage = "memory",
                                      .compression = "s2",
                                      .placement = jetstream::Placement{"eu", {"ssd", "az:1"}},
                                      .max_bytes = 0};
  const jetstream::StreamSettings plain{
      .replicas = 1, .storage = "file", .compression = "none", .placement = jetstream::Placement{}, .max_bytes = 7};
  for (const jetstream::StreamSettings& settings : {all, plain}) {
    pb::StreamSettings message;
    ToProto(settings, message);
    CHECK(Must(ToSettings(message)) == settings);
  }
}

TEST_CASE("Settings that are not allowed name the field", "[admin]") {
  pb::StreamSettings message;
  message.set_replicas(6);
  CHECK(FieldOf(ToSettings(message).status()) == "settings.replicas");
  message.set_replicas(0);
  CHECK(FieldOf(ToSettings(message).status()) == "settings.replicas");
  message.Clear();
  message.set_storage(static_cast<pb::StreamSettings::Storage>(9));
  CHECK(FieldOf(ToSettings(message).status()) == "settings.storage");
  message.Clear();
  message.set_compression(static_cast<pb::StreamSettings::Compression>(9));
  CHECK(FieldOf(ToSettings(message).status()) == "settings.compression");
  message.Clear();
  message.set_max_bytes((uint64_t{1} << 50) + 1);
  CHECK(FieldOf(ToSettings(message).status()) == "settings.max_bytes");
  message.Clear();
  message.mutable_placement()->set_cluster("e u");
  CHECK(FieldOf(ToSettings(message).status()) == "settings.placement.cluster");
  message.Clear();
  message.mutable_placement()->add_tags("ok");
  message.mutable_placement()->add_tags("");
  CHECK(FieldOf(ToSettings(message).status()) == "settings.placement.tags[1]");
  message.mutable_placement()->set_tags(1, "line\nbreak");
  CHECK(FieldOf(ToSettings(message).status()) == "settings.placement.tags[1]");
  message.Clear();
  for (int i = 0; i < 17; ++i) message.mutable_placement()->add_tags("t");
  CHECK(FieldOf(ToSettings(message).status()) == "settings.placement.tags");
}

TEST_CASE("Names and pages of types are checked", "[admin]") {
  CHECK(FieldOf(ToTypeName("", "a").status()) == "context");
  CHECK(FieldOf(ToTypeName("a", "_b").status()) == "aggregate");
  CHECK(Must(ToTypeName("a", "b")) == repository::TypeName("a", "b"));
  pb::ListAggregateTypesRequest request;
  CHECK(Must(ToListQuery(request)).page_size == 100);
  request.set_page_size(5000);
  CHECK(Must(ToListQuery(request)).page_size == 1000);
  request.set_page_size(-1);
  CHECK(FieldOf(ToListQuery(request).status()) == "page_size");
  request.set_page_size(1);
  request.set_context("a.b");
  CHECK(FieldOf(ToListQuery(request).status()) == "context");
}

TEST_CASE("A description tells whether it knows the event types", "[admin]") {
  repository::TypeDescription description;
  pb::DescribeAggregateTypeResponse unknown;
  ToProto(description, unknown);
  CHECK_FALSE(unknown.event_types_known());
  CHECK_FALSE(unknown.has_aggregates());
  CHECK_FALSE(unknown.type().events().has_settings());
  description.event_types = {{.type = "paid", .schema_version = 2, .events = 3}};
  description.aggregates = 0;
  pb::DescribeAggregateTypeResponse known;
  ToProto(description, known);
  CHECK(known.event_types_known());
  REQUIRE(known.event_types_size() == 1);
  CHECK(known.event_types(0).schema_version() == 2);
  CHECK(known.has_aggregates());
}

}  // namespace
}  // namespace persistd::rpc
