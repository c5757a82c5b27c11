// Verification of stored histories: what is done to a stream behind the daemon's back is found, told by its name, and
// never returned by a read as if it were what was saved.
#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cim/persistence/v1/errors.pb.h"
#include "server/domain/errors.h"
#include "server/domain/subject.h"
#include "server/ipld/cid.h"
#include "server/ipld/event_block.h"
#include "server/jetstream/event_codec.h"
#include "tests/server/repository/repository_fixture.h"
#include "tests/server/repository/stream_rebuild.h"
#include "tests/server/repository/verify_fixture.h"
#include "tests/testing/catch.h"
#include "tests/testing/must.h"

namespace persistd::repository {
namespace {

namespace pb = cim::persistence::v1;
using ipld::BreakReason;
using jetstream::Message;
using testing::Must;

// One aggregate's history in a stream of its own, and others in the same.
class Histories {
 public:
  static constexpr uint64_t kVersions = 9;

  explicit Histories(bool others) {
    static int count = 0;
    type_ = "t" + std::to_string(++count);
    const auto other = [&](uint64_t expected) {
      if (others) Must(repository_.Save(Command(Other(), expected)));
    };
    other(0);
    Must(repository_.Save(Command(ref(), 0)));
    other(1);
    other(2);
    Must(repository_.Save(Command(ref(), 1, 3)));
    other(3);
    Must(repository_.Save(Command(ref(), 4)));
    SaveAllCommand all;
    all.saves.push_back(Command(ref(), 5, 2));
    all.saves.push_back(Command(Grouped(), 0));
    Must(base::BlockOn(repository_.repository().SaveAll(std::move(all), TestRepository::In(20s))));
    other(4);
    Must(repository_.Save(Command(ref(), 7)));
    other(5);
    Must(repository_.Save(Command(ref(), 8)));
    HistoryQuery query;
    query.ref = ref();
    for (Event& event : Must(repository_.History(query))) events_.push_back(std::move(event.event));
    REQUIRE(events_.size() == kVersions);
  }

  domain::AggregateRef ref() const { return Named("this"); }
  const std::vector<domain::RecordedEvent>& events() const { return events_; }
  const std::string& head() const { return events_.back().cid; }
  // One save of so many more; they are not among events().
  void SaveMore(size_t count) { Must(repository_.Save(Command(ref(), kVersions, count))); }
  StreamRebuild stream() { return StreamRebuild(&repository_, "CIM-EVENTS+sales+" + type_); }

  static uint64_t VersionOf(const Message& message) {
    const std::string* version = message.headers.Find("ce-aggregateversion");
    return version == nullptr ? 0 : std::stoull(*version);
  }

  // The place of a version in the messages.
  size_t At(const std::vector<Message>& messages, uint64_t version) const {
    for (size_t i = 0; i < messages.size(); ++i) {
      if (messages[i].subject.find(".this.") != std::string::npos && VersionOf(messages[i]) == version) return i;
    }
    FAIL("no version " << version);
    return 0;
  }

 private:
  domain::AggregateRef Named(std::string id) const {
    return {.context = "sales", .aggregate = type_, .entity_id = std::move(id)};
  }
  domain::AggregateRef Other() const { return Named("other"); }
  domain::AggregateRef Grouped() const { return Named("grouped"); }

