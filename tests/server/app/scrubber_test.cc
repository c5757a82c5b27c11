// The scrubber over a real repository, with a list of what is there in place of the index.
#include "server/app/scrubber.h"

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "cim/persistence/v1/admin.pb.h"
#include "server/domain/errors.h"
#include "server/domain/subject.h"
#include "server/jetstream/api.h"
#include "tests/server/repository/repository_fixture.h"
#include "tests/server/repository/stream_rebuild.h"
#include "tests/testing/catch.h"
#include "tests/testing/must.h"
#include "tests/testing/poll.h"
#include "tests/testing/temp_dir.h"

namespace persistd::app {
namespace {

namespace pb = cim::persistence::v1;
using domain::AggregateRef;
using repository::Command;
using repository::Nats;
using repository::NewEvent;
using repository::SaveCommand;
using repository::StreamRebuild;
using repository::TestRepository;
using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""s;
using testing::Must;
using testing::PollUntil;
using testing::TempDir;

// Lists what was put into it, two to a page.
class FakeList final : public index::AggregateList {
 public:
  void Put(const repository::AggregateInfo& info) {
    base::MutexLock lock(mutex_);
    listed_[info.ref.entity_id] = info;
  }
  void Remove(const AggregateRef& ref) {
    base::MutexLock lock(mutex_);
    listed_.erase(ref.entity_id);
  }
  void FailWith(absl::Status status) {
    base::MutexLock lock(mutex_);
    failure_ = std::move(status);
  }
  std::vector<std::string> tokens() const {
    base::MutexLock lock(mutex_);
    return tokens_;
  }

  base::Task<absl::StatusOr<index::ListPage>> List(index::ListQuery query, base::SteadyTime) override {
    base::MutexLock lock(mutex_);
    tokens_.push_back(query.page_token);
    CHECK((query.show_deleted && query.with_chains));
    if (!failure_.ok()) co_return failure_;
    if (query.page_token == "old") co_return domain::InvalidField("page_token", "is not of this list");
    index::ListPage page;
    for (const auto& [id, info] : listed_) {
      if (id <= query.page_token) continue;
      if (page.aggregates.size() == 2) {
        page.next_page_token = page.aggregates.back().ref.entity_id;
        break;
      }
      page.aggregates.push_back(info);
    }
    co_return page;
  }

 private:
  mutable base::Mutex mutex_;
  std::map<std::string, repository::AggregateInfo> listed_ GUARDED_BY(mutex_);
  absl::Status failure_ GUARDED_BY(mutex_);
  std::vector<std::string> tokens_ GUARDED_BY(mutex_);
};

class World {
 public:
  World() {
    static int count = 0;
    type_ = "s" + std::to_string(++count);
  }

  AggregateRef Ref(std::string id) const {
    return {.context = "sales", .aggregate = type_, .entity_id = std::move(id)};
  }
  StreamRebuild stream() { return StreamRebuild(&repository_, "CIM-EVENTS+sales+" + type_); }

  repository::SaveResult Save(SaveCommand command) {
    repository::SaveResult result = Must(repository_.Save(std::move(command)));
    list.Put(result.info);
    return result;
  }

