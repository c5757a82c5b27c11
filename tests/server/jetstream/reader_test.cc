#include "server/jetstream/reader.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "cim/persistence/v1/errors.pb.h"
#include "server/domain/errors.h"
#include "server/jetstream/event_codec.h"
#include "server/jetstream/gather.h"
#include "server/jetstream/publisher.h"
#include "tests/server/jetstream/live.h"
#include "tests/server/jetstream/samples.h"
#include "tests/testing/catch.h"
#include "tests/testing/must.h"
#include "tests/testing/nats_server.h"

namespace persistd::jetstream {
namespace {

namespace pb = cim::persistence::v1;
using ::persistd::testing::Must;
using ::persistd::testing::NatsServer;

constexpr ReadFrom kBoth[] = {ReadFrom::kAnyReplica, ReadFrom::kLeader};

// A server with the stream S over all our subjects.
struct Bench {
  Bench()
      : nats(Must(NatsServer::Start({}))),
        live(To(nats->url())),
        publisher(&live.connection()),
        reader(&live.connection()) {
    REQUIRE(live.WaitUntilUp());
    live.MakeStream(EventStreamConfig("S", "cim.>"));
  }
  // Returns its sequence. The filter matches nothing, so the check always passes.
  uint64_t Store(OutgoingMessage message) {
    AddCheck({.filter = "cim.none.>", .last_sequence = 0}, message);
    std::vector<const OutgoingMessage*> messages = {&message};
    const PublishOutcome outcome = base::BlockOn(publisher.Publish("S", std::move(messages), In(kPatience)));
    INFO(outcome.status);
    REQUIRE(outcome.kind == PublishOutcome::Kind::kStored);
    return outcome.last_sequence;
  }
  uint64_t Store(const std::string& subject, const std::string& data) {
    return Store({.subject = subject, .headers = {}, .data = data});
  }
  std::optional<Message> Get(uint64_t sequence, ReadFrom from) {
    return Must(base::BlockOn(reader.Get("S", sequence, from, In(kPatience))));
  }
  std::optional<Message> Last(const std::string& filter, ReadFrom from) {
    return Must(base::BlockOn(reader.Last("S", filter, from, In(kPatience))));
  }

