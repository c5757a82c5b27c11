// Which of how many a message is within its save: the values of ce-commitpart and ce-commitgroup. Pure.
#pragma once

#include <cstdint>
#include <optional>

#include "absl/strings/string_view.h"
#include "server/base/decimal.h"
#include "server/domain/event.h"

namespace persistd::jetstream {

struct CommitPlace {
  uint32_t place = 1;  // From 1.
  uint32_t places = 1;
};

// `3/5`: 3 of 5. nullopt: it is not that, or more than one save can hold.
inline std::optional<CommitPlace> ParseCommitPlace(absl::string_view text) {
  const size_t slash = text.find('/');
  if (slash == absl::string_view::npos) return std::nullopt;
  const std::optional<uint64_t> place = base::ParseDecimal(text.substr(0, slash));
  const std::optional<uint64_t> places = base::ParseDecimal(text.substr(slash + 1));
  if (!place.has_value() || !places.has_value()) return std::nullopt;
  if (*place < 1 || *place > *places || *places > domain::kMaxEventsPerSave) return std::nullopt;
  return CommitPlace{.place = static_cast<uint32_t>(*place), .places = static_cast<uint32_t>(*places)};
}

}  // namespace persistd::jetstream
