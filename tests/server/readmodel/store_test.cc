// The store over a real nats-server, used as several daemons would.
#include "server/readmodel/store.h"

#include <atomic>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cim/persistence/v1/errors.pb.h"
#include "server/domain/errors.h"
#include "tests/server/repository/repository_fixture.h"
#include "tests/testing/catch.h"
#include "tests/testing/must.h"
#include "tests/testing/nats_server.h"
#include "tests/testing/poll.h"

namespace persistd::readmodel {
namespace {

namespace pb = cim::persistence::v1;
using domain::Position;
using domain::ReadModelKey;
using repository::FreshId;
using repository::Nats;
using repository::TestRepository;
using std::chrono_literals::operator""s;
using testing::Must;
using testing::NatsServer;
using testing::PollUntil;

// The store of one daemon.
class Daemon {
 public:
  explicit Daemon(const std::string& url = Nats().url())
      : repository_(url),
        kv_({.bucket = "cim-read-models"}, &repository_.writes(), &repository_.writes(), &repository_.executor()),
        store_(&kv_, &repository_.writes(), &repository_.executor(), {.max_load_bytes = 4u << 20}) {}

  absl::StatusOr<std::vector<Written>> SaveAll(std::vector<Write> writes, std::string request_id = FreshId()) {
    return base::BlockOn(store_.Save({.writes = std::move(writes), .request_id = std::move(request_id)}, In()));
  }
  absl::StatusOr<Written> Save(Write write, std::string request_id = FreshId()) {
    const auto written = SaveAll({std::move(write)}, std::move(request_id));
    if (!written.ok()) return written.status();
    return written->front();
  }
  absl::StatusOr<ReadModel> Get(const ReadModelKey& key) { return base::BlockOn(store_.Get(key, In())); }
  absl::StatusOr<std::vector<std::optional<ReadModel>>> GetMany(std::vector<ReadModelKey> keys) {
    return base::BlockOn(store_.GetMany(std::move(keys), In()));
  }
  absl::StatusOr<ListPage> List(ListQuery query) { return base::BlockOn(store_.List(std::move(query), In())); }
  // Ids of all pages.
  std::vector<std::string> Ids(ListQuery query) {
    std::vector<std::string> ids;
    do {
      ListPage page = Must(List(query));
      for (const ReadModel& model : page.read_models) ids.push_back(model.key.id);
      query.after = page.next;
    } while (!query.after.empty());
    return ids;
  }

 private:
  static base::SteadyTime In() { return TestRepository::In(60s); }

