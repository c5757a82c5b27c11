#include "server/transform/json_check.h"

#include <charconv>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/str_cat.h"

namespace persistd::transform {
namespace {

constexpr size_t kMaxShownBytes = 64;

// The significant digits of a decimal number and the power of ten of the first one, so that equal values are equal.
struct Decimal {
  std::string digits;  // Without zeros at either end; empty: zero.
  int64_t exponent = 0;

  bool operator==(const Decimal&) const = default;
};

// text: a number as JSON or std::to_chars writes it.
Decimal DecimalOf(absl::string_view text) {
  Decimal decimal;
  int64_t written = 0;
  if (const size_t mark = text.find_first_of("eE"); mark != absl::string_view::npos) {
    absl::string_view power = text.substr(mark + 1);
    if (!power.empty() && power.front() == '+') power.remove_prefix(1);
    // An exponent that does not fit is that of zero, or of a number whose double differs anyway.
    std::from_chars(power.data(), power.data() + power.size(), written);
    text = text.substr(0, mark);
  }
  bool fraction = false;
  for (const char c : text) {
    if (c == '.') fraction = true;
    if (c < '0' || c > '9') continue;
    if (decimal.digits.empty() && c == '0') {
      if (fraction) --decimal.exponent;
      continue;
    }
    decimal.digits += c;
    if (!fraction) ++decimal.exponent;
  }
  while (decimal.digits.ends_with('0')) decimal.digits.pop_back();
  decimal.exponent = decimal.digits.empty() ? 0 : decimal.exponent + written;
  return decimal;
}

// Stops at the first thing that jq would change.
class Checker final : public nlohmann::json_sax<nlohmann::json> {
 public:
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(int64_t value) override {
    return std::abs(static_cast<double>(value)) <= kMaxExactNumber && value != -kMaxExactInteger - 1
               ? true
               : Refuse(absl::StrCat(value), "is beyond 2^53");
  }
  bool number_unsigned(uint64_t value) override {
    return value <= static_cast<uint64_t>(kMaxExactInteger) ? true : Refuse(absl::StrCat(value), "is beyond 2^53");
  }
  bool number_float(double value, const std::string& text) override {
    if (!std::isfinite(value) || std::abs(value) > kMaxExactNumber) return Refuse(text, "is beyond 2^53");
    char shortest[32];
    const auto [end, error] = std::to_chars(shortest, shortest + sizeof(shortest), value);
    const absl::string_view shown(shortest, static_cast<size_t>(end - shortest));
    if (error != std::errc() || DecimalOf(shown) != DecimalOf(text)) {
      return Refuse(text, "has more digits than jq keeps");
    }
    return true;
  }
  bool string(std::string&) override { return true; }
  bool binary(nlohmann::json::binary_t&) override { return true; }
  bool start_object(size_t) override { return Enter(); }
  bool key(std::string&) override { return true; }
  bool end_object() override { return Leave(); }
  bool start_array(size_t) override { return Enter(); }
  bool end_array() override { return Leave(); }
  bool parse_error(size_t position, const std::string& token, const nlohmann::json::exception& error) override {
    constexpr int kNumberOverflow = 406;  // nlohmann's number for it.
    if (error.id == kNumberOverflow) return Refuse(token, "is beyond 2^53");
    status_ = absl::InvalidArgumentError(absl::StrCat("is no JSON: it breaks off at byte ", position));
    return false;
  }

  absl::Status status() const { return status_; }

 private:
  static constexpr int64_t kMaxExactInteger = static_cast<int64_t>(kMaxExactNumber);

  bool Refuse(absl::string_view number, absl::string_view why) {
    status_ = absl::InvalidArgumentError(absl::StrCat("holds the number ", number.substr(0, kMaxShownBytes),
                                                      number.size() > kMaxShownBytes ? "..." : "", ", which ", why,
                                                      "; write it as a string"));
    return false;
  }
  bool Enter() {
    if (++depth_ <= kMaxJsonDepth) return true;
    status_ = absl::InvalidArgumentError(absl::StrCat("is nested deeper than ", kMaxJsonDepth));
    return false;
  }
  bool Leave() {
    --depth_;
    return true;
  }

  absl::Status status_;
  int depth_ = 0;
};

}  // namespace

absl::Status CheckJson(absl::string_view text) {
  Checker checker;
  nlohmann::json::sax_parse(text.begin(), text.end(), &checker);
  return checker.status();
}

}  // namespace persistd::transform
