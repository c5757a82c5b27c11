// Reads single values out of YAML nodes. A value that is missing, of another shape or of another type is answered with
// INVALID_ARGUMENT and what is wrong, as the first half of a sentence that ends with what is allowed. Pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/config/config.h"
#include "server/config/text.h"
#include "server/config/yaml.h"

namespace persistd::config {

// The text of a scalar, quoted or not.
absl::StatusOr<std::string> ReadText(const YamlNode& node);

// A decimal number without sign, leading zeros or quotes.
absl::StatusOr<std::uint64_t> ReadNumber(const YamlNode& node, std::uint64_t min, std::uint64_t max);

// true or false, without quotes.
absl::StatusOr<bool> ReadFlag(const YamlNode& node);

// One of several words, each with its value.
template <typename T>
struct Choice {
  absl::string_view name;
  T value;
};

inline constexpr Choice<absl::string_view> kLogLevels[] = {
    {"debug", "debug"}, {"info", "info"}, {"warn", "warn"}, {"error", "error"}};
inline constexpr Choice<EventStreams> kEventStreams[] = {{"per_aggregate_type", EventStreams::kPerAggregateType},
                                                         {"per_context", EventStreams::kPerContext},
                                                         {"single", EventStreams::kSingle}};
// Of all streams; memory must be said of a type, or a bucket, by name.
inline constexpr Choice<Storage> kStorages[] = {{"file", Storage::kFile}};
inline constexpr Choice<Retention> kRetentions[] = {{"none", Retention::kNone},
                                                    {"truncate_before_snapshot", Retention::kTruncateBeforeSnapshot}};
inline constexpr Choice<Storage> kTypeStorages[] = {{"file", Storage::kFile}, {"memory", Storage::kMemory}};
inline constexpr Choice<Compression> kCompressions[] = {{"none", Compression::kNone}, {"s2", Compression::kS2}};

template <typename T>
absl::StatusOr<T> ReadChoice(const YamlNode& node, std::span<const Choice<T>> choices) {
  const absl::StatusOr<std::string> text = ReadText(node);
  if (!text.ok()) return text.status();
  for (const Choice<T>& choice : choices) {
    if (choice.name == *text) return choice.value;
  }
  return absl::InvalidArgumentError(absl::StrCat(Quoted(*text), " is none of these words"));
}

template <typename T>
absl::string_view NameOf(const T& value, std::span<const Choice<T>> choices) {
  for (const Choice<T>& choice : choices) {
    if (choice.value == value) return choice.name;
  }
  return "";
}

// "one of file, memory"
template <typename T>
std::string AllowedWords(std::span<const Choice<T>> choices) {
  std::string words;
  for (const Choice<T>& choice : choices) absl::StrAppend(&words, words.empty() ? "one of " : ", ", choice.name);
  return words;
}

// "a whole number from 1 to 16"
std::string AllowedNumbers(std::uint64_t min, std::uint64_t max);

}  // namespace persistd::config
