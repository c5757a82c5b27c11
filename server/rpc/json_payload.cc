#include "server/rpc/json_payload.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/base/status_macros.h"
#include "server/domain/errors.h"
#include "server/domain/utf8.h"

namespace persistd::rpc {
namespace {

using google::protobuf::ListValue;
using google::protobuf::Struct;
using google::protobuf::Value;

constexpr int64_t kMaxWholeDouble = int64_t{1} << 53;
// Protobuf parsers stop at 100 nested messages; an object inside an object is three (Struct, its entry, Value).
constexpr size_t kMaxDepth = 30;
// Far more than a double's exponent; keeps sums of exponents from overflowing.
constexpr int64_t kHugeExponent = 1'000'000'000;

std::string ShortestNumber(double number) {
  char text[32];
  const std::to_chars_result end = std::to_chars(std::begin(text), std::end(text), number);
  return std::string(text, end.ptr);
}

// ---- Struct to JSON ----

class JsonWriter {
 public:
  explicit JsonWriter(const FieldPath& path) : path_(path) {}

  absl::Status Write(const Struct& object) {
    std::vector<const std::string*> keys;
    keys.reserve(object.fields().size());
    for (const auto& [key, value] : object.fields()) keys.push_back(&key);
    std::sort(keys.begin(), keys.end(), [](const std::string* a, const std::string* b) { return *a < *b; });
    text_ += '{';
    for (const std::string* key : keys) {
      if (key != keys.front()) text_ += ',';
      RETURN_IF_ERROR(WriteText(*key));
      text_ += ':';
      RETURN_IF_ERROR(WriteValue(object.fields().at(*key)));
    }
    text_ += '}';
    return absl::OkStatus();
  }

  std::string Take() { return std::move(text_); }

 private:
  absl::Status WriteValue(const Value& value) {
    switch (value.kind_case()) {
      case Value::kNumberValue:
        return WriteNumber(value.number_value());
      case Value::kStringValue:
        return WriteText(value.string_value());
      case Value::kBoolValue:
        text_ += value.bool_value() ? "true" : "false";
        return absl::OkStatus();
      case Value::kStructValue:
        return Write(value.struct_value());
      case Value::kListValue:
        return WriteList(value.list_value());
      case Value::kNullValue:
      case Value::KIND_NOT_SET:
        break;
    }
    text_ += "null";
    return absl::OkStatus();
  }

  absl::Status WriteList(const ListValue& list) {
    text_ += '[';
    for (int i = 0; i < list.values_size(); ++i) {
      if (i > 0) text_ += ',';
      RETURN_IF_ERROR(WriteValue(list.values(i)));
    }
    text_ += ']';
    return absl::OkStatus();
  }

  absl::Status WriteNumber(double number) {
    if (!std::isfinite(number)) return Invalid("must hold finite numbers: JSON has no other");
    const bool whole = number == std::trunc(number) && std::abs(number) <= static_cast<double>(kMaxWholeDouble);
    const bool negative_zero = number == 0 && std::signbit(number);
    if (whole && !negative_zero) {
      absl::StrAppend(&text_, static_cast<int64_t>(number));
      return absl::OkStatus();
    }
    const std::string shortest = ShortestNumber(number);
    text_ += shortest;
    // Without a point it would be read as an integer, which may be beyond what a double holds exactly.
    if (shortest.find_first_of(".eE") == std::string::npos) text_ += ".0";
    return absl::OkStatus();
  }

  absl::Status WriteText(const std::string& text) {
    if (!domain::IsUtf8(text)) return Invalid("must hold valid UTF-8");
    text_ += nlohmann::json(text).dump();
    return absl::OkStatus();
  }

  absl::Status Invalid(absl::string_view description) const {
    return domain::InvalidField(path_.ToString(), description);
  }

  const FieldPath& path_;
  std::string text_;
};

// ---- JSON to Struct ----

// A decimal number as it stands, with one spelling for each value: sign, digits without zeros around, power of ten.
struct Decimal {
  bool negative = false;
  std::string digits;
  int64_t exponent = 0;