  // Of a type whose stream loses messages.
  AggregateRef Unsuitable(std::string id) const {
    return {.context = "sales", .aggregate = type_ + "x", .entity_id = std::move(id)};
  }
  void MakeUnsuitableStream() {
    const std::string body =
        absl::StrCat(R"({"name":"CIM-EVENTS+sales+)", type_, R"(x","subjects":["cim.events.sales.)", type_,
                     R"(x.>"],"discard":"old","max_msgs":10})");
    const auto made = Must(base::BlockOn(
        jetstream::CallApi(repository_.writes(), absl::StrCat("$JS.API.STREAM.CREATE.CIM-EVENTS+sales+", type_, "x"),
                           body, TestRepository::In(std::chrono::seconds(20)))));
    REQUIRE_FALSE(made.error.has_value());
  }

  void StartScrubber(uint64_t rate = 1'000'000) {
    StopScrubber();
    scrubber_ =
        std::make_unique<Scrubber>(Scrubber::Options{.rate = rate,
                                                     .path = dir_.File("scrubber.json"),
                                                     .pass_interval = 20ms,
                                                     .patience = 20ms,
                                                     .before_second_look = 10ms},
                                   &list, &repository_.repository(), &repository_.executor(), &base::Clock::System());
    scrubber_->Start();
  }
  void StopScrubber() { scrubber_ = nullptr; }
  pb::ScrubberInfo info() const { return scrubber_->info(); }

  // What is listed as damaged after all was verified once more from now on.
  pb::ScrubberInfo AfterAPass() {
    // The one that runs may have been past what the test has just changed.
    const uint64_t passes = info().passes() + 2;
    REQUIRE(PollUntil([&] { return info().passes() >= passes; }, 60s));
    return info();
  }

  FakeList list;

 private:
  TempDir dir_;
  TestRepository repository_{Nats().url()};
  std::string type_;
  std::unique_ptr<Scrubber> scrubber_;
};

TEST_CASE("All histories are verified again and again, and nothing is wrong with them", "[scrubber]") {
  World world;
  for (int i = 0; i < 5; ++i) world.Save(Command(world.Ref("a" + std::to_string(i)), 0, 3));
  SaveCommand append = Command(domain::ChainRef("audit"), 0);
  append.events.front().event.type = domain::kChainEntryType;
  world.Save(std::move(append));
  world.StartScrubber();
  const pb::ScrubberInfo info = world.AfterAPass();
  CHECK(info.events_per_second() == 1'000'000);
  CHECK(info.damaged().empty());
  CHECK(info.histories_verified() >= 2 * 6);
  CHECK(info.events_verified() >= 2 * 16);
  CHECK(info.events_without_cid() == 0);
  CHECK(info.histories_skipped() == 0);
  CHECK(info.has_last_pass_ended_at());
  CHECK(info.problem().empty());
}

TEST_CASE("Without a rate nothing is read", "[scrubber]") {
  World world;
  world.Save(Command(world.Ref("a"), 0));
  world.StartScrubber(0);
  world.StopScrubber();
  CHECK(world.list.tokens().empty());
}

TEST_CASE("What was altered is listed with the reason, until it is whole again", "[scrubber]") {
  World world;
  for (const char* id : {"a", "b", "c"}) world.Save(Command(world.Ref(id), 0, 3));
  const std::vector<jetstream::Message> whole = world.stream().ReadAll();
  std::vector<jetstream::Message> altered = whole;
  altered.at(4).data = "{\"n\":7}";
  world.stream().Replace(altered);

  world.StartScrubber();
  const pb::ScrubberInfo damaged = world.AfterAPass();
  REQUIRE(damaged.damaged_size() == 1);
  CHECK(damaged.damaged(0).aggregate().entity_id() == "b");
  CHECK(damaged.damaged(0).first_break().version() == 2);
  CHECK(damaged.damaged(0).first_break().reason() == pb::ChainBreak::REASON_PAYLOAD_ALTERED);
  CHECK_FALSE(damaged.damaged(0).first_break().expected().empty());
  CHECK_FALSE(damaged.damaged(0).first_break().position().token().empty());
  CHECK(damaged.damaged(0).has_found_at());

  // Another run of the daemon knows it from the start.
  world.StopScrubber();
  world.list.FailWith(absl::UnavailableError("not yet"));
  world.StartScrubber();
  CHECK(world.info().damaged_size() == 1);
  CHECK(world.info().passes() >= damaged.passes());
  CHECK(PollUntil([&] { return absl::StrContains(world.info().problem(), "not yet"); }, 60s));
  world.list.FailWith(absl::OkStatus());
  const pb::ScrubberInfo still = world.AfterAPass();
  REQUIRE(still.damaged_size() == 1);
  CHECK(still.damaged(0).found_at().seconds() == damaged.damaged(0).found_at().seconds());
  CHECK(still.problem().empty());

  world.stream().Replace(whole);
  CHECK(world.AfterAPass().damaged().empty());
}

