// The local index over a real nats-server, filled by repositories as several daemons would.
#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/domain/errors.h"
#include "server/domain/subject.h"
#include "server/index/database.h"
#include "server/index/follower.h"
#include "server/jetstream/api.h"
#include "tests/fault/torn.h"
#include "tests/server/repository/repository_fixture.h"
#include "tests/testing/catch.h"
#include "tests/testing/must.h"
#include "tests/testing/nats_server.h"
#include "tests/testing/poll.h"
#include "tests/testing/temp_dir.h"

namespace persistd::index {
namespace {

namespace pb = cim::persistence::v1;
using ::persistd::testing::Must;
using ::persistd::testing::NatsServer;
using ::persistd::testing::PollUntil;
using ::persistd::testing::TempDir;
using repository::Command;
using repository::Order;
using repository::TestRepository;
using std::chrono_literals::operator""s;
using std::chrono_literals::operator""ms;

// A daemon's index: a connection of its own, and the file of `dir`.
class Daemon {
 public:
  Daemon(const std::string& url, const TempDir& dir) : connection_(To(url), AnyServer, &executor_) {
    connection_.Start();
    Follower::Options options;
    options.path = dir.File("index.db");
    options.tails = {.event_stream_name = "CIM-EVENTS", .look_every = 100ms, .heartbeat = 300ms};
    follower_ = std::make_unique<Follower>(std::move(options), &connection_, &executor_,
                                           [](const Entry&, const jetstream::Message&) {});
    Must(follower_->Open());
    follower_->Start();
  }
  ~Daemon() {
    follower_->Stop();
    connection_.Stop();
    executor_.Stop();
  }

  absl::StatusOr<ListPage> List(ListQuery query, std::chrono::milliseconds timeout = 20s) {
    return base::BlockOn(follower_->index().List(std::move(query), TestRepository::In(timeout)));
  }
  // Entities of all pages, waiting for `at_least`.
  std::vector<std::string> Entities(ListQuery query) {
    std::vector<std::string> entities;
    while (true) {
      ListPage page = Must(List(query));
      for (const repository::AggregateInfo& info : page.aggregates) entities.push_back(info.ref.entity_id);
      if (page.next_page_token.empty()) return entities;
      REQUIRE(page.aggregates.size() == static_cast<size_t>(query.page_size));
      query.page_token = page.next_page_token;
    }
  }
  std::optional<uint64_t> Hint(const domain::AggregateRef& ref, const std::string& id) {
    return base::BlockOn(follower_->index().FirstVersion(ref, id, TestRepository::In(5s)));
  }
  Follower& follower() { return *follower_; }

 private:
  static jetstream::ConnectOptions To(const std::string& url) {
    jetstream::ConnectOptions options;
    options.urls = {url};
    return options;
  }
  static absl::Status AnyServer(jetstream::RawConnection&) { return absl::OkStatus(); }

