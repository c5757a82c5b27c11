// JSON between its two forms: the bytes that are stored, and the google.protobuf.Struct that people type. Pure,
// thread-safe.
#pragma once

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/struct.pb.h"
#include "server/rpc/field_path.h"

namespace persistd::rpc {

// True for `application/json` and types that end with `+json`, with or without parameters.
bool IsJsonType(absl::string_view content_type);

// Compact JSON, the same bytes for equal values: keys in byte order, whole numbers up to 2^53 in digits, other numbers
// in their shortest form. The error names `path` (a number that JSON does not have, a text that is not UTF-8).
absl::StatusOr<std::string> StructToJson(const google::protobuf::Struct& object, const FieldPath& path);

// The object in `json`, when a Struct loses nothing of it that matters: no number that a double rounds (whole numbers
// beyond 2^53, decimals of more digits than a double keeps), no key twice, no nesting deeper than clients can parse.
// Otherwise, and for anything but one object, nullopt.
std::optional<google::protobuf::Struct> JsonToStruct(absl::string_view json);

}  // namespace persistd::rpc
