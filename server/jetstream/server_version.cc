#include "server/jetstream/server_version.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "server/base/status_macros.h"

namespace persistd::jetstream {
namespace {

constexpr size_t kMaxVersionLength = 64;
constexpr absl::string_view kWhatToInstall =
    "install nats-server 2.12.14 or a later 2.12, 2.14.4 or a later 2.14, or 2.15 and up (deploy/setup fetches one)";

bool IsNumber(absl::string_view text) {
  return !text.empty() && text.size() <= 9 && std::all_of(text.begin(), text.end(), absl::ascii_isdigit);
}

bool IsPreRelease(absl::string_view text) {
  for (const absl::string_view part : absl::StrSplit(text, '.')) {
    const auto allowed = [](unsigned char c) { return absl::ascii_isalnum(c) || c == '-'; };
    if (part.empty() || !std::all_of(part.begin(), part.end(), allowed)) return false;
  }
  return true;
}

int Number(absl::string_view digits) {
  int value = 0;
  // Callers have checked the digits.
  [[maybe_unused]] const bool parsed = absl::SimpleAtoi(digits, &value);
  return value;
}

int Sign(int a, int b) { return a < b ? -1 : (a > b ? 1 : 0); }

// Numbers compare as numbers and come before texts.
int ComparePart(absl::string_view a, absl::string_view b) {
  if (IsNumber(a) && IsNumber(b)) return Sign(Number(a), Number(b));
  if (IsNumber(a) != IsNumber(b)) return IsNumber(a) ? -1 : 1;
  return a.compare(b);
}

int ComparePreRelease(const std::string& a, const std::string& b) {
  if (a.empty() || b.empty()) return Sign(a.empty(), b.empty());
  const std::vector<absl::string_view> left = absl::StrSplit(a, '.');
  const std::vector<absl::string_view> right = absl::StrSplit(b, '.');
  for (size_t i = 0; i < std::min(left.size(), right.size()); ++i) {
    if (const int order = ComparePart(left[i], right[i]); order != 0) return order;
  }
  return Sign(static_cast<int>(left.size()), static_cast<int>(right.size()));
}

// Whether `version` is that minor line's first good patch or a later one.
bool AtLeast(const ServerVersion& version, int minor, int patch) {
  return Compare(version, {.major = 2, .minor = minor, .patch = patch, .pre_release = ""}) >= 0;
}

}  // namespace

std::string ServerVersion::ToString() const {
  return absl::StrCat(major, ".", minor, ".", patch, pre_release.empty() ? "" : "-", pre_release);
}

absl::StatusOr<ServerVersion> ParseServerVersion(absl::string_view text) {
  const auto refuse = [text] {
    return absl::InvalidArgumentError(absl::StrCat("\"", absl::CEscape(text.substr(0, kMaxVersionLength)),
                                                   "\" is no nats-server version (such as 2.15.1)"));
  };
  if (text.size() > kMaxVersionLength) return refuse();
  const absl::string_view without_build = text.substr(0, text.find('+'));
  std::pair<absl::string_view, absl::string_view> halves =
      absl::StrSplit(absl::StripPrefix(without_build, "v"), absl::MaxSplits('-', 1));
  const std::vector<absl::string_view> numbers = absl::StrSplit(halves.first, '.');
  if (numbers.size() != 3 || !std::all_of(numbers.begin(), numbers.end(), IsNumber)) return refuse();
  const bool has_pre_release = without_build.find('-') != absl::string_view::npos;
  if (has_pre_release && !IsPreRelease(halves.second)) return refuse();
  return ServerVersion{.major = Number(numbers[0]),
                       .minor = Number(numbers[1]),
                       .patch = Number(numbers[2]),
                       .pre_release = std::string(halves.second)};
}

int Compare(const ServerVersion& a, const ServerVersion& b) {
  if (a.major != b.major) return Sign(a.major, b.major);
  if (a.minor != b.minor) return Sign(a.minor, b.minor);
  if (a.patch != b.patch) return Sign(a.patch, b.patch);
  return ComparePreRelease(a.pre_release, b.pre_release);
}

absl::Status CheckServerVersion(absl::string_view version) {
  ASSIGN_OR_RETURN(const ServerVersion parsed, ParseServerVersion(version));
  // There was no 2.13 release; its development builds came before the fix.
  const bool good = (parsed.major == 2 && parsed.minor == 12 && AtLeast(parsed, 12, 14)) || AtLeast(parsed, 14, 4);
  if (good) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("nats-server ", parsed.ToString(), " does not keep what persistd promises: ", kWhatToInstall));
}

bool MayAcknowledgeTornBatch(absl::string_view version) {
  const absl::StatusOr<ServerVersion> parsed = ParseServerVersion(version);
  return !parsed.ok() || Compare(*parsed, {.major = 2, .minor = 15, .patch = 0, .pre_release = ""}) < 0;
}

}  // namespace persistd::jetstream
