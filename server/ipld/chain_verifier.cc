#include "server/ipld/chain_verifier.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/ipld/event_block.h"

namespace persistd::ipld {
namespace {

// An event that does not match its CID is tried with the versions around its own.
constexpr uint64_t kNearbyVersions = 64;

std::string CidWithVersion(domain::RecordedEvent event, const domain::AggregateLabels& labels, uint64_t version) {
  event.version = version;
  const std::optional<std::string> block = EventBlock(event, labels);
  return block.has_value() ? DagCborCid(*block).ToString() : "";
}

// The version that an event was saved with, if its CID tells that it is another one than the one it has now.
// likely: the one that is tried first.
std::optional<uint64_t> OriginalVersion(const domain::RecordedEvent& event, const domain::AggregateLabels& labels,
                                        uint64_t likely) {
  const auto matches = [&](uint64_t version) {
    return version != event.version && CidWithVersion(event, labels, version) == event.cid;
  };
  if (matches(likely)) return likely;
  for (uint64_t distance = 1; distance <= kNearbyVersions; ++distance) {
    if (matches(event.version + distance)) return event.version + distance;
    if (event.version > distance && matches(event.version - distance)) return event.version - distance;
  }
  return std::nullopt;
}

// What is wrong with an event alone.
std::optional<ChainBreak> CheckAlone(const domain::RecordedEvent& event, const domain::AggregateLabels& labels) {
  ChainBreak altered{.version = event.version, .reason = BreakReason::kMetadataAltered, .sequence = event.sequence};
  if (event.cid.empty() && !(event.payload_cid.empty() && event.prev_cid.empty())) {
    altered.detail = "it has CIDs of its payload or of the event before, but none of its own";
    return altered;
  }
  const std::optional<Mismatch> mismatch = CheckCids(event, labels);
  if (!mismatch.has_value()) return std::nullopt;
  const bool payload = mismatch->part == Mismatch::Part::kPayload;
  if (payload) altered.reason = BreakReason::kPayloadAltered;
  altered.expected = mismatch->expected;
  altered.actual = mismatch->actual;
  altered.detail = payload ? "its payload does not match the CID that was recorded for it"
                           : "what is stored of it does not match the CID that was recorded for it";
  return altered;
}

// False when `next` says that it continues another event than `event`.
bool Continues(const domain::RecordedEvent& event, const domain::RecordedEvent& next) {
  return next.version == event.version + 1 && (event.cid.empty() || next.cid.empty() || next.prev_cid == event.cid);
}

}  // namespace

absl::string_view ToString(BreakReason reason) {
  switch (reason) {
    case BreakReason::kPayloadAltered:
      return "PAYLOAD_ALTERED";
    case BreakReason::kMetadataAltered:
      return "METADATA_ALTERED";
    case BreakReason::kEventRemoved:
      return "EVENT_REMOVED";
    case BreakReason::kEventReordered:
      return "EVENT_REORDERED";
    case BreakReason::kEventInserted:
      return "EVENT_INSERTED";
    case BreakReason::kVersionChanged:
      return "VERSION_CHANGED";
    case BreakReason::kEventReplaced:
      return "EVENT_REPLACED";
    case BreakReason::kTailCut:
      return "TAIL_CUT";
    case BreakReason::kPreviousDiffers:
      return "PREVIOUS_DIFFERS";
    case BreakReason::kUnreadable:
      return "UNREADABLE";
    case BreakReason::kMisplaced:
      return "MISPLACED";
  }
  return "";
}

ChainVerifier::ChainVerifier(ChainRange range) : range_(std::move(range)) {
  track_.next = range_.first;
  track_.cid_known = !range_.begins_later;
  anchored_ = range_.first <= 1 || range_.begins_later;
  committed_ = track_;
}

void ChainVerifier::Add(const domain::RecordedEvent& event, const domain::AggregateLabels& labels,
                        bool group_complete) {
  if (result_.has_value()) return;
  Seen seen{.event = event, .labels = labels, .group_complete = group_complete, .altered = CheckAlone(event, labels)};
  seen.event.payload.data.clear();
  if (!FindAnchor(seen)) return;
  if (past_end_) {
    if (event.version >= range_.first && event.version <= range_.last) {
      Conclude(Intruder(event.version, "", event.cid, event.sequence));
    }
  } else if (suspicion_.has_value()) {
    Settle(seen);
  } else {
    Consider(std::move(seen));
  }
}

void ChainVerifier::AddUnreadable(uint64_t sequence, absl::string_view why) {
  if (result_.has_value() || suspicion_.has_value() || !anchored_ || past_end_) return;
  Suspicion unreadable{.kind = Suspicion::Kind::kUnreadable};
  unreadable.event_break = {.version = track_.next,
                            .reason = BreakReason::kUnreadable,
                            .detail = absl::StrCat("the message cannot be read: ", why),
                            .sequence = sequence};
  Suspect(std::move(unreadable));
}

// Sees to the events before the range; false when nothing is left to do with `seen`.
bool ChainVerifier::FindAnchor(const Seen& seen) {
  const domain::RecordedEvent& event = seen.event;
  const bool before = event.version < range_.first;
  if (range_.begins_later || range_.first <= 1) return !before;
  const uint64_t previous = range_.first - 1;
  if (event.version == previous) {
    // Where its save was torn it comes again; later on another event of its version would not be the one before.
    const bool untouched = track_.next == range_.first || track_.save_open() || track_.group_torn;
    if (anchored_ && !untouched) return false;
    std::string cid = event.cid;
    if (seen.altered.has_value()) {
      // Its payload's CID as it is: what the next event should have been told then.
      domain::RecordedEvent real = event;
      if (seen.altered->reason == BreakReason::kPayloadAltered) real.payload_cid = seen.altered->actual;
      cid = CidWithVersion(std::move(real), seen.labels, event.version);
    }
    const std::string& expected = range_.expected_previous_cid.empty() ? event.cid : range_.expected_previous_cid;
    anchor_break_.reset();
    if (cid != expected) {
      anchor_break_ = ChainBreak{.version = previous,
                                 .reason = BreakReason::kPreviousDiffers,
                                 .expected = expected,
                                 .actual = cid,
                                 .detail = "the event before the range does not have the expected CID",
                                 .sequence = event.sequence};
    }
    Track track;
    track.next = range_.first;
    track.cid = std::move(cid);
    track.sequence = event.sequence;
    track.commit_id = event.commit_id;
    track.parts = event.commit_index + 1;
    track.size = event.commit_size;
    track.save_first = event.version - event.commit_index;
    track.group_torn = !seen.group_complete;
    track_ = track;
    committed_ = std::move(track);
    anchored_ = true;
    suspicion_.reset();
    return false;
  }
  if (before) return false;
  if (!anchored_) {
    Conclude({.version = previous,
              .reason = BreakReason::kPreviousDiffers,
              .expected = event.version == range_.first ? event.prev_cid : "",
              .detail = "the event before the range is not there",
              .sequence = event.sequence});
    return false;
  }
  // A save that may yet turn out to be torn says nothing.
  if (anchor_break_.has_value() && !track_.save_open() && !track_.group_torn) {
    Conclude(*std::exchange(anchor_break_, std::nullopt));
    return false;
  }
  return true;
}

bool ChainVerifier::RepeatsTornSave(const domain::RecordedEvent& event) const {
  return event.commit_index == 0 && event.version == track_.save_first && (track_.save_open() || track_.group_torn);
}

void ChainVerifier::DropTornSave() {
  dropped_ = std::exchange(track_, committed_);
  torn_ = true;
}

bool ChainVerifier::ContinuesDropped(const domain::RecordedEvent& event) const {
  if (!dropped_.has_value() || event.version != dropped_->next) return false;
  if (dropped_->save_open()) {
    return event.commit_id == dropped_->commit_id && event.commit_index == dropped_->parts &&
           (event.cid.empty() || event.prev_cid == dropped_->cid);
  }
  return event.commit_index == 0 && !event.prev_cid.empty() && event.prev_cid == dropped_->cid;
}

void ChainVerifier::Consider(Seen seen) {
  const domain::RecordedEvent& event = seen.event;
  if (RepeatsTornSave(event)) DropTornSave();
  std::optional<ChainBreak> wrong;
  if (event.version == track_.next) {
    wrong = Judge(seen);
    if (!wrong.has_value()) return Accept(seen);
  }
  if (ContinuesDropped(event)) {
    return Conclude(Intruder(dropped_->save_first, dropped_->save_cid, track_.save_cid, track_.sequence));
  }
  if (seen.altered.has_value() && seen.altered->reason == BreakReason::kMetadataAltered && !event.cid.empty()) {
    const std::optional<uint64_t> saved = OriginalVersion(event, seen.labels, track_.next);
    if (saved.has_value()) {
      return Conclude({.version = track_.next,
                       .reason = BreakReason::kVersionChanged,
                       .expected = event.cid,
                       .actual = seen.altered->actual,
                       .detail = absl::StrCat("the event that was saved as version ", *saved, " is stored as version ",
                                              event.version),
                       .sequence = event.sequence});
    }
  }
  Suspicion suspicion;
  if (wrong.has_value()) {
    suspicion.kind = Suspicion::Kind::kContested;
    suspicion.event_break = *std::move(wrong);
  } else if (event.version > track_.next) {
    suspicion.kind = Suspicion::Kind::kGap;
    suspicion.event_break.version = track_.next;
  } else if (event.version + 1 == track_.next) {
    suspicion.kind = Suspicion::Kind::kRival;
    suspicion.event_break.version = event.version;
  } else {
    return Conclude(Intruder(event.version, "", event.cid, event.sequence));
  }
  suspicion.event = std::move(seen);
  Suspect(std::move(suspicion));
}

std::optional<ChainBreak> ChainVerifier::Judge(const Seen& seen) const {
  const domain::RecordedEvent& event = seen.event;
  if (seen.altered.has_value()) return seen.altered;
  const bool fits = track_.save_open() ? event.commit_id == track_.commit_id && event.commit_index == track_.parts &&
                                             event.commit_size == track_.size
                                       : event.commit_index == 0;
  if (!fits) {
    return ChainBreak{.version = event.version,
                      .reason = BreakReason::kEventReplaced,
                      .actual = event.cid,
                      .detail = track_.save_open() ? "it is not the rest of the save that the event before belongs to"
                                                   : "its place in its save is not that of a first event",
                      .sequence = event.sequence};
  }
  return JudgeLink(seen);
}

std::optional<ChainBreak> ChainVerifier::JudgeLink(const Seen& seen) const {
  const domain::RecordedEvent& event = seen.event;
  if (event.cid.empty() || !track_.cid_known || event.prev_cid == track_.cid) return std::nullopt;
  ChainBreak wrong{.version = event.version - 1,
                   .reason = BreakReason::kEventReplaced,
                   .expected = event.prev_cid,
                   .actual = track_.cid,
                   .detail = "it matches its own CID, but the next event continues another one",
                   .sequence = event.sequence};
  if (event.version == 1) {
    wrong.version = 1;
    wrong.expected.clear();
    wrong.actual = event.cid;
    wrong.detail = "it is the first one, but says that it continues another one";
  } else if (wrong.version < range_.first) {
    wrong.reason = BreakReason::kPreviousDiffers;
    wrong.detail = "the first event of the range continues another one";
  } else if (track_.cid.empty()) {
    wrong.reason = BreakReason::kMetadataAltered;
    wrong.detail = "it has no CID, but the next event says that it had one";
  }
  return wrong;
}

void ChainVerifier::Accept(const Seen& seen) {
  const domain::RecordedEvent& event = seen.event;
  if (event.commit_index == 0) {
    committed_ = track_;
    track_.commit_id = event.commit_id;
    track_.size = event.commit_size;
    track_.save_first = event.version;
    track_.save_cid = event.cid;
    track_.group_torn = false;
  }
  track_.parts = event.commit_index + 1;
  if (!seen.group_complete) track_.group_torn = true;
  track_.next = event.version + 1;
  track_.cid_known = true;
  track_.cid = event.cid;
  track_.sequence = event.sequence;
  if (event.version > range_.last) return;
  if (event.cid.empty()) {
    ++track_.without_cid;
    track_.chain_start = 0;
    return;
  }
  ++track_.verified;
  if (track_.chain_start == 0) track_.chain_start = event.version;
  track_.head_cid = event.cid;
  track_.head_version = event.version;
  const bool first_kept = range_.begins_later && event.version == range_.first;
  if (event.cid == range_.expected_head_cid || (first_kept && event.prev_cid == range_.expected_head_cid)) {
    track_.head_seen = true;
  }
}

ChainBreak ChainVerifier::Intruder(uint64_t version, std::string expected, std::string actual,
                                   uint64_t sequence) const {
  return {.version = version,
          .reason = BreakReason::kEventInserted,
          .expected = std::move(expected),
          .actual = std::move(actual),
          .detail = absl::StrCat("a message that claims version ", version, " does not belong to the history"),
          .sequence = sequence};
}

void ChainVerifier::Conclude(ChainBreak first_break) {
  suspicion_.reset();
  result_ = std::move(first_break);
  // What is before the range comes first.
  if (anchor_break_.has_value()) result_ = std::exchange(anchor_break_, std::nullopt);
}

void ChainVerifier::Suspect(Suspicion suspicion) {
  if (suspicion.event_break.version > range_.last) {
    past_end_ = true;
    return;
  }
  suspicion_ = std::move(suspicion);
}

void ChainVerifier::Settle(const Seen& seen) {
  switch (suspicion_->kind) {
    case Suspicion::Kind::kContested:
      return SettleContested(seen);
    case Suspicion::Kind::kRival:
      return SettleRival(seen.event);
    case Suspicion::Kind::kGap:
      return SettleGap(seen.event);
    case Suspicion::Kind::kUnreadable:
      if (!RepeatsTornSave(seen.event)) return Conclude(suspicion_->event_break);
      suspicion_.reset();
      return Consider(seen);
  }
}

void ChainVerifier::SettleContested(const Seen& seen) {
  const domain::RecordedEvent& event = seen.event;
  const domain::RecordedEvent& contested = suspicion_->event.event;
  // Whatever a torn save holds is no part of the history.
  const bool contested_is_torn =
      contested.commit_index == 0 && (contested.commit_size > 1 || !suspicion_->event.group_complete);
  if (RepeatsTornSave(event) || (contested_is_torn && event.commit_index == 0 && event.version == contested.version)) {
    torn_ = true;
    suspicion_.reset();
    return Consider(seen);
  }
  if (event.version == contested.version && !Judge(seen).has_value()) {
    return Conclude(Intruder(event.version, event.cid, contested.cid, contested.sequence));
  }
  // It continues nothing; if nobody continues it either, then it is to blame, not the event before.
  const ChainBreak& wrong = suspicion_->event_break;
  if (wrong.version < contested.version && event.version == contested.version + 1 && !Continues(contested, event)) {
    return Conclude({.version = contested.version,
                     .reason = BreakReason::kEventReplaced,
                     .expected = event.prev_cid,
                     .actual = contested.cid,
                     .detail = "it matches its own CID, but neither continues the event before nor is continued",
                     .sequence = event.sequence});
  }
  Conclude(wrong);
}

void ChainVerifier::SettleRival(const domain::RecordedEvent& event) {
  const domain::RecordedEvent& second = suspicion_->event.event;
  const bool second_is_continued = event.version == track_.next && !event.cid.empty() && !second.cid.empty() &&
                                   event.prev_cid == second.cid && second.cid != track_.cid;
  if (second_is_continued) return Conclude(Intruder(second.version, second.cid, track_.cid, track_.sequence));
  Conclude(Intruder(second.version, track_.cid, second.cid, second.sequence));
}

void ChainVerifier::SettleGap(const domain::RecordedEvent& event) {
  Suspicion& gap = *suspicion_;
  const Seen& early = gap.event;
  const uint64_t missing = gap.event_break.version;
  ChainBreak wrong{.version = missing, .sequence = early.event.sequence};
  if (!gap.came && event.version == missing + 1 && early.event.version != event.version && !event.prev_cid.empty()) {
    // The event that stands in the place of the missing one may be it, under another version.
    wrong.expected = event.prev_cid;
    wrong.actual = early.event.cid;
    if (CidWithVersion(early.event, early.labels, missing) == event.prev_cid) {
      wrong.reason = BreakReason::kVersionChanged;
      wrong.detail = absl::StrCat("the event that was saved as version ", missing, " is stored as version ",
                                  early.event.version, ", with a CID made anew");
      return Conclude(std::move(wrong));
    }
    if (early.altered.has_value() && early.event.cid == event.prev_cid) {
      wrong.reason = BreakReason::kMetadataAltered;
      wrong.actual = early.altered->actual;
      wrong.detail = absl::StrCat("its version, now ", early.event.version, ", and more of it were altered");
      return Conclude(std::move(wrong));
    }
  }
  if (event.version == early.event.version) {
    if (gap.came) return Conclude(Intruder(event.version, event.cid, early.event.cid, early.event.sequence));
    gap.others = true;
  } else if (event.version == track_.next) {
    gap.came = true;
    if (event.version == missing) gap.event_break.sequence = event.sequence;
    ++track_.next;
    track_.cid = event.cid;
  } else if (Continues(early.event, event)) {
    gap.continued = true;
  } else if (event.version > track_.next) {
    gap.others = true;
  }
  if (gap.came && (gap.continued || gap.others)) {
    wrong.reason = BreakReason::kEventReordered;
    wrong.expected.clear();
    wrong.actual.clear();
    wrong.detail = absl::StrCat("it is stored after version ", early.event.version);
    wrong.sequence = gap.event_break.sequence;
    Conclude(std::move(wrong));
  }
}

void ChainVerifier::SettleGapAtEnd() {
  const Suspicion& gap = *suspicion_;
  const Seen& early = gap.event;
  const uint64_t missing = gap.event_break.version;
  const bool nobody_else = !gap.continued && !gap.others;
  const bool linked = !early.altered.has_value() && early.event.prev_cid == track_.cid;
  if (gap.came) {
    if (early.event.version != track_.next || !linked) {
      return Conclude(Intruder(early.event.version, "", early.event.cid, early.event.sequence));
    }
    return Conclude({.version = missing,
                     .reason = BreakReason::kEventReordered,
                     .detail = absl::StrCat("it is stored after version ", early.event.version),
                     .sequence = gap.event_break.sequence});
  }
  if (nobody_else && linked && !track_.cid.empty()) {
    // It says itself that it follows the last event; without it nothing is missing.
    return Conclude(Intruder(early.event.version, "", early.event.cid, early.event.sequence));
  }
  Conclude({.version = missing,
            .reason = BreakReason::kEventRemoved,
            .expected = early.event.version == missing + 1 ? early.event.prev_cid : "",
            .detail = absl::StrCat("it is not there; version ", early.event.version, " follows"),
            .sequence = early.event.sequence});
}

void ChainVerifier::SettleAtEnd() {
  if (anchor_break_.has_value()) return Conclude(*std::exchange(anchor_break_, std::nullopt));
  if (!suspicion_.has_value()) return;
  switch (suspicion_->kind) {
    case Suspicion::Kind::kContested:
    case Suspicion::Kind::kUnreadable:
      return Conclude(ChainBreak(suspicion_->event_break));
    case Suspicion::Kind::kRival:
      return SettleRival({});
    case Suspicion::Kind::kGap:
      return SettleGapAtEnd();
  }
}

ChainResult ChainVerifier::Finish() {
  if (!result_.has_value()) SettleAtEnd();
  // The save at the end counts if it is complete. One that something else followed was complete once.
  const bool torn_tail = !result_.has_value() && !past_end_ && (track_.save_open() || track_.group_torn);
  const Track& end = torn_tail ? committed_ : track_;
  ChainResult result;
  result.verified = end.verified;
  result.without_cid = end.without_cid;
  result.verifiable_from = end.chain_start;
  result.head_cid = end.head_cid;
  result.head_version = end.head_version;
  result.first_break = std::exchange(result_, std::nullopt);
  if (!result.first_break.has_value() && !anchored_) {
    result.first_break = ChainBreak{.version = range_.first - 1,
                                    .reason = BreakReason::kPreviousDiffers,
                                    .expected = range_.expected_previous_cid,
                                    .detail = "the event before the range is not there"};
  }
  if (!result.first_break.has_value() && !range_.expected_head_cid.empty() && !end.head_seen) {
    result.first_break = ChainBreak{.version = std::min(end.next, range_.last),
                                    .reason = BreakReason::kTailCut,
                                    .expected = range_.expected_head_cid,
                                    .actual = end.cid,
                                    .detail = "no event of the range has the expected CID",
                                    .sequence = end.sequence};
  }
  return result;
}

}  // namespace persistd::ipld
