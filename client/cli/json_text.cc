#include "client/cli/json_text.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace persistd::cli {
namespace {

bool IsSpace(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

size_t SkipSpace(absl::string_view json, size_t at) {
  while (at < json.size() && IsSpace(json[at])) ++at;
  return at;
}

// The position after the string that begins at `at`.
size_t SkipString(absl::string_view json, size_t at) {
  for (++at; json[at] != '"'; ++at) {
    if (json[at] == '\\') ++at;
  }
  return at + 1;
}

// The position after the value that begins at `at`.
size_t SkipValue(absl::string_view json, size_t at) {
  size_t depth = 0;
  while (at < json.size()) {
    const char c = json[at];
    if (c == '"') {
      at = SkipString(json, at);
      if (depth == 0) return at;
      continue;
    }
    if (depth == 0 && (c == ',' || c == '}' || c == ']' || IsSpace(c))) return at;
    ++at;
    if (c == '{' || c == '[') ++depth;
    if ((c == '}' || c == ']') && --depth == 0) return at;
  }
  return at;
}

// Calls `item` with the start of each item of the object or array `json`; it returns the position after the item.
void ForEachItem(absl::string_view json, const std::function<size_t(size_t)>& item) {
  size_t at = SkipSpace(json, SkipSpace(json, 0) + 1);
  while (json[at] != '}' && json[at] != ']') {
    at = SkipSpace(json, item(at));
    if (json[at] == ',') at = SkipSpace(json, at + 1);
  }
}

bool StartsWith(absl::string_view json, char bracket) {
  const size_t start = SkipSpace(json, 0);
  return start < json.size() && json[start] == bracket;
}

}  // namespace

absl::Status ValidateJson(absl::string_view text) {
  // The parser takes a NUL for the end and skips a byte order mark; in the middle of a document both are wrong.
  if (text.find('\0') != absl::string_view::npos) return absl::InvalidArgumentError("it contains a NUL byte");
  if (absl::StartsWith(text, "\xef\xbb\xbf")) return absl::InvalidArgumentError("it begins with a byte order mark");

  // Looks at the text without building anything from it, however large or deep.
  struct Checker : nlohmann::json_sax<nlohmann::json> {
    bool null() override { return true; }
    bool boolean(bool) override { return true; }
    bool number_integer(number_integer_t) override { return true; }
    bool number_unsigned(number_unsigned_t) override { return true; }
    bool number_float(number_float_t, const string_t&) override { return true; }
    bool string(string_t&) override { return true; }
    bool binary(binary_t&) override { return true; }
    bool start_object(size_t) override { return true; }
    bool key(string_t&) override { return true; }
    bool end_object() override { return true; }
    bool start_array(size_t) override { return true; }
    bool end_array() override { return true; }
    bool parse_error(size_t position, const std::string& last_token, const nlohmann::json::exception&) override {
      // The offending text can be long; its end is where the error is.
      constexpr size_t kShown = 40;
      const std::string tail =
          last_token.size() <= kShown ? last_token : "..." + last_token.substr(last_token.size() - kShown);
      error = absl::StrCat("at byte ", position, ", near \"", tail, "\"");
      return false;
    }
    std::string error;
  } checker;
  if (nlohmann::json::sax_parse(text.begin(), text.end(), &checker)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("it is not valid JSON ", checker.error));
}

bool IsUtf8(const std::string& text) {
  try {
    (void)nlohmann::json(text).dump();
    return true;
  } catch (const nlohmann::json::type_error&) {
    return false;
  }
}

std::vector<JsonMember> JsonMembers(absl::string_view json) {
  std::vector<JsonMember> members;
  if (!StartsWith(json, '{')) return members;
  ForEachItem(json, [&](size_t at) {
    const size_t name_end = SkipString(json, at);
    const size_t value = SkipSpace(json, SkipSpace(json, name_end) + 1);
    const size_t value_end = SkipValue(json, value);
    const absl::string_view raw_name = json.substr(at, name_end - at);
    members.push_back({.raw_name = raw_name,
                       .name = nlohmann::json::parse(raw_name.begin(), raw_name.end()).get<std::string>(),
                       .value = json.substr(value, value_end - value)});
    return value_end;
  });
  return members;
}

std::string MapJsonObject(absl::string_view json, const std::function<std::string(const JsonMember&)>& map) {
  if (!StartsWith(json, '{')) return std::string(json);
  std::string result = "{";
  for (const JsonMember& member : JsonMembers(json)) {
    absl::StrAppend(&result, result.size() == 1 ? "" : ",", member.raw_name, ":", map(member));
  }
  return result + "}";
}

std::string MapJsonArray(absl::string_view json, const std::function<std::string(absl::string_view)>& map) {
  if (!StartsWith(json, '[')) return std::string(json);
  std::string result = "[";
  ForEachItem(json, [&](size_t at) {
    const size_t end = SkipValue(json, at);
    absl::StrAppend(&result, result.size() == 1 ? "" : ",", map(json.substr(at, end - at)));
    return end;
  });
  return result + "]";
}

std::string CompactJson(absl::string_view json) {
  std::string result;
  result.reserve(json.size());
  for (size_t at = 0; at < json.size();) {
    // White space inside a string belongs to it.
    const size_t end = json[at] == '"' ? SkipString(json, at) : at + 1;
    if (!IsSpace(json[at])) absl::StrAppend(&result, json.substr(at, end - at));
    at = end;
  }
  return result;
}

std::string PrettyJson(absl::string_view json) {
  constexpr size_t kMostIndented = 64;
  std::string result;
  size_t depth = 0;
  // Deeper levels share one indentation: the text would grow with the square of the depth.
  const auto new_line = [&] { absl::StrAppend(&result, "\n", std::string(2 * std::min(depth, kMostIndented), ' ')); };
  for (size_t at = 0; at < json.size();) {
    const char c = json[at];
    const size_t end = c == '"' ? SkipString(json, at) : at + 1;
    const bool opens = c == '{' || c == '[';
    const bool closes = c == '}' || c == ']';
    if (opens) {
      result += c;
      const size_t next = SkipSpace(json, end);
      if (json[next] == '}' || json[next] == ']') {
        result += json[next];
        at = next + 1;
        continue;
      }
      ++depth;
      new_line();
    } else if (closes) {
      --depth;
      new_line();
      result += c;
    } else if (c == ',') {
      result += c;
      new_line();
    } else if (c == ':') {
      result += ": ";
    } else if (!IsSpace(c)) {
      absl::StrAppend(&result, json.substr(at, end - at));
    }
    at = end;
  }
  return result;
}

}  // namespace persistd::cli
