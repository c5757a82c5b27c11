#include "server/index/entry.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/testing/catch.h"

namespace persistd::index {
namespace {

jetstream::Message Event(uint64_t sequence, const std::string& entity, uint64_t version, const std::string& commit,
                         const std::string& part) {
  jetstream::Message message;
  message.subject = absl::StrCat("cim.events.sales.order.", entity, ".placed.v1");
  message.sequence = sequence;
  message.headers.Add("ce-persistd", "1");
  message.headers.Add("ce-id", absl::StrCat("event-", sequence));
  message.headers.Add("ce-recordedtime", "2026-01-31T12:00:00.5Z");
  message.headers.Add("ce-aggregateversion", absl::StrCat(version));
  message.headers.Add("ce-commitid", commit);
  message.headers.Add("ce-commitpart", part);
  return message;
}

jetstream::Message Grouped(jetstream::Message message, const std::string& place) {
  message.headers.Add("ce-commitgroup", place);
  return message;
}

jetstream::Message Carrier(uint64_t sequence, const std::string& commit, const std::string& place) {
  jetstream::Message message;
  message.subject = "cim.events.sales.order._check";
  message.sequence = sequence;
  message.headers.Add("ce-commitid", commit);
  message.headers.Add("ce-commitgroup", place);
  return message;
}

// Sequences of what came out of `messages`, a list for each call that gave something.
std::vector<std::vector<uint64_t>> Assemble(const std::vector<jetstream::Message>& messages) {
  SaveAssembler assembler;
  std::vector<std::vector<uint64_t>> saves;
  for (const jetstream::Message& message : messages) {
    std::vector<uint64_t> sequences;
    for (const Entry& entry : assembler.Add(ToEntry(message))) sequences.push_back(entry.sequence);
    if (!sequences.empty()) saves.push_back(sequences);
  }
  return saves;
}

using Saves = std::vector<std::vector<uint64_t>>;

TEST_CASE("What the index keeps of an event is read from its headers", "[index]") {
  jetstream::Message message = Event(7, "a=2Fb", 3, "my%20id", "2/3");
  message.headers.Add("ce-tags", "[%22vip%22]");
  message.headers.Add("ce-cid", "bafy");
  const Entry entry = ToEntry(message);
  CHECK(entry.kind == Entry::Kind::kEvent);
  CHECK(entry.ref == domain::AggregateRef{"sales", "order", "a/b"});
  CHECK(entry.version == 3);
  CHECK(entry.part == 2);
  CHECK(entry.parts == 3);
  CHECK(entry.commit_id == "my id");
  CHECK(entry.tags == "[\"vip\"]");
  CHECK(entry.cid == "bafy");
  CHECK_FALSE(entry.tombstone);
  CHECK(entry.recorded_time.time_since_epoch().count() == 1769860800'500000000);
}

TEST_CASE("What cannot be read is damaged, what is not ours is foreign, what carries checks is no event", "[index]") {
  CHECK(ToEntry(Carrier(1, "c", "1/2")).kind == Entry::Kind::kCarrier);
  jetstream::Message foreign = Event(1, "a", 1, "c", "1/1");
  foreign.headers = {};
  CHECK(ToEntry(foreign).kind == Entry::Kind::kForeign);
  foreign.subject = "cim.events.sales.order._check";
  CHECK(ToEntry(foreign).kind == Entry::Kind::kForeign);
  CHECK(ToEntry(Event(1, "a", 0, "c", "1/1")).kind == Entry::Kind::kDamaged);
  CHECK(ToEntry(Event(1, "a", 1, "%", "1/1")).kind == Entry::Kind::kDamaged);
  for (const char* part : {"2/1", "0/1", "1", "1/", "/1", "1/1001", "x/1"}) {
    INFO(part);
    CHECK(ToEntry(Event(1, "a", 1, "c", part)).kind == Entry::Kind::kDamaged);
  }
  jetstream::Message tags = Event(1, "a", 1, "c", "1/1");
  tags.headers.Add("ce-tags", "[");
  CHECK(ToEntry(tags).kind == Entry::Kind::kDamaged);
  jetstream::Message subject = Event(1, "a", 1, "c", "1/1");
  subject.subject = "cim.events.sales.order.a";
  CHECK(ToEntry(subject).kind == Entry::Kind::kDamaged);
}

TEST_CASE("A save comes out when its last event is there", "[index]") {
  CHECK(Assemble({Event(1, "a", 1, "c", "1/1"), Event(2, "a", 2, "d", "1/2"), Event(3, "a", 3, "d", "2/2")}) ==
        Saves{{1}, {2, 3}});
}

TEST_CASE("A torn save never comes out, whatever follows it", "[index]") {
  const jetstream::Message torn = Event(1, "a", 1, "c", "1/3");
  const jetstream::Message second = Event(2, "a", 2, "c", "2/3");
  CHECK(Assemble({torn, second}) == Saves{});
  // Another save of the same aggregate, and of another one.
  CHECK(Assemble({torn, second, Event(3, "a", 1, "d", "1/1")}) == Saves{{3}});
  CHECK(Assemble({torn, second, Event(3, "b", 1, "d", "1/1"), Event(4, "a", 3, "c", "3/3")}) == Saves{{3}, {4}});
  // A repeat of the same save.
  CHECK(Assemble({torn, second, Event(3, "a", 1, "c", "1/3"), Event(4, "a", 2, "c", "2/3"),
                  Event(5, "a", 3, "c", "3/3")}) == Saves{{3, 4, 5}});
  // A message that is not ours.
  jetstream::Message foreign = Event(3, "z", 1, "c", "1/1");
  foreign.headers = {};
  CHECK(Assemble({torn, second, foreign, Event(4, "b", 1, "d", "1/1")}) == Saves{{4}});
}

TEST_CASE("A commit of several aggregates comes out without the events that were removed of it", "[index]") {
  const jetstream::Message first = Grouped(Event(11, "a", 1, "c", "1/1"), "1/5");
  const jetstream::Message third = Grouped(Event(13, "b", 2, "c", "2/2"), "3/5");
  const jetstream::Message fourth = Grouped(Event(14, "d", 1, "c", "1/1"), "4/5");
  const jetstream::Message last = Grouped(Event(15, "e", 1, "c", "1/1"), "5/5");
  CHECK(Assemble({first, third, fourth, last}) == Saves{{11, 13, 14, 15}});
  CHECK(Assemble({first, last}) == Saves{{11, 15}});
  CHECK(Assemble({third, last}) == Saves{{13, 15}});
  CHECK(Assemble({first, third, fourth}) == Saves{});
  // Their places must agree with where they are: a repeat of a torn commit is another one.
  const jetstream::Message again = Grouped(Event(22, "e", 1, "c", "1/1"), "5/5");
  CHECK(Assemble({first, third, again}) == Saves{{22}});
}

TEST_CASE("A commit of several aggregates comes out as a whole or not at all", "[index]") {
  const std::vector<jetstream::Message> group = {Grouped(Event(1, "a", 1, "c", "1/2"), "1/5"),
                                                 Grouped(Event(2, "a", 2, "c", "2/2"), "2/5"), Carrier(3, "c", "3/5"),
                                                 Grouped(Event(4, "b", 9, "c", "1/1"), "4/5"), Carrier(5, "c", "5/5")};
  CHECK(Assemble(group) == Saves{{1, 2, 4}});
  for (size_t stored = 1; stored < group.size(); ++stored) {
    std::vector<jetstream::Message> torn(group.begin(), group.begin() + static_cast<std::ptrdiff_t>(stored));
    CHECK(Assemble(torn) == Saves{});
    torn.push_back(Event(stored + 1, "a", 1, "d", "1/1"));
    CHECK(Assemble(torn) == Saves{{stored + 1}});
  }
}

}  // namespace
}  // namespace persistd::index
