// Commits of several aggregates, deletion, and group commit, over a real nats-server.

#include <atomic>
#include <set>
#include <string>
#include <vector>

#include "server/domain/errors.h"
#include "server/domain/subject.h"
#include "server/jetstream/event_codec.h"
#include "server/jetstream/reader.h"
#include "tests/server/repository/repository_fixture.h"
#include "tests/testing/catch.h"
#include "tests/testing/must.h"
#include "tests/testing/nats_server.h"

namespace persistd::repository {
namespace {

namespace pb = cim::persistence::v1;
using testing::Must;
using testing::NatsServer;

Check Expect(const std::string& id, uint64_t version) {
  return {.ref = Order(id), .expectation = {.kind = Expectation::Kind::kExact, .version = version}};
}

absl::StatusOr<SaveAllResult> SaveAll(TestRepository& repository, SaveAllCommand command) {
  return base::BlockOn(repository.repository().SaveAll(std::move(command), TestRepository::In(20s)));
}

SaveCommand Deletion(const std::string& id, std::optional<uint64_t> expected = std::nullopt) {
  SaveCommand command = Command(Order(id), expected);
  command.events.front().event.type = domain::kDeletedType;
  command.events.front().event.payload = {};
  command.tombstone = true;
  return command;
}

TEST_CASE("SaveAll saves all aggregates, and a repeat of it saves nothing", "[repository]") {
  TestRepository repository(Nats().url());
  SaveAllCommand command;
  command.request_id = FreshId();
  command.saves = {Command(Order("all 1"), 0, 2), Command(Order("all 2"), 0, 1),
                   Command(Order("all 3"), std::nullopt, 3)};
  command.saves[1].state = NewState{.schema_version = 1, .payload = {.content_type = "text/plain", .data = "two"}};
  command.checks = {Expect("all none", 0)};
  const SaveAllResult saved = Must(SaveAll(repository, command));
  REQUIRE(saved.results.size() == 3);
  REQUIRE(saved.results[0].info.version == 2);
  REQUIRE(saved.results[2].info.version == 3);
  REQUIRE(saved.results[1].state == StateResult::kWritten);
  REQUIRE_FALSE(saved.deduplicated);

  // Also by a daemon that has nothing in its memory.
  TestRepository other(Nats().url());
  for (TestRepository* again : {&repository, &other}) {
    const SaveAllResult repeated = Must(SaveAll(*again, command));
    REQUIRE(repeated.deduplicated);
    REQUIRE(repeated.commit_id == saved.commit_id);
    for (size_t i = 0; i < 3; ++i) {
      REQUIRE(repeated.results[i].info.version == saved.results[i].info.version);
      REQUIRE(repeated.results[i].events.back().position == saved.results[i].events.back().position);
    }
  }
  REQUIRE(Must(other.Load(Order("all 2"))).state->payload.data == "two");
  REQUIRE(Must(other.Load(Order("all 3"))).events.size() == 3);
  // Later saves continue each of them.
  REQUIRE(Must(other.Save(Command(Order("all 1"), 2))).info.version == 3);
  REQUIRE(Must(repository.Save(Command(Order("all 1"), 3))).info.version == 4);
}

TEST_CASE("SaveAll stores nothing and names everything that is not as expected", "[repository]") {
  TestRepository repository(Nats().url());
  TestRepository other(Nats().url());
  Must(repository.Save(Command(Order("checked 1"), 0, 2)));
  Must(repository.Save(Command(Order("checked 2"), 0, 1)));
  // This daemon's memory of the second is stale.
  Must(other.Save(Command(Order("checked 2"), 1)));
  SaveAllCommand command;
  command.saves = {Command(Order("checked 3"), 0), Command(Order("checked 1"), 1)};
  command.checks = {Expect("checked 2", 1), Expect("checked 4", 0)};
  const absl::Status refused = SaveAll(repository, command).status();
  REQUIRE(domain::HasReason(refused, pb::ERROR_REASON_VERSION_CONFLICT));
  const pb::ErrorDetail detail = *domain::GetErrorDetail(refused);
  REQUIRE(detail.failed_checks_size() >= 1);
  REQUIRE(detail.failed_checks(0).ref().entity_id() == "checked 1");
  REQUIRE(detail.failed_checks(0).conflict().actual_version() == 2);
  command.saves[1] = Command(Order("checked 1"), 2);
  const absl::Status stale = SaveAll(repository, command).status();
  REQUIRE(domain::GetErrorDetail(stale)->failed_checks(0).ref().entity_id() == "checked 2");
  REQUIRE(domain::GetErrorDetail(stale)->failed_checks(0).conflict().actual_version() == 2);
  REQUIRE(domain::HasReason(repository.Load(Order("checked 3")).status(), pb::ERROR_REASON_AGGREGATE_NOT_FOUND));
  command.checks[0] = Expect("checked 2", 2);
  REQUIRE(Must(SaveAll(repository, command)).results.size() == 2);
}

TEST_CASE("SaveAll refuses aggregates of several streams, and one aggregate twice", "[repository]") {
  TestRepository repository(Nats().url());
  SaveAllCommand command;
  command.saves = {Command(Order("here"), 0),
                   Command({.context = "sales", .aggregate = "basket", .entity_id = "b"}, 0)};
  const absl::Status elsewhere = SaveAll(repository, command).status();
  REQUIRE(domain::GetErrorDetail(elsewhere)->field_violation().field() == "saves[1].ref");
  command.saves[1] = Command(Order("here"), 0);
  REQUIRE(domain::HasReason(SaveAll(repository, command).status(), pb::ERROR_REASON_INVALID_FIELD));
}

TEST_CASE("A commit of several aggregates that is torn counts for none of them", "[repository]") {
  TestRepository repository(Nats().url());
  Must(repository.Save(Command(Order("torn a"), 0)));
  // What a power cut leaves of a commit of two: the first message, whose own part is complete.
  domain::RecordedEvent event;
  event.ref = Order("torn a");
  event.version = 2;
  event.event_id = "e";
  event.type = "happened";
  event.commit_id = FreshId();
  event.time = event.recorded_time = base::Clock::System().WallNow();
  event.group_place = 1;
  event.group_size = 2;
  jetstream::Reader reader(&repository.writes());
  const std::string stream = "CIM-EVENTS+sales+order";
  const auto last = Must(base::BlockOn(
      reader.Last(stream, domain::EventFilter(event.ref), jetstream::ReadFrom::kLeader, TestRepository::In(20s))));
  jetstream::DecodedEvent before = Must(jetstream::DecodeEvent(*last));
  const domain::AggregateLabels labels;
  const jetstream::OutgoingMessage message = jetstream::EncodeEvent(
      event,
      jetstream::NextPointers(1, {.in_batch = false, .number = last->sequence}, jetstream::ToPlaces(before.pointers)),
      0, &labels);
  base::BlockOn([](jetstream::Connection& writes, jetstream::OutgoingMessage torn) -> base::Task<bool> {
    base::Future<absl::StatusOr<jetstream::Message>> answer = writes.Request(torn, TestRepository::In(20s));
    co_return (co_await answer).ok();
  }(repository.writes(), message));

  TestRepository fresh(Nats().url());
  REQUIRE(Must(fresh.Load(event.ref)).info.version == 1);
  REQUIRE(Must(fresh.Save(Command(event.ref, 1))).info.version == 2);
  REQUIRE(Must(fresh.Load(event.ref)).events.size() == 2);
}

TEST_CASE("A deleted aggregate is continued only by its exact version", "[repository]") {
  TestRepository repository(Nats().url());
  const domain::AggregateRef ref = Order("deleted");
  REQUIRE(domain::HasReason(repository.Save(Deletion("deleted")).status(), pb::ERROR_REASON_AGGREGATE_NOT_FOUND));
  Must(repository.Save(Command(ref, 0, 2)));
  REQUIRE(domain::HasReason(repository.Save(Deletion("deleted", 1)).status(), pb::ERROR_REASON_VERSION_CONFLICT));
  SaveCommand deletion = WithId(Deletion("deleted", 2), FreshId());
  const SaveResult deleted = Must(repository.Save(deletion));
  REQUIRE(deleted.info.version == 3);
  REQUIRE(deleted.info.deleted);
  REQUIRE(Must(repository.Save(deletion)).deduplicated);

  TestRepository other(Nats().url());
  for (TestRepository* daemon : {&repository, &other}) {
    for (const std::optional<uint64_t> expected : {std::optional<uint64_t>(), std::optional<uint64_t>(0)}) {
      const absl::Status refused = daemon->Save(Command(ref, expected)).status();
      REQUIRE(domain::HasReason(refused, pb::ERROR_REASON_AGGREGATE_DELETED));
      REQUIRE(domain::GetErrorDetail(refused)->version_conflict().actual_version() == 3);
    }
    REQUIRE(domain::HasReason(daemon->Save(Command(ref, 2)).status(), pb::ERROR_REASON_VERSION_CONFLICT));
    const absl::Status again = daemon->Save(Deletion("deleted")).status();
    REQUIRE(domain::HasReason(again, pb::ERROR_REASON_AGGREGATE_NOT_FOUND));
    REQUIRE(domain::GetErrorDetail(again)->deleted());
  }
  const SaveResult undeleted = Must(other.Save(Command(ref, 3)));
  REQUIRE(undeleted.info.version == 4);
  REQUIRE_FALSE(undeleted.info.deleted);
  HistoryQuery query;
  query.ref = ref;
  REQUIRE(Must(repository.History(query)).size() == 4);
}

// Starts saves and waits for all: how several callers at once look to the repository.
std::vector<absl::StatusOr<SaveResult>> SaveAtOnce(TestRepository& repository, std::vector<SaveCommand> commands) {
  using Result = absl::StatusOr<SaveResult>;
  std::vector<base::Future<Result>> futures;
  for (SaveCommand& command : commands) {
    base::Promise<Result> promise;
    futures.push_back(promise.future());
    base::Spawn([](base::Task<Result> save, base::Promise<Result> done) -> base::Task<void> {
      Result result = co_await save;
      done.TrySet(std::move(result));
    }(repository.repository().Save(std::move(command), TestRepository::In(20s)), promise));
  }
  std::vector<Result> results;
  for (base::Future<Result>& future : futures) {
    results.push_back(base::BlockOn(
        [](base::Future<Result> one) -> base::Task<Result> { co_return co_await one; }(std::move(future))));
  }
  return results;
}

RepositoryOptions Grouping() {
  RepositoryOptions options;
  options.storage.commit.group_single = [](const jetstream::Stream&) { return true; };
  return options;
}

TEST_CASE("Saves that leave together succeed and fail each for itself", "[repository]") {
  TestRepository repository(Nats().url(), Grouping());
  TestRepository other(Nats().url());
  std::vector<SaveCommand> commands;
  for (int i = 0; i < 300; ++i) {
    const std::string id = "together " + std::to_string(i);
    Must(repository.Save(Command(Order(id), 0)));
    // This daemon's memory of every tenth is stale.
    if (i % 10 == 0) Must(other.Save(Command(Order(id), 1)));
    commands.push_back(Command(Order(id), i % 7 == 0 ? 0 : 1, i % 3 + 1));
  }
  const std::vector<absl::StatusOr<SaveResult>> results = SaveAtOnce(repository, commands);
  for (size_t i = 0; i < results.size(); ++i) {
    INFO(i << " " << results[i].status());
    const uint64_t actual = i % 10 == 0 ? 2 : 1;
    if (i % 10 == 0 || i % 7 == 0) {
      REQUIRE(domain::HasReason(results[i].status(), pb::ERROR_REASON_VERSION_CONFLICT));
      REQUIRE(domain::GetErrorDetail(results[i].status())->version_conflict().actual_version() == actual);
    } else {
      REQUIRE(results[i].ok());
      REQUIRE(results[i]->info.version == 2 + i % 3);
    }
    REQUIRE(Must(other.Info(commands[i].ref)).version == (results[i].ok() ? 2 + i % 3 : actual));
  }
}

TEST_CASE("Saves of one aggregate that leave together get versions of their own", "[repository]") {
  TestRepository repository(Nats().url(), Grouping());
  std::vector<SaveCommand> commands;
  for (int i = 0; i < 50; ++i) commands.push_back(WithId(Command(Order("hot"), std::nullopt, 2), FreshId()));
  const std::vector<absl::StatusOr<SaveResult>> results = SaveAtOnce(repository, commands);
  std::set<uint64_t> versions;
  for (const absl::StatusOr<SaveResult>& result : results) versions.insert(Must(result).info.version);
  REQUIRE(versions.size() == 50);
  REQUIRE(*versions.rbegin() == 100);
  REQUIRE(Must(repository.Load(Order("hot"))).events.size() == 100);
}

TEST_CASE("A save that is too large for the server fails alone", "[repository]") {
  const auto nats = Must(NatsServer::Start({}));
  TestRepository repository(nats->url(), Grouping());
  std::vector<SaveCommand> commands;
  for (int i = 0; i < 40; ++i) commands.push_back(Command(Order("size " + std::to_string(i)), 0));
  commands[17].events.front().event.payload.data = std::string(2 << 20, 'x');
  const std::vector<absl::StatusOr<SaveResult>> results = SaveAtOnce(repository, commands);
  for (size_t i = 0; i < results.size(); ++i) {
    INFO(i << " " << results[i].status());
    REQUIRE(results[i].ok() == (i != 17));
  }
}

}  // namespace
}  // namespace persistd::repository
