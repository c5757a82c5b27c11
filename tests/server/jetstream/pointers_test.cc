#include "server/jetstream/pointers.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/testing/catch.h"
#include "tests/testing/properties.h"

namespace persistd::jetstream {
namespace {

using ::persistd::testing::AnyBytes;
using ::persistd::testing::CheckProperty;

// An aggregate in a stream among others: saves it in batches as the repository does and keeps what was stored.
class Aggregate {
 public:
  struct Stored {
    uint64_t sequence = 0;
    std::string back;
    std::string skip;
  };

  // Saves `events` in one batch. `gap`: messages of others in the stream before it, and `inside` between its events.
  void Save(int events, uint64_t gap, uint64_t inside) {
    last_ += gap;
    const uint64_t first = last_ + 1;
    uint64_t index = 0;
    std::vector<Stored> batch;
    for (int i = 0; i < events; ++i, index += 1 + inside) {
      const uint64_t version = events_.size() + batch.size() + 1;
      batch.push_back({.sequence = first + index,
                       .back = EncodeBackPointers(pointers_, index),
                       .skip = EncodeSkipPointers(pointers_, index)});
      pointers_ = NextPointers(version, {.in_batch = true, .number = index}, pointers_);
    }
    events_.insert(events_.end(), batch.begin(), batch.end());
    last_ = batch.back().sequence;
    // The next save starts from what the last event says, as a daemon does that reads the head.
    const std::optional<Pointers> read = Decode(version());
    if (!read.has_value()) FAIL("version " << version() << " cannot be read");
    pointers_ = NextPointers(version(), {.in_batch = false, .number = last_}, ToPlaces(*read));
  }

  uint64_t version() const { return events_.size(); }
  uint64_t sequence(uint64_t version) const { return events_[version - 1].sequence; }
  const Stored& stored(uint64_t version) const { return events_[version - 1]; }

  std::optional<Pointers> Decode(uint64_t version) const {
    const Stored& event = stored(version);
    return DecodePointers(event.back, event.skip, version, event.sequence);
  }

