#include "server/domain/position.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "server/base/decimal.h"

namespace persistd::domain {
namespace {

constexpr size_t kMaxStreamNameBytes = 255;  // nats-server's limit.

bool IsStreamName(absl::string_view name) {
  if (name.empty() || name.size() > kMaxStreamNameBytes) return false;
  for (const char c : name) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '_' && c != '-' && c != '+') return false;
  }
  return true;
}

}  // namespace

std::optional<Position> Position::Parse(absl::string_view token) {
  Position position;
  for (const absl::string_view part : absl::StrSplit(token, ',')) {
    const std::vector<absl::string_view> fields = absl::StrSplit(part, ':');
    if (fields.size() != 3 || !IsStreamName(fields[0])) return std::nullopt;
    const std::optional<uint64_t> incarnation = base::ParseDecimal(fields[1]);
    const std::optional<uint64_t> sequence = base::ParseDecimal(fields[2]);
    if (!incarnation.has_value() || !sequence.has_value()) return std::nullopt;
    StreamPosition stream{.stream = std::string(fields[0]), .incarnation = *incarnation, .sequence = *sequence};
    if (!position.streams_.empty() && position.streams_.back().stream >= stream.stream) return std::nullopt;
    position.streams_.push_back(std::move(stream));
  }
  return position;
}

std::string Position::ToToken() const {
  return absl::StrJoin(streams_, ",", [](std::string* out, const StreamPosition& stream) {
    absl::StrAppend(out, stream.stream, ":", stream.incarnation, ":", stream.sequence);
  });
}

bool Position::IsBehind(const Position& other) const {
  bool behind = false;
  for (const StreamPosition& mine : streams_) {
    for (const StreamPosition& its : other.streams_) {
      if (its.stream != mine.stream) continue;
      const auto here = std::pair(mine.incarnation, mine.sequence);
      const auto there = std::pair(its.incarnation, its.sequence);
      if (here > there) return false;
      behind |= here < there;
    }
  }
  return behind;
}

void Position::Advance(const Position& other) {
  for (const StreamPosition& its : other.streams_) {
    const auto place =
        std::lower_bound(streams_.begin(), streams_.end(), its,
                         [](const StreamPosition& a, const StreamPosition& b) { return a.stream < b.stream; });
    if (place == streams_.end() || place->stream != its.stream) {
      streams_.insert(place, its);
    } else if (std::pair(place->incarnation, place->sequence) < std::pair(its.incarnation, its.sequence)) {
      *place = its;
    }
  }
}

}  // namespace persistd::domain