  TestRepository repository_;
  jetstream::Kv kv_;
  Store store_;
};

std::string FreshType() {
  static int count = 0;
  return absl::StrCat("t", ++count);
}

Position At(uint64_t sequence, const std::string& stream = "S", uint64_t incarnation = 1) {
  return Position({.stream = stream, .incarnation = incarnation, .sequence = sequence});
}

Write To(const ReadModelKey& key, const std::string& data, Position source = Position()) {
  Write write;
  write.key = key;
  write.payload = domain::Payload{.content_type = "application/json", .data = data};
  write.source = std::move(source);
  return write;
}

Write Deletion(const ReadModelKey& key, Position source = Position()) {
  Write write;
  write.key = key;
  write.source = std::move(source);
  return write;
}

pb::ErrorReason ReasonOf(const absl::Status& status) {
  const auto detail = domain::GetErrorDetail(status);
  return detail.has_value() ? detail->reason() : pb::ERROR_REASON_UNSPECIFIED;
}

TEST_CASE("A read model is returned as it was written, to every daemon", "[store]") {
  Daemon one;
  Daemon other;
  const ReadModelKey key{.type = FreshType(), .id = "electronics.42"};
  CHECK(ReasonOf(one.Get(key).status()) == pb::ERROR_REASON_READ_MODEL_NOT_FOUND);
  Write write = To(key, "{\"n\":1}", At(7));
  write.schema_version = 3;
  const Written written = Must(one.Save(write));
  CHECK_FALSE(written.existed);
  const ReadModel model = Must(other.Get(key));
  CHECK(model.key == key);
  CHECK(model.payload == *write.payload);
  CHECK(model.schema_version == 3);
  CHECK(model.source == At(7));
  CHECK(model.revision == written.revision);
  CHECK_FALSE(model.expires.has_value());
  const Written second = Must(other.Save(To(key, "{\"n\":2}")));
  CHECK(second.existed);
  CHECK(second.revision > written.revision);
  CHECK(Must(one.Get(key)).payload.data == "{\"n\":2}");
  // Written without a source, it is still known to be from that one.
  CHECK(Must(one.Get(key)).source == At(7));
}

TEST_CASE("What is from an older source never replaces what is from a newer one", "[store]") {
  Daemon daemon;
  const ReadModelKey key{.type = FreshType(), .id = "1"};
  Must(daemon.Save(To(key, "10", At(10))));
  CHECK(Must(daemon.Save(To(key, "9", At(9)))).superseded);
  CHECK(Must(daemon.Get(key)).payload.data == "10");
  // The same again, and a newer one.
  CHECK_FALSE(Must(daemon.Save(To(key, "10b", At(10)))).superseded);
  CHECK_FALSE(Must(daemon.Save(To(key, "11", At(11)))).superseded);
  // Of another stream nothing is known yet; of both it is, then.
  CHECK_FALSE(Must(daemon.Save(To(key, "other", At(3, "T")))).superseded);
  CHECK(Must(daemon.Save(To(key, "late", At(10)))).superseded);
  CHECK(Must(daemon.Save(To(key, "late", At(2, "T")))).superseded);
  // A stream that was made anew begins anew.
  CHECK_FALSE(Must(daemon.Save(To(key, "anew", At(1, "S", 2)))).superseded);
  CHECK(Must(daemon.Save(To(key, "late", At(99)))).superseded);

  // A deletion keeps what is known.
  CHECK(Must(daemon.Save(Deletion(key, At(5, "S", 2)))).existed);
  CHECK(domain::GetErrorDetail(daemon.Get(key).status())->deleted());
  CHECK(Must(daemon.Save(To(key, "late", At(4, "S", 2)))).superseded);
  CHECK_FALSE(daemon.Get(key).ok());
  CHECK(Must(daemon.Save(Deletion(key, At(4, "S", 2)))).superseded);
  CHECK_FALSE(Must(daemon.Save(To(key, "back", At(6, "S", 2)))).superseded);
  CHECK(Must(daemon.Get(key)).payload.data == "back");
  // So does one of what was never there.
  const ReadModelKey never{.type = key.type, .id = "2"};
  CHECK_FALSE(Must(daemon.Save(Deletion(never, At(5)))).existed);
  CHECK(Must(daemon.Save(To(never, "late", At(4)))).superseded);
}

TEST_CASE("One of several daemons that expect a revision succeeds", "[store]") {
  const ReadModelKey key{.type = FreshType(), .id = "counter"};
  constexpr int kDaemons = 3;
  constexpr int kRounds = 15;
  std::atomic<int> created = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < kDaemons; ++i) {
    threads.emplace_back([&] {
      Daemon daemon;
      Write create = To(key, "0");
      create.expected_revision = 0;
      const auto made = daemon.Save(create);
      if (made.ok()) ++created;
      if (!made.ok() && ReasonOf(made.status()) != pb::ERROR_REASON_REVISION_CONFLICT) Must(made.status());
      for (int round = 0; round < kRounds;) {
        const ReadModel model = Must(daemon.Get(key));
        Write write = To(key, absl::StrCat(std::stoi(model.payload.data) + 1));
        write.expected_revision = model.revision;
        const auto written = daemon.Save(write);
        if (written.ok()) {
          ++round;
        } else if (ReasonOf(written.status()) != pb::ERROR_REASON_REVISION_CONFLICT) {
          Must(written.status());
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(created == 1);
  Daemon daemon;
  const ReadModel model = Must(daemon.Get(key));
  CHECK(model.payload.data == absl::StrCat(kDaemons * kRounds));
  Write wrong = To(key, "x");
  wrong.expected_revision = model.revision - 1;
  const absl::Status conflict = daemon.Save(wrong).status();
  CHECK(domain::GetErrorDetail(conflict)->revision_conflict().actual_revision() == model.revision);
  Must(daemon.Save(Deletion(key)));
  wrong.expected_revision = 0;  // A deleted one is none.
  CHECK(Must(daemon.Save(wrong)).revision > model.revision);
}

TEST_CASE("Several are written together or not at all", "[store]") {
  Daemon daemon;
  const std::string type = FreshType();
  const auto key = [&](int i) { return ReadModelKey{.type = type, .id = absl::StrCat(i)}; };
  Must(daemon.Save(To(key(1), "old", At(5))));
  Write conflicting = To(key(3), "new");
  conflicting.expected_revision = 99;
  CHECK(ReasonOf(daemon.SaveAll({To(key(1), "new", At(6)), To(key(2), "new"), conflicting}).status()) ==
        pb::ERROR_REASON_REVISION_CONFLICT);
  CHECK(Must(daemon.Get(key(1))).payload.data == "old");
  CHECK_FALSE(daemon.Get(key(2)).ok());

  const std::vector<Written> written =
      Must(daemon.SaveAll({To(key(1), "late", At(4)), To(key(2), "new"), Deletion(key(4)), To(key(5), "new")}));
  CHECK(written[0].superseded);
  const std::vector<std::optional<ReadModel>> models = Must(daemon.GetMany({key(5), key(1), key(2), key(4)}));
  CHECK(models[1]->payload.data == "old");
  CHECK(models[0]->revision == written[3].revision);
  CHECK(models[2]->revision == written[1].revision);
  CHECK_FALSE(models[3].has_value());

  std::vector<Write> many;
  for (int i = 0; i < 1000; ++i) many.push_back(To(key(i), absl::StrCat("m", i)));
  Must(daemon.SaveAll(many));
  std::vector<ReadModelKey> keys;
  for (int i = 0; i < 1000; ++i) keys.push_back(key(i));
  const std::vector<std::optional<ReadModel>> all = Must(daemon.GetMany(keys));
  for (int i = 0; i < 1000; ++i) REQUIRE(all[static_cast<size_t>(i)]->payload.data == absl::StrCat("m", i));
}

TEST_CASE("A write that is repeated with its id is recognised", "[store]") {
  Daemon one;
  Daemon other;
  const ReadModelKey key{.type = FreshType(), .id = "1"};
  Write create = To(key, "1");
  create.expected_revision = 0;
  const Written first = Must(one.Save(create, "id-1"));
  CHECK_FALSE(first.deduplicated);
  const Written again = Must(other.Save(create, "id-1"));
  CHECK(again.deduplicated);
  CHECK(again.revision == first.revision);
  CHECK(ReasonOf(other.Save(create, "id-2").status()) == pb::ERROR_REASON_REVISION_CONFLICT);
}

TEST_CASE("A read model with a time to live ends by itself", "[store]") {
  Daemon daemon;
  const ReadModelKey key{.type = FreshType(), .id = "1"};
  Write write = To(key, "short");
  write.ttl = 1s;
  Must(daemon.Save(write));
  const ReadModel model = Must(daemon.Get(key));
  CHECK(model.expires == model.updated + 1s);
  CHECK(PollUntil([&] { return absl::IsNotFound(daemon.Get(key).status()); }, 30s));
  write.expected_revision = 0;
  CHECK(daemon.Save(write).ok());
}

TEST_CASE("Lists come in pages, by prefix and pattern, whatever is written meanwhile", "[store]") {
  Daemon daemon;
  const std::string type = FreshType();
  std::vector<std::string> expected;
  std::vector<Write> writes;
  for (const std::string group : {"books", "electronics", "tools"}) {
    for (int i = 0; i < 40; ++i) {
      expected.push_back(absl::StrCat(group, ".", 100 + i));
      writes.push_back(To({.type = type, .id = expected.back()}, "{}"));
    }
  }
  Must(daemon.SaveAll(writes));
  Must(daemon.Save(To({.type = type + "x", .id = "books.1"}, "{}")));
  CHECK(daemon.Ids({.type = type}) == expected);
  CHECK(daemon.Ids({.type = type, .page_size = 7}) == expected);
  CHECK(daemon.Ids({.type = type, .id_pattern = "electronics.*", .page_size = 11}) ==
        std::vector<std::string>(expected.begin() + 40, expected.begin() + 80));
  CHECK(daemon.Ids({.type = type, .id_prefix = "tools.11"}).size() == 10);
  CHECK(daemon.Ids({.type = type, .id_prefix = "b", .id_pattern = "*.105"}) == std::vector<std::string>{"books.105"});
  CHECK(daemon.Ids({.type = type, .id_pattern = "*"}).empty());
  CHECK(ReasonOf(daemon.List({.type = type, .id_pattern = "a>"}).status()) == pb::ERROR_REASON_INVALID_FIELD);

  // What is there all the time is listed once.
  std::multiset<std::string> seen;
  ListQuery query{.type = type, .page_size = 9};
  std::mt19937_64 random(7);
  do {
    ListPage page = Must(daemon.List(query));
    for (const ReadModel& model : page.read_models) seen.insert(model.key.id);
    query.after = page.next;
    for (int i = 0; i < 5; ++i) {
      const ReadModelKey key{.type = type, .id = absl::StrCat("new.", random() % 50)};
      Must(daemon.Save(random() % 2 == 0 ? To(key, "{}") : Deletion(key)));
      Must(daemon.Save(To({.type = type, .id = expected[random() % expected.size()]}, "{\"again\":true}")));
    }
  } while (!query.after.empty());
  for (const std::string& id : expected) {
    CAPTURE(id);
    CHECK(seen.count(id) == 1);
  }
}

TEST_CASE("Two daemons agree with a simple model, also when nats-server is killed in between", "[store]") {
  const auto nats = Must(NatsServer::Start({.sync_always = true}));
  Daemon daemons[] = {Daemon(nats->url()), Daemon(nats->url())};
  struct Expected {
    std::optional<std::string> data;
    uint64_t source = 0;
  };
  std::map<std::string, Expected> model;
  std::random_device device;
  const uint64_t seed = device();
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  for (int step = 0; step < 300; ++step) {
    if (step % 100 == 50) {
      nats->Kill9();
      Must(nats->Restart());
    }
    Daemon& daemon = daemons[random() % 2];
    const std::string id = absl::StrCat("k", random() % 6);
    const uint64_t source = 1 + random() % 60;
    Expected& expected = model[id];
    const bool deletes = random() % 4 == 0;
    const std::string data = absl::StrCat(step);
    const std::string request_id = FreshId();
    const ReadModelKey key{.type = "m", .id = id};
    const auto save = [&] {
      return daemon.Save(deletes ? Deletion(key, At(source)) : To(key, data, At(source)), request_id);
    };
    absl::StatusOr<Written> written = save();
    // As a client would: the same call again while nobody knows.
    (void)PollUntil(
        [&] {
          if (!absl::IsUnavailable(written.status())) return true;
          written = save();
          return written.ok();
        },
        60s);
    const bool superseded = Must(written).superseded;
    CHECK(superseded == (source < expected.source));
    if (!superseded) expected = {.data = deletes ? std::nullopt : std::optional(data), .source = source};
    absl::StatusOr<ReadModel> read = daemons[random() % 2].Get(key);
    (void)PollUntil([&] { return !absl::IsUnavailable(read.status()) || (read = daemon.Get(key)).ok(); }, 60s);
    if (expected.data.has_value()) {
      CHECK(Must(read).payload.data == *expected.data);
    } else {
      CHECK(absl::IsNotFound(read.status()));
    }
  }
}

}  // namespace
}  // namespace persistd::readmodel
