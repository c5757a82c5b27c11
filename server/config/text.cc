#include "server/config/text.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace persistd::config {
namespace {

bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

// The length of the well-formed UTF-8 sequence that `text` begins with; 0 when there is none (Unicode 15, table 3-7).
std::size_t SequenceLength(absl::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  if (byte(0) < 0x80) return 1;
  const std::size_t length = byte(0) >= 0xF0 ? 4 : byte(0) >= 0xE0 ? 3 : 2;
  if (byte(0) < 0xC2 || byte(0) > 0xF4 || text.size() < length) return 0;
  if (!std::all_of(text.begin() + 1, text.begin() + static_cast<std::ptrdiff_t>(length), IsContinuation)) return 0;
  const bool overlong = (byte(0) == 0xE0 && byte(1) < 0xA0) || (byte(0) == 0xF0 && byte(1) < 0x90);
  const bool surrogate = byte(0) == 0xED && byte(1) > 0x9F;
  const bool beyond_unicode = byte(0) == 0xF4 && byte(1) > 0x8F;
  return overlong || surrogate || beyond_unicode ? 0 : length;
}

// Optimal string alignment distance: insertions, deletions, replacements and swaps of neighbours.
std::size_t Distance(absl::string_view a, absl::string_view b) {
  std::vector<std::size_t> before_last(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    before_last.swap(last);
    last.swap(row);
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({replaced, last[j] + 1, row[j - 1] + 1});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = std::min(row[j], before_last[j - 2] + 1);
    }
  }
  return row[b.size()];
}

}  // namespace

std::string Escaped(absl::string_view text) {
  const bool utf8 = !InvalidUtf8At(text).has_value();
  std::string out = "\"";
  const auto append_hex = [&out](char c) {
    absl::StrAppend(&out, "\\x", absl::Hex(static_cast<unsigned char>(c), absl::kZeroPad2));
  };
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const bool c1_control = utf8 && c == '\xC2' && static_cast<unsigned char>(text[i + 1]) < 0xA0;  // U+0080 to U+009F
    if (c == '"' || c == '\\') {
      absl::StrAppend(&out, "\\", absl::string_view(&c, 1));
    } else if (c1_control) {
      append_hex(text[++i]);
    } else if (IsControl(c) || (!utf8 && !absl::ascii_isascii(static_cast<unsigned char>(c)))) {
      append_hex(c);
    } else {
      out += c;
    }
  }
  return out + "\"";
}

std::string Quoted(absl::string_view text) {
  constexpr std::size_t kMax = 64;
  if (text.size() <= kMax) return Escaped(text);
  std::size_t end = kMax;
  while (end > kMax - 4 && IsContinuation(text[end])) --end;
  return absl::StrCat(Escaped(text.substr(0, end)), "...");
}

std::optional<std::size_t> InvalidUtf8At(absl::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = SequenceLength(text.substr(at));
    if (length == 0) return at;
    at += length;
  }
  return std::nullopt;
}

bool IsControl(char c) { return absl::ascii_iscntrl(static_cast<unsigned char>(c)); }

std::optional<std::string> ClosestTo(absl::string_view word, const std::vector<std::string>& candidates) {
  constexpr std::size_t kLongest = 256;  // nobody mistypes more, and the distance takes time with the square
  if (word.empty() || word.size() > kLongest) return std::nullopt;
  const std::string lower = absl::AsciiStrToLower(word);

  const std::size_t edits = word.size() < 8 ? 1 : 2;
  std::optional<std::string> closest;
  std::size_t least = edits + 1;
  std::vector<std::string> related;
  for (const std::string& candidate : candidates) {
    const std::string other = absl::AsciiStrToLower(candidate);
    const std::size_t distance = Distance(lower, other);
    if (distance < least) {
      least = distance;
      closest = candidate;
    }
    if (word.size() >= 3 && (absl::StartsWith(other, lower) || absl::StartsWith(lower, other)))
      related.push_back(candidate);
  }
  if (!closest && related.size() == 1) closest = related.front();
  return closest;
}

}  // namespace persistd::config
