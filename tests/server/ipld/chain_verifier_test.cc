#include "server/ipld/chain_verifier.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <ostream>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "server/ipld/cid.h"
#include "server/ipld/event_block.h"
#include "tests/testing/catch.h"
#include "tests/testing/properties.h"

namespace persistd::ipld {

std::ostream& operator<<(std::ostream& out, BreakReason reason) { return out << std::string(ToString(reason)); }

namespace {

using domain::RecordedEvent;

// A message of the aggregate.
struct Stored {
  RecordedEvent event{};
  bool unreadable = false;
  bool group_complete = true;
};
using Messages = std::vector<Stored>;

// Writes a history as persistd does.
class Writer {
 public:
  Messages messages{};

  // A save of `size` events, of which the first `stored` are there.
  Writer& Save(uint32_t size = 1, uint32_t stored = 0, bool chained = true) {
    const bool torn = stored > 0 && stored < size;
    const std::string commit = "c" + std::to_string(++commits_);
    std::string previous = head_;
    for (uint32_t i = 0; i < (torn ? stored : size); ++i) {
      RecordedEvent event = Event(version_ + 1 + i, commit, i, size);
      if (chained) {
        event.prev_cid = previous;
        AddCids(event, {});
      }
      previous = event.cid;
      messages.push_back({.event = std::move(event)});
    }
    if (torn) return *this;
    version_ += size;
    head_ = previous;
    return *this;
  }

  // One event of a commit of several aggregates, whose end is there or not.
  Writer& SaveInGroup(bool complete) {
    Save();
    RecordedEvent& event = messages.back().event;
    event.group_place = 1;
    event.group_size = 2;
    AddCids(event, {});
    messages.back().group_complete = complete;
    if (complete) {
      head_ = event.cid;
    } else {
      --version_;
      head_ = event.prev_cid;
    }
    return *this;
  }

  static RecordedEvent Event(uint64_t version, std::string commit, uint32_t index, uint32_t size) {
    RecordedEvent event;
    event.ref = {.context = "sales", .aggregate = "order", .entity_id = "4711"};
    event.version = version;
    event.event_id = "e" + std::to_string(version) + commit;
    event.type = "changed";
    event.payload = {.content_type = "text/plain", .data = "payload " + std::to_string(version)};
    event.time = base::WallTime(std::chrono::seconds(version));
    event.recorded_time = event.time;
    event.commit_id = std::move(commit);
    event.commit_index = index;
    event.commit_size = size;
    return event;
  }

  uint64_t version() const { return version_; }
  const std::string& head() const { return head_; }

