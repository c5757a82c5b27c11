// The requests of the complete repository: commits of several aggregates, deletions, load options, snapshots, lists.
#include <functional>
#include <string>
#include <vector>

#include "server/base/rfc3339.h"
#include "server/domain/errors.h"
#include "server/rpc/request_mapping.h"
#include "tests/testing/catch.h"

namespace persistd::rpc {
namespace {

namespace pb = cim::persistence::v1;
using Kind = repository::Expectation::Kind;

constexpr char kTrace[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
constexpr char kPosition[] = "CIM-EVENTS+sales+order:5:9";
const SaveContext kContext{.now = *base::ParseRfc3339("2026-05-01T12:00:00Z"), .traceparent = kTrace};
const RequestLimits kLimits{.max_event_bytes = 1000, .max_state_bytes = 2000};

pb::AggregateRef Ref(const std::string& entity) {
  pb::AggregateRef ref;
  ref.set_context("sales");
  ref.set_aggregate("order");
  ref.set_entity_id(entity);
  return ref;
}

// The field that the refusal names; empty when the request is accepted.
template <typename T>
std::string FieldOf(const absl::StatusOr<T>& result) {
  if (result.ok()) return "";
  const auto detail = domain::GetErrorDetail(result.status()).value();
  return detail.has_limit() ? detail.limit().name() : detail.field_violation().field();
}

template <typename Request>
struct Spoiled {
  std::string field;
  std::function<void(Request&)> spoil;
};

pb::SaveAllRequest ValidSaveAll() {
  pb::SaveAllRequest request;
  for (const char* entity : {"a", "b"}) {
    pb::SaveRequest& save = *request.add_saves();
    *save.mutable_ref() = Ref(entity);
    save.add_events()->set_type("placed");
  }
  request.mutable_saves(1)->set_expected_version(4);
  *request.add_checks()->mutable_ref() = Ref("c");
  request.mutable_checks(0)->set_must_exist(true);
  request.set_request_id("id");
  return request;
}

TEST_CASE("A commit of several aggregates is mapped with its checks") {
  const auto command = ToSaveAllCommand(ValidSaveAll(), kLimits, kContext);
  REQUIRE(command.ok());
  REQUIRE(command->saves.size() == 2);
  CHECK(command->saves[0].ref.entity_id == "a");
  CHECK(command->saves[0].expectation.kind == Kind::kAny);
  CHECK(command->saves[1].expectation.version == 4);
  CHECK(command->saves[1].request_id.empty());
  REQUIRE(command->checks.size() == 1);
  CHECK(command->checks[0].ref.entity_id == "c");
  CHECK(command->checks[0].expectation.kind == Kind::kMustExist);
  CHECK(command->request_id == "id");
}

TEST_CASE("A bad commit of several aggregates is refused with the path of the field") {
  const std::vector<Spoiled<pb::SaveAllRequest>> cases{
      {"saves", [](auto& r) { r.clear_saves(); }},
      {"saves",
       [](auto& r) {
         for (int i = 0; i < 100; ++i) *r.add_saves() = r.saves(0);
       }},
      {"saves[1].ref.entity_id", [](auto& r) { r.mutable_saves(1)->mutable_ref()->clear_entity_id(); }},
      {"saves[1].ref", [](auto& r) { *r.mutable_saves(1)->mutable_ref() = Ref("a"); }},
      {"saves[1].events", [](auto& r) { r.mutable_saves(1)->clear_events(); }},
      {"saves[1].events[0].type", [](auto& r) { r.mutable_saves(1)->mutable_events(0)->set_type("_deleted"); }},
      {"saves[1].must_exist", [](auto& r) { r.mutable_saves(1)->set_must_exist(false); }},
      {"saves[1].state_schema_version", [](auto& r) { r.mutable_saves(1)->set_state_schema_version(2); }},
      {"saves[1].options.tags[0]", [](auto& r) { r.mutable_saves(1)->mutable_options()->add_tags(""); }},
      {"saves[0].request_id", [](auto& r) { r.mutable_saves(0)->set_request_id("x"); }},
      {"checks",
       [](auto& r) {
         for (int i = 0; i < 100; ++i) *r.add_checks() = r.checks(0);
       }},
      {"checks[0].ref.context", [](auto& r) { r.mutable_checks(0)->mutable_ref()->clear_context(); }},
      {"checks[0].ref", [](auto& r) { *r.mutable_checks(0)->mutable_ref() = Ref("b"); }},
      {"checks[0].expected_version", [](auto& r) { r.mutable_checks(0)->clear_expectation(); }},
      {"checks[0].must_exist", [](auto& r) { r.mutable_checks(0)->set_must_exist(false); }},
      {"request_id", [](auto& r) { r.set_request_id("a b"); }},
      {"events and checks of one commit",
       [](auto& r) {
         while (r.saves(0).events_size() < 999) r.mutable_saves(0)->add_events()->set_type("placed");
       }},
  };
  for (const auto& [field, spoil] : cases) {
    pb::SaveAllRequest request = ValidSaveAll();
    spoil(request);
    CHECK(FieldOf(ToSaveAllCommand(request, kLimits, kContext)) == field);
  }
  pb::SaveAllRequest largest = ValidSaveAll();
  while (largest.saves(0).events_size() < 998) largest.mutable_saves(0)->add_events()->set_type("placed");
  CHECK(ToSaveAllCommand(largest, kLimits, kContext).ok());
}

TEST_CASE("A deletion is a save of the tombstone") {
  pb::DeleteAggregateRequest request;
  *request.mutable_ref() = Ref("a");
  request.mutable_metadata()->set_actor("alice");
  request.set_request_id("id");
  auto command = ToSaveCommand(request, kContext);
  REQUIRE(command.ok());
  CHECK(command->tombstone);
  CHECK(command->expectation.kind == Kind::kMustExist);
  REQUIRE(command->events.size() == 1);
  CHECK(command->events[0].event.type == "_deleted");
  CHECK(command->events[0].event.event_id.size() == 36);
  CHECK_FALSE(command->events[0].has_event_id);
  CHECK(command->events[0].event.metadata.actor == "alice");
  CHECK(command->events[0].event.metadata.traceparent == kTrace);
  CHECK(command->request_id == "id");
  request.set_expected_version(3);
  command = ToSaveCommand(request, kContext);
  REQUIRE(command.ok());
  CHECK(command->expectation.kind == Kind::kExact);
  CHECK(command->expectation.version == 3);
  request.set_expected_version(0);
  CHECK(FieldOf(ToSaveCommand(request, kContext)) == "expected_version");
  request.clear_expected_version();
  request.mutable_metadata()->set_actor("\xff");
  CHECK(FieldOf(ToSaveCommand(request, kContext)) == "metadata.actor");
}

TEST_CASE("The options of a load arrive") {
  pb::LoadRequest request;
  *request.mutable_ref() = Ref("a");
  pb::LoadOptions& options = *request.mutable_options();
  CHECK_FALSE(ToLoadCommand(request)->include_events.has_value());
  CHECK(ToLoadCommand(request)->use_snapshot);
  options.set_include_events(false);
  options.set_use_snapshot(false);
  CHECK(ToLoadCommand(request)->include_events == false);
  CHECK_FALSE(ToLoadCommand(request)->use_snapshot);
  options.set_version(7);
  CHECK(std::get<uint64_t>(ToLoadCommand(request)->at) == 7);
  options.mutable_as_of()->set_seconds(60);
  CHECK(std::get<base::WallTime>(ToLoadCommand(request)->at).time_since_epoch() == std::chrono::seconds(60));
  options.clear_at();
  options.set_consistency(pb::CONSISTENCY_AT_LEAST);
  options.mutable_at_least()->set_token(kPosition);
  CHECK(ToLoadCommand(request)->consistency == repository::Consistency::kAtLeast);
  CHECK(ToLoadCommand(request)->at_least.ToToken() == kPosition);
}

TEST_CASE("Options of a load that contradict each other are refused") {
  const std::vector<Spoiled<pb::LoadOptions>> cases{
      {"options.version", [](auto& o) { o.set_version(0); }},
      {"options.as_of.nanos", [](auto& o) { o.mutable_as_of()->set_nanos(-1); }},
      {"options.consistency", [](auto& o) { o.set_consistency(static_cast<pb::Consistency>(9)); }},
      {"options.at_least.token", [](auto& o) { o.set_consistency(pb::CONSISTENCY_AT_LEAST); }},
      {"options.at_least.token",
       [](auto& o) {
         o.set_consistency(pb::CONSISTENCY_AT_LEAST);
         o.mutable_at_least()->set_token("nonsense");
       }},
      {"options.at_least", [](auto& o) { o.mutable_at_least()->set_token(kPosition); }},
      {"options.consistency",
       [](auto& o) {
         o.set_consistency(pb::CONSISTENCY_CACHED);
         o.set_version(1);
       }},
  };
  for (const auto& [field, spoil] : cases) {
    pb::LoadRequest request;
    *request.mutable_ref() = Ref("a");
    spoil(*request.mutable_options());
    CHECK(FieldOf(ToLoadCommand(request)) == field);
  }
}

TEST_CASE("A snapshot is checked and mapped") {
  pb::CreateSnapshotRequest request;
  *request.mutable_ref() = Ref("a");
  request.set_version(4);
  CHECK(ToSnapshotCommand(request, kLimits)->version == 4);
  CHECK_FALSE(ToSnapshotCommand(request, kLimits)->state.has_value());
  request.set_state_schema_version(2);
  CHECK(FieldOf(ToSnapshotCommand(request, kLimits)) == "state_schema_version");
  request.mutable_state()->set_data("x");
  CHECK(ToSnapshotCommand(request, kLimits)->state->schema_version == 2);
  request.mutable_state()->set_data(std::string(2001, 'x'));
  CHECK(FieldOf(ToSnapshotCommand(request, kLimits)) == "state");
  request.clear_ref();
  CHECK(FieldOf(ToSnapshotCommand(request, kLimits)) == "ref.context");
}

TEST_CASE("A list is checked and mapped") {
  pb::ListAggregatesRequest request;
  request.set_context("sales");
  request.set_aggregate("order");
  request.add_tags("vip");
  request.set_filter("version > 3");
  request.set_order_by("version desc");
  request.set_page_size(7);
  request.set_page_token("token");
  request.set_show_deleted(true);
  request.mutable_at_least()->set_token(kPosition);
  const auto query = ToListQuery(request);
  REQUIRE(query.ok());
  CHECK(query->context == "sales");
  CHECK(query->aggregate == "order");
  CHECK(query->tags == std::vector<std::string>{"vip"});
  CHECK(query->filter == "version > 3");
  CHECK(query->order_by == "version desc");
  CHECK(query->page_size == 7);
  CHECK(query->page_token == "token");
  CHECK(query->show_deleted);
  CHECK(query->at_least->ToToken() == kPosition);
  const std::vector<Spoiled<pb::ListAggregatesRequest>> cases{
      {"context", [](auto& r) { r.set_context("a.b"); }},
      {"aggregate", [](auto& r) { r.set_aggregate("_a"); }},
      {"tags[1]", [](auto& r) { r.add_tags("vip"); }},
      {"filter", [](auto& r) { r.set_filter(std::string(4097, 'x')); }},
      {"page_size", [](auto& r) { r.set_page_size(-1); }},
      {"at_least.token", [](auto& r) { r.mutable_at_least()->clear_token(); }},
  };
  for (const auto& [field, spoil] : cases) {
    pb::ListAggregatesRequest spoiled = request;
    spoil(spoiled);
    CHECK(FieldOf(ToListQuery(spoiled)) == field);
  }
}

}  // namespace
}  // namespace persistd::rpc
