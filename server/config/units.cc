#include "server/config/units.h"

#include <charconv>
#include <limits>
#include <span>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/config/config.h"
#include "server/config/text.h"

namespace persistd::config {
namespace {

struct Unit {
  absl::string_view name;
  std::uint64_t factor;
};

// Largest first, so that formatting finds the shortest text.
constexpr Unit kDurationUnits[] = {{"h", 3'600'000}, {"m", 60'000}, {"s", 1000}, {"ms", 1}};
constexpr Unit kSizeUnits[] = {{"TiB", kTiB}, {"GiB", kGiB}, {"MiB", kMiB}, {"KiB", kKiB}, {"B", 1}};

absl::StatusOr<std::uint64_t> Parse(absl::string_view text, std::span<const Unit> units, std::uint64_t max,
                                    absl::string_view what, absl::string_view how) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc::result_out_of_range)
    return absl::InvalidArgumentError(absl::StrCat(Quoted(text), " is too large"));
  if (error != std::errc()) return absl::InvalidArgumentError(absl::StrCat(Quoted(text), " is not ", what, "; ", how));

  const absl::string_view suffix(end, static_cast<std::size_t>(text.data() + text.size() - end));
  if (suffix.empty()) {
    if (number == 0) return 0;
    return absl::InvalidArgumentError(absl::StrCat(Quoted(text), " has no unit; ", how));
  }
  for (const Unit& unit : units) {
    if (suffix != unit.name) continue;
    if (number > max / unit.factor) return absl::InvalidArgumentError(absl::StrCat(Quoted(text), " is too large"));
    return number * unit.factor;
  }
  return absl::InvalidArgumentError(absl::StrCat(Quoted(text), " is not ", what, "; ", how));
}

std::string Format(std::uint64_t value, std::span<const Unit> units) {
  for (const Unit& unit : units) {
    if (value % unit.factor == 0 && value != 0) return absl::StrCat(value / unit.factor, unit.name);
  }
  return "0";
}

}  // namespace

absl::StatusOr<std::chrono::milliseconds> ParseDuration(absl::string_view text) {
  constexpr auto kMax = static_cast<std::uint64_t>(std::numeric_limits<std::chrono::milliseconds::rep>::max());
  const absl::StatusOr<std::uint64_t> value =
      Parse(text, kDurationUnits, kMax, "a duration", "write a whole number and ms, s, m or h, such as 250ms");
  if (!value.ok()) return value.status();
  return std::chrono::milliseconds(static_cast<std::chrono::milliseconds::rep>(*value));
}

absl::StatusOr<std::uint64_t> ParseSize(absl::string_view text) {
  return Parse(text, kSizeUnits, std::numeric_limits<std::uint64_t>::max(), "a size",
               "write a whole number and B, KiB, MiB, GiB or TiB, such as 64MiB");
}

std::string FormatDuration(std::chrono::milliseconds duration) {
  return duration.count() == 0 ? "0s" : Format(static_cast<std::uint64_t>(duration.count()), kDurationUnits);
}

std::string FormatSize(std::uint64_t bytes) { return Format(bytes, kSizeUnits); }

}  // namespace persistd::config