 private:
  uint64_t version_ = 0;
  uint64_t commits_ = 0;
  std::string head_{};
};

ChainResult Verify(const Messages& messages, ChainRange range = {}) {
  ChainVerifier verifier(std::move(range));
  uint64_t sequence = 10;
  for (const Stored& stored : messages) {
    RecordedEvent event = stored.event;
    event.sequence = ++sequence;
    if (stored.unreadable) {
      verifier.AddUnreadable(sequence, "header ce-id is missing");
    } else {
      verifier.Add(event, {}, stored.group_complete);
    }
  }
  return verifier.Finish();
}

void CheckBroken(const Messages& messages, uint64_t version, BreakReason reason, ChainRange range = {}) {
  const ChainResult result = Verify(messages, std::move(range));
  REQUIRE(result.first_break.has_value());
  INFO(result.first_break->detail);
  CHECK(result.first_break->version == version);
  CHECK(result.first_break->reason == reason);
  CHECK_FALSE(result.first_break->detail.empty());
}

// The message of a version; the last one where there are several.
size_t At(const Messages& messages, uint64_t version) {
  for (size_t i = messages.size(); i-- > 0;) {
    if (messages[i].event.version == version) return i;
  }
  FAIL("no version " << version);
  return 0;
}

void Remove(Messages& messages, uint64_t version) {
  messages.erase(messages.begin() + static_cast<std::ptrdiff_t>(At(messages, version)));
}

void Insert(Messages& messages, size_t at, RecordedEvent event) {
  messages.insert(messages.begin() + static_cast<std::ptrdiff_t>(at), Stored{.event = std::move(event)});
}

// One, two, three, one, two events: versions 1, 2-3, 4-6, 7, 8-9.
Writer Nine() {
  Writer writer;
  writer.Save().Save(2).Save(3).Save().Save(2);
  return writer;
}

// Ten saves of one event.
Writer Ten() {
  Writer writer;
  for (int i = 0; i < 10; ++i) writer.Save();
  return writer;
}

TEST_CASE("An honest chain verifies", "[chain]") {
  const Writer writer = Nine();
  const ChainResult result = Verify(writer.messages, {.expected_head_cid = writer.head()});
  CHECK_FALSE(result.first_break.has_value());
  CHECK(result.verified == 9);
  CHECK(result.without_cid == 0);
  CHECK(result.verifiable_from == 1);
  CHECK(result.head_version == 9);
  CHECK(result.head_cid == writer.head());
}

TEST_CASE("An aggregate without events verifies as nothing", "[chain]") {
  const ChainResult result = Verify({});
  CHECK_FALSE(result.first_break.has_value());
  CHECK(result.verified == 0);
  CHECK(result.verifiable_from == 0);
}

TEST_CASE("Events without CID are counted, and the chain begins after them", "[chain]") {
  Writer writer;
  writer.Save().Save(2, 0, false).Save(1, 0, false).Save().Save(2);
  const ChainResult result = Verify(writer.messages);
  CHECK_FALSE(result.first_break.has_value());
  CHECK(result.verified == 4);
  CHECK(result.without_cid == 3);
  CHECK(result.verifiable_from == 5);
  writer.Save(1, 0, false);
  const ChainResult off = Verify(writer.messages);
  CHECK_FALSE(off.first_break.has_value());
  CHECK(off.verifiable_from == 0);
  CHECK(off.head_version == 7);
}

TEST_CASE("Removed, doubled and misplaced events are found without CIDs, too", "[chain]") {
  Writer writer;
  for (int i = 0; i < 6; ++i) writer.Save(1, 0, false);
  Messages removed = writer.messages;
  Remove(removed, 3);
  CheckBroken(removed, 3, BreakReason::kEventRemoved);
  Messages swapped = writer.messages;
  std::swap(swapped[2], swapped[3]);
  CheckBroken(swapped, 3, BreakReason::kEventReordered);
  Messages doubled = writer.messages;
  Insert(doubled, 5, doubled[1].event);
  CheckBroken(doubled, 2, BreakReason::kEventInserted);
}

TEST_CASE("A torn save that is repeated is no break", "[chain]") {
  Writer writer;
  writer.Save(2).Save(3, 1).Save(3, 2).Save(3).Save();
  const ChainResult result = Verify(writer.messages);
  CHECK_FALSE(result.first_break.has_value());
  CHECK(result.verified == 6);
  CHECK(result.head_cid == writer.head());
}

TEST_CASE("A torn save that another one follows is no break", "[chain]") {
  Writer writer;
  writer.Save(2).Save(3, 2).Save().Save(4, 1);
  const ChainResult result = Verify(writer.messages);
  CHECK_FALSE(result.first_break.has_value());
  CHECK(result.verified == 3);
  CHECK(result.head_version == 3);
}

TEST_CASE("An incomplete save that a later version follows is an event removed", "[chain]") {
  Messages messages = Nine().messages;
  Remove(messages, 6);
  CheckBroken(messages, 6, BreakReason::kEventRemoved);
  Remove(messages, 5);
  CheckBroken(messages, 5, BreakReason::kEventRemoved);
  Messages first = Nine().messages;
  Remove(first, 4);
  CheckBroken(first, 4, BreakReason::kEventRemoved);
}

TEST_CASE("A torn commit of several aggregates is dropped", "[chain]") {
  Writer writer;
  writer.Save().SaveInGroup(false).Save().SaveInGroup(true).Save().SaveInGroup(false);
  const ChainResult result = Verify(writer.messages);
  CHECK_FALSE(result.first_break.has_value());
  CHECK(result.verified == 4);
  CHECK(result.head_version == 4);
}

TEST_CASE("What other aggregates miss of a commit is no break of a history that goes on", "[chain]") {
  Writer writer;
  writer.Save().SaveInGroup(true).Save();
  writer.messages[1].group_complete = false;
  const ChainResult result = Verify(writer.messages);
  CHECK_FALSE(result.first_break.has_value());
  CHECK(result.verified == 3);
}

TEST_CASE("A payload that was altered", "[chain]") {
  for (uint64_t version = 1; version <= 9; ++version) {
    Messages messages = Nine().messages;
    messages[At(messages, version)].event.payload.data += "!";
    CheckBroken(messages, version, BreakReason::kPayloadAltered);
    const ChainResult result = Verify(messages);
    CHECK(result.verified == version - 1);
    CHECK(result.first_break->expected == messages[version - 1].event.payload_cid);
    CHECK(result.first_break->sequence == 10 + version);
  }
}

TEST_CASE("Metadata, links and CIDs that were altered", "[chain]") {
  using Change = std::function<void(RecordedEvent&)>;
  const std::vector<Change> changes = {
      [](RecordedEvent& e) { e.metadata.actor = "somebody else"; },
      [](RecordedEvent& e) { e.recorded_time += std::chrono::seconds(1); },
      [](RecordedEvent& e) { e.prev_cid = RawCid("x").ToString(); },
      [](RecordedEvent& e) { e.payload_cid = RawCid("x").ToString(); },
      [](RecordedEvent& e) { e.cid = RawCid("x").ToString(); },
      [](RecordedEvent& e) { e.cid = "no CID"; },
      [](RecordedEvent& e) { e.cid.clear(); },
      [](RecordedEvent& e) { e.commit_size += 1; },
      [](RecordedEvent& e) { e.commit_id = "other"; },
  };
  for (size_t i = 0; i < changes.size(); ++i) {
    for (uint64_t version = 1; version <= 9; ++version) {
      INFO("change " << i << " of version " << version);
      Messages messages = Nine().messages;
      changes[i](messages[At(messages, version)].event);
      CheckBroken(messages, version, BreakReason::kMetadataAltered);
    }
  }
}

TEST_CASE("All CIDs of an event taken away are noticed at the next one", "[chain]") {
  Messages messages = Ten().messages;
  RecordedEvent& event = messages[3].event;
  const std::string cid = event.cid;
  event.cid.clear();
  event.prev_cid.clear();
  event.payload_cid.clear();
  CheckBroken(messages, 4, BreakReason::kMetadataAltered);
  CHECK(Verify(messages).first_break->expected == cid);
}

TEST_CASE("A version that was changed", "[chain]") {
  for (uint64_t version = 1; version <= 10; ++version) {
    for (const uint64_t other : {uint64_t{1}, uint64_t{4}, version + 1, uint64_t{9}, uint64_t{20}}) {
      if (other == version) continue;
      INFO("version " << version << " as " << other);
      Messages messages = Ten().messages;
      messages[version - 1].event.version = other;
      CheckBroken(messages, version, BreakReason::kVersionChanged);
    }
  }
}

TEST_CASE("A version that was changed together with the CID", "[chain]") {
  Messages messages = Ten().messages;
  messages[4].event.version = 8;
  AddCids(messages[4].event, {});
  CheckBroken(messages, 5, BreakReason::kVersionChanged);
}

TEST_CASE("An event that was removed", "[chain]") {
  const Writer writer = Ten();
  for (uint64_t version = 1; version <= 9; ++version) {
    Messages messages = writer.messages;
    Remove(messages, version);
    CheckBroken(messages, version, BreakReason::kEventRemoved);
    CHECK(Verify(messages).first_break->expected == writer.messages[version - 1].event.cid);
  }
}

TEST_CASE("Events that were removed together", "[chain]") {
  Messages messages = Ten().messages;
  messages.erase(messages.begin() + 2, messages.begin() + 6);
  CheckBroken(messages, 3, BreakReason::kEventRemoved);
}

TEST_CASE("Events that were swapped", "[chain]") {
  for (size_t a = 0; a < 9; ++a) {
    for (size_t b = a + 1; b < 9; ++b) {
      for (const Writer& writer : {Nine(), Ten()}) {
        INFO("messages " << a << " and " << b);
        Messages messages = writer.messages;
        std::swap(messages[a], messages[b]);
        CheckBroken(messages, a + 1, BreakReason::kEventReordered);
      }
    }
  }
}

TEST_CASE("A second event of a version is the intruder if nobody continues it", "[chain]") {
  const Messages honest = Ten().messages;
  const bool linked = GENERATE(true, false);
  for (uint64_t version = 1; version <= 10; ++version) {
    RecordedEvent forged = Writer::Event(version, "forged", 0, 1);
    if (linked) forged.prev_cid = honest[version - 1].event.prev_cid;
    AddCids(forged, {});
    for (size_t at = version - 1; at <= 10; ++at) {
      INFO("version " << version << " at " << at << (linked ? " linked" : ""));
      Messages messages = honest;
      Insert(messages, at, forged);
      CheckBroken(messages, version, BreakReason::kEventInserted);
      if (at == version - 1 && version < 10) {
        CHECK(Verify(messages).first_break->actual == forged.cid);
        CHECK(Verify(messages).first_break->expected == honest[version - 1].event.cid);
      }
    }
  }
}

TEST_CASE("An event between the parts of a save is an intruder", "[chain]") {
  const Messages honest = Nine().messages;
  for (const uint64_t version : {uint64_t{4}, uint64_t{5}, uint64_t{6}}) {
    for (const size_t at : {size_t{4}, size_t{5}}) {
      RecordedEvent forged = Writer::Event(version, "forged", 0, 1);
      forged.prev_cid = honest[version - 1].event.prev_cid;
      AddCids(forged, {});
      INFO("version " << version << " at " << at);
      Messages messages = honest;
      Insert(messages, at, forged);
      CheckBroken(messages, version, BreakReason::kEventInserted);
    }
  }
}

TEST_CASE("An event of a version out of place, which nobody continues, is an intruder", "[chain]") {
  const Messages honest = Ten().messages;
  for (const uint64_t version : {uint64_t{8}, uint64_t{12}, uint64_t{500}}) {
    RecordedEvent forged = Writer::Event(version, "forged", 0, 1);
    forged.prev_cid = honest[3].event.cid;
    AddCids(forged, {});
    Messages messages = honest;
    Insert(messages, 4, forged);
    CheckBroken(messages, version, BreakReason::kEventInserted);
  }
  RecordedEvent forged = Writer::Event(15, "forged", 0, 1);
  forged.prev_cid = honest.back().event.cid;
  AddCids(forged, {});
  Messages messages = honest;
  Insert(messages, 10, forged);
  CheckBroken(messages, 15, BreakReason::kEventInserted);
}

TEST_CASE("A copy of a message is an intruder", "[chain]") {
  const Messages honest = Ten().messages;
  for (size_t from = 0; from < 10; ++from) {
    for (size_t at = 0; at <= 10; ++at) {
      INFO("message " << from << " copied to " << at);
      Messages messages = honest;
      Insert(messages, at, honest[from].event);
      CheckBroken(messages, from + 1, BreakReason::kEventInserted);
    }
  }
}

TEST_CASE("An event that was replaced as a whole", "[chain]") {
  const Messages honest = Nine().messages;
  for (uint64_t version = 1; version <= 8; ++version) {
    for (const bool linked : {true, false}) {
      INFO("version " << version << (linked ? " linked" : ""));
      Messages messages = honest;
      RecordedEvent& event = messages[version - 1].event;
      event.payload.data = "forged";
      if (!linked && version > 1) event.prev_cid = RawCid("x").ToString();
      AddCids(event, {});
      CheckBroken(messages, version, BreakReason::kEventReplaced);
      const ChainBreak found = *Verify(messages).first_break;
      CHECK(found.expected == honest[version - 1].event.cid);
      CHECK(found.actual == event.cid);
    }
  }
}

TEST_CASE("An end that was cut off is noticed by the expected head", "[chain]") {
  const Writer writer = Nine();
  Messages messages = writer.messages;
  messages.pop_back();
  CHECK_FALSE(Verify(messages).first_break.has_value());
  CheckBroken(messages, 8, BreakReason::kTailCut, {.expected_head_cid = writer.head()});
  messages.resize(6);
  CheckBroken(messages, 7, BreakReason::kTailCut, {.expected_head_cid = writer.head()});
  // Any event's will do.
  CHECK_FALSE(Verify(writer.messages, {.expected_head_cid = writer.messages[3].event.cid}).first_break.has_value());
  // But it must be within the range.
  CheckBroken(writer.messages, 3, BreakReason::kTailCut,
              {.last = 3, .expected_head_cid = writer.messages[3].event.cid});
}

TEST_CASE("A message that cannot be read", "[chain]") {
  const Messages honest = Nine().messages;
  for (uint64_t version = 1; version <= 9; ++version) {
    Messages messages = honest;
    messages[version - 1].unreadable = true;
    CheckBroken(messages, version, BreakReason::kUnreadable);
  }
  // In a torn save it is not part of the history.
  Writer writer;
  writer.Save(2).Save(3, 2).Save(3);
  writer.messages[3].unreadable = true;
  CHECK_FALSE(Verify(writer.messages).first_break.has_value());
}

TEST_CASE("A range begins after an event, whose CID is computed", "[chain]") {
  const Writer writer = Nine();
  for (uint64_t first = 2; first <= 9; ++first) {
    INFO("from " << first);
    const std::string previous = writer.messages[first - 2].event.cid;
    const ChainResult result = Verify(writer.messages, {.first = first, .expected_previous_cid = previous});
    CHECK_FALSE(result.first_break.has_value());
    CHECK(result.verified == 10 - first);
    CHECK(result.verifiable_from == first);
    CheckBroken(writer.messages, first - 1, BreakReason::kPreviousDiffers,
                {.first = first, .expected_previous_cid = RawCid("x").ToString()});
    for (const bool payload : {true, false}) {
      Messages messages = writer.messages;
      RecordedEvent& event = messages[first - 2].event;
      (payload ? event.payload.data : event.metadata.actor) = "altered";
      CheckBroken(messages, first - 1, BreakReason::kPreviousDiffers, {.first = first});
      AddCids(event, {});
      CheckBroken(messages, first - 1, BreakReason::kPreviousDiffers, {.first = first});
    }
    Messages messages = writer.messages;
    Remove(messages, first - 1);
    CheckBroken(messages, first - 1, BreakReason::kPreviousDiffers, {.first = first});
  }
}

TEST_CASE("A range may begin and end inside a save, and near torn ones", "[chain]") {
  Writer writer;
  writer.Save(2).Save(3, 2).Save(3).Save();
  for (uint64_t first = 1; first <= 6; ++first) {
    for (uint64_t last = first; last <= 6; ++last) {
      INFO(first << " to " << last);
      const ChainResult result = Verify(writer.messages, {.first = first, .last = last});
      CHECK_FALSE(result.first_break.has_value());
      CHECK(result.verified == last - first + 1);
      CHECK(result.head_version == last);
    }
  }
}

TEST_CASE("The event before the range may be in a torn save that is repeated", "[chain]") {
  Writer writer;
  writer.Save(4).Save(3, 2).Save(3, 1).Save(3).Save();
  for (const uint64_t previous : {uint64_t{5}, uint64_t{6}, uint64_t{7}}) {
    INFO("after " << previous);
    const std::string cid = writer.messages[At(writer.messages, previous)].event.cid;
    const ChainResult result = Verify(
        writer.messages, {.first = previous + 1, .expected_head_cid = writer.head(), .expected_previous_cid = cid});
    CHECK_FALSE(result.first_break.has_value());
    CHECK(result.verified == 8 - previous);
    CheckBroken(writer.messages, previous, BreakReason::kPreviousDiffers,
                {.first = previous + 1, .expected_previous_cid = RawCid("x").ToString()});
  }
  // Of a torn commit of several aggregates.
  Writer group;
  group.Save().SaveInGroup(false).SaveInGroup(true).Save();
  const std::string cid = group.messages[2].event.cid;
  CHECK_FALSE(Verify(group.messages, {.first = 3, .expected_previous_cid = cid}).first_break.has_value());
  CheckBroken(group.messages, 2, BreakReason::kPreviousDiffers,
              {.first = 3, .expected_previous_cid = group.messages[1].event.cid});
}

TEST_CASE("The event before the range is to blame before what its save lacks", "[chain]") {
  const Writer writer = Nine();  // Versions 4 to 6 are one save.
  for (const uint64_t removed : {uint64_t{5}, uint64_t{6}}) {
    Messages messages = writer.messages;
    Remove(messages, removed);
    CheckBroken(messages, 4, BreakReason::kPreviousDiffers,
                {.first = 5, .expected_previous_cid = RawCid("x").ToString()});
    CheckBroken(messages, removed, BreakReason::kEventRemoved, {.first = 5});
  }
  Messages messages = writer.messages;
  messages.resize(5);
  CheckBroken(messages, 4, BreakReason::kPreviousDiffers,
              {.first = 5, .expected_previous_cid = RawCid("x").ToString()});
}

TEST_CASE("Once the first thing that is wrong is known, nothing more is needed", "[chain]") {
  const Messages honest = Ten().messages;
  Messages messages = honest;
  messages[2].event.payload.data = "altered";
  ChainVerifier verifier({});
  for (size_t i = 0; i < 3; ++i) {
    CHECK_FALSE(verifier.concluded());
    verifier.Add(messages[i].event, {});
  }
  CHECK_FALSE(verifier.concluded());  // The next one may be the real version 3.
  verifier.Add(messages[3].event, {});
  CHECK(verifier.concluded());
  CHECK(verifier.Finish().first_break->reason == BreakReason::kPayloadAltered);
}

TEST_CASE("What is wrong outside of the range is not told", "[chain]") {
  Messages messages = Ten().messages;
  messages[1].event.payload.data = "altered";
  messages[7].event.payload.data = "altered";
  const ChainResult result = Verify(messages, {.first = 4, .last = 7});
  CHECK_FALSE(result.first_break.has_value());
  CHECK(result.verified == 4);
  // That there is something after it can be asked.
  for (const uint64_t last : {uint64_t{7}, uint64_t{8}}) {
    ChainVerifier verifier({.first = 4, .last = last});
    for (const Stored& stored : messages) verifier.Add(stored.event, {});
    CHECK(verifier.wrong_after_range() == (last == 7));
  }
  // But a message that comes later and belongs into the range is.
  Insert(messages, 10, messages[4].event);
  CheckBroken(messages, 5, BreakReason::kEventInserted, {.first = 4, .last = 7});
}

TEST_CASE("A history whose beginning was removed begins later", "[chain]") {
  Messages messages = Nine().messages;
  messages.erase(messages.begin(), messages.begin() + 3);
  const ChainResult result = Verify(messages, {.first = 4, .begins_later = true});
  CHECK_FALSE(result.first_break.has_value());
  CHECK(result.verified == 6);
  CHECK(result.verifiable_from == 4);
  // The last event that was removed is known by its CID; of those before it nothing is.
  const Messages all = Nine().messages;
  CHECK_FALSE(Verify(messages, {.first = 4, .begins_later = true, .expected_head_cid = all[2].event.cid})
                  .first_break.has_value());
  CheckBroken(messages, 10, BreakReason::kTailCut,
              {.first = 4, .begins_later = true, .expected_head_cid = all[1].event.cid});
  CheckBroken(all, 10, BreakReason::kTailCut, {.first = 4, .expected_head_cid = all[2].event.cid});
  // Some of what was removed may have come back.
  Messages rest = Nine().messages;
  rest.erase(rest.begin() + 1);
  CHECK_FALSE(Verify(rest, {.first = 4, .begins_later = true}).first_break.has_value());
  CheckBroken(messages, 1, BreakReason::kEventRemoved);
}

// Honest chains and what is done to them, from a seed.
class Chaos {
 public:
  explicit Chaos(uint32_t seed) : random_(seed) {}