  // What Decode must give, from the outside view.
  Pointers Expected(uint64_t version) const {
    Pointers expected;
    for (uint64_t v = version; v > 1 && version - v < kMaxBackPointers; --v) expected.back.push_back(sequence(v - 1));
    for (const uint64_t level : {1024u, 32'768u, 1'048'576u}) {
      uint64_t target = (version - 1) / level * level;
      const bool near = version - target <= kMaxBackPointers;
      const bool named = std::any_of(expected.skip.begin(), expected.skip.end(),
                                     [target](const SkipPointer& skip) { return skip.version == target; });
      if (target > 0 && !near && !named) expected.skip.push_back({.version = target, .sequence = sequence(target)});
    }
    return expected;
  }

  // Gets needed to go from one version to an earlier one by the pointers alone.
  int Hops(uint64_t from, uint64_t to) const {
    int hops = 0;
    for (uint64_t at = from; at > to; ++hops) {
      const std::optional<Pointers> pointers = Decode(at);
      if (!pointers.has_value()) FAIL("version " << at << " cannot be read");
      uint64_t next = std::max(to, at - pointers->back.size());
      for (const SkipPointer& skip : pointers->skip) {
        if (skip.version >= to) next = std::min(next, skip.version);
      }
      if (next >= at) FAIL("version " << at << " leads nowhere");
      at = next;
    }
    return hops;
  }

 private:
  std::vector<Stored> events_;
  PlacePointers pointers_;
  uint64_t last_ = 0;
};

// 32 steps within each of the levels 32, 1024, 32,768 that the distance spans, and one onto the first multiple.
constexpr int kMaxHopsBelowAMillion = 97;

TEST_CASE("Every event of an aggregate saved at random points to its 32 predecessors and its skip targets",
          "[jetstream]") {
  CheckProperty([] {
    Aggregate aggregate;
    const auto versions = *rc::gen::weightedOneOf<uint64_t>(
        {{4, rc::gen::inRange<uint64_t>(1, 200)}, {1, rc::gen::inRange<uint64_t>(1000, 3000)}});
    while (aggregate.version() < versions) {
      const int events = *rc::gen::weightedOneOf<int>({{3, rc::gen::just(1)},
                                                       {3, rc::gen::inRange(1, 5)},
                                                       {2, rc::gen::inRange(5, 100)},
                                                       {1, rc::gen::inRange(900, 1001)}});
      const auto gap = *rc::gen::weightedOneOf<uint64_t>({{2, rc::gen::just<uint64_t>(0)},
                                                          {2, rc::gen::inRange<uint64_t>(1, 100)},
                                                          {1, rc::gen::inRange<uint64_t>(1, uint64_t{1} << 40)}});
      const auto inside =
          *rc::gen::weightedOneOf<uint64_t>({{3, rc::gen::just<uint64_t>(0)}, {1, rc::gen::inRange<uint64_t>(1, 4)}});
      aggregate.Save(events, gap, inside);
    }
    for (uint64_t v = 1; v <= aggregate.version(); ++v) RC_ASSERT(aggregate.Decode(v) == aggregate.Expected(v));
    const auto from = *rc::gen::inRange<uint64_t>(1, aggregate.version() + 1);
    const auto to = *rc::gen::inRange<uint64_t>(1, from + 1);
    RC_ASSERT(aggregate.Hops(from, to) <= kMaxHopsBelowAMillion);
  });
}

TEST_CASE("Pointers stay right over the second skip level", "[jetstream]") {
  Aggregate aggregate;
  for (int i = 0; aggregate.version() < 40'000; ++i)
    aggregate.Save(1 + i % 7, static_cast<uint64_t>(i % 11) * 1000, static_cast<uint64_t>(i % 2));
  for (uint64_t v = 1; v <= aggregate.version(); ++v) {
    if (aggregate.Decode(v) != aggregate.Expected(v)) FAIL("wrong pointers of version " << v);
  }
  int most = 0;
  for (uint64_t to = 1; to < aggregate.version(); to += 37)
    most = std::max(most, aggregate.Hops(aggregate.version(), to));
  for (uint64_t from = 2; from < aggregate.version(); from += 41) most = std::max(most, aggregate.Hops(from, 1));
  CHECK(most <= kMaxHopsBelowAMillion);
}

TEST_CASE("A header stays short however the events lie", "[jetstream]") {
  Aggregate aggregate;
  for (int i = 0; i < 2000; ++i) aggregate.Save(1, (uint64_t{1} << 40) + static_cast<uint64_t>(i * 7919 % 104'729), 0);
  size_t longest = 0;
  for (uint64_t v = 1; v <= aggregate.version(); ++v) {
    longest = std::max(longest, aggregate.stored(v).back.size() + aggregate.stored(v).skip.size());
  }
  CHECK(longest < 600);
}

TEST_CASE("Pointers are spelled as the format says", "[jetstream]") {
  const auto stored = [](uint64_t sequence) { return EventPlace{.in_batch = false, .number = sequence}; };
  const auto batch = [](uint64_t index) { return EventPlace{.in_batch = true, .number = index}; };
  CHECK(EncodeBackPointers({}, 0) == "");
  CHECK(EncodeBackPointers({.back = {stored(8120)}, .skip = {}}, 0) == "8120");
  CHECK(EncodeBackPointers({.back = {stored(8120), stored(8100)}, .skip = {}}, 0) == "8120,20");
  CHECK(EncodeBackPointers({.back = {batch(1), batch(0), stored(8120), stored(8100)}, .skip = {}}, 2) == "1x2;8120,20");
  CHECK(EncodeBackPointers({.back = {batch(4), batch(1)}, .skip = {}}, 5) == "1,3;");
  CHECK(EncodeBackPointers({.back = {stored(9), stored(8), stored(7), stored(5)}, .skip = {}}, 0) == "9,1x2,2");
  CHECK(EncodeSkipPointers({.back = {}, .skip = {{2048, batch(3)}, {1024, stored(77)}}}, 40) == "2048:-37,1024:77");

  // The examples of server/jetstream/README.md.
  CHECK(EncodeBackPointers({.back = {batch(1), batch(0), stored(8120), stored(8100), stored(8090)}, .skip = {}}, 2) ==
        "1x2;8120,20,10");
  CHECK(EncodeBackPointers({.back = {stored(8120), stored(8100), stored(8090)}, .skip = {}}, 0) == "8120,20,10");
  const std::optional<Pointers> readme = DecodePointers("1x2;8120,20,10", "", 6, 9000);
  REQUIRE(readme.has_value());
  CHECK(readme->back == std::vector<uint64_t>{8999, 8998, 8120, 8100, 8090});

  const std::optional<Pointers> example = DecodePointers("1x2;8120,20", "", 5, 9000);
  REQUIRE(example.has_value());
  CHECK(example->back == std::vector<uint64_t>{8999, 8998, 8120, 8100});
}

TEST_CASE("Skip targets are the last multiples beyond the 32, each once", "[jetstream]") {
  CHECK(SkipTargets(1).empty());
  CHECK(SkipTargets(1025).empty());
  CHECK(SkipTargets(1056).empty());
  CHECK(SkipTargets(1057) == std::vector<uint64_t>{1024});
  CHECK(SkipTargets(2048) == std::vector<uint64_t>{1024});
  CHECK(SkipTargets(2050).empty());  // 2048 is among the 32.
  CHECK(SkipTargets(32'768) == std::vector<uint64_t>{31'744});
  CHECK(SkipTargets(32'769).empty());
  CHECK(SkipTargets(32'801) == std::vector<uint64_t>{32'768});
  CHECK(SkipTargets(34'000) == std::vector<uint64_t>{33'792, 32'768});
  CHECK(SkipTargets(1'048'576 + 32'768 + 1024 + 33) == std::vector<uint64_t>{1'082'368, 1'081'344, 1'048'576});
}

TEST_CASE("Malformed pointers are refused", "[jetstream]") {
  // Version 3 at sequence 100 has two predecessors.
  for (const char* back : {"90,5", "1,5;", "1;90", "10x2;", "99,98", "90;5"}) {
    INFO(back);
    CHECK(DecodePointers(back, "", 3, 100).has_value());
  }
  for (const char* back : {"",
                           "90",
                           "90,5,1",
                           "1x3;",
                           "1;90,5",  // Not two.
                           "100,1",
                           "101,1",
                           "90,90",
                           "90,91",
                           "0,1",
                           "90,0",
                           "1;99",
                           "50x2;",  // Not below.
                           ";90,5",
                           "1;1;90",
                           "1,90",
                           ",90",
                           "90,",
                           "90,,5",
                           "90 ,5",
                           "90, 5",
                           "+90,5",
                           "-90,5",
                           "090,5",
                           "90,5x1",
                           "90x2",
                           "90,x",
                           "90,5x",
                           "1x;90",
                           "1x2x1;",
                           "1x02;",
                           "90,5\r\n",
                           "0x5A,5",
                           "90.5",
                           "18446744073709551616,1",
                           "1x18446744073709551615;",
                           "a,b"}) {
    INFO(back);
    CHECK_FALSE(DecodePointers(back, "", 3, 100).has_value());
  }
  CHECK(DecodePointers("", "", 1, 100).has_value());
  CHECK_FALSE(DecodePointers("1;", "", 1, 100).has_value());
  CHECK_FALSE(DecodePointers("", "", 0, 100).has_value());
  CHECK_FALSE(DecodePointers("1x33;", "", 34, 100).has_value());

  // Version 1057 at sequence 5000 reaches back to version 1025 at 4968 and skips to version 1024.
  for (const char* skip : {"1024:4967", "1024:-33", "1024:1"}) {
    INFO(skip);
    CHECK(DecodePointers("1x32;", skip, 1057, 5000).has_value());
  }
  for (const char* skip : {"",
                           "1024",
                           "1024:",
                           "1024:-",
                           "1024:0",
                           "1024:-0",
                           "1024:--33",
                           "1024:+1",
                           "1024:01",
                           "1024:4968",
                           "1024:5000",
                           "1024:-32",
                           "1024:-5000",
                           "1024:1,",
                           ",1024:1",
                           "1024:1,1024:1",
                           "1023:1",
                           "2048:1",
                           "01024:1",
                           "1024:1:1",
                           "1024: 1",
                           "1024:1 ",
                           "1024:18446744073709551616"}) {
    INFO(skip);
    CHECK_FALSE(DecodePointers("1x32;", skip, 1057, 5000).has_value());
  }
  CHECK_FALSE(DecodePointers("90,5", "1:1", 3, 100).has_value());  // Nothing to skip to.
  // Two levels; the second one must lie below the first.
  CHECK(DecodePointers("1x32;", "33792:500,32768:400", 34'000, 90'000).has_value());
  CHECK_FALSE(DecodePointers("1x32;", "33792:500,32768:500", 34'000, 90'000).has_value());
  CHECK_FALSE(DecodePointers("1x32;", "32768:400,33792:500", 34'000, 90'000).has_value());
  CHECK_FALSE(DecodePointers("1x32;", "33792:500", 34'000, 90'000).has_value());
}

TEST_CASE("Whatever is read as pointers is strictly descending below the event", "[jetstream]") {
  const auto nearly = rc::gen::container<std::string>(rc::gen::elementOf(std::string("0123456789,,xx;;:-1 +")));
  CheckProperty([nearly] {
    const std::string back = *rc::gen::oneOf(AnyBytes(), nearly);
    const std::string skip = *rc::gen::oneOf(rc::gen::just(std::string()), AnyBytes(), nearly);
    const auto version = *rc::gen::weightedOneOf<uint64_t>(
        {{5, rc::gen::inRange<uint64_t>(0, 40)}, {1, rc::gen::arbitrary<uint64_t>()}, {1, rc::gen::just(UINT64_MAX)}});
    const auto sequence = *rc::gen::weightedOneOf<uint64_t>(
        {{1, rc::gen::inRange<uint64_t>(0, 100)}, {1, rc::gen::arbitrary<uint64_t>()}, {1, rc::gen::just(UINT64_MAX)}});
    const std::optional<Pointers> pointers = DecodePointers(back, skip, version, sequence);
    if (!pointers.has_value()) return;
    uint64_t above = sequence;
    for (const uint64_t place : pointers->back) {
      RC_ASSERT(place < above);
      above = place;
    }
    for (const SkipPointer& pointer : pointers->skip) {
      RC_ASSERT(pointer.sequence < above);
      above = pointer.sequence;
    }
    RC_ASSERT(pointers->back.empty() || above > 0u);
  });
}

}  // namespace
}  // namespace persistd::jetstream