TEST_CASE("A history whose end is gone, or all of it, is damaged as long as it is listed", "[scrubber]") {
  World world;
  for (const char* id : {"a", "b", "c"}) world.Save(Command(world.Ref(id), 0));
  const repository::SaveResult cut = world.Save(Command(world.Ref("b"), 1));
  std::vector<jetstream::Message> messages = world.stream().ReadAll();
  REQUIRE(messages.size() == 4);
  messages.pop_back();               // The second event of b,
  messages.erase(messages.begin());  // and the only one of a.
  world.stream().Replace(messages);

  world.StartScrubber();
  const pb::ScrubberInfo info = world.AfterAPass();
  REQUIRE(info.damaged_size() == 2);
  for (const pb::DamagedHistory& damaged : info.damaged()) {
    CHECK(damaged.first_break().reason() == pb::ChainBreak::REASON_TAIL_CUT);
  }
  CHECK(info.damaged(1).aggregate().entity_id() == "b");
  CHECK(info.damaged(1).first_break().expected() == cut.info.head_cid);

  world.list.Remove(world.Ref("a"));
  world.list.Remove(world.Ref("b"));
  CHECK(world.AfterAPass().damaged().empty());
}

TEST_CASE("The end of what is truncated, and of what has no CIDs, is missed as well", "[scrubber]") {
  World world;
  repository::SaveResult plain = world.Save(Command(world.Ref("a"), 0, 2));
  world.Save(Command(world.Ref("b"), 0));
  // As of a daemon that makes no CIDs.
  plain.info.head_cid.clear();
  world.list.Put(plain.info);
  world.StartScrubber();
  CHECK(world.AfterAPass().damaged().empty());
  plain.info.version = 3;
  world.list.Put(plain.info);
  const pb::ScrubberInfo info = world.AfterAPass();
  REQUIRE(info.damaged_size() == 1);
  CHECK(info.damaged(0).aggregate().entity_id() == "a");
  CHECK(info.damaged(0).first_break().reason() == pb::ChainBreak::REASON_TAIL_CUT);
  CHECK(info.damaged(0).first_break().version() == 3);
}

TEST_CASE("Histories that cannot be verified do not hold up the others", "[scrubber]") {
  World world;
  for (const char* id : {"a", "b", "c", "d", "e"}) world.Save(Command(world.Ref(id), 0));
  // Two on one page, of a stream that is not as it must be.
  for (const char* id : {"aa", "ab"}) {
    repository::AggregateInfo info;
    info.ref = world.Unsuitable(id);
    info.version = 1;
    world.list.Put(info);
  }
  world.MakeUnsuitableStream();
  world.StartScrubber();
  const pb::ScrubberInfo info = world.AfterAPass();
  CHECK(info.histories_skipped() >= 2);
  CHECK(info.damaged().empty());
}

TEST_CASE("It stops at once, however slowly it is to read, and goes on where it was", "[scrubber]") {
  World world;
  for (const char* id : {"a", "b", "c", "d", "e"}) world.Save(Command(world.Ref(id), 0, 600));
  world.StartScrubber(1);  // A history takes ten minutes.
  REQUIRE(PollUntil([&] { return !world.list.tokens().empty(); }, 60s));
  world.StopScrubber();

  world.StartScrubber(1500);
  REQUIRE(PollUntil([&] { return world.list.tokens().back() == "b"; }, 60s));
  world.StopScrubber();
  const size_t before = world.list.tokens().size();
  world.StartScrubber();
  REQUIRE(PollUntil([&] { return world.list.tokens().size() > before; }, 60s));
  CHECK(world.list.tokens().at(before) != "");
}

}  // namespace
}  // namespace persistd::app
