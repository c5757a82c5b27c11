// The store over a real nats-server, used as several daemons would.
#include "server/readmodel/store.h"

#include <atomic>
#include <barrier>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cim/persistence/v1/errors.pb.h"
#include "server/domain/errors.h"
#include "server/readmodel/key.h"
#include "tests/server/repository/repository_fixture.h"
#include "tests/testing/catch.h"
#include "tests/testing/must.h"
#include "tests/testing/nats_server.h"
#include "tests/testing/poll.h"
#include "tests/testing/tcp_proxy.h"

namespace persistd::readmodel {
namespace {

namespace pb = cim::persistence::v1;
using domain::Position;
using domain::ReadModelKey;
using repository::FreshId;
using repository::Nats;
using repository::TestRepository;
using std::chrono_literals::operator""h;
using std::chrono_literals::operator""s;
using testing::Must;
using testing::NatsServer;
using testing::PollUntil;

// The store of one daemon.
class Daemon {
 public:
  explicit Daemon(const std::string& url = Nats().url(), jetstream::KvOptions bucket = {.bucket = "cim-read-models"})
      : repository_(url),
        kv_(std::move(bucket), &repository_.writes(), &repository_.writes(), &repository_.executor()),
        store_(&kv_, &repository_.writes(), &repository_.executor(), {.max_load_bytes = 4u << 20}) {}