  std::unique_ptr<NatsServer> nats;
  Live live;
  Publisher publisher;
  Reader reader;
};

// Without what the publisher and the server add; nats.c does not keep the order.
std::vector<std::pair<std::string, std::string>> OurHeaders(const Headers& headers) {
  std::vector<std::pair<std::string, std::string>> ours;
  for (const auto& field : headers.fields()) {
    if (!absl::StartsWith(field.first, "Nats-")) ours.push_back(field);
  }
  std::sort(ours.begin(), ours.end());
  return ours;
}

void CheckSame(const Message& read, const OutgoingMessage& sent, uint64_t sequence) {
  CHECK(read.subject == sent.subject);
  CHECK(OurHeaders(read.headers) == OurHeaders(sent.headers));
  CHECK(read.data == sent.data);
  CHECK(read.sequence == sequence);
  const auto age = base::Clock::System().WallNow() - read.time;
  CHECK(age > std::chrono::seconds(-5));
  CHECK(age < std::chrono::minutes(5));
}

TEST_CASE("Golden messages come back from NATS as they went in", "[jetstream]") {
  Bench bench;
  std::vector<std::string> names;
  for (const EventSample& sample : EventSamples()) names.push_back(sample.golden);
  for (const StateSample& sample : StateSamples()) names.push_back(sample.golden);
  for (const std::string& name : names) {
    INFO(name);
    const OutgoingMessage message = ParseGolden(ReadGolden(name));
    const uint64_t sequence = bench.Store(message);
    for (const ReadFrom from : kBoth) {
      const std::optional<Message> read = bench.Get(sequence, from);
      REQUIRE(read.has_value());
      CheckSame(*read, message, sequence);
      CHECK(IsOurs(*read));
    }
  }
}

TEST_CASE("Header values and bodies of every kind come back from NATS as they went in", "[jetstream]") {
  Bench bench;
  OutgoingMessage message{.subject = "cim.x", .headers = {}, .data = std::string("\0\r\n\xFF\0", 5)};
  int n = 0;
  for (const char* value : {":", ":x:", "a: b", "\"q\"", "%20x%20", "=", "!", "~", "NATS/1.0", "NATS/1.0 404 No", "{}",
                            "[\"a b\"]", "\\", "'", "a  b", "a\tb", "0", "\xC3\xA4"}) {
    message.headers.Add(absl::StrCat("ce-test", n++), value);
  }
  message.headers.Add("ce-Case", "upper");
  message.headers.Add("ce-case", "lower");
  const uint64_t sequence = bench.Store(message);
  for (const ReadFrom from : kBoth) {
    const std::optional<Message> read = bench.Get(sequence, from);
    REQUIRE(read.has_value());
    CheckSame(*read, message, sequence);
  }
}

TEST_CASE("Sixty kilobytes of headers come back, and their size is known beforehand", "[jetstream]") {
  Bench bench;
  OutgoingMessage message{.subject = "cim.x", .headers = {}, .data = "body"};
  message.headers.Add("ce-custommetadata", std::string(60'000, 'x'));
  message.headers.Add("ce-id", "1");
  const uint64_t sequence = bench.Store(message);
  for (const ReadFrom from : kBoth) CheckSame(bench.Get(sequence, from).value_or(Message()), message, sequence);

  const ApiAnswer raw = bench.live.Api("STREAM.MSG.GET.S", absl::StrCat("{\"seq\":", sequence, "}"));
  std::string headers;
  REQUIRE(absl::Base64Unescape(StringField(ObjectField(raw.body, "message"), "hdrs"), &headers));
  CHECK(headers.size() == HeaderBytes(bench.Get(sequence, ReadFrom::kLeader)->headers));
}

TEST_CASE("A message without headers or body is read", "[jetstream]") {
  Bench bench;
  REQUIRE(bench.live.Ask({.subject = "cim.x", .headers = {}, .data = ""}).ok());
  for (const ReadFrom from : kBoth) {
    const std::optional<Message> read = bench.Get(1, from);
    REQUIRE(read.has_value());
    CHECK(read->subject == "cim.x");
    CHECK(read->data.empty());
    CHECK_FALSE(IsOurs(*read));
  }
}

TEST_CASE("The last message of a filter, the next one, and none", "[jetstream]") {
  Bench bench;
  bench.Store("cim.a.x", "1");
  bench.Store("cim.b.x", "2");
  bench.Store("cim.a.y", "3");
  for (const ReadFrom from : kBoth) {
    CHECK(bench.Last("cim.a.>", from)->data == "3");
    CHECK(bench.Last("cim.a.x", from)->sequence == 1);
    CHECK(bench.Last("cim.b.>", from)->data == "2");
    CHECK_FALSE(bench.Last("cim.c.>", from).has_value());
    CHECK_FALSE(bench.Get(4, from).has_value());
    CHECK_FALSE(bench.Get(UINT64_MAX, from).has_value());
  }
  const auto next = [&](const std::string& filter, uint64_t sequence) {
    return Must(base::BlockOn(bench.reader.Next("S", filter, sequence, ReadFrom::kLeader, In(kPatience))));
  };
  CHECK(next("cim.a.>", 1)->sequence == 1);
  CHECK(next("cim.a.>", 2)->sequence == 3);
  CHECK_FALSE(next("cim.a.>", 4).has_value());
  CHECK_FALSE(next("cim.c.>", 1).has_value());
}

TEST_CASE("Many gets are under way at once and each brings its own message", "[jetstream]") {
  Bench bench;
  for (int i = 1; i <= 64; ++i) bench.Store("cim.x", absl::StrCat(i));
  std::vector<base::Future<absl::StatusOr<Message>>> gets;
  for (uint64_t sequence = 1; sequence <= 65; ++sequence)
    gets.push_back(bench.reader.StartGet("S", sequence, In(kPatience)));
  base::Future<absl::StatusOr<Message>> last = bench.reader.StartLast("S", "cim.>", ReadFrom::kLeader, In(kPatience));
  for (uint64_t sequence = 1; sequence <= 65; ++sequence) {
    const std::optional<Message> read = Must(bench.reader.FinishGet(Await(std::move(gets[sequence - 1])), "S"));
    REQUIRE(read.has_value() == (sequence <= 64));
    if (read.has_value()) CHECK(read->data == absl::StrCat(sequence));
  }
  CHECK(Must(bench.reader.FinishLast(Await(std::move(last)), "S", ReadFrom::kLeader))->sequence == 64);
}

TEST_CASE("A range is the messages that follow each other, as far as there are some", "[jetstream]") {
  Bench bench;
  bench.live.MakeStream({{"name", "T"}, {"subjects", {"t.>"}}, {"allow_direct", true}});
  for (int i = 1; i <= 8; ++i) {
    REQUIRE(bench.live.Ask({.subject = absl::StrCat("t.", i), .headers = {}, .data = std::string(1000, 'x')}).ok());
  }
  bench.live.Api("STREAM.MSG.DELETE.T", "{\"seq\":3}");
  const auto range = [&](uint64_t first, uint64_t count, size_t max_bytes = 1u << 20) {
    std::vector<uint64_t> sequences;
    auto answers = Await(bench.reader.StartRange("T", first, count, max_bytes, In(kPatience)));
    for (const Message& message : Must(bench.reader.FinishRange(std::move(answers), "T"))) {
      CHECK(message.subject == absl::StrCat("t.", message.sequence));
      CHECK(message.data.size() == 1000);
      CHECK(message.time.time_since_epoch().count() > 0);
      sequences.push_back(message.sequence);
    }
    return sequences;
  };
  CHECK(range(1, 2) == std::vector<uint64_t>{1, 2});
  CHECK(range(2, 3) == std::vector<uint64_t>{2, 4, 5});
  CHECK(range(7, 100) == std::vector<uint64_t>{7, 8});
  CHECK(range(9, 10).empty());
  // The server stops early, after one message at least.
  CHECK(range(4, 5, 1) == std::vector<uint64_t>{4});
  const std::vector<uint64_t> some = range(4, 5, 2500);
  CHECK(some.size() >= 2);
  CHECK(some.size() < 5);
}

TEST_CASE("Many ranges are under way at once and each brings its own messages", "[jetstream]") {
  Bench bench;
  for (int i = 1; i <= 64; ++i) bench.Store("cim.x", absl::StrCat(i));
  std::vector<base::Future<absl::StatusOr<std::vector<Message>>>> ranges;
  for (uint64_t first = 1; first <= 64; ++first) {
    ranges.push_back(bench.reader.StartRange("S", first, 8, 1u << 20, In(kPatience)));
  }
  for (uint64_t first = 1; first <= 64; ++first) {
    const auto messages = Must(bench.reader.FinishRange(Await(std::move(ranges[first - 1])), "S"));
    REQUIRE(messages.size() == std::min<uint64_t>(8, 65 - first));
    for (size_t i = 0; i < messages.size(); ++i) CHECK(messages[i].data == absl::StrCat(first + i));
  }
}

TEST_CASE("A range that is not answered, or not to its end, says why and brings nothing", "[jetstream]") {
  Bench bench;
  bench.Store("cim.x", "1");
  const auto range = [&](const std::string& stream, std::chrono::milliseconds wait) {
    auto answers = Await(bench.reader.StartRange(stream, 1, 8, 1u << 20, In(wait)));
    return bench.reader.FinishRange(std::move(answers), stream).status();
  };
  const absl::Status none = range("NONE", kPatience);
  INFO(none);
  CHECK(domain::HasReason(none, pb::ERROR_REASON_NATS_UNAVAILABLE));
  CHECK(absl::StrContains(none.message(), "NONE"));
  bench.nats->Pause();
  CHECK(domain::HasReason(range("S", std::chrono::milliseconds(50)), pb::ERROR_REASON_NATS_UNAVAILABLE));
  // One that waits when the connection is lost ends then, not at its deadline.
  auto lost = bench.reader.StartRange("S", 1, 8, 1u << 20, In(std::chrono::hours(1)));
  bench.nats->Kill9();
  const absl::Status broken = bench.reader.FinishRange(Await(std::move(lost)), "S").status();
  CHECK(domain::HasReason(broken, pb::ERROR_REASON_NATS_UNAVAILABLE));
  REQUIRE(bench.live.WaitUntilDown());
  CHECK(domain::HasReason(range("S", kPatience), pb::ERROR_REASON_NATS_UNAVAILABLE));
}

TEST_CASE("A request is answered by all messages before the one with a status", "[jetstream]") {
  Bench bench;
  bench.live.MakeStream({{"name", "T"}, {"subjects", {"t.>"}}, {"allow_direct", true}});
  REQUIRE(bench.live.Ask({.subject = "t.1", .headers = {}, .data = "1"}).ok());
  const auto gather = [&](const std::string& query) {
    const OutgoingMessage request{.subject = "$JS.API.DIRECT.GET.T", .headers = {}, .data = query};
    return Await(Gather(bench.live.connection(), request, In(kPatience)));
  };
  CHECK(Must(gather("{\"seq\":1,\"batch\":2}")).size() == 1);
  CHECK(Must(gather("{\"seq\":2,\"batch\":2}")).empty());
  const absl::Status refused = gather("{\"seq\":").status();
  CHECK(absl::IsUnavailable(refused));
  CHECK(absl::StrContains(refused.message(), "408"));
}

TEST_CASE("Reads that cannot be answered say why", "[jetstream]") {
  Bench bench;
  for (const ReadFrom from : kBoth) {
    const absl::Status status = base::BlockOn(bench.reader.Get("NONE", 1, from, In(kPatience))).status();
    INFO(status);
    CHECK(domain::HasReason(status, pb::ERROR_REASON_NATS_UNAVAILABLE));
    CHECK(absl::StrContains(status.message(), "NONE"));
  }
  bench.nats->Pause();
  const absl::Status late =
      base::BlockOn(bench.reader.Get("S", 1, ReadFrom::kLeader, In(std::chrono::milliseconds(50)))).status();
  CHECK(domain::HasReason(late, pb::ERROR_REASON_NATS_UNAVAILABLE));
  bench.nats->Kill9();
  REQUIRE(bench.live.WaitUntilDown());
  const absl::Status away = base::BlockOn(bench.reader.Get("S", 1, ReadFrom::kAnyReplica, In(kPatience))).status();
  CHECK(domain::HasReason(away, pb::ERROR_REASON_NATS_UNAVAILABLE));
}

TEST_CASE("Answers in unknown forms are refused", "[jetstream]") {
  for (const char* data :
       {"", "[]", "{}", R"({"message":{}})", R"({"message":{"subject":"a","seq":0}})",
        R"({"message":{"subject":"a","seq":-1}})", R"({"message":{"subject":"a","seq":1,"data":"*"}})",
        R"({"message":{"subject":"a","seq":1,"hdrs":"*"}})", R"({"error":{"err_code":10039,"description":"off"}})"}) {
    INFO(data);
    CHECK_FALSE(ParseMessageGet(data).ok());
  }
  CHECK_FALSE(Must(ParseMessageGet(R"({"error":{"err_code":10037}})")).has_value());
  Message direct;
  CHECK_FALSE(ParseDirectGet(direct).ok());
  direct.headers.Add("Nats-Subject", "a");
  direct.headers.Add("Nats-Sequence", "x");
  direct.headers.Add("Nats-Time-Stamp", "2026-11-22T10:00:00Z");
  CHECK_FALSE(ParseDirectGet(direct).ok());
  Message missing;
  missing.headers.Add("Status", "404");
  CHECK_FALSE(Must(ParseDirectGet(missing)).has_value());
  Message busy;
  busy.headers.Add("Status", "408");
  busy.headers.Add("Description", "Bad Request");
  CHECK(absl::StrContains(ParseDirectGet(busy).status().message(), "408 Bad Request"));
}

}  // namespace
}  // namespace persistd::jetstream