  bool operator==(const Decimal&) const = default;
};

// text: a JSON number.
Decimal ToDecimal(absl::string_view text) {
  Decimal decimal;
  if (absl::ConsumePrefix(&text, "-")) decimal.negative = true;
  const size_t e = std::min(text.find_first_of("eE"), text.size());
  bool fraction = false;
  for (const char c : text.substr(0, e)) {
    if (c == '.') {
      fraction = true;
      continue;
    }
    decimal.digits += c;
    if (fraction) --decimal.exponent;
  }
  if (e < text.size()) {
    absl::string_view written = text.substr(e + 1);
    const bool negative = absl::ConsumePrefix(&written, "-");
    absl::ConsumePrefix(&written, "+");
    int64_t value = 0;
    for (const char c : written) value = std::min(value * 10 + (c - '0'), kHugeExponent);
    decimal.exponent += negative ? -value : value;
  }
  decimal.digits.erase(0, std::min(decimal.digits.find_first_not_of('0'), decimal.digits.size()));
  while (!decimal.digits.empty() && decimal.digits.back() == '0') {
    decimal.digits.pop_back();
    ++decimal.exponent;
  }
  if (decimal.digits.empty()) decimal.exponent = 0;
  return decimal;
}

// Builds a Struct while the text is read; every callback returns false to give up. nlohmann's SAX interface prescribes
// the names and types.
class StructBuilder final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit StructBuilder(Struct* root) : root_(root) {}

  bool null() override {
    return Set([](Value& value) { value.set_null_value(google::protobuf::NULL_VALUE); });
  }
  bool boolean(bool flag) override {
    return Set([flag](Value& value) { value.set_bool_value(flag); });
  }
  bool number_integer(number_integer_t number) override {
    return number >= -kMaxWholeDouble && number <= kMaxWholeDouble && SetNumber(static_cast<double>(number));
  }
  bool number_unsigned(number_unsigned_t number) override {
    return number <= static_cast<uint64_t>(kMaxWholeDouble) && SetNumber(static_cast<double>(number));
  }
  bool number_float(number_float_t number, const string_t& text) override {
    // Without one of these it is a whole number that does not fit 64 bits.
    if (text.find_first_of(".eE") == std::string::npos) return false;
    return ToDecimal(text) == ToDecimal(ShortestNumber(number)) && SetNumber(number);
  }
  bool string(string_t& text) override {
    return Set([&text](Value& value) { value.set_string_value(std::move(text)); });
  }
  bool binary(binary_t&) override { return false; }

  bool start_object(size_t) override {
    if (containers_.empty()) {
      containers_.push_back({.object = root_});
      return true;
    }
    return containers_.size() < kMaxDepth &&
           Set([this](Value& value) { containers_.push_back({.object = value.mutable_struct_value()}); });
  }
  bool key(string_t& name) override {
    Container& object = containers_.back();
    object.key = std::move(name);
    return object.object->fields().count(object.key) == 0;
  }
  bool end_object() override { return Pop(); }
  bool start_array(size_t) override {
    return containers_.size() < kMaxDepth &&
           Set([this](Value& value) { containers_.push_back({.list = value.mutable_list_value()}); });
  }
  bool end_array() override { return Pop(); }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception&) override { return false; }

 private:
  // One of object and list is set.
  struct Container {
    Struct* object = nullptr;
    ListValue* list = nullptr;
    std::string key = {};  // Of the object's value that comes next.
  };

  // False outside of a container: the text is not an object.
  template <typename Setter>
  bool Set(Setter setter) {
    if (containers_.empty()) return false;
    const Container& top = containers_.back();
    Value& value = top.object != nullptr ? (*top.object->mutable_fields())[top.key] : *top.list->add_values();
    setter(value);  // May push a container, which moves `top`.
    return true;
  }
  bool SetNumber(double number) {
    return Set([number](Value& value) { value.set_number_value(number); });
  }
  bool Pop() {
    containers_.pop_back();
    return true;
  }

  Struct* const root_;
  std::vector<Container> containers_;
};

}  // namespace

bool IsJsonType(absl::string_view content_type) {
  const absl::string_view type = content_type.substr(0, content_type.find(';'));
  const std::string lower = absl::AsciiStrToLower(absl::StripAsciiWhitespace(type));
  return lower == "application/json" || absl::EndsWith(lower, "+json");
}

absl::StatusOr<std::string> StructToJson(const Struct& object, const FieldPath& path) {
  JsonWriter writer(path);
  RETURN_IF_ERROR(writer.Write(object));
  return writer.Take();
}

std::optional<Struct> JsonToStruct(absl::string_view json) {
  Struct object;
  StructBuilder builder(&object);
  if (!nlohmann::json::sax_parse(json.begin(), json.end(), &builder)) return std::nullopt;
  return object;
}

}  // namespace persistd::rpc
