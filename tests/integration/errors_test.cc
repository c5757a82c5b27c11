// Every error of errors.proto, made by a real call to a real daemon.
#include <signal.h>

#include <memory>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "client/cpp/client.h"
#include "client/cpp/requests.h"
#include "tests/integration/api.h"
#include "tests/integration/world.h"
#include "tests/testing/catch.h"
#include "tests/testing/poll.h"

namespace persistd::integration {
namespace {

using absl::StatusCode;

// The errors that only a defect makes: tests/server/rpc/grpc_status_test.cc makes this one.
const std::set<pb::ErrorReason> kOnlyUnitTests = {pb::ERROR_REASON_INTERNAL};

struct Expected {
  pb::ErrorReason reason;
  StatusCode code;
  bool retryable = false;
};

// The reasons that the checks below have met, to be compared with the enum at the end.
std::set<pb::ErrorReason>& Met() {
  static std::set<pb::ErrorReason>& met = *new std::set<pb::ErrorReason>;
  return met;
}

pb::ErrorDetail Check(const absl::Status& status, const Expected& expected) {
  INFO(status.ToString());
  const pb::ErrorDetail detail = DetailOf(status);
  CHECK(pb::ErrorReason_Name(detail.reason()) == pb::ErrorReason_Name(expected.reason));
  CHECK(status.code() == expected.code);
  CHECK(detail.retryable() == expected.retryable);
  CHECK_FALSE(status.message().empty());
  Met().insert(detail.reason());
  return detail;
}

void CheckRef(const pb::ErrorDetail& detail, const pb::AggregateRef& ref) {
  CHECK(detail.ref().SerializeAsString() == ref.SerializeAsString());
}

void CheckRequests(Api& api) {
  pb::SaveRequest no_event = SaveOf(Order("e"));
  no_event.clear_events();
  const pb::ErrorDetail invalid =
      Check(api.Save(no_event).status(), {pb::ERROR_REASON_INVALID_FIELD, StatusCode::kInvalidArgument});
  CHECK(invalid.field_violation().field() == "events");
  CHECK_FALSE(invalid.field_violation().description().empty());

  pb::SaveRequest large = SaveOf(Order("e"), 2);
  large.mutable_events(1)->mutable_payload()->set_data(std::string(512 * 1024 + 1, 'x'));
  const pb::ErrorDetail too_large =
      Check(api.Save(large).status(), {pb::ERROR_REASON_TOO_LARGE, StatusCode::kResourceExhausted});
  CHECK(too_large.limit().name() == "events[1].payload");
  CHECK(too_large.limit().limit() == 512 * 1024);
  CHECK(too_large.limit().value() == 512 * 1024 + 1);
  CHECK(too_large.limit().config_key() == "limits.max_event_size");
}

void CheckVersions(Api& api) {
  const pb::AggregateRef ref = Order("versions");
  const pb::ErrorDetail missing =
      Check(api.Load(ref).status(), {pb::ERROR_REASON_AGGREGATE_NOT_FOUND, StatusCode::kNotFound});
  CheckRef(missing, ref);
  CHECK_FALSE(missing.deleted());
  Must(api.Save(SaveOf(ref, 3)).status());

  pb::GetAtVersionRequest at;
  *at.mutable_ref() = ref;
  at.set_version(4);
  const pb::ErrorDetail future =
      Check(api.GetAtVersion(at).status(), {pb::ERROR_REASON_VERSION_NOT_FOUND, StatusCode::kNotFound});
  CheckRef(future, ref);
  CHECK(future.version_conflict().expected_version() == 4);
  CHECK(future.version_conflict().actual_version() == 3);
  at.mutable_as_of()->set_seconds(1'000'000'000);
  const pb::ErrorDetail past =
      Check(api.GetAtVersion(at).status(), {pb::ERROR_REASON_VERSION_NOT_FOUND, StatusCode::kNotFound});
  CHECK(past.version_conflict().actual_version() == 3);

  const pb::ErrorDetail conflict =
      Check(api.Save(SaveOf(ref, 2, 1, "{}")).status(), {pb::ERROR_REASON_VERSION_CONFLICT, StatusCode::kAborted});
  CheckRef(conflict, ref);
  CHECK(conflict.version_conflict().expected_version() == 2);
  CHECK(conflict.version_conflict().actual_version() == 3);
  pb::SaveRequest nobody = SaveOf(Order("nobody"));
  nobody.set_must_exist(true);
  const pb::ErrorDetail absent =
      Check(api.Save(nobody).status(), {pb::ERROR_REASON_VERSION_CONFLICT, StatusCode::kAborted});
  CHECK_FALSE(absent.version_conflict().has_expected_version());
  CHECK(absent.version_conflict().actual_version() == 0);

  pb::SaveRequest first = SaveOf(Order("ids"));
  first.set_request_id("once");
  Must(api.Save(first).status());
  first.mutable_events(0)->set_type("other");
  const pb::ErrorDetail reused =
      Check(api.Save(first).status(), {pb::ERROR_REASON_REQUEST_ID_REUSED, StatusCode::kInvalidArgument});
  CheckRef(reused, first.ref());
}

void CheckChains(World& world) {
  const pb::ErrorDetail missing =
      Check(world.api().GetChain("nobody's").status(), {pb::ERROR_REASON_CHAIN_NOT_FOUND, StatusCode::kNotFound});
  CHECK(missing.ref().entity_id() == "nobody's");
  Check(world.api().GetBlock("bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku").status(),
        {pb::ERROR_REASON_BLOCK_NOT_FOUND, StatusCode::kNotFound});
  world.StartDaemon({"repository.enable_ipld=false"});
  Check(world.api().AppendToChain(AppendTo("a")).status(),
        {pb::ERROR_REASON_NOT_CHAINED, StatusCode::kFailedPrecondition});
  world.StartDaemon();
}

void CheckReadModels(World& world) {
  const pb::ErrorDetail missing =
      Check(world.api().GetReadModel(GetOf("products", "none")).status(),
            {pb::ERROR_REASON_READ_MODEL_NOT_FOUND, StatusCode::kNotFound});
  CHECK(missing.read_model().id() == "none");
  pb::SaveReadModelRequest write = WriteOf("products", "1");
  write.mutable_write()->set_schema_version(2);
  const uint64_t revision = Must(world.api().SaveReadModel(write)).revision();
  write.mutable_write()->set_expected_revision(0);
  const pb::ErrorDetail conflict = Check(world.api().SaveReadModel(write).status(),
                                         {pb::ERROR_REASON_REVISION_CONFLICT, StatusCode::kAborted});
  CHECK(conflict.revision_conflict().actual_revision() == revision);
  pb::GetReadModelRequest get = GetOf("products", "1");
  get.set_schema_version(1);
  const pb::ErrorDetail other = Check(world.api().GetReadModel(get).status(),
                                      {pb::ERROR_REASON_SCHEMA_VERSION_DIFFERS, StatusCode::kFailedPrecondition});
  CHECK(other.schema_versions().actual() == 2);
}

void CheckForeignMessages(World& world) {
  const pb::AggregateRef ref = Order("foreign");
  Must(world.api().Save(SaveOf(ref, 2)).status());
  world.Publish("cim.events.sales.order.foreign.stranger.v1");
  world.StartDaemon();  // One that does not remember the head.
  const pb::ErrorDetail foreign = Check(world.api().Save(SaveOf(ref)).status(),
                                        {pb::ERROR_REASON_FOREIGN_MESSAGE, StatusCode::kFailedPrecondition});
  CheckRef(foreign, ref);
  CHECK(Must(world.api().History(ref)).size() == 2);
  const pb::GetServerInfoResponse info = Must(world.api().GetServerInfo());
  bool warned = false;
  for (const std::string& warning : info.warnings()) warned = warned || absl::StrContains(warning, "did not write");
  CHECK(warned);
  uint64_t met = 0;
  for (const pb::StreamInfo& stream : info.streams()) met += stream.foreign_messages();
  CHECK(met == 1);
}

void CheckCorruptData(World& world) {
  const pb::AggregateRef ref = Order("corrupt");
  Must(world.api().Save(SaveOf(ref, 2)).status());
  jetstream::Headers headers;  // Says that persistd wrote it, and nothing else.
  headers.Add("ce-persistd", "1");
  world.Publish("cim.events.sales.order.corrupt.happened.v1", std::move(headers));
  const pb::ErrorDetail corrupt =
      Check(world.api().Load(ref).status(), {pb::ERROR_REASON_CORRUPT_DATA, StatusCode::kDataLoss});
  CHECK(corrupt.data_loss().stream() == "CIM-EVENTS+sales+order");
  CHECK(corrupt.data_loss().sequence() == world.live().CountMessages("CIM-EVENTS+sales+order"));
  CHECK_FALSE(corrupt.data_loss().description().empty());
}

void CheckTypes(World& world) {
  client::Options options;
  options.address = world.daemon().address();
  const client::Client client = Must(client::Client::Connect(options));
  pb::CreateAggregateTypeRequest create;
  create.set_context("sales");
  create.set_aggregate("order");
  Must(client.CreateAggregateType(create).status());
  create.mutable_settings()->set_compression(pb::StreamSettings::COMPRESSION_S2);
  Check(client.CreateAggregateType(create).status(), {pb::ERROR_REASON_TYPE_EXISTS, StatusCode::kAlreadyExists});
  pb::DescribeAggregateTypeRequest describe;
  describe.set_context("sales");
  describe.set_aggregate("none");
  Check(client.DescribeAggregateType(describe).status(), {pb::ERROR_REASON_TYPE_NOT_FOUND, StatusCode::kNotFound});
}

void CheckStorage(World& world) {
  world.StartDaemon({"repository.auto_create=false"});
  const pb::AggregateRef ref = client::Ref("sales", "invoice", "1");
  const pb::ErrorDetail undeclared = Check(world.api().Save(SaveOf(ref)).status(),
                                           {pb::ERROR_REASON_TYPE_NOT_DECLARED, StatusCode::kFailedPrecondition});
  CheckRef(undeclared, ref);

  world.StartDaemon({"repository.max_streams=1"});
  const pb::ErrorDetail full =
      Check(world.api().Save(SaveOf(ref)).status(), {pb::ERROR_REASON_STORAGE_FULL, StatusCode::kResourceExhausted});
  CHECK(full.limit().limit() == 1);
  CHECK(full.limit().value() == 2);
  CHECK(full.limit().config_key() == "repository.max_streams");

  world.live().MakeStream({{"name", "CIM-EVENTS+sales+invoice"}, {"subjects", {"cim.events.sales.invoice.>"}}});
  world.StartDaemon();
  const absl::Status unsuitable = world.api().Save(SaveOf(ref)).status();
  Check(unsuitable, {pb::ERROR_REASON_STORAGE_UNSUITABLE, StatusCode::kFailedPrecondition});
  CHECK(absl::StrContains(unsuitable.message(), "CIM-EVENTS+sales+invoice"));
}

// Opens a history that waits for its reader, so that a call runs for as long as the test wants.
std::unique_ptr<HistoryCall> KeepOneCallRunning(Api& api) {
  const pb::AggregateRef ref = Order("long");
  if (!api.GetMetadata(ref).ok()) {
    for (int i = 0; i < 12; ++i) Must(api.Save(SaveOf(ref, 2, std::string(500'000, 'x'))).status());
  }
  auto history = api.StartHistory(HistoryOf(ref));
  CHECK(history->MustNext().version() == 1);
  return history;
}

void CheckOverload(World& world) {
  world.StartDaemon({"limits.max_concurrent_calls=1"});
  const auto running = KeepOneCallRunning(world.api());
  const pb::ErrorDetail overloaded = Check(world.api().Load(Order("any")).status(),
                                           {pb::ERROR_REASON_OVERLOADED, StatusCode::kResourceExhausted, true});
  CHECK(overloaded.retry_delay().seconds() > 0);
  CHECK(overloaded.limit().limit() == 1);
  CHECK(overloaded.limit().config_key() == "limits.max_concurrent_calls");
  CHECK(world.api().GetServerInfo().ok());  // What an operator needs is never refused.
}

void CheckShutdown(World& world) {
  world.StartDaemon();
  const auto running = KeepOneCallRunning(world.api());
  REQUIRE(kill(world.daemon().pid(), SIGTERM) == 0);
  REQUIRE(world.api().WaitUntilServing(false));
  Check(world.api().Load(Order("any")).status(), {pb::ERROR_REASON_SHUTTING_DOWN, StatusCode::kUnavailable, true});
}

void CheckNatsTrouble(World& world) {
  world.StartDaemon();
  const pb::AggregateRef ref = Order("trouble");
  const pb::AggregateRef other = Order("more trouble");
  for (const pb::AggregateRef& known : {ref, other}) Must(world.api().Save(SaveOf(known)).status());
  // It is there and says nothing: what was sent may be stored later.
  world.nats().Pause();
  pb::SaveRequest repeatable = SaveOf(ref);
  repeatable.set_request_id("repeatable");
  const pb::ErrorDetail unknown = Check(world.api().Save(repeatable, {.timeout = 1500ms}).status(),
                                        {pb::ERROR_REASON_OUTCOME_UNKNOWN, StatusCode::kUnavailable, true});
  // Whoever has no id must look before saving again.
  Check(world.api().Save(SaveOf(other), {.timeout = 1500ms}).status(),
        {pb::ERROR_REASON_OUTCOME_UNKNOWN, StatusCode::kUnavailable, false});
  CheckRef(unknown, ref);
  Check(world.api().Load(ref, {.timeout = 1500ms}).status(),
        {pb::ERROR_REASON_NATS_UNAVAILABLE, StatusCode::kUnavailable, true});
  world.nats().Resume();

  world.nats().Kill9();
  REQUIRE(world.api().WaitUntilServing(false));
  Check(world.api().Save(SaveOf(ref)).status(), {pb::ERROR_REASON_NATS_UNAVAILABLE, StatusCode::kUnavailable, true});
}

void CheckHistoryRemoved(World& world) {
  world.StartDaemon({"nats.monitoring_url=" + world.nats().monitoring_url(), "repository.truncation_min_age=0s",
                     "repository.aggregates=[{context: sales, aggregate: short, fold: \".version\", snapshots: "
                     "{every_events: 2, keep: 1}, retention: truncate_before_snapshot}]"});
  const pb::AggregateRef ref = client::Ref("sales", "short", "1");
  for (int i = 0; i < 4; ++i) Must(world.api().Save(SaveOf(ref)).status());
  REQUIRE(testing::PollUntil([&] { return Must(world.api().History(ref)).front().version() == 4; }, 20s));
  pb::GetAtVersionRequest at;
  *at.mutable_ref() = ref;
  at.set_version(2);
  const pb::ErrorDetail removed =
      Check(world.api().GetAtVersion(at).status(), {pb::ERROR_REASON_HISTORY_REMOVED, StatusCode::kFailedPrecondition});
  CheckRef(removed, ref);
  CHECK(removed.history_removed().first_version() == 4);
}

// A position of this aggregate's stream that is not reached yet.
pb::Position Beyond(Api& api, const pb::AggregateRef& ref) {
  const std::string token = Must(api.GetMetadata(ref)).position().token();
  pb::Position position;
  position.set_token(token.substr(0, token.rfind(':') + 1) + "1000000");
  return position;
}

void CheckStatesAndPositions(World& world) {
  world.StartDaemon({"repository.aggregates=[{context: sales, aggregate: folded, fold: \"error(\\\"no\\\")\"}]"});
  const client::Client caller =
      Must(client::Client::Connect({.address = world.daemon().address(), .default_timeout = 2000ms}));
  const pb::AggregateRef ref = Order("states");
  Must(world.api().Save(SaveOf(ref)).status());

  pb::CreateSnapshotRequest snapshot;
  *snapshot.mutable_ref() = ref;
  CheckRef(
      Check(caller.CreateSnapshot(snapshot).status(), {pb::ERROR_REASON_NO_STATE, StatusCode::kFailedPrecondition}),
      ref);
  pb::DeleteSnapshotRequest drop;
  *drop.mutable_ref() = ref;
  drop.set_version(1);
  Check(caller.DeleteSnapshot(drop), {pb::ERROR_REASON_SNAPSHOT_NOT_FOUND, StatusCode::kNotFound});

  pb::AggregateRef folded = ref;
  folded.set_aggregate("folded");
  Must(world.api().Save(SaveOf(folded)).status());
  CheckRef(
      Check(world.api().Load(folded).status(), {pb::ERROR_REASON_TRANSFORM_FAILED, StatusCode::kFailedPrecondition}),
      folded);

  pb::LoadRequest reach;
  *reach.mutable_ref() = ref;
  reach.mutable_options()->set_consistency(pb::CONSISTENCY_AT_LEAST);
  *reach.mutable_options()->mutable_at_least() = Beyond(world.api(), ref);
  Check(world.api().Load(reach, {.timeout = 1500ms}).status(),
        {pb::ERROR_REASON_POSITION_NOT_REACHED, StatusCode::kUnavailable, true});
  pb::ListAggregatesRequest list;
  *list.mutable_at_least() = Beyond(world.api(), ref);
  Check(caller.ListAggregates(list).status(), {pb::ERROR_REASON_INDEX_NOT_READY, StatusCode::kUnavailable, true});

  pb::DeleteAggregateRequest deletion;
  *deletion.mutable_ref() = ref;
  Must(caller.DeleteAggregate(deletion).status());
  const pb::ErrorDetail deleted = Check(world.api().Save(SaveOf(ref)).status(),
                                        {pb::ERROR_REASON_AGGREGATE_DELETED, StatusCode::kFailedPrecondition});
  CHECK(deleted.deleted());
  CHECK(deleted.version_conflict().actual_version() == 2);
}

TEST_CASE("Every error of the API is made by a real call, with its code, its advice and its details", "[errors]") {
  Met().clear();
  World world({}, {.sync_always = true});
  CheckRequests(world.api());
  CheckVersions(world.api());
  CheckChains(world);
  CheckReadModels(world);
  CheckForeignMessages(world);
  CheckCorruptData(world);
  CheckTypes(world);
  CheckStorage(world);
  CheckStatesAndPositions(world);
  CheckHistoryRemoved(world);
  CheckOverload(world);
  CheckShutdown(world);
  CheckNatsTrouble(world);

  const google::protobuf::EnumDescriptor& reasons = *pb::ErrorReason_descriptor();
  for (int i = 0; i < reasons.value_count(); ++i) {
    const auto reason = static_cast<pb::ErrorReason>(reasons.value(i)->number());
    if (reason == pb::ERROR_REASON_UNSPECIFIED) continue;
    INFO(reasons.value(i)->name());
    CHECK(Met().count(reason) + kOnlyUnitTests.count(reason) == 1);
  }
}

}  // namespace
}  // namespace persistd::integration