  TestRepository repository_{Nats().url()};
  std::string type_;
  std::vector<domain::RecordedEvent> events_;
};

// Alters an event and gives it the CIDs that it then has.
void Forge(Message& message, const std::function<void(domain::RecordedEvent&)>& change) {
  jetstream::DecodedEvent decoded = Must(jetstream::DecodeDisplacedEvent(message)).decoded;
  change(decoded.event);
  ipld::AddCids(decoded.event, decoded.labels);
  message.data = decoded.event.payload.data;
  SetHeader(message, "ce-aggregateversion", std::to_string(decoded.event.version));
  SetHeader(message, "ce-commitid", decoded.event.commit_id);
  SetHeader(message, "ce-commitpart",
            std::to_string(decoded.event.commit_index + 1) + "/" + std::to_string(decoded.event.commit_size));
  SetHeader(message, "ce-id", decoded.event.event_id);
  SetHeader(message, "ce-prevcid", decoded.event.prev_cid);
  SetHeader(message, "ce-datacid", decoded.event.payload_cid);
  SetHeader(message, "ce-cid", decoded.event.cid);
}

struct Tampering {
  std::string name;
  std::function<void(const Histories&, std::vector<Message>&)> alter;
  uint64_t version = 0;
  BreakReason reason = BreakReason::kUnreadable;
};

using Messages = std::vector<Message>;

void SwapContents(Message& a, Message& b) {
  std::swap(a, b);
  std::swap(a.sequence, b.sequence);
}

const std::vector<Tampering>& Tamperings() {
  static const std::vector<Tampering> all = {
      {"altered body", [](const Histories& h, Messages& m) { m[h.At(m, 3)].data = "{\"n\":7}"; }, 3,
       BreakReason::kPayloadAltered},
      {"altered body of the last one", [](const Histories& h, Messages& m) { m[h.At(m, 9)].data = "{\"n\":7}"; }, 9,
       BreakReason::kPayloadAltered},
      {"altered header", [](const Histories& h, Messages& m) { SetHeader(m[h.At(m, 6)], "ce-actor", "me"); }, 6,
       BreakReason::kMetadataAltered},
      {"altered header of the last one",
       [](const Histories& h, Messages& m) { SetHeader(m[h.At(m, 9)], "ce-id", "x"); }, 9,
       BreakReason::kMetadataAltered},
      {"CIDs taken away",
       [](const Histories& h, Messages& m) {
         for (const char* name : {"ce-cid", "ce-datacid", "ce-prevcid"}) SetHeader(m[h.At(m, 5)], name, "");
       },
       5, BreakReason::kMetadataAltered},
      {"altered with the CID made anew",
       [](const Histories& h, Messages& m) {
         Forge(m[h.At(m, 5)], [](domain::RecordedEvent& event) { event.payload.data = "{\"forged\":1}"; });
       },
       5, BreakReason::kEventReplaced},
      {"removed", [](const Histories& h, Messages& m) { m.erase(m.begin() + static_cast<std::ptrdiff_t>(h.At(m, 5))); },
       5, BreakReason::kEventRemoved},
      {"removed from a save",
       [](const Histories& h, Messages& m) { m.erase(m.begin() + static_cast<std::ptrdiff_t>(h.At(m, 4))); }, 4,
       BreakReason::kEventRemoved},
      {"removed, and what follows moves up",
       [](const Histories& h, Messages& m) {
         m.erase(m.begin() + static_cast<std::ptrdiff_t>(h.At(m, 5)));
         for (Message& message : m) message.sequence = 0;
       },
       5, BreakReason::kEventRemoved},
      {"removed from a commit of several aggregates",
       [](const Histories& h, Messages& m) { m.erase(m.begin() + static_cast<std::ptrdiff_t>(h.At(m, 6))); }, 6,
       BreakReason::kEventRemoved},
      {"swapped", [](const Histories& h, Messages& m) { SwapContents(m[h.At(m, 8)], m[h.At(m, 9)]); }, 8,
       BreakReason::kEventReordered},
      {"swapped far apart", [](const Histories& h, Messages& m) { SwapContents(m[h.At(m, 2)], m[h.At(m, 8)]); }, 2,
       BreakReason::kEventReordered},
      {"doubled at the end",
       [](const Histories& h, Messages& m) {
         m.push_back(m[h.At(m, 5)]);
         m.back().sequence = 0;
       },
       5, BreakReason::kEventInserted},
      {"first of a save doubled at the end",
       [](const Histories& h, Messages& m) {
         m.push_back(m[h.At(m, 2)]);
         m.back().sequence = 0;
       },
       2, BreakReason::kEventInserted},
      {"inserted",
       [](const Histories& h, Messages& m) {
         Message forged = m[h.At(m, 5)];
         Forge(forged, [](domain::RecordedEvent& event) { event.event_id = "forged"; });
         m.insert(m.begin() + static_cast<std::ptrdiff_t>(h.At(m, 8)), std::move(forged));
       },
       5, BreakReason::kEventInserted},
      {"renumbered", [](const Histories& h, Messages& m) { SetHeader(m[h.At(m, 8)], "ce-aggregateversion", "12"); }, 8,
       BreakReason::kVersionChanged},
      {"renumbered to one that is there",
       [](const Histories& h, Messages& m) { SetHeader(m[h.At(m, 8)], "ce-aggregateversion", "3"); }, 8,
       BreakReason::kVersionChanged},
      {"renumbered with the CID made anew",
       [](const Histories& h, Messages& m) {
         Forge(m[h.At(m, 8)], [](domain::RecordedEvent& event) { event.version = 12; });
       },
       8, BreakReason::kVersionChanged},
      {"cut at the end",
       [](const Histories& h, Messages& m) { m.erase(m.begin() + static_cast<std::ptrdiff_t>(h.At(m, 9)), m.end()); },
       9, BreakReason::kTailCut},
      {"made unreadable", [](const Histories& h, Messages& m) { SetHeader(m[h.At(m, 7)], "ce-id", ""); }, 7,
       BreakReason::kUnreadable},
      {"altered type", [](const Histories& h, Messages& m) { SetHeader(m[h.At(m, 3)], "ce-type", "other"); }, 3,
       BreakReason::kUnreadable},
      {"altered type of the last one",
       [](const Histories& h, Messages& m) { SetHeader(m[h.At(m, 9)], "ce-type", "other"); }, 9,
       BreakReason::kUnreadable},
      {"altered source", [](const Histories& h, Messages& m) { SetHeader(m[h.At(m, 5)], "ce-source", "/sales/x"); }, 5,
       BreakReason::kUnreadable},
      {"altered entity", [](const Histories& h, Messages& m) { SetHeader(m[h.At(m, 8)], "ce-subject", "other"); }, 8,
       BreakReason::kUnreadable},
      {"marked as not ours", [](const Histories& h, Messages& m) { SetHeader(m[h.At(m, 7)], "ce-persistd", ""); }, 7,
       BreakReason::kEventRemoved},
      {"moved up as a whole",
       [](const Histories&, Messages& m) {
         m.insert(m.begin(),
                  Message{.subject = m.front().subject, .headers = {}, .data = "not ours", .sequence = 0, .time = {}});
         for (Message& message : m) message.sequence = 0;
       },
       6, BreakReason::kMisplaced},
  };
  return all;
}

// A read may fail, with the place of what is damaged; but what it returns must be what was saved.
void CheckRead(const absl::Status& status, const std::vector<Event>& read, const Histories& saved) {
  for (const Event& event : read) {
    REQUIRE(event.event.version >= 1);
    REQUIRE(event.event.version <= Histories::kVersions);
    const domain::RecordedEvent& honest = saved.events()[event.event.version - 1];
    CHECK(event.event.payload == honest.payload);
    CHECK(event.event.event_id == honest.event_id);
    CHECK(event.event.metadata == honest.metadata);
  }
  for (size_t i = 1; i < read.size(); ++i) CHECK(read[i].event.version == read[i - 1].event.version + 1);
  if (status.ok()) return;
  INFO(status.ToString());
  REQUIRE(domain::HasReason(status, pb::ERROR_REASON_CORRUPT_DATA));
  CHECK(domain::GetErrorDetail(status)->data_loss().sequence() > 0);
}

void CheckReads(const Histories& histories) {
  TestRepository fresh(Nats().url());
  const absl::StatusOr<LoadResult> loaded = fresh.Load(histories.ref());
  CheckRead(loaded.status(), loaded.ok() ? loaded->events : std::vector<Event>(), histories);
  for (const bool reverse : {false, true}) {
    std::vector<Event> read;
    const EventSink sink = [&read](Event event) -> base::Task<bool> {
      read.push_back(std::move(event));
      co_return true;
    };
    HistoryQuery query;
    query.ref = histories.ref();
    query.reverse = reverse;
    const absl::Status status = base::BlockOn(fresh.repository().History(query, sink, TestRepository::In(20s)));
    if (reverse) std::reverse(read.begin(), read.end());
    CheckRead(status, read, histories);
  }
}

TEST_CASE("Whatever is done to a stream is found, and no read returns it", "[verify]") {
  const bool others = GENERATE(true, false);
  for (const Tampering& tampering : Tamperings()) {
    if (!others && tampering.reason == BreakReason::kMisplaced) continue;  // See below.
    INFO(tampering.name << (others ? " among others" : ""));
    Histories histories(others);
    StreamRebuild stream = histories.stream();
    std::vector<Message> messages = stream.ReadAll();
    tampering.alter(histories, messages);
    stream.Replace(messages);
    TestRepository fresh(Nats().url());
    const Verification verification =
        Must(TryVerify(fresh, {.ref = histories.ref(), .expected_head_cid = histories.head()}));
    REQUIRE(verification.chain.first_break.has_value());
    const ipld::ChainBreak& found = *verification.chain.first_break;
    INFO(found.detail);
    CHECK(found.reason == tampering.reason);
    if (tampering.reason != BreakReason::kMisplaced) CHECK(found.version == tampering.version);
    CHECK(verification.position.streams().size() == 1);
    CheckReads(histories);
  }
}

TEST_CASE("A stream that was copied with its sequences verifies", "[verify]") {
  const bool gap = GENERATE(true, false);
  Histories histories(true);
  StreamRebuild stream = histories.stream();
  std::vector<Message> messages = stream.ReadAll();
  if (gap) messages.erase(messages.begin());  // The first one is another aggregate's.
  stream.Replace(messages);
  TestRepository fresh(Nats().url());
  const ipld::ChainResult result = Verify(fresh, {.ref = histories.ref(), .expected_head_cid = histories.head()});
  CHECK_FALSE(result.first_break.has_value());
  CHECK(result.verified == Histories::kVersions);
  CHECK(Must(fresh.Load(histories.ref())).events.size() == Histories::kVersions);
}

TEST_CASE("A stream without others' messages that moved up is misplaced, not altered", "[verify]") {
  Histories histories(true);
  StreamRebuild stream = histories.stream();
  std::vector<Message> messages = stream.ReadAll();
  messages.erase(messages.begin());
  for (Message& message : messages) message.sequence = 0;
  stream.Replace(messages);
  TestRepository fresh(Nats().url());
  const ipld::ChainResult result = Verify(fresh, {.ref = histories.ref(), .expected_head_cid = histories.head()});
  REQUIRE(result.first_break.has_value());
  CHECK(result.first_break->reason == BreakReason::kMisplaced);
  CHECK(result.first_break->version == 2);  // The first one that has pointers.
  CHECK(result.verified == Histories::kVersions);
  CHECK(result.head_cid == histories.head());
  CheckReads(histories);
  // What is misplaced before a range hides nothing of it.
  for (const uint64_t from : {uint64_t{4}, uint64_t{7}}) {
    const ipld::ChainResult part = Verify(fresh, {.ref = histories.ref(), .from_version = from});
    REQUIRE(part.first_break.has_value());
    CHECK(part.first_break->reason == BreakReason::kMisplaced);
    CHECK(part.first_break->version == from + 1);
  }
}

TEST_CASE("Pointers that were altered are found, though no read needs them", "[verify]") {
  Histories histories(true);
  StreamRebuild stream = histories.stream();
  std::vector<Message> messages = stream.ReadAll();
  Message& altered = messages[histories.At(messages, 5)];
  const std::string* pointers = altered.headers.Find("ce-backpointers");
  REQUIRE((pointers != nullptr && *pointers == "7,1x2,3"));
  SetHeader(altered, "ce-backpointers", "8,1x2,4");  // The first leads to another aggregate's event.
  stream.Replace(messages);
  TestRepository fresh(Nats().url());
  const ipld::ChainResult result = Verify(fresh, {.ref = histories.ref()});
  REQUIRE(result.first_break.has_value());
  CHECK(result.first_break->reason == BreakReason::kMisplaced);
  CHECK(result.first_break->version == 5);
  CHECK_FALSE(Verify(fresh, {.ref = histories.ref(), .from_version = 5}).first_break.has_value());
  CHECK_FALSE(Verify(fresh, {.ref = histories.ref(), .to_version = 4}).first_break.has_value());
  CheckReads(histories);
}

TEST_CASE("What is damaged after a range does not keep it from being verified", "[verify]") {
  using Damage = std::function<void(Message&)>;
  const std::vector<Damage> damages = {
      [](Message& message) { message.data = "{\"n\":7}"; },
      [](Message& message) { SetHeader(message, "ce-id", ""); },
      [](Message& message) { SetHeader(message, "ce-backpointers", "x"); },
  };
  for (size_t i = 0; i < damages.size(); ++i) {
    INFO("damage " << i);
    Histories histories(true);
    StreamRebuild stream = histories.stream();
    std::vector<Message> messages = stream.ReadAll();
    damages[i](messages[histories.At(messages, 9)]);
    stream.Replace(messages);
    TestRepository fresh(Nats().url());
    for (const uint64_t from : {uint64_t{0}, uint64_t{3}}) {
      VerifyCommand command{.ref = histories.ref(), .from_version = from, .to_version = 6};
      command.expected_head_cid = histories.events()[5].cid;
      const ipld::ChainResult result = Verify(fresh, command);
      CHECK_FALSE(result.first_break.has_value());
      CHECK(result.verified == 6 - from);
    }
    CHECK(Verify(fresh, {.ref = histories.ref()}).first_break.has_value());
  }
}

TEST_CASE("A history verifies in ranges", "[verify]") {
  Histories histories(true);
  TestRepository fresh(Nats().url());
  for (uint64_t from = 0; from < Histories::kVersions; ++from) {
    for (uint64_t to = from + 1; to <= Histories::kVersions; ++to) {
      INFO(from << " to " << to);
      VerifyCommand command{.ref = histories.ref(), .from_version = from, .to_version = to};
      command.expected_head_cid = histories.events()[to - 1].cid;
      if (from > 0) command.expected_previous_cid = histories.events()[from - 1].cid;
      const ipld::ChainResult result = Verify(fresh, command);
      CHECK_FALSE(result.first_break.has_value());
      CHECK(result.verified == to - from);
      CHECK(result.head_version == to);
      CHECK(result.verifiable_from == from + 1);
    }
  }
  const ipld::ChainResult other =
      Verify(fresh, {.ref = histories.ref(), .from_version = 4, .expected_previous_cid = ipld::RawCid("x").ToString()});
  REQUIRE(other.first_break.has_value());
  CHECK(other.first_break->reason == BreakReason::kPreviousDiffers);
  CHECK(other.first_break->version == 4);
  const absl::Status beyond = TryVerify(fresh, {.ref = histories.ref(), .from_version = 10}).status();
  CHECK(domain::HasReason(beyond, pb::ERROR_REASON_VERSION_NOT_FOUND));
  const absl::Status nobody = TryVerify(fresh, {.ref = Order("nobody at all")}).status();
  CHECK(domain::HasReason(nobody, pb::ERROR_REASON_AGGREGATE_NOT_FOUND));
}

// Puts torn saves into a stream, as power cuts leave them: all that was saved keeps its place. Needs others' messages.
// Answers with what the aggregate now has.
size_t TearSaves(const Histories& histories, std::vector<Message>& messages) {
  // The three events that were saved last become the first two of four.
  REQUIRE(Histories::VersionOf(messages.back()) == Histories::kVersions + 3);
  messages.pop_back();
  std::string before = histories.head();
  const auto tear = [&before](Message& message) {
    Forge(message, [&before](domain::RecordedEvent& event) {
      event.commit_id = "torn";
      event.commit_size = 4;
      event.prev_cid = before;
      ipld::AddCids(event, {});
      before = event.cid;
    });
  };
  tear(messages[messages.size() - 2]);
  tear(messages[messages.size() - 1]);
  // In the place of two others, the beginning of the save of versions 2 to 4, and of another one in its place.
  const size_t save = histories.At(messages, 2);
  REQUIRE(save >= 2);
  before = histories.events()[0].cid;
  for (size_t i = 0; i < 2; ++i) {
    Message torn = messages[save + i];
    torn.sequence = messages[save - 2 + i].sequence;
    tear(torn);
    messages[save - 2 + i] = std::move(torn);
  }
  return Histories::kVersions + 4;
}

TEST_CASE("Torn saves in a stream are no break", "[verify]") {
  Histories histories(true);
  histories.SaveMore(3);
  StreamRebuild stream = histories.stream();
  std::vector<Message> messages = stream.ReadAll();
  const size_t count = TearSaves(histories, messages);
  stream.Replace(messages);
  TestRepository fresh(Nats().url());
  std::vector<VerifyProgress> told;
  const ipld::ChainResult result =
      Must(TryVerify(fresh, {.ref = histories.ref(), .expected_head_cid = histories.head()}, &told)).chain;
  INFO((result.first_break.has_value() ? result.first_break->detail : ""));
  CHECK_FALSE(result.first_break.has_value());
  CHECK(result.verified == Histories::kVersions);
  CHECK(result.head_version == Histories::kVersions);
  REQUIRE_FALSE(told.empty());  // By subject: by pointers so few would not be told of.
  CHECK(told.back().total == count);
  CHECK(told.back().verified == count);
  // A range may begin after an event that was in a torn save, too.
  for (const uint64_t from : {uint64_t{2}, uint64_t{3}}) {
    INFO("after " << from);
    VerifyCommand command{.ref = histories.ref(), .from_version = from, .expected_head_cid = histories.head()};
    command.expected_previous_cid = histories.events()[from - 1].cid;
    const ipld::ChainResult part = Verify(fresh, command);
    CHECK_FALSE(part.first_break.has_value());
    CHECK(part.verified == Histories::kVersions - from);
  }
  CheckReads(histories);
}

TEST_CASE("A range that begins after the end is not found, also beside torn saves", "[verify]") {
  Histories histories(true);
  histories.SaveMore(3);
  StreamRebuild stream = histories.stream();
  std::vector<Message> messages = stream.ReadAll();
  TearSaves(histories, messages);
  stream.Replace(messages);
  TestRepository fresh(Nats().url());
  const ipld::ChainResult at_end = Verify(fresh, {.ref = histories.ref(), .from_version = Histories::kVersions});
  CHECK_FALSE(at_end.first_break.has_value());
  CHECK(at_end.verified == 0);
  // Versions 10 and 11 are torn.
  for (const uint64_t from : {uint64_t{10}, uint64_t{11}, uint64_t{12}, uint64_t{1000}}) {
    INFO("after " << from);
    const absl::Status status = TryVerify(fresh, {.ref = histories.ref(), .from_version = from}).status();
    REQUIRE(domain::HasReason(status, pb::ERROR_REASON_VERSION_NOT_FOUND));
    CHECK(domain::GetErrorDetail(status)->version_conflict().actual_version() == Histories::kVersions);
  }
}

TEST_CASE("A range that begins after an event that cannot be read is broken, not missing", "[verify]") {
  Histories histories(true);
  StreamRebuild stream = histories.stream();
  std::vector<Message> messages = stream.ReadAll();
  SetHeader(messages[histories.At(messages, 9)], "ce-id", "");
  stream.Replace(messages);
  TestRepository fresh(Nats().url());
  const ipld::ChainResult result = Verify(fresh, {.ref = histories.ref(), .from_version = 9});
  REQUIRE(result.first_break.has_value());
  CHECK(result.first_break->reason == BreakReason::kPreviousDiffers);
  CHECK(result.first_break->version == 9);
}

TEST_CASE("A long history verifies block by block, and tells how far it has come", "[verify]") {
  TestRepository repository(Nats().url());
  const domain::AggregateRef ref = Order("long");
  for (uint64_t version = 0; version < 2600;) {
    const size_t events = version % 700 == 0 ? 300 : 100;
    version = Must(repository.Save(Command(ref, version, events))).info.version;
    if (version % 500 == 0) Must(repository.Save(Command(Order("between"), std::nullopt)));
  }
  std::vector<VerifyProgress> told;
  const Verification verification = Must(TryVerify(repository, {.ref = ref}, &told));
  CHECK_FALSE(verification.chain.first_break.has_value());
  const uint64_t events = verification.chain.verified;
  CHECK(events == Must(repository.Info(ref)).version);
  REQUIRE(told.size() > 4);
  for (const VerifyProgress& progress : told) CHECK(progress.total == events);
  // Whoever goes away ends it.
  const VerifyProgressSink gone = [](VerifyProgress) -> base::Task<bool> { co_return false; };
  const absl::Status status =
      base::BlockOn(repository.repository().VerifyChain({.ref = ref}, gone, TestRepository::In(20s))).status();
  CHECK(absl::IsCancelled(status));
  // For copies.
  std::vector<uint64_t> versions;
  const ChainSink sink = [&versions](ChainedEvent chained) -> base::Task<bool> {
    CHECK_FALSE(ipld::CheckCids(chained.event, chained.labels).has_value());
    versions.push_back(chained.event.version);
    co_return true;
  };
  Must(base::BlockOn(repository.repository().ReadChain(ref, 1001, 2100, sink, TestRepository::In(20s))));
  REQUIRE(versions.size() == 1100);
  CHECK(versions.front() == 1001);
  CHECK(versions.back() == 2100);
}

}  // namespace
}  // namespace persistd::repository
