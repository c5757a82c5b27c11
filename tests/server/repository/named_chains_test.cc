// Named chains at the level of the repository: where they are stored, and that they are in nobody's way.
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "server/domain/errors.h"
#include "server/domain/subject.h"
#include "server/jetstream/api.h"
#include "tests/server/repository/repository_fixture.h"
#include "tests/testing/catch.h"
#include "tests/testing/must.h"
#include "tests/testing/nats_server.h"

namespace persistd::repository {
namespace {

namespace pb = cim::persistence::v1;
using testing::Must;
using testing::NatsServer;

SaveCommand Append(const std::string& chain, std::optional<uint64_t> expected, const std::string& data = "{}") {
  SaveCommand command = Command(domain::ChainRef(chain), expected, 0);
  command.events.push_back(NewEvent(domain::kChainEntryType, data));
  return command;
}

HistoryQuery EntriesOf(const std::string& chain) {
  HistoryQuery query;
  query.ref = domain::ChainRef(chain);
  return query;
}

std::vector<std::string> SubjectsOf(TestRepository& repository, const std::string& stream) {
  std::vector<std::string> subjects;
  const jetstream::ApiAnswer info = Must(base::BlockOn(jetstream::CallApi(
      repository.writes(), "$JS.API.STREAM.INFO." + stream, "{\"subjects_filter\":\">\"}", TestRepository::In(20s))));
  const nlohmann::json& state = jetstream::ObjectField(info.body, "state");
  for (const auto& [subject, count] : jetstream::ObjectField(state, "subjects").items()) subjects.push_back(subject);
  return subjects;
}

TEST_CASE("Chains are in one stream of their own, however events are spread", "[chains]") {
  const auto layout = GENERATE(EventStreams::kPerAggregateType, EventStreams::kPerContext, EventStreams::kSingle);
  const std::unique_ptr<NatsServer> nats = Must(NatsServer::Start({}));
  RepositoryOptions options;
  options.storage.event_streams = layout;
  options.storage.max_streams = 1;
  options.storage.auto_create = layout != EventStreams::kSingle;
  TestRepository repository(nats->url(), std::move(options));
  CHECK(domain::HasReason(repository.History(EntriesOf("a")).status(), pb::ERROR_REASON_AGGREGATE_NOT_FOUND));
  // A chain that must be there makes no stream.
  CHECK(absl::IsAborted(repository.Save(Append("a", 3)).status()));
  CHECK(repository.repository().streams().empty());

  // They do not count among the streams of events, nor those among them.
  if (layout != EventStreams::kSingle) Must(repository.Save(Command(Order("1"), 0)));
  const SaveResult first = Must(repository.Save(Append("a", 0, "{\"n\":1}")));
  const SaveResult second = Must(repository.Save(Append("a", 1, "{\"n\":2}")));
  Must(repository.Save(Append("_check", std::nullopt)));
  Must(repository.Save(Append("b c", std::nullopt)));
  CHECK(second.events.front().prev_cid == first.events.front().cid);
  CHECK(SubjectsOf(repository, "CIM-CHAINS") ==
        std::vector<std::string>{"cim.chains._check", "cim.chains.a", "cim.chains.b=20c"});
  const absl::Status conflict = repository.Save(Append("a", 1)).status();
  CHECK(domain::HasReason(conflict, pb::ERROR_REASON_VERSION_CONFLICT));
  CHECK(absl::StartsWith(conflict.message(), "chain a is at version 2"));

  const std::vector<Event> entries = Must(repository.History(EntriesOf("a")));
  REQUIRE(entries.size() == 2);
  CHECK(entries[1].event.payload.data == "{\"n\":2}");
  CHECK(entries[1].event.prev_cid == entries[0].event.cid);
}

TEST_CASE("The stream of the chains follows the defaults and is watched, but is no aggregate type", "[chains]") {
  const std::unique_ptr<NatsServer> nats = Must(NatsServer::Start({}));
  {
    TestRepository before(nats->url());
    Must(before.Save(Append("a", 0)));
    Must(before.Save(Command(Order("1"), 0)));
  }
  RepositoryOptions options;
  options.storage.defaults.compression = "s2";
  TestRepository repository(nats->url(), std::move(options));
  Types& types = *repository.repository().types();
  Must(base::BlockOn(types.Refresh(TestRepository::In(20s))));
  const StreamsReport report = types.report();
  CHECK(report.complaints.empty());
  bool watched = false;
  for (const jetstream::StreamFacts& stream : report.streams) {
    if (stream.name != "CIM-CHAINS") continue;
    watched = true;
    CHECK(stream.settings.compression == "s2");
  }
  CHECK(watched);
  const TypePage page = Must(base::BlockOn(types.List({.page_size = 10}, TestRepository::In(20s))));
  REQUIRE(page.types.size() == 1);
  CHECK(page.types.front().type == TypeName("sales", "order"));
}

TEST_CASE("A chain that is repeated with its request id is appended to once, by whichever daemon", "[chains]") {
  const std::unique_ptr<NatsServer> nats = Must(NatsServer::Start({}));
  TestRepository one(nats->url());
  TestRepository two(nats->url());
  Must(one.Save(Append("a", 0)));
  const std::string id = GENERATE(std::string("by hand"), FreshId());
  SaveCommand append = Append("a", std::nullopt, "{\"n\":7}");
  append.events.front().has_event_id = false;
  const SaveResult stored = Must(one.Save(WithId(append, id)));
  Must(one.Save(Append("a", std::nullopt)));
  const SaveResult again = Must(two.Save(WithId(append, id)));
  CHECK(again.deduplicated);
  CHECK(again.events.front().version == 2);
  CHECK(again.events.front().cid == stored.events.front().cid);
  CHECK(again.events.front().prev_cid == stored.events.front().prev_cid);
  CHECK_FALSE(again.events.front().prev_cid.empty());
  CHECK(Must(two.History(EntriesOf("a"))).size() == 3);
}

}  // namespace
}  // namespace persistd::repository
