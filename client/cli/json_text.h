// JSON as text. Values are cut out of a document and put into another one without being parsed and printed again,
// because that would change numbers that no double holds, the order of members, and repeated members.
//
// Functions that take `json` expect text that ValidateJson accepts. Thread-safe.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace persistd::cli {

// OK when `text` is one JSON value (RFC 8259, UTF-8, no byte order mark) and nothing else. INVALID_ARGUMENT says where
// it is not. Numbers that are too large for any double are refused, too.
absl::Status ValidateJson(absl::string_view text);

// True when `text`, of any kind, is valid UTF-8.
bool IsUtf8(const std::string& text);

struct JsonMember {
  // The name as written, with its quotes and escapes.
  absl::string_view raw_name;
  // The same, decoded.
  std::string name;
  // The value as written.
  absl::string_view value;
};

// The members of an object in their order, as views into `json`; empty when `json` is not an object.
std::vector<JsonMember> JsonMembers(absl::string_view json);

// A copy of the object `json` in which the value of each member is what `map` makes of it. Another value is copied as
// it is.
std::string MapJsonObject(absl::string_view json, const std::function<std::string(const JsonMember&)>& map);

// The same for the elements of an array.
std::string MapJsonArray(absl::string_view json, const std::function<std::string(absl::string_view)>& map);

// Without any white space between tokens: one line.
std::string CompactJson(absl::string_view json);

// Indented by two spaces, for people.
std::string PrettyJson(absl::string_view json);

}  // namespace persistd::cli
