#include "server/domain/position.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace persistd::domain {

std::optional<Position> Position::Parse(absl::string_view token) {
  Position position;
  for (const absl::string_view part : absl::StrSplit(token, ',')) {
    const std::vector<absl::string_view> fields = absl::StrSplit(part, ':');
    StreamPosition stream;
    if (fields.size() != 3 || fields[0].empty() || !absl::SimpleAtoi(fields[1], &stream.incarnation) ||
        !absl::SimpleAtoi(fields[2], &stream.sequence)) {
      return std::nullopt;
    }
    stream.stream = std::string(fields[0]);
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

}  // namespace persistd::domain