  absl::StatusOr<std::vector<Written>> SaveAll(std::vector<Write> writes, std::string request_id = FreshId()) {
    return base::BlockOn(store_.Save({.writes = std::move(writes), .request_id = std::move(request_id)}, In()));
  }
  absl::StatusOr<Written> Save(Write write, std::string request_id = FreshId()) {
    const auto written = SaveAll({std::move(write)}, std::move(request_id));
    if (!written.ok()) return written.status();
    return written->front();
  }
  jetstream::Kv& kv() { return kv_; }
  // Removes all that is there of it, as if it had never been stored.
  void Lose(const ReadModelKey& key) { Must(base::BlockOn(kv_.Erase(BucketKey(key, "0"), ~uint64_t{0} >> 1, In()))); }
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

TEST_CASE("A repeated write is recognised though others have written since, and answers its own revision", "[store]") {
  Daemon daemon;
  const ReadModelKey key{.type = FreshType(), .id = "1"};
  const Written first = Must(daemon.Save(To(key, "first"), "id-1"));
  const Written deletion = Must(daemon.Save(Deletion(key), "id-2"));
  CHECK(deletion.existed);
  const Written none = Must(daemon.Save(Deletion(key, At(1)), "id-3"));
  CHECK_FALSE(none.existed);
  for (int i = 0; i < 5; ++i) Must(daemon.Save(To(key, absl::StrCat("other", i))));
  for (const auto& [write, id, expected] :
       {std::tuple(To(key, "first"), "id-1", first), std::tuple(Deletion(key), "id-2", deletion),
        std::tuple(Deletion(key, At(1)), "id-3", none)}) {
    CAPTURE(id);
    const Written again = Must(daemon.Save(write, id));
    CHECK(again.deduplicated);
    CHECK(again.revision == expected.revision);
    CHECK(again.existed == expected.existed);
  }
  CHECK(Must(daemon.Get(key)).payload.data == "other4");
  // It is the ninth now.
  Must(daemon.Save(To(key, "other5")));
  CHECK_FALSE(Must(daemon.Save(To(key, "first"), "id-1")).deduplicated);
}

TEST_CASE("A write whose answer is lost is stored once, though others write over it", "[store]") {
  const auto proxy = Must(testing::TcpProxy::Start(Nats().port()));
  Daemon struck(absl::StrCat("nats://127.0.0.1:", proxy->port()));
  Daemon other;
  for (const int others : {1, 7, 8}) {
    CAPTURE(others);
    const ReadModelKey key{.type = FreshType(), .id = "1"};
    Must(struck.Save(To(key, "before")));
    const std::string data = absl::StrCat("strike-", others);
    proxy->StrikeAt(data, testing::TcpProxy::Strike::kLoseAnswers);
    absl::StatusOr<Written> written;
    std::thread saver([&] { written = struck.Save(To(key, data)); });
    CHECK(proxy->WaitForStrike(30s));
    uint64_t revision = 0;
    CHECK(PollUntil(
        [&] {
          const ReadModel model = Must(other.Get(key));
          revision = model.revision;
          return model.payload.data == data;
        },
        30s));
    for (int i = 0; i < others; ++i) Must(other.Save(To(key, "over")));
    proxy->CutStruck();
    saver.join();
    INFO(written.status());
    if (others < 8) {
      CHECK(Must(written).revision == revision);
      CHECK_FALSE(Must(written).deduplicated);
    } else {
      CHECK(ReasonOf(written.status()) == pb::ERROR_REASON_OUTCOME_UNKNOWN);
    }
    CHECK(Must(other.Get(key)).payload.data == "over");
  }
}

TEST_CASE("What a power cut has taken of several is written by the repeat, and nothing else", "[store]") {
  Daemon daemon;
  const std::string type = FreshType();
  const auto key = [&](int i) { return ReadModelKey{.type = type, .id = absl::StrCat(i)}; };
  Must(daemon.Save(To(key(4), "new", At(9))));
  const std::vector<Write> writes = {To(key(1), "1"), To(key(2), "2"), Deletion(key(3)), To(key(4), "old", At(8)),
                                     To(key(5), "5")};
  const std::vector<Written> first = Must(daemon.SaveAll(writes, "id-1"));
  Must(daemon.Save(To(key(1), "later")));
  daemon.Lose(key(5));
  const std::vector<Written> again = Must(daemon.SaveAll(writes, "id-1"));
  CHECK(Must(daemon.Get(key(1))).payload.data == "later");
  CHECK(again[0].revision == first[0].revision);
  CHECK(again[1].revision == first[1].revision);
  CHECK(again[3].superseded);
  CHECK_FALSE(again[4].deduplicated);
  CHECK(Must(daemon.Get(key(5))).revision == again[4].revision);

  // Now all of it is there, and what was left out stays so.
  Must(daemon.Save(To(key(3), "not to be deleted")));
  const std::vector<Written> third = Must(daemon.SaveAll(writes, "id-1"));
  CHECK(third[0].revision == first[0].revision);
  CHECK(third[4].deduplicated);
  CHECK(third[4].revision == again[4].revision);
  CHECK(Must(daemon.Get(key(3))).payload.data == "not to be deleted");
}

TEST_CASE("Documents that are too large together are not returned together", "[store]") {
  Daemon daemon;
  const std::string type = FreshType();
  std::vector<ReadModelKey> keys;
  for (int i = 0; i < 9; ++i) {
    keys.push_back({.type = type, .id = absl::StrCat(i)});
    Must(daemon.Save(To(keys.back(), std::string(512u << 10, 'x'))));
  }
  const absl::Status status = daemon.GetMany(keys).status();
  CHECK(ReasonOf(status) == pb::ERROR_REASON_TOO_LARGE);
  keys.pop_back();
  CHECK(Must(daemon.GetMany(keys)).size() == 8);
}

TEST_CASE("What others have put into the bucket is a document of version 1", "[store]") {
  Daemon daemon;
  const ReadModelKey key{.type = FreshType(), .id = "1"};
  jetstream::Headers headers;
  headers.Add("persistd-schema-version", "x");
  headers.Add("persistd-source", "x");
  headers.Add("persistd-request-id", "x");
  Must(base::BlockOn(daemon.kv().Put(BucketKey(key, "0"), "foreign", TestRepository::In(30s), headers)));
  const ReadModel model = Must(daemon.Get(key));
  CHECK(model.schema_version == 1);
  CHECK(model.payload.data == "foreign");
  CHECK(Must(daemon.List({.type = key.type})).read_models.size() == 1);
  CHECK(Must(daemon.Save(To(key, "ours"))).revision > model.revision);
}

TEST_CASE("Where a bucket keeps several revisions none of them is back when a document ends", "[store]") {
  const auto nats = Must(NatsServer::Start({}));
  Daemon daemon(nats->url(), {.bucket = "old-ones", .history = 5, .ttl = 1h});
  const ReadModelKey key{.type = "t", .id = "1"};
  const ReadModelKey second{.type = "t", .id = "2"};
  Must(daemon.SaveAll({To(key, "first"), To(second, "first")}));
  CHECK(Must(daemon.Get(key)).expires == Must(daemon.Get(key)).updated + 1h);
  Write write = To(key, "short");
  write.expected_revision = Must(daemon.Get(key)).revision;
  write.ttl = 2s;
  Write other = To(second, "short");
  other.ttl = 2s;
  Must(daemon.SaveAll({write, other}));
  Must(daemon.Save(other));
  CHECK(Must(daemon.Get(key)).payload.data == "short");
  CHECK(Must(daemon.Get(key)).expires == Must(daemon.Get(key)).updated + 2s);
  for (const ReadModelKey& ended : {key, second}) {
    CHECK(PollUntil(
        [&] {
          return Must(daemon.GetMany({ended, ended})).front().value_or(ReadModel()).payload.data != "short";
        },
        30s));
    CHECK(absl::IsNotFound(daemon.Get(ended).status()));
  }
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

TEST_CASE("Counters of several daemons are exact, also when nats-server is killed in between", "[store]") {
  const auto nats = Must(NatsServer::Start({.sync_always = true}));
  Daemon daemons[] = {Daemon(nats->url()), Daemon(nats->url())};
  constexpr int kThreads = 4;
  constexpr int kRounds = 24;
  const std::vector<ReadModelKey> keys = {{.type = "c", .id = "1"}, {.type = "c", .id = "2"}, {.type = "c", .id = "3"}};
  for (const ReadModelKey& key : keys) Must(daemons[0].Save(To(key, "0")));
  std::atomic<int> round = 0;
  // One increment of each thread in a round: so no repeat comes after more others than a document remembers.
  std::barrier barrier(kThreads, [&]() noexcept { ++round; });
  const auto settled = [](const auto& call) {
    auto result = call();
    (void)PollUntil([&] { return !absl::IsUnavailable(result.status()) || (result = call(), false); }, 120s);
    return result;
  };
  const auto increment = [&](Daemon& daemon) {
    while (true) {
      const auto models = Must(settled([&] { return daemon.GetMany(keys); }));
      std::vector<Write> writes;
      for (const std::optional<ReadModel>& model : models) {
        writes.push_back(To(model->key, absl::StrCat(std::stoi(model->payload.data) + 1)));
        writes.back().expected_revision = model->revision;
      }
      const std::string id = FreshId();
      const auto save = [&] { return daemon.SaveAll(writes, id); };
      const absl::StatusOr<std::vector<Written>> written = settled(save);
      if (!written.ok() && ReasonOf(written.status()) == pb::ERROR_REASON_REVISION_CONFLICT) continue;
      const std::vector<Written> again = Must(settled(save));
      for (size_t i = 0; i < keys.size(); ++i) {
        if (!again[i].deduplicated || again[i].revision != Must(written)[i].revision) return false;
      }
      return true;
    }
  };
  std::atomic<bool> repeats_agree = true;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      for (int done = 0; done < kRounds; ++done) {
        if (!increment(daemons[i % 2])) repeats_agree = false;
        barrier.arrive_and_wait();
      }
    });
  }
  for (const int at : {5, 11, 17}) {
    CHECK(PollUntil([&] { return round >= at; }, 120s));
    nats->Kill9();
    Must(nats->Restart());
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(repeats_agree);
  for (const std::optional<ReadModel>& model : Must(daemons[1].GetMany(keys))) {
    CHECK(model->payload.data == absl::StrCat(kThreads * kRounds));
  }
}

}  // namespace
}  // namespace persistd::readmodel