  base::Executor executor_{"test"};
  jetstream::Connection connection_;
  std::unique_ptr<Follower> follower_;
};

domain::Position Save(TestRepository& repository, repository::SaveCommand command) {
  return Must(repository.Save(std::move(command))).info.position;
}

ListQuery AtLeast(const domain::Position& position, ListQuery query = {}) {
  query.at_least = position;
  return query;
}

using Names = std::vector<std::string>;

TEST_CASE("A list shows what was saved, with versions, tags, metadata and positions", "[index]") {
  const auto nats = Must(NatsServer::Start({}));
  const TempDir dir;
  TestRepository repository(nats->url());
  Daemon daemon(nats->url(), dir);
  repository::SaveCommand command = Command(Order("a"), 0, 3);
  command.tags = std::vector<std::string>{"vip", "new"};
  command.metadata = domain::CustomMetadata{{"region", "eu"}};
  Save(repository, command);
  const domain::Position position = Save(repository, Command(Order("b"), 0));
  const ListPage page = Must(daemon.List(AtLeast(position)));
  REQUIRE(page.aggregates.size() == 2);
  const repository::AggregateInfo& a = page.aggregates[0];
  const repository::AggregateInfo known = Must(repository.Info(Order("a")));
  CHECK(a.ref == Order("a"));
  CHECK(a.version == 3);
  CHECK(a.tags == known.tags);
  CHECK(a.metadata == known.metadata);
  CHECK(a.last_modified == known.last_modified);
  CHECK(a.position == known.position);
  CHECK(page.position == position);
  CHECK(page.next_page_token.empty());
}

TEST_CASE("Named chains are listed for who asks for them", "[index]") {
  const auto nats = Must(NatsServer::Start({}));
  const TempDir dir;
  TestRepository repository(nats->url());
  Daemon daemon(nats->url(), dir);
  Save(repository, Command(Order("a"), 0));
  domain::Position position;
  for (uint64_t expected = 0; expected < 2; ++expected) {
    repository::SaveCommand append = Command(domain::ChainRef("audit"), expected);
    append.events.front().event.type = domain::kChainEntryType;
    position = Save(repository, std::move(append));
  }
  ListQuery query = AtLeast(position);
  CHECK(daemon.Entities(query) == std::vector<std::string>{"a"});
  query.with_chains = true;
  const ListPage page = Must(daemon.List(query));
  REQUIRE(page.aggregates.size() == 2);
  CHECK(page.aggregates[1].ref == domain::ChainRef("audit"));
  CHECK(page.aggregates[1].version == 2);
  CHECK(page.aggregates[1].head_cid == Must(repository.Info(domain::ChainRef("audit"))).head_cid);
}

TEST_CASE("Pages in every order hold each aggregate once", "[index]") {
  const auto nats = Must(NatsServer::Start({}));
  const TempDir dir;
  TestRepository repository(nats->url());
  Daemon daemon(nats->url(), dir);
  domain::Position last;
  for (int i = 0; i < 23; ++i) {
    domain::AggregateRef ref{.context = i % 3 == 0 ? "sales" : "stock",
                             .aggregate = i % 2 == 0 ? "order" : "item",
                             .entity_id = absl::StrCat("e", i)};
    last = Save(repository, Command(ref, 0, static_cast<size_t>(1 + i % 4)));
  }
  REQUIRE(daemon.Entities(AtLeast(last, {.page_size = 1000})).size() == 23);
  for (const char* order : {"", "entity_id desc", "version", "version desc", "last_modified", "last_modified desc"}) {
    for (const int size : {1, 2, 5, 22, 23}) {
      INFO(order << " " << size);
      std::vector<repository::AggregateInfo> all;
      ListQuery query{.order_by = order, .page_size = size};
      while (true) {
        const ListPage page = Must(daemon.List(query));
        all.insert(all.end(), page.aggregates.begin(), page.aggregates.end());
        if (page.next_page_token.empty()) break;
        query.page_token = page.next_page_token;
        REQUIRE(all.size() < 24);
      }
      REQUIRE(all.size() == 23);
      std::set<domain::AggregateRef> refs;
      for (const repository::AggregateInfo& info : all) refs.insert(info.ref);
      CHECK(refs.size() == 23);
      const std::string by = order;
      for (size_t i = 1; i < all.size(); ++i) {
        const auto& before = by.ends_with("desc") ? all[i] : all[i - 1];
        const auto& after = by.ends_with("desc") ? all[i - 1] : all[i];
        if (by.starts_with("version")) CHECK(before.version <= after.version);
        if (by.starts_with("last")) CHECK(before.last_modified <= after.last_modified);
        if (by.empty() || by.starts_with("entity")) CHECK(before.ref.entity_id <= after.ref.entity_id);
      }
    }
  }
  CHECK(daemon.Entities({.context = "sales", .aggregate = "item", .page_size = 2}).size() == 4);
}

TEST_CASE("Filters, tags and deleted aggregates select, and what is wrong is refused by name", "[index]") {
  const auto nats = Must(NatsServer::Start({}));
  const TempDir dir;
  TestRepository repository(nats->url());
  Daemon daemon(nats->url(), dir);
  repository::SaveCommand tagged = Command(Order("a"), 0);
  tagged.tags = std::vector<std::string>{"vip", "new"};
  Save(repository, tagged);
  Save(repository, Command(Order("b"), 0, 5));
  repository::SaveCommand gone = Command(Order("c"), 0);
  Save(repository, gone);
  repository::SaveCommand tombstone;
  tombstone.ref = Order("c");
  tombstone.expectation = {.kind = repository::Expectation::Kind::kExact, .version = 1};
  tombstone.events.push_back(repository::NewEvent("_deleted", ""));
  tombstone.events.back().event.payload = {};
  tombstone.tombstone = true;
  const domain::Position position = Save(repository, tombstone);

  CHECK(daemon.Entities(AtLeast(position, {.page_size = 9})) == Names{"a", "b"});
  CHECK(daemon.Entities({.page_size = 9, .show_deleted = true}) == Names{"a", "b", "c"});
  CHECK(daemon.Entities({.filter = "deleted = true", .page_size = 9, .show_deleted = true}) == Names{"c"});
  CHECK(daemon.Entities({.tags = {"vip"}, .page_size = 9}) == Names{"a"});
  CHECK(daemon.Entities({.tags = {"vip", "old"}, .page_size = 9}).empty());
  CHECK(daemon.Entities({.filter = "version > 4 OR tags:new", .page_size = 9}) == Names{"a", "b"});
  CHECK(daemon.Entities({.filter = "NOT tags:* AND entity_id = \"*b*\"", .page_size = 9}) == Names{"b"});
  CHECK(daemon.Entities({.filter = "last_modified > \"2100-01-01T00:00:00Z\"", .page_size = 9}).empty());
  CHECK(daemon.Entities({.filter = "context = sales aggregate != order", .page_size = 9}).empty());

  const auto refused = [&daemon](ListQuery query, absl::string_view field) {
    const absl::Status status = daemon.List(std::move(query)).status();
    INFO(status.ToString());
    CHECK(domain::HasReason(status, pb::ERROR_REASON_INVALID_FIELD));
    CHECK(domain::GetErrorDetail(status)->field_violation().field() == field);
  };
  refused({.filter = "nonsense = 1"}, "filter");
  refused({.order_by = "tags"}, "order_by");
  refused({.page_size = -1}, "page_size");
  refused({.page_token = "???"}, "page_token");
  refused({.context = "a b"}, "context");
  const std::string token = Must(daemon.List({.page_size = 1})).next_page_token;
  REQUIRE_FALSE(token.empty());
  refused({.filter = "version > 0", .page_size = 1, .page_token = token}, "page_token");
  CHECK(daemon.Entities({.page_size = 1, .page_token = token}) == Names{"b"});
}

TEST_CASE("A list is refused while the index is not there yet, and waits for a position no longer than it may",
          "[index]") {
  const auto nats = Must(NatsServer::Start({}));
  const TempDir dir;
  TestRepository repository(nats->url());
  const domain::Position position = Save(repository, Command(Order("a"), 0));
  domain::StreamPosition beyond = position.streams().front();
  beyond.sequence += 1;
  Daemon daemon(nats->url(), dir);
  CHECK(daemon.Entities(AtLeast(position, {.page_size = 9})) == Names{"a"});
  CHECK(domain::HasReason(daemon.List(AtLeast(domain::Position(beyond)), 300ms).status(),
                          pb::ERROR_REASON_INDEX_NOT_READY));
  nats->Kill9();
  const TempDir other;
  Daemon alone(nats->url(), other);
  CHECK(domain::HasReason(alone.List({}, 200ms).status(), pb::ERROR_REASON_INDEX_NOT_READY));
}

TEST_CASE("An index survives its daemon, and catches up", "[index]") {
  const auto nats = Must(NatsServer::Start({}));
  const TempDir dir;
  TestRepository repository(nats->url());
  domain::Position position = Save(repository, Command(Order("a"), 0, 2));
  {
    Daemon daemon(nats->url(), dir);
    CHECK(daemon.Entities(AtLeast(position, {.page_size = 9})) == Names{"a"});
  }
  Save(repository, Command(Order("a"), 2));
  position = Save(repository, Command(Order("b"), 0));
  Daemon daemon(nats->url(), dir);
  const ListPage page = Must(daemon.List(AtLeast(position)));
  REQUIRE(page.aggregates.size() == 2);
  CHECK(page.aggregates[0].version == 3);
  CHECK(page.position == position);
}

TEST_CASE("An index that is damaged, of another version or gone is built anew", "[index]") {
  const auto nats = Must(NatsServer::Start({}));
  const TempDir dir;
  TestRepository repository(nats->url());
  domain::Position position;
  for (int i = 0; i < 50; ++i) position = Save(repository, Command(Order(absl::StrCat("e", i)), 0));
  {
    Daemon daemon(nats->url(), dir);
    CHECK(daemon.Entities(AtLeast(position, {.page_size = 100})).size() == 50);
  }
  const std::string path = dir.File("index.db");
  SECTION("garbage instead of a database") {
    std::ofstream(path, std::ios::trunc) << "this is not a database, whatever it says, and it goes on for a while";
  }
  SECTION("garbage inside the database") {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    const auto size = std::filesystem::file_size(path);
    REQUIRE(size > 8192);
    file.seekp(5000);
    for (uintmax_t i = 5000; i < size; i += 8) file.write("garbage!", 8);
  }
  SECTION("cut short") { std::filesystem::resize_file(path, std::filesystem::file_size(path) / 2); }
  SECTION("another version") {
    auto database = Must(Database::Open({.path = path}));
    REQUIRE(database->Execute("PRAGMA user_version=99").ok());
  }
  SECTION("gone") { std::filesystem::remove(path); }
  Daemon daemon(nats->url(), dir);
  CHECK(daemon.Entities(AtLeast(position, {.page_size = 100})).size() == 50);
}

TEST_CASE("An index drops what came from a stream that was removed or replaced", "[index]") {
  const auto nats = Must(NatsServer::Start({}));
  const TempDir dir;
  TestRepository repository(nats->url());
  const domain::Position position = Save(repository, Command(Order("a"), 0));
  Save(repository, Command({.context = "stock", .aggregate = "item", .entity_id = "i"}, 0));
  auto daemon = std::make_unique<Daemon>(nats->url(), dir);
  CHECK(daemon->Entities(AtLeast(position, {.page_size = 9})) == Names{"a", "i"});
  const bool while_running = GENERATE(true, false);
  INFO(while_running);
  if (!while_running) daemon = nullptr;
  for (const char* stream : {"CIM-EVENTS+sales+order", "CIM-EVENTS+stock+item"}) {
    const std::string subject = absl::StrCat("$JS.API.STREAM.DELETE.", stream);
    REQUIRE(base::BlockOn(jetstream::CallApi(repository.writes(), subject, "", TestRepository::In(5s))).ok());
  }
  TestRepository later(nats->url());
  const domain::Position replaced = Save(later, Command(Order("b"), 0));
  if (daemon == nullptr) daemon = std::make_unique<Daemon>(nats->url(), dir);
  CHECK(daemon->Entities(AtLeast(replaced, {.aggregate = "order", .page_size = 9})) == Names{"b"});
  CHECK(PollUntil([&] { return daemon->Entities({.page_size = 9}) == Names{"b"}; }, 20s));
}

TEST_CASE("An index holds no torn save and no foreign message, and goes on behind them", "[index]") {
  const auto nats = Must(NatsServer::Start({}));
  const TempDir dir;
  TestRepository repository(nats->url());
  Save(repository, Command(Order("a"), 0, 2));
  Daemon daemon(nats->url(), dir);
  fault::PublishTorn(repository, repository::WithId(Command(Order("a"), 2, 3), repository::FreshId()), 2);
  jetstream::OutgoingMessage foreign;
  foreign.subject = "cim.events.sales.order.x.placed.v1";
  foreign.data = "not ours";
  repository::PublishRaw(repository.writes(), foreign);
  ListPage page = Must(daemon.List(AtLeast(Save(repository, Command(Order("b"), 0)))));
  REQUIRE(page.aggregates.size() == 2);
  CHECK(page.aggregates[0].version == 2);
  page = Must(daemon.List(AtLeast(Save(repository, Command(Order("a"), 2)))));
  CHECK(page.aggregates[0].version == 3);
  CHECK(page.aggregates.size() == 2);
  CHECK(daemon.follower().status().streams.at("CIM-EVENTS+sales+order").foreign_messages == 1);
}

TEST_CASE("An index whose daemon was killed in the middle goes on with what it had written", "[index]") {
  const auto nats = Must(NatsServer::Start({}));
  const TempDir dir;
  const TempDir killed;
  TestRepository repository(nats->url());
  Daemon daemon(nats->url(), dir);
  domain::Position position;
  for (int i = 0; i < 20; ++i) position = Save(repository, Command(Order(absl::StrCat("e", i)), 0));
  CHECK(daemon.Entities(AtLeast(position, {.page_size = 100})).size() == 20);
  // The files as they are while the daemon has them open, as a kill would leave them.
  REQUIRE(std::filesystem::exists(dir.File("index.db-wal")));
  for (const char* name : {"index.db", "index.db-wal"}) std::filesystem::copy(dir.File(name), killed.File(name));
  position = Save(repository, Command(Order("later"), 0));
  Daemon restarted(nats->url(), killed);
  CHECK(restarted.Entities(AtLeast(position, {.page_size = 100})).size() == 21);
}

TEST_CASE("An index goes on after nats-server was killed", "[index]") {
  const auto nats = Must(NatsServer::Start({}));
  const TempDir dir;
  TestRepository repository(nats->url());
  Daemon daemon(nats->url(), dir);
  domain::Position position = Save(repository, Command(Order("a"), 0));
  CHECK(daemon.Entities(AtLeast(position, {.page_size = 9})) == Names{"a"});
  nats->Kill9();
  REQUIRE(nats->Restart().ok());
  TestRepository later(nats->url());
  position = Save(later, Command(Order("b"), 0));
  CHECK(daemon.Entities(AtLeast(position, {.page_size = 9})) == Names{"a", "b"});
}

TEST_CASE("The index hints where saves with ids of their own form are", "[index]") {
  const auto nats = Must(NatsServer::Start({}));
  const TempDir dir;
  TestRepository repository(nats->url());
  Daemon daemon(nats->url(), dir);
  Save(repository, Command(Order("a"), 0, 2));
  Save(repository, repository::WithId(Command(Order("a"), 2, 3), "my own id"));
  const std::string uuid = repository::FreshId();
  const domain::Position position = Save(repository, repository::WithId(Command(Order("a"), 5), uuid));
  Must(daemon.List(AtLeast(position)));
  CHECK(daemon.Hint(Order("a"), "my own id") == 3u);
  CHECK_FALSE(daemon.Hint(Order("b"), "my own id").has_value());
  CHECK_FALSE(daemon.Hint(Order("a"), "another id").has_value());
  CHECK_FALSE(daemon.Hint(Order("a"), uuid).has_value());  // It carries its time, so it is not kept.
}

TEST_CASE("A repeated save with an id of its own form is recognised after 5,000 further events", "[index]") {
  const auto nats = Must(NatsServer::Start({}));
  const TempDir dir;
  TestRepository writer(nats->url());
  Daemon daemon(nats->url(), dir);
  Must(writer.Save(repository::WithId(Command(Order("a"), std::nullopt, 2), "my own id")));
  // A save with what must be the same content: the events of a command have ids and times of their own.
  repository::SaveCommand again = repository::WithId(Command(Order("a"), std::nullopt, 2), "my own id");
  for (repository::SaveEvent& event : again.events) event.has_event_id = event.has_time = false;
  domain::Position position;
  for (int i = 0; i < 10; ++i) position = Save(writer, Command(Order("a"), std::nullopt, 500));
  Must(daemon.List(AtLeast(position)));

  TestRepository without(nats->url());
  repository::SaveCommand dry = again;
  repository::RepositoryOptions options;
  options.hints = &daemon.follower().index();
  TestRepository with(nats->url(), options);
  const repository::SaveResult result = Must(with.Save(again));
  CHECK(result.deduplicated);
  REQUIRE(result.events.size() == 2);
  CHECK(result.events[0].version == 1);
  CHECK(Must(with.Info(Order("a"))).version == 5002);
  // An id that nobody used is not found by accident.
  CHECK_FALSE(Must(with.Save(repository::WithId(Command(Order("a"), std::nullopt), "a new id"))).deduplicated);
  // Without the hints it is not: this is what they are for.
  CHECK_FALSE(Must(without.Save(dry)).deduplicated);
}

TEST_CASE("What another daemon saves drops what a cache holds of it, and own saves drop nothing", "[index]") {
  const auto nats = Must(NatsServer::Start({}));
  const TempDir dir;
  TestRepository here(nats->url());
  TestRepository there(nats->url());
  base::Executor executor("test");
  jetstream::ConnectOptions to;
  to.urls = {nats->url()};
  jetstream::Connection connection(
      to, [](jetstream::RawConnection&) { return absl::OkStatus(); }, &executor);
  connection.Start();
  Follower::Options options;
  options.path = dir.File("index.db");
  options.tails = {.event_stream_name = "CIM-EVENTS", .look_every = 100ms, .heartbeat = 300ms};
  Follower follower(options, &connection, &executor,
                    [&here](const Entry& last, const jetstream::Message& message) {
                      here.repository().NoteSave(last.ref, last.version, message);
                    });
  Must(follower.Open());
  follower.Start();
  const auto wait = [&follower](const domain::Position& position) {
    ListQuery query;
    query.at_least = position;
    Must(base::BlockOn(follower.index().List(query, TestRepository::In(20s))));
  };
  const auto caches = [&here] { return here.repository().stats().caches; };

  domain::Position position = Save(here, Command(Order("a"), 0));
  position = Save(here, Command(Order("b"), 0));
  wait(position);
  Must(here.Load(Order("a"), repository::Consistency::kCached));
  CHECK(caches()["heads"].entries == 2);
  CHECK(caches()["heads"].outdated == 0);
  CHECK(caches()["loads"].entries == 1);

  wait(Save(there, Command(Order("a"), 1, 2)));
  CHECK(caches()["heads"].entries == 2);
  CHECK(caches()["heads"].outdated == 1);
  CHECK(caches()["loads"].entries == 0);
  CHECK(caches()["loads"].outdated == 1);
  CHECK(Must(here.Load(Order("a"), repository::Consistency::kCached)).info.version == 3);
  // The next save knows the head that the other daemon made, and goes on from it.
  const uint64_t hits = caches()["heads"].hits;
  CHECK(Must(here.Save(Command(Order("a"), 3))).info.version == 4);
  CHECK(caches()["heads"].hits == hits + 1);
  // Also that of an aggregate that this daemon never met.
  wait(Save(there, Command(Order("c"), 0, 2)));
  CHECK(caches()["heads"].entries == 3);
  CHECK(Must(here.Save(Command(Order("c"), 2))).info.version == 3);
  CHECK(caches()["heads"].hits == hits + 2);
  repository::HistoryQuery all;
  all.ref = Order("c");
  CHECK(Must(here.History(all)).size() == 3);

  follower.Stop();
  connection.Stop();
  executor.Stop();
}

}  // namespace
}  // namespace persistd::index
