// Aggregate types over a real nats-server: created, known to other daemons, listed, described.
#include "server/repository/types.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "cim/persistence/v1/errors.pb.h"
#include "server/domain/errors.h"
#include "server/repository/type_record.h"
#include "tests/server/repository/repository_fixture.h"
#include "tests/testing/catch.h"
#include "tests/testing/must.h"
#include "tests/testing/nats_server.h"

namespace persistd::repository {
namespace {

namespace pb = cim::persistence::v1;
using jetstream::Placement;
using jetstream::StreamSettings;
using testing::Must;
using testing::NatsServer;

const TypeName kOrder("sales", "order");

RepositoryOptions Declaring(std::map<TypeName, StreamSettings> types, bool auto_create = true) {
  RepositoryOptions options;
  options.storage.types = std::move(types);
  options.storage.auto_create = auto_create;
  return options;
}

absl::StatusOr<AggregateTypes::Created> Create(TestRepository& daemon, const TypeName& type,
                                               StreamSettings settings = {}) {
  return base::BlockOn(daemon.repository().types()->Create(type, std::move(settings), TestRepository::In(20s)));
}

absl::StatusOr<TypePage> List(TestRepository& daemon, AggregateTypes::ListQuery query) {
  return base::BlockOn(daemon.repository().types()->List(std::move(query), TestRepository::In(20s)));
}

absl::StatusOr<TypeDescription> Describe(TestRepository& daemon, const TypeName& type) {
  return base::BlockOn(daemon.repository().types()->Describe(type, TestRepository::In(20s)));
}

TEST_CASE("A type record reads back, and what no version wrote is refused", "[types]") {
  const StreamSettings all{.replicas = 3,
                           .storage = "memory",
                           .compression = "s2",
                           .placement = Placement{"eu", {"ssd", "az:1"}},
                           .max_bytes = 1'000'000};
  CHECK(Must(DecodeTypeRecord(EncodeTypeRecord(all))) == all);
  CHECK(Must(DecodeTypeRecord(EncodeTypeRecord({}))) == StreamSettings{});
  const StreamSettings empty_placement{.placement = Placement{}};
  CHECK(Must(DecodeTypeRecord(EncodeTypeRecord(empty_placement))) == empty_placement);
  for (const char* bad :
       {"", "null", "[]", "{}", R"({"format":2})", R"({"format":1,"replicas":0})", R"({"format":1,"replicas":6})",
        R"({"format":1,"storage":"tape"})", R"({"format":1,"compression":1})", R"({"format":1,"max_bytes":-1})",
        R"({"format":1,"placement":{"tags":[1]}})", R"({"format":1,"placement":{"x":1}})",
        R"({"format":1,"retention":"short"})"}) {
    INFO(bad);
    CHECK_FALSE(DecodeTypeRecord(bad).ok());
  }
  CHECK(TypeOfKey(TypeKey(kOrder)) == kOrder);
  for (const char* bad : {"", "type", "type.a", "type.a.b.c", "lease.a.b", "type..b", "type.a."}) {
    INFO(bad);
    CHECK_FALSE(TypeOfKey(bad).has_value());
  }
}

TEST_CASE("A created type has its streams at once, and creating it again changes nothing", "[types]") {
  const auto nats = Must(NatsServer::Start({}));
  TestRepository daemon(nats->url());
  const StreamSettings settings{.compression = "s2", .max_bytes = 1'000'000};
  const AggregateTypes::Created created = Must(Create(daemon, kOrder, settings));
  CHECK(created.created);
  CHECK(created.info.origin == TypeOrigin::kCreated);
  CHECK(created.info.settings == settings);
  for (const TypeStream* stream : {&created.info.events, &created.info.states}) {
    REQUIRE(stream->facts.has_value());
    CHECK(stream->facts->settings.compression == "s2");
    CHECK(stream->facts->settings.max_bytes == 1'000'000);
    CHECK(stream->complaint.empty());
  }
  CHECK_FALSE(Must(Create(daemon, kOrder, settings)).created);
  const absl::Status other = Create(daemon, kOrder, {.compression = "none"}).status();
  CHECK(domain::HasReason(other, pb::ERROR_REASON_TYPE_EXISTS));
  CHECK(absl::StrContains(other.message(), "compression: s2"));
  CHECK(Must(Describe(daemon, kOrder)).info.events.facts->settings.compression == "s2");
}

TEST_CASE("A type that one daemon creates is known to another that runs already, with auto_create off", "[types]") {
  const auto nats = Must(NatsServer::Start({}));
  TestRepository first(nats->url());
  TestRepository second(nats->url(), Declaring({}, /*auto_create=*/false));
  CHECK(domain::HasReason(second.Save(Command(Order("1"), 0)).status(), pb::ERROR_REASON_TYPE_NOT_DECLARED));
  Must(Create(first, kOrder).status());
  CHECK(Must(second.Save(Command(Order("1"), 0))).info.version == 1);
  SaveCommand other = Command({.context = "sales", .aggregate = "item", .entity_id = "1"}, 0);
  CHECK(domain::HasReason(second.Save(other).status(), pb::ERROR_REASON_TYPE_NOT_DECLARED));
}

TEST_CASE("Data in memory is for a type that says so, on every daemon, and an answer says what that means", "[types]") {
  const auto nats = Must(NatsServer::Start({}));
  TestRepository first(nats->url());
  TestRepository second(nats->url());
  Must(Create(first, kOrder, {.storage = "memory"}).status());
  for (TestRepository* daemon : {&second, &first}) {
    SaveCommand command = Command(Order("1"), std::nullopt);
    command.state = NewState{.payload = {.content_type = "application/json", .data = "{}"}};
    const SaveResult saved = Must(daemon->Save(std::move(command)));
    CHECK(saved.in_memory);
    CHECK(saved.state == StateResult::kWritten);
  }
  // One that is told otherwise refuses.
  TestRepository third(nats->url(), Declaring({{kOrder, {.storage = "file"}}}));
  CHECK(domain::HasReason(third.Save(Command(Order("1"), std::nullopt)).status(), pb::ERROR_REASON_STORAGE_UNSUITABLE));
}

TEST_CASE("A type whose streams cannot be made is not created, and not in the way", "[types]") {
  const auto nats = Must(NatsServer::Start({}));
  TestRepository daemon(nats->url());
  const absl::Status refused = Create(daemon, kOrder, {.replicas = 3}).status();  // There is one server.
  CHECK(domain::HasReason(refused, pb::ERROR_REASON_STORAGE_UNSUITABLE));
  CHECK(domain::HasReason(Describe(daemon, kOrder).status(), pb::ERROR_REASON_TYPE_NOT_FOUND));
  CHECK(Must(Create(daemon, kOrder, {.compression = "s2"})).created);
}

TEST_CASE("A type that saves made follows the settings that it gets", "[types]") {
  const auto nats = Must(NatsServer::Start({}));
  TestRepository daemon(nats->url());
  Must(daemon.Save(Command(Order("1"), 0)).status());
  CHECK(Must(Describe(daemon, kOrder)).info.origin == TypeOrigin::kFirstUse);
  const AggregateTypes::Created created = Must(Create(daemon, kOrder, {.compression = "s2"}));
  CHECK(created.created);
  CHECK(created.info.events.facts->settings.compression == "s2");
  CHECK(created.info.events.facts->messages == 1);
  CHECK(Must(daemon.Load(Order("1"))).info.version == 1);
}

TEST_CASE("A declared type is answered as it is declared", "[types]") {
  const auto nats = Must(NatsServer::Start({}));
  TestRepository daemon(nats->url(), Declaring({{kOrder, {.compression = "s2"}}}));
  const AggregateTypes::Created same = Must(Create(daemon, kOrder, {.compression = "s2"}));
  CHECK_FALSE(same.created);
  CHECK(same.info.origin == TypeOrigin::kDeclared);
  CHECK(same.info.events.facts.has_value());
  CHECK(domain::HasReason(Create(daemon, kOrder).status(), pb::ERROR_REASON_TYPE_EXISTS));
}

TEST_CASE("Types that share streams can be created, but have no settings of their own", "[types]") {
  const auto nats = Must(NatsServer::Start({}));
  RepositoryOptions options;
  options.storage.event_streams = EventStreams::kSingle;
  TestRepository daemon(nats->url(), options);
  CHECK(domain::GetErrorDetail(Create(daemon, kOrder, {.compression = "s2"}).status())->field_violation().field() ==
        "settings");
  CHECK(Must(Create(daemon, kOrder)).info.events.name == "CIM-EVENTS");
  CHECK(Must(List(daemon, {.page_size = 10})).types.size() == 1);
}

TEST_CASE("Types of every origin are listed once, in order and in pages", "[types]") {
  const auto nats = Must(NatsServer::Start({}));
  TestRepository daemon(nats->url(), Declaring({{{"a", "declared"}, {}}, {{"b", "both"}, {}}}));
  Must(Create(daemon, {"a", "created"}).status());
  Must(Create(daemon, {"b", "both"}).status());
  Must(daemon.Save(Command({.context = "a", .aggregate = "saved", .entity_id = "1"}, 0)).status());
  Must(daemon.Save(Command({.context = "c", .aggregate = "saved", .entity_id = "1"}, 0)).status());
  const std::vector<TypeName> expected = {
      {"a", "created"}, {"a", "declared"}, {"a", "saved"}, {"b", "both"}, {"c", "saved"}};
  for (const size_t page_size : {1, 2, 5, 100}) {
    INFO(page_size);
    std::vector<TypeName> found;
    AggregateTypes::ListQuery query{.page_size = page_size};
    do {
      const TypePage page = Must(List(daemon, query));
      REQUIRE(page.types.size() <= page_size);
      for (const TypeInfo& info : page.types) found.push_back(info.type);
      query.page_token = page.next_page_token;
    } while (!query.page_token.empty());
    CHECK(found == expected);
  }
  const TypePage page = Must(List(daemon, {.context = "a", .page_size = 100}));
  REQUIRE(page.types.size() == 3);
  CHECK(page.types[0].origin == TypeOrigin::kCreated);
  CHECK(page.types[1].origin == TypeOrigin::kDeclared);
  CHECK_FALSE(page.types[1].events.facts.has_value());
  CHECK(page.types[2].origin == TypeOrigin::kFirstUse);
  CHECK(page.types[2].events.facts->messages == 1);
  CHECK(page.types[2].events.facts->bytes > 0);
  CHECK(page.types[2].events.facts->last_sequence == 1);
  CHECK(domain::GetErrorDetail(List(daemon, {.page_size = 1, .page_token = "nonsense"}).status())
            ->field_violation()
            .field() == "page_token");
}

TEST_CASE("A described type tells its event types with their versions, and how many aggregates it has", "[types]") {
  const auto nats = Must(NatsServer::Start({}));
  TestRepository daemon(nats->url());
  for (const char* id : {"1", "2", "a.b c"}) {
    SaveCommand command = Command(Order(id), 0, 2);
    command.events[1].event.type = "paid";
    command.events[1].event.schema_version = 3;
    Must(daemon.Save(std::move(command)).status());
  }
  Must(daemon.Save(Command(Order("1"), 2)).status());
  // Not ours: not counted.
  jetstream::OutgoingMessage foreign;
  foreign.subject = "cim.events.sales.order.x.y";
  foreign.data = "x";
  const auto publish = [&]() -> base::Task<absl::StatusOr<jetstream::Message>> {
    co_return co_await daemon.writes().Request(foreign, TestRepository::In(20s));
  };
  Must(base::BlockOn(publish()).status());
  const TypeDescription description = Must(Describe(daemon, kOrder));
  CHECK(description.aggregates == 3);
  REQUIRE(description.event_types.has_value());
  REQUIRE(description.event_types->size() == 2);
  const EventTypeCount& happened = (*description.event_types)[0];
  CHECK((happened.type == "happened" && happened.schema_version == 1 && happened.events == 4));
  const EventTypeCount& paid = (*description.event_types)[1];
  CHECK((paid.type == "paid" && paid.schema_version == 3 && paid.events == 3));
  CHECK(domain::HasReason(Describe(daemon, {"sales", "none"}).status(), pb::ERROR_REASON_TYPE_NOT_FOUND));
}

TEST_CASE("A look at all streams makes them follow once, reports them, and tells what it could not change", "[types]") {
  const auto nats = Must(NatsServer::Start({}));
  {
    TestRepository daemon(nats->url());
    Must(daemon.Save(Command(Order("1"), 0)).status());
    Must(daemon.Save(Command({.context = "sales", .aggregate = "item", .entity_id = "1"}, 0)).status());
  }
  RepositoryOptions options = Declaring({{kOrder, {.replicas = 3}}});
  options.storage.defaults.compression = "s2";
  TestRepository daemon(nats->url(), options);
  Types& types = *daemon.repository().types();
  CHECK(types.report().streams.empty());
  Must(base::BlockOn(types.Refresh(TestRepository::In(20s))));
  const StreamsReport report = types.report();
  REQUIRE(report.streams.size() == 2);
  CHECK(report.streams[0].name == "CIM-EVENTS+sales+item");
  CHECK(report.streams[0].settings.compression == "s2");
  CHECK(report.streams[0].subjects == 1);
  REQUIRE(report.complaints.size() == 1);
  CHECK(absl::StrContains(report.complaints.at("CIM-EVENTS+sales+order"), "replicas 1 -> 3 was refused"));
  // It can be used all the same.
  CHECK(Must(daemon.Save(Command(Order("1"), 1))).replicas == 1);
  Must(base::BlockOn(types.Refresh(TestRepository::In(20s))));
  CHECK(types.report().streams[1].messages == 2);
  CHECK(types.report().complaints.size() == 1);
}

TEST_CASE("A full stream refuses saves with the limit's name, and takes them when the limit is raised", "[types]") {
  const auto nats = Must(NatsServer::Start({}));
  const std::string data(10'000, 'x');
  const auto save = [&](TestRepository& daemon) {
    SaveCommand command = Command(Order("1"), std::nullopt, 0);
    command.events.push_back(NewEvent("happened", data));
    return daemon.Save(std::move(command));
  };
  uint64_t stored = 0;
  {
    TestRepository daemon(nats->url(), Declaring({{kOrder, {.max_bytes = 50'000}}}));
    absl::StatusOr<SaveResult> saved = save(daemon);
    while (saved.ok()) {
      ++stored;
      REQUIRE(stored < 5);
      saved = save(daemon);
    }
    INFO(saved.status());
    REQUIRE(domain::HasReason(saved.status(), pb::ERROR_REASON_STORAGE_FULL));
    const pb::ErrorDetail detail = *domain::GetErrorDetail(saved.status());
    CHECK(detail.limit().limit() == 50'000);
    CHECK(detail.limit().name() == "bytes of stream CIM-EVENTS+sales+order");
    CHECK(detail.limit().config_key() == "repository.stream.max_bytes");
    CHECK(Must(daemon.Load(Order("1"))).info.version == stored);
  }
  TestRepository daemon(nats->url(), Declaring({{kOrder, {.max_bytes = 500'000}}}));
  Must(base::BlockOn(daemon.repository().types()->Refresh(TestRepository::In(20s))));
  CHECK(Must(save(daemon)).info.version == stored + 1);
}

}  // namespace
}  // namespace persistd::repository
