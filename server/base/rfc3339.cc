#include "server/base/rfc3339.h"

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/time/time.h"

namespace persistd::base {

namespace {

using std::chrono::nanoseconds;
using Days = std::chrono::sys_days;

// Writes `value` with leading zeros.
char* PutDigits(char* out, uint64_t value, int digits) {
  for (int i = digits - 1; i >= 0; --i, value /= 10) out[i] = static_cast<char>('0' + value % 10);
  return out + digits;
}

// The number that the next digits of `text` are; nullopt when they are none.
std::optional<uint64_t> TakeDigits(absl::string_view& text, size_t digits) {
  if (text.size() < digits) return std::nullopt;
  uint64_t value = 0;
  for (const char c : text.substr(0, digits)) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + static_cast<uint64_t>(c - '0');
  }
  text.remove_prefix(digits);
  return value;
}

bool TakeChar(absl::string_view& text, char c) {
  if (text.empty() || text.front() != c) return false;
  text.remove_prefix(1);
  return true;
}

// The texts that FormatRfc3339 writes, which are nearly all that is met, many times as fast as the others. nullopt: it
// is none of those, which need not mean that it is no time.
std::optional<WallTime> ParseOwn(absl::string_view text) {
  const auto take = [&text](size_t digits, char end) -> uint64_t {
    const std::optional<uint64_t> value = TakeDigits(text, digits);
    return value.has_value() && TakeChar(text, end) ? *value : UINT64_MAX;
  };
  const uint64_t year = take(4, '-');
  const uint64_t month = take(2, '-');
  const uint64_t day = take(2, 'T');
  const uint64_t hour = take(2, ':');
  const uint64_t minute = take(2, ':');
  const std::optional<uint64_t> second = TakeDigits(text, 2);
  // The first and the last year are not whole in a WallTime.
  if (year < 1700 || year > 2200 || month > 12 || day > 31 || hour > 23 || minute > 59 || second.value_or(60) > 59) {
    return std::nullopt;
  }
  uint64_t fraction = 0;
  if (TakeChar(text, '.')) {
    const size_t digits = text.size() - 1;
    if (text.size() < 2 || digits > 9) return std::nullopt;
    const std::optional<uint64_t> value = TakeDigits(text, digits);
    if (!value.has_value()) return std::nullopt;
    fraction = *value;
    for (size_t i = digits; i < 9; ++i) fraction *= 10;
  }
  if (text != "Z") return std::nullopt;
  const std::chrono::year_month_day date{std::chrono::year(static_cast<int>(year)),
                                         std::chrono::month(static_cast<unsigned>(month)),
                                         std::chrono::day(static_cast<unsigned>(day))};
  if (!date.ok()) return std::nullopt;
  return WallTime(nanoseconds(Days(date).time_since_epoch()) + std::chrono::hours(hour) + std::chrono::minutes(minute) +
                  std::chrono::seconds(*second) + nanoseconds(fraction));
}

}  // namespace

std::string FormatRfc3339(WallTime time) {
  const int64_t nanos = time.time_since_epoch().count();
  const int64_t fraction = (nanos % 1'000'000'000 + 1'000'000'000) % 1'000'000'000;
  // In seconds, because the beginning of the first day is before all that nanoseconds can tell.
  const std::chrono::sys_seconds whole{
      std::chrono::seconds(nanos / 1'000'000'000 - (nanos % 1'000'000'000 < 0 ? 1 : 0))};
  const Days day = std::chrono::floor<std::chrono::days>(whole);
  const std::chrono::year_month_day date{day};
  const auto seconds = static_cast<uint64_t>((whole - day).count());
  char text[32];
  char* end = PutDigits(text, static_cast<uint64_t>(static_cast<int>(date.year())), 4);  // 1677 to 2262.
  *end++ = '-';
  end = PutDigits(end, static_cast<unsigned>(date.month()), 2);
  *end++ = '-';
  end = PutDigits(end, static_cast<unsigned>(date.day()), 2);
  *end++ = 'T';
  end = PutDigits(end, seconds / 3600, 2);
  *end++ = ':';
  end = PutDigits(end, seconds / 60 % 60, 2);
  *end++ = ':';
  end = PutDigits(end, seconds % 60, 2);
  if (fraction > 0) {
    *end++ = '.';
    end = PutDigits(end, static_cast<uint64_t>(fraction), 9);
    while (end[-1] == '0') --end;
  }
  *end++ = 'Z';
  return std::string(text, static_cast<size_t>(end - text));
}

std::optional<WallTime> ParseRfc3339(absl::string_view text) {
  if (const std::optional<WallTime> own = ParseOwn(text)) return own;
  // absl::ParseTime skips spaces around the text.
  if (text.empty() || absl::ascii_isspace(static_cast<unsigned char>(text.front())) ||
      absl::ascii_isspace(static_cast<unsigned char>(text.back()))) {
    return std::nullopt;
  }
  absl::Time time;
  std::string error;
  if (!absl::ParseTime(absl::RFC3339_full, text, &time, &error)) return std::nullopt;
  const absl::Duration since_epoch = time - absl::UnixEpoch();
  if (since_epoch > absl::Nanoseconds(INT64_MAX) || since_epoch < absl::Nanoseconds(INT64_MIN)) return std::nullopt;
  return WallTime(std::chrono::nanoseconds(absl::ToUnixNanos(time)));
}

}  // namespace persistd::base
