// A stream that ends inside a save. JetStream's batches are atomic, but without `sync_interval: always` a power cut can
// leave the first part of one. Such a save was never acknowledged: nobody sees it, and the next save steps over it.

#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/domain/errors.h"
#include "tests/fault/torn.h"
#include "tests/testing/catch.h"

namespace persistd::fault {
namespace {

namespace pb = cim::persistence::v1;
using namespace std::chrono_literals;  // NOLINT(google-build-using-namespace): literals only.
using domain::HasReason;
using repository::Command;
using repository::Event;
using repository::FreshId;
using repository::HistoryQuery;
using repository::LoadResult;
using repository::Nats;
using repository::SaveCommand;
using repository::SaveResult;
using repository::TestRepository;
using repository::WithId;
using testing::Must;

// Alone in a stream of its own.
domain::AggregateRef Fresh() {
  static int count = 0;
  return {.context = "torn", .aggregate = absl::StrCat("type", ++count), .entity_id = "1"};
}

// Every way of reading tells of versions 1 to `version` and nothing more.
void RequireVersion(TestRepository& repository, const domain::AggregateRef& ref, uint64_t version) {
  const LoadResult loaded = Must(repository.Load(ref));
  REQUIRE(loaded.info.version == version);
  REQUIRE(Must(repository.Load(ref, repository::Consistency::kCached)).info.version == version);
  REQUIRE(Must(repository.Info(ref)).version == version);
  REQUIRE(Must(repository.LoadAsOf(ref, base::Clock::System().WallNow() + 1min)).info.version == version);
  REQUIRE(HasReason(repository.LoadVersion(ref, version + 1).status(), pb::ERROR_REASON_VERSION_NOT_FOUND));
  REQUIRE(Must(repository.LoadVersion(ref, version)).events.size() == version);
  for (const bool reverse : {false, true}) {
    HistoryQuery query;
    query.ref = ref;
    query.reverse = reverse;
    const std::vector<Event> history = Must(repository.History(query));
    REQUIRE(history.size() == version);
    for (size_t i = 0; i < history.size(); ++i) {
      REQUIRE(history[i].event.version == (reverse ? version - i : i + 1));
      REQUIRE(history[i].event.type == "happened");
    }
  }
}

// A save that is to be torn. Its events are of a type that nobody may ever see.
SaveCommand Torn(const domain::AggregateRef& ref, size_t events) {
  SaveCommand command = WithId(Command(ref, std::nullopt, events), FreshId());
  for (repository::SaveEvent& event : command.events) event.event.type = "torn";
  return command;
}

TEST_CASE("A torn save is not shown by any read, and the next save continues before it", "[fault]") {
  const size_t stored = GENERATE(1u, 3u);
  TestRepository knows(Nats().url());
  TestRepository fresh(Nats().url());
  const auto ref = Fresh();
  Must(knows.Save(Command(ref, 0, 2)));
  Must(knows.Save(Command(ref, 2)));
  PublishTorn(knows, Torn(ref, 4), stored);
  RequireVersion(knows, ref, 3);
  RequireVersion(fresh, ref, 3);
  // `knows` still remembers the head from before the torn save.
  const bool exact = GENERATE(true, false);
  TestRepository& saver = GENERATE(true, false) ? knows : fresh;
  const SaveResult saved = Must(saver.Save(Command(ref, exact ? std::optional<uint64_t>(3) : std::nullopt, 2)));
  REQUIRE(saved.info.version == 5);
  REQUIRE(saved.events[0].version == 4);
  RequireVersion(knows, ref, 5);
  RequireVersion(fresh, ref, 5);
  // Sequences 1 to 3 are the first saves; then comes the torn one.
  const jetstream::DecodedEvent last = LastComplete(fresh, ref).value();
  REQUIRE(last.pointers.back == std::vector<uint64_t>{3 + stored + 1, 3, 2, 1});
}

TEST_CASE("A stale expected version over a torn save is told the last complete version", "[fault]") {
  TestRepository repository(Nats().url());
  const auto ref = Fresh();
  Must(repository.Save(Command(ref, 0, 3)));
  PublishTorn(repository, Torn(ref, 4), 2);
  for (const uint64_t wrong : {0u, 2u, 4u, 5u, 7u}) {
    const absl::Status refused = repository.Save(Command(ref, wrong)).status();
    REQUIRE(HasReason(refused, pb::ERROR_REASON_VERSION_CONFLICT));
    REQUIRE(domain::GetErrorDetail(refused)->version_conflict().actual_version() == 3);
  }
  REQUIRE(Must(repository.Save(Command(ref, 3))).info.version == 4);
}

TEST_CASE("A torn save that is repeated with its request id is stored whole and once", "[fault]") {
  const bool exact = GENERATE(true, false);
  TestRepository repository(Nats().url());
  TestRepository other(Nats().url());
  const auto ref = Fresh();
  Must(repository.Save(Command(ref, 0, 3)));
  SaveCommand command = WithId(Command(ref, exact ? std::optional<uint64_t>(3) : std::nullopt, 4), FreshId());
  PublishTorn(repository, command, 2);
  const SaveResult stored = Must(repository.Save(command));
  REQUIRE_FALSE(stored.deduplicated);
  REQUIRE(stored.info.version == 7);
  for (TestRepository* again : {&repository, &other}) {
    const SaveResult repeated = Must(again->Save(command));
    REQUIRE(repeated.deduplicated);
    REQUIRE(repeated.info.version == 7);
    REQUIRE(repeated.events[0].position == stored.events[0].position);
  }
  RequireVersion(other, ref, 7);
}

TEST_CASE("An aggregate whose first save is torn does not exist, and can be created", "[fault]") {
  TestRepository repository(Nats().url());
  const auto ref = Fresh();
  // Only a save makes the stream.
  domain::AggregateRef neighbour = ref;
  neighbour.entity_id = "neighbour";
  Must(repository.Save(Command(neighbour, 0)));
  PublishTorn(repository, Torn(ref, 3), 2);
  REQUIRE(HasReason(repository.Load(ref).status(), pb::ERROR_REASON_AGGREGATE_NOT_FOUND));
  REQUIRE(HasReason(repository.Info(ref).status(), pb::ERROR_REASON_AGGREGATE_NOT_FOUND));
  REQUIRE(HasReason(repository.LoadVersion(ref, 1).status(), pb::ERROR_REASON_AGGREGATE_NOT_FOUND));
  HistoryQuery query;
  query.ref = ref;
  REQUIRE(HasReason(repository.History(query).status(), pb::ERROR_REASON_AGGREGATE_NOT_FOUND));
  SaveCommand must_exist = Command(ref, std::nullopt);
  must_exist.expectation.kind = repository::Expectation::Kind::kMustExist;
  const absl::Status refused = repository.Save(must_exist).status();
  REQUIRE(HasReason(refused, pb::ERROR_REASON_VERSION_CONFLICT));
  REQUIRE(domain::GetErrorDetail(refused)->version_conflict().actual_version() == 0);
  const SaveResult saved = Must(repository.Save(Command(ref, 0, 2)));
  REQUIRE(saved.events[0].version == 1);
  RequireVersion(repository, ref, 2);
  REQUIRE(LastComplete(repository, ref)->pointers.back.size() == 1);
}

TEST_CASE("Two torn saves in a row are stepped over together", "[fault]") {
  TestRepository repository(Nats().url());
  const auto ref = Fresh();
  Must(repository.Save(Command(ref, 0, 2)));
  PublishTorn(repository, Torn(ref, 5), 3);
  PublishTorn(repository, Torn(ref, 2), 1);
  RequireVersion(repository, ref, 2);
  REQUIRE(Must(repository.Save(Command(ref, 2, 3))).info.version == 5);
  RequireVersion(repository, ref, 5);
  // And one more, behind a save that stepped over two.
  PublishTorn(repository, Torn(ref, 9), 8);
  RequireVersion(repository, ref, 5);
  REQUIRE(Must(repository.Save(Command(ref, std::nullopt))).info.version == 6);
  RequireVersion(repository, ref, 6);
  REQUIRE(LastComplete(repository, ref)->pointers.back == std::vector<uint64_t>{9, 8, 7, 2, 1});
}

TEST_CASE("A torn save longer than an event's back-pointers is stepped over, also across skip pointers", "[fault]") {
  // Versions before the torn save; it reaches past version 1024, to which skip pointers lead.
  const uint64_t before = GENERATE(1u, 1000u);
  TestRepository repository(Nats().url());
  const auto ref = Fresh();
  for (uint64_t version = 0; version < before;) {
    const uint64_t count = std::min<uint64_t>(500, before - version);
    Must(repository.Save(Command(ref, version, count)));
    version += count;
  }
  PublishTorn(repository, Torn(ref, 100), 99);
  TestRepository fresh(Nats().url());
  RequireVersion(fresh, ref, before);
  Must(fresh.Save(Command(ref, before, 70)));
  PublishTorn(repository, Torn(ref, 40), 39);
  RequireVersion(repository, ref, before + 70);
  Must(repository.Save(Command(ref, before + 70, 70)));
  RequireVersion(fresh, ref, before + 140);
}

}  // namespace
}  // namespace persistd::fault
