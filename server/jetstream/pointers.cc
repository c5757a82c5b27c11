#include "server/jetstream/pointers.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/base/decimal.h"

namespace persistd::jetstream {
namespace {

// Steps as text, runs of the same step joined.
std::string JoinSteps(const std::vector<uint64_t>& steps) {
  std::string text;
  for (size_t i = 0; i < steps.size();) {
    size_t run = 1;
    while (i + run < steps.size() && steps[i + run] == steps[i]) ++run;
    absl::StrAppend(&text, text.empty() ? "" : ",", steps[i]);
    if (run > 1) absl::StrAppend(&text, "x", run);
    i += run;
  }
  return text;
}

bool AppendSteps(absl::string_view text, std::vector<uint64_t>& steps) {
  for (const absl::string_view item : absl::StrSplit(text, ',')) {
    const std::vector<absl::string_view> parts = absl::StrSplit(item, 'x');
    if (parts.size() > 2) return false;
    const uint64_t step = base::ParseDecimal(parts[0]).value_or(0);
    const uint64_t run = parts.size() == 1 ? 1 : base::ParseDecimal(parts[1]).value_or(0);
    if (step == 0 || run == 0 || (parts.size() == 2 && run == 1)) return false;
    if (run > kMaxBackPointers || steps.size() + run > kMaxBackPointers) return false;
    steps.insert(steps.end(), run, step);
  }
  return true;
}

// Counts down from `from` by each step; false when that would reach 0.
bool Descend(uint64_t from, const std::vector<uint64_t>& steps, std::vector<uint64_t>& out) {
  for (const uint64_t step : steps) {
    if (step >= from) return false;
    from -= step;
    out.push_back(from);
  }
  return true;
}

// `pointers.back` is complete.
bool DecodeSkips(absl::string_view text, uint64_t version, uint64_t sequence, Pointers& pointers) {
  const std::vector<uint64_t> targets = SkipTargets(version);
  if (targets.empty()) return text.empty();
  const std::vector<absl::string_view> items = absl::StrSplit(text, ',');
  if (items.size() != targets.size()) return false;
  uint64_t previous = pointers.back.back();
  for (size_t i = 0; i < items.size(); ++i) {
    const std::vector<absl::string_view> parts = absl::StrSplit(items[i], ':');
    if (parts.size() != 2 || base::ParseDecimal(parts[0]) != targets[i]) return false;
    const bool distance = absl::StartsWith(parts[1], "-");
    const uint64_t number = base::ParseDecimal(parts[1].substr(distance ? 1 : 0)).value_or(0);
    if (number == 0 || (distance && number >= sequence)) return false;
    const uint64_t place = distance ? sequence - number : number;
    if (place >= previous) return false;
    previous = place;
    pointers.skip.push_back({.version = targets[i], .sequence = place});
  }
  return true;
}

}  // namespace

std::vector<uint64_t> SkipTargets(uint64_t version) {
  std::vector<uint64_t> targets;
  for (const uint64_t level : kSkipLevels) {
    const uint64_t target = (version - 1) / level * level;
    if (target == 0 || version - target <= kMaxBackPointers) continue;
    if (targets.empty() || targets.back() != target) targets.push_back(target);
  }
  return targets;
}

PlacePointers NextPointers(uint64_t version, EventPlace place, const PlacePointers& pointers) {
  PlacePointers next;
  next.back.push_back(place);
  for (size_t i = 0; i < pointers.back.size() && next.back.size() < kMaxBackPointers; ++i) {
    next.back.push_back(pointers.back[i]);
  }
  // Every target was already within reach of `version`: it either just left the 32, or is a skip target there too.
  for (const uint64_t target : SkipTargets(version + 1)) {
    const uint64_t distance = version - target;
    if (distance <= pointers.back.size()) {
      next.skip.push_back({.version = target, .place = pointers.back[distance - 1]});
      continue;
    }
    for (const SkipPlace& skip : pointers.skip) {
      if (skip.version == target) next.skip.push_back(skip);
    }
  }
  return next;
}

std::string EncodeBackPointers(const PlacePointers& pointers, uint64_t batch_index) {
  std::vector<uint64_t> distances;
  std::vector<uint64_t> sequences;
  uint64_t previous = batch_index;
  for (const EventPlace& place : pointers.back) {
    if (place.in_batch) {
      distances.push_back(previous - place.number);
    } else {
      sequences.push_back(sequences.empty() ? place.number : previous - place.number);
    }
    previous = place.number;
  }
  std::string text = JoinSteps(distances);
  if (!distances.empty()) text += ';';
  // The first sequence is no step: keep it out of the runs.
  if (!sequences.empty()) {
    absl::StrAppend(&text, sequences.front());
    const std::string steps = JoinSteps({sequences.begin() + 1, sequences.end()});
    if (!steps.empty()) absl::StrAppend(&text, ",", steps);
  }
  return text;
}

std::string EncodeSkipPointers(const PlacePointers& pointers, uint64_t batch_index) {
  std::string text;
  for (const SkipPlace& skip : pointers.skip) {
    absl::StrAppend(&text, text.empty() ? "" : ",", skip.version, ":");
    if (skip.place.in_batch) {
      absl::StrAppend(&text, "-", batch_index - skip.place.number);
    } else {
      absl::StrAppend(&text, skip.place.number);
    }
  }
  return text;
}

std::optional<Pointers> DecodePointers(absl::string_view back, absl::string_view skip, uint64_t version,
                                       uint64_t sequence) {
  if (version == 0) return std::nullopt;
  Pointers pointers;
  absl::string_view absolute = back;
  if (const size_t semicolon = back.find(';'); semicolon != absl::string_view::npos) {
    std::vector<uint64_t> steps;
    if (!AppendSteps(back.substr(0, semicolon), steps) || !Descend(sequence, steps, pointers.back)) return std::nullopt;
    absolute = back.substr(semicolon + 1);
  }
  if (!absolute.empty()) {
    const size_t comma = absolute.find(',');
    const uint64_t first = base::ParseDecimal(absolute.substr(0, comma)).value_or(0);
    if (first == 0 || first >= (pointers.back.empty() ? sequence : pointers.back.back())) return std::nullopt;
    pointers.back.push_back(first);
    if (comma != absl::string_view::npos) {
      std::vector<uint64_t> steps;
      if (!AppendSteps(absolute.substr(comma + 1), steps) || !Descend(first, steps, pointers.back)) return std::nullopt;
    }
  }
  if (pointers.back.size() != std::min<uint64_t>(version - 1, kMaxBackPointers)) return std::nullopt;
  if (!DecodeSkips(skip, version, sequence, pointers)) return std::nullopt;
  return pointers;
}

PlacePointers ToPlaces(const Pointers& pointers) {
  PlacePointers places;
  for (const uint64_t sequence : pointers.back) places.back.push_back({.in_batch = false, .number = sequence});
  for (const SkipPointer& skip : pointers.skip) {
    places.skip.push_back({.version = skip.version, .place = {.in_batch = false, .number = skip.sequence}});
  }
  return places;
}

}  // namespace persistd::jetstream
