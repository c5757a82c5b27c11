// Verifies the history of one aggregate from its events as they are stored, one after the other. README.md of this
// folder has the cases. Does no I/O; thread-compatible.
//
//   ChainVerifier verifier(range);
//   for each message of the aggregate, in the order of the stream {
//     verifier.Add(event, labels, group_complete) or verifier.AddUnreadable(sequence, why);
//   }
//   const ChainResult result = verifier.Finish();
//
// Holds two events and a few dozen CIDs at most, however long the history is.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "server/domain/event.h"

namespace persistd::ipld {

// As in chains.proto, whose comments say what each means.
enum class BreakReason {
  kPayloadAltered,
  kMetadataAltered,
  kEventRemoved,
  kEventReordered,
  kEventInserted,
  kVersionChanged,
  kEventReplaced,
  kTailCut,
  kPreviousDiffers,
  kUnreadable,
  kMisplaced,
};

// As logs and people read it: `EVENT_REMOVED`.
absl::string_view ToString(BreakReason reason);

// The first thing that is wrong.
struct ChainBreak {
  uint64_t version = 0;
  BreakReason reason = BreakReason::kUnreadable;
  std::string expected{};  // CIDs; empty: there is none.
  std::string actual{};
  std::string detail{};
  uint64_t sequence = 0;  // Of the message it was noticed at; 0: at the end.
};

struct ChainResult {
  uint64_t verified = 0;         // Events whose bytes match their CID and that continue the event before.
  uint64_t without_cid = 0;      // Events that nothing can be said about.
  uint64_t verifiable_from = 0;  // From this version on each has a CID that leads to the last one; 0: that has none.
  std::string head_cid{};        // Of the last event that was verified.
  uint64_t head_version = 0;
  std::optional<ChainBreak> first_break{};
};

struct ChainRange {
  uint64_t first = 1;                                    // Without `begins_later` the event before it is read as well.
  uint64_t last = std::numeric_limits<uint64_t>::max();  // The events that end the save of this one are read as well.
  bool begins_later = false;                             // The events before `first` were removed after a snapshot.
  // Of an event within the range, or with `begins_later` of the one before it; empty: any.
  std::string expected_head_cid{};
  std::string expected_previous_cid{};                   // Of the event before `first`; empty: the one it carries.
};

class ChainVerifier {
 public:
  explicit ChainVerifier(ChainRange range);

  // labels: those that its message carries. group_complete: false when it is of a commit of several aggregates whose
  // last message is not there.
  void Add(const domain::RecordedEvent& event, const domain::AggregateLabels& labels, bool group_complete = true);
  // A message that is ours, but cannot be read.
  void AddUnreadable(uint64_t sequence, absl::string_view why);

  // Events seen of the range, whatever they turn out to be.
  uint64_t seen() const { return track_.verified + track_.without_cid; }
  // Something is not as in an undisturbed history. It may yet turn out to be nothing, as a torn save does.
  bool suspicious() const { return result_.has_value() || suspicion_.has_value() || torn_; }

  // The first thing that is wrong is known: more messages change nothing.
  bool concluded() const { return result_.has_value(); }
  // Something is wrong after the range, which the result does not tell.
  bool wrong_after_range() const { return past_end_; }

  // To be called once, after the last message.
  ChainResult Finish();

 private:
  // An event as it is remembered, without its payload.
  struct Seen {
    domain::RecordedEvent event{};
    domain::AggregateLabels labels{};
    bool group_complete = true;
    std::optional<ChainBreak> altered{};  // It does not match its own CID.
  };

  // How far the history has come.
  struct Track {
    uint64_t next = 1;      // Version of the next event.
    bool cid_known = true;  // `cid` is that of version next - 1; false: nobody can know.
    std::string cid{};      // Empty: it has none.
    uint64_t sequence = 0;  // Of that event.
    // The save that it belongs to.
    std::string commit_id{};
    uint32_t parts = 0;  // How many of them have come.
    uint32_t size = 0;
    uint64_t save_first = 0;  // The version it begins with.
    std::string save_cid{};   // Of that event.
    bool group_torn = false;  // The end of its commit of several aggregates is missing.
    // Of the range.
    uint64_t verified = 0;
    uint64_t without_cid = 0;
    uint64_t chain_start = 0;
    std::string head_cid{};
    uint64_t head_version = 0;
    bool head_seen = false;

    bool save_open() const { return parts < size; }
  };

  // What is odd, and must be told apart by what follows.
  struct Suspicion {
    enum class Kind {
      kContested,   // `event` is in its place, but not what it must be; `event_break` says what.
      kRival,       // `event` claims the version of the last one.
      kGap,         // `event` has a later version than the next one.
      kUnreadable,  // `event_break` says where.
    };
    Kind kind = Kind::kContested;
    Seen event{};
    ChainBreak event_break{};
    // Of a gap:
    bool continued = false;  // Somebody continues `event`.
    bool others = false;     // More events came that have later versions than the next one.
    bool came = false;       // So did the missing event.
  };

  void Consider(Seen seen);
  bool FindAnchor(const Seen& seen);
  // Of an event with the version that is to be next: what is wrong with it.
  std::optional<ChainBreak> Judge(const Seen& seen) const;
  std::optional<ChainBreak> JudgeLink(const Seen& seen) const;
  void Accept(const Seen& seen);
  // True when `event` begins the save anew that is not complete.
  bool RepeatsTornSave(const domain::RecordedEvent& event) const;
  bool ContinuesDropped(const domain::RecordedEvent& event) const;
  void DropTornSave();

  void Suspect(Suspicion suspicion);
  void Settle(const Seen& seen);
  void SettleContested(const Seen& seen);
  void SettleRival(const domain::RecordedEvent& event);
  void SettleGap(const domain::RecordedEvent& event);
  void SettleAtEnd();
  void SettleGapAtEnd();
  void Conclude(ChainBreak first_break);
  ChainBreak Intruder(uint64_t version, std::string expected, std::string actual, uint64_t sequence) const;

  const ChainRange range_;
  bool anchored_ = true;                    // The event before the range has been found, if there is one.
  std::optional<ChainBreak> anchor_break_;  // It is not the one that was to be expected.
  Track committed_;                         // Before the last save.
  Track track_;                             // With all events.
  std::optional<Track> dropped_;            // With the save that was dropped last because it seemed torn.
  bool torn_ = false;                       // A save was dropped.
  bool past_end_ = false;                   // What is wrong comes after the range.
  std::optional<Suspicion> suspicion_;
  std::optional<ChainBreak> result_;
};

}  // namespace persistd::ipld
