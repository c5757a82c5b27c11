// The content identifiers of saved events and states: that they are made, that they lead from each event to the one
// before, and that what does not match them is never returned.
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "server/domain/errors.h"
#include "server/domain/subject.h"
#include "server/ipld/cid.h"
#include "server/ipld/event_block.h"
#include "server/jetstream/event_codec.h"
#include "server/jetstream/pointers.h"
#include "tests/server/repository/repository_fixture.h"
#include "tests/testing/catch.h"
#include "tests/testing/must.h"

namespace persistd::repository {
namespace {

namespace pb = cim::persistence::v1;
using testing::Must;

HistoryQuery HistoryOf(const domain::AggregateRef& ref) {
  HistoryQuery query;
  query.ref = ref;
  return query;
}

RepositoryOptions WithoutIpld() {
  RepositoryOptions options;
  options.enable_ipld = false;
  return options;
}

TEST_CASE("Each event names the one before it, across saves, daemons and kinds of saves", "[chain]") {
  TestRepository one(Nats().url());
  TestRepository two(Nats().url());
  const domain::AggregateRef ref = Order("linked");
  std::vector<std::string> answered;
  const auto note = [&answered](const SaveResult& saved) {
    for (const SavedEvent& event : saved.events) answered.push_back(event.cid);
    CHECK(saved.info.head_cid == answered.back());
  };
  SaveCommand first = Command(ref, 0, 3);
  first.tags = std::vector<std::string>{"vip"};
  first.metadata = domain::CustomMetadata{{"k", "v"}};
  note(Must(one.Save(std::move(first))));
  note(Must(one.Save(Command(ref, 3))));
  SaveCommand without_payload = Command(ref, std::nullopt, 2);
  without_payload.events[0].event.payload = {};
  note(Must(two.Save(std::move(without_payload))));
  SaveAllCommand all;
  all.saves.push_back(Command(ref, 6, 2));
  all.saves.push_back(Command(Order("linked too"), 0));
  const SaveAllResult saved = Must(base::BlockOn(one.repository().SaveAll(std::move(all), TestRepository::In(20s))));
  note(saved.results[0]);

  const std::vector<Event> events = Must(two.History(HistoryOf(ref)));
  REQUIRE(events.size() == 8);
  REQUIRE(answered.size() == 8);
  for (size_t i = 0; i < events.size(); ++i) {
    const domain::RecordedEvent& event = events[i].event;
    INFO("version " << event.version);
    CHECK(event.cid == answered[i]);
    CHECK(event.prev_cid == (i == 0 ? "" : answered[i - 1]));
    const bool has_payload = !event.payload.content_type.empty();
    CHECK(event.payload_cid == (has_payload ? ipld::RawCid(event.payload.data).ToString() : ""));
  }
  CHECK(Must(two.Info(ref)).head_cid == answered.back());
}

TEST_CASE("A repeated save is answered with the CIDs of the first", "[chain]") {
  TestRepository one(Nats().url());
  const domain::AggregateRef ref = Order("repeated");
  const SaveCommand command = WithId(Command(ref, 0, 2), FreshId());
  const SaveResult first = Must(one.Save(command));
  TestRepository two(Nats().url());
  const SaveResult again = Must(two.Save(command));
  REQUIRE(again.deduplicated);
  REQUIRE(again.events.size() == 2);
  for (size_t i = 0; i < 2; ++i) CHECK(again.events[i].cid == first.events[i].cid);
  CHECK_FALSE(first.events[0].cid.empty());
}

TEST_CASE("Without IPLD nothing has a CID, and a chain begins when it is on again", "[chain]") {
  const domain::AggregateRef ref = Order("off and on");
  const auto save = [&ref](RepositoryOptions options, uint64_t version) {
    TestRepository repository(Nats().url(), std::move(options));
    SaveCommand command = Command(ref, version);
    command.state = NewState{.schema_version = 1, .payload = {.content_type = "text/plain", .data = "state"}};
    const SaveResult saved = Must(repository.Save(std::move(command)));
    const LoadResult loaded = Must(repository.Load(ref));
    CHECK(loaded.info.state_cid == saved.info.state_cid);
    CHECK(loaded.info.head_cid == saved.info.head_cid);
    return saved;
  };
  const SaveResult plain = save(WithoutIpld(), 0);
  CHECK(plain.events[0].cid.empty());
  CHECK(plain.info.head_cid.empty());
  CHECK(plain.info.state_cid.empty());
  const SaveResult chained = save({}, 1);
  CHECK_FALSE(chained.events[0].cid.empty());
  CHECK(chained.info.state_cid == ipld::RawCid("state").ToString());
  save(WithoutIpld(), 2);
  save({}, 3);
  save({}, 4);
  TestRepository repository(Nats().url());
  const std::vector<Event> events = Must(repository.History(HistoryOf(ref)));
  REQUIRE(events.size() == 5);
  CHECK(events[0].event.payload_cid.empty());
  CHECK(events[1].event.prev_cid.empty());
  CHECK(events[2].event.cid.empty());
  CHECK(events[2].event.prev_cid.empty());
  CHECK(events[3].event.prev_cid.empty());
  CHECK(events[4].event.prev_cid == events[3].event.cid);
}

// The message of the aggregate's version 2, honest but for `change`.
jetstream::OutgoingMessage Second(TestRepository& repository, const domain::AggregateRef& ref,
                                  const std::function<void(domain::RecordedEvent&)>& change) {
  const Event first = Must(repository.History(HistoryOf(ref))).front();
  domain::RecordedEvent event = first.event;
  event.version = 2;
  event.event_id = FreshId();
  event.commit_id = FreshId();
  event.prev_cid = first.event.cid;
  ipld::AddCids(event, {});
  change(event);
  const domain::AggregateLabels none;
  const jetstream::PlacePointers pointers =
      jetstream::NextPointers(1, {.in_batch = false, .number = first.event.sequence}, {});
  return jetstream::EncodeEvent(event, pointers, 0, &none);
}

TEST_CASE("An event that does not match its CID is DATA_LOSS with its place, and is never returned", "[chain]") {
  TestRepository repository(Nats().url());
  const bool payload = GENERATE(true, false);
  const domain::AggregateRef ref = Order(payload ? "other payload" : "other actor");
  Must(repository.Save(Command(ref, 0)));
  std::string recorded;
  const auto alter = [&](domain::RecordedEvent& event) {
    recorded = payload ? event.payload_cid : event.cid;
    if (payload) {
      event.payload.data = "{\"amount\":1000000}";
    } else {
      event.metadata.actor = "somebody else";
    }
  };
  PublishRaw(repository.writes(), Second(repository, ref, alter));
  TestRepository fresh(Nats().url());
  const std::vector<absl::Status> answers = {fresh.Load(ref).status(), fresh.History(HistoryOf(ref)).status(),
                                             fresh.Info(ref).status(), fresh.LoadVersion(ref, 2).status(),
                                             fresh.Save(Command(ref, 2)).status()};
  for (const absl::Status& answer : answers) {
    INFO(answer.ToString());
    REQUIRE(domain::HasReason(answer, pb::ERROR_REASON_CORRUPT_DATA));
    const pb::ErrorDetail::DataLoss loss = domain::GetErrorDetail(answer)->data_loss();
    CHECK(loss.stream() == "CIM-EVENTS+sales+order");
    CHECK(loss.sequence() > 1);
    CHECK(loss.expected_cid() == recorded);
    CHECK_FALSE(loss.actual_cid().empty());
    CHECK(loss.actual_cid() != recorded);
  }
}

TEST_CASE("A state that does not match its CID is DATA_LOSS", "[chain]") {
  TestRepository repository(Nats().url());
  const domain::AggregateRef ref = Order("other state");
  const SaveResult saved = Must(repository.Save(Command(ref, 0)));
  domain::StateRecord state;
  state.ref = ref;
  state.version = 1;
  state.payload = {.content_type = "text/plain", .data = "forged"};
  state.commit_id = saved.commit_id;
  state.cid = ipld::RawCid("honest").ToString();
  state.recorded_time = saved.info.last_modified;
  SaveCommand other = Command(Order("makes the stream of states"), 0);
  other.state = NewState{.schema_version = 1, .payload = {.content_type = "text/plain", .data = "x"}};
  Must(repository.Save(std::move(other)));
  PublishRaw(repository.writes(), jetstream::EncodeState(state));
  const absl::Status status = TestRepository(Nats().url()).Load(ref).status();
  INFO(status.ToString());
  REQUIRE(domain::HasReason(status, pb::ERROR_REASON_CORRUPT_DATA));
  const pb::ErrorDetail::DataLoss loss = domain::GetErrorDetail(status)->data_loss();
  CHECK(loss.stream() == "CIM-AGGREGATES+sales+order");
  CHECK(loss.expected_cid() == ipld::RawCid("honest").ToString());
  CHECK(loss.actual_cid() == ipld::RawCid("forged").ToString());
}

}  // namespace
}  // namespace persistd::repository