  uint32_t Below(size_t limit) { return static_cast<uint32_t>(random_() % limit); }

  // At least four events.
  Writer Honest(bool torn) {
    Writer writer;
    if (Below(4) == 0) writer.Save(1 + Below(3), 0, false);
    while (writer.version() < 4 || Below(12) != 0) {
      const uint32_t size = 1 + (Below(2) == 0 ? Below(4) : 0);
      if (torn && size > 1 && Below(3) == 0) writer.Save(size, 1 + Below(size - 1));
      writer.Save(size);
    }
    return writer;
  }

 private:
  std::mt19937 random_;
};

TEST_CASE("Honest chains verify, torn saves and all", "[chain]") {
  testing::CheckProperty([] {
    Chaos chaos(*rc::gen::arbitrary<uint32_t>());
    const Writer writer = chaos.Honest(true);
    const uint64_t first = 1 + chaos.Below(writer.version());
    const uint64_t last = first + chaos.Below(writer.version() - first + 1);
    ChainRange range{.first = first, .last = last};
    if (first > 1) range.expected_previous_cid = writer.messages[At(writer.messages, first - 1)].event.cid;
    const ChainResult result = Verify(writer.messages, std::move(range));
    RC_ASSERT_FALSE(result.first_break.has_value());
    RC_ASSERT(result.verified + result.without_cid == last - first + 1);
    const ChainResult whole = Verify(writer.messages, {.expected_head_cid = writer.head()});
    RC_ASSERT_FALSE(whole.first_break.has_value());
    RC_ASSERT(whole.head_cid == writer.head());
    RC_ASSERT(whole.head_version == writer.version());
    RC_ASSERT(whole.verifiable_from == whole.without_cid + 1);
  });
}

// Does one thing to a history without torn saves; what is then to be found.
std::optional<std::pair<uint64_t, BreakReason>> Tamper(Chaos& chaos, Messages& messages) {
  const size_t count = messages.size();
  const size_t i = chaos.Below(count);
  RecordedEvent& event = messages[i].event;
  const uint64_t version = event.version;
  const bool is_last = i + 1 == count;
  const bool next_is_chained = !is_last && !messages[i + 1].event.cid.empty();
  switch (chaos.Below(9)) {
    case 0:
      if (event.cid.empty()) return std::nullopt;
      event.payload.data += "x";
      return {{version, BreakReason::kPayloadAltered}};
    case 1:
      if (event.cid.empty()) return std::nullopt;
      event.metadata.causation_id = "x";
      return {{version, BreakReason::kMetadataAltered}};
    case 2:
      if (is_last) return std::nullopt;  // A tail that was cut.
      messages.erase(messages.begin() + static_cast<std::ptrdiff_t>(i));
      return {{version, BreakReason::kEventRemoved}};
    case 3: {
      const size_t j = chaos.Below(count);
      if (i == j) return std::nullopt;
      std::swap(messages[i], messages[j]);
      return {{std::min(i, j) + 1, BreakReason::kEventReordered}};
    }
    case 4: {
      const size_t j = chaos.Below(count);
      if (i == j) return std::nullopt;
      Stored moved = std::move(messages[i]);
      messages.erase(messages.begin() + static_cast<std::ptrdiff_t>(i));
      messages.insert(messages.begin() + static_cast<std::ptrdiff_t>(j), std::move(moved));
      return {{std::min(i, j) + 1, BreakReason::kEventReordered}};
    }
    case 5: {
      const size_t at = chaos.Below(count + 1);
      // The first event of a save again before the save is complete is what a torn save looks like.
      if (event.commit_index == 0 && event.commit_size > 1 && at <= i + event.commit_size - 1 && at >= i) {
        return std::nullopt;
      }
      Insert(messages, at, RecordedEvent(event));
      return {{version, BreakReason::kEventInserted}};
    }
    case 6: {
      if (event.cid.empty()) return std::nullopt;
      const uint64_t other = 1 + event.commit_index + chaos.Below(count + 5);
      if (other == version) return std::nullopt;
      event.version = other;
      return {{version, BreakReason::kVersionChanged}};
    }
    case 7:
      if (event.cid.empty() || !next_is_chained) return std::nullopt;
      event.type = "forged";
      AddCids(event, {});
      return {{version, BreakReason::kEventReplaced}};
    default:
      messages[i].unreadable = true;
      return {{version, BreakReason::kUnreadable}};
  }
}

TEST_CASE("Whatever is done to a chain is found where it was done", "[chain]") {
  testing::CheckProperty([] {
    const auto seed = *rc::gen::arbitrary<uint32_t>();
    Chaos chaos(seed);
    Messages messages = chaos.Honest(false).messages;
    const auto expected = Tamper(chaos, messages);
    RC_PRE(expected.has_value());
    const ChainResult result = Verify(messages);
    RC_ASSERT(result.first_break.has_value());
    RC_LOG() << result.first_break->version << " " << ToString(result.first_break->reason) << " not " << expected->first
             << " " << ToString(expected->second);
    RC_ASSERT(result.first_break->version == expected->first);
    RC_ASSERT(result.first_break->reason == expected->second);
  });
}

}  // namespace
}  // namespace persistd::ipld
