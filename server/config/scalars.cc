#include "server/config/scalars.h"

#include <charconv>
#include <system_error>

namespace persistd::config {

absl::StatusOr<std::string> ReadText(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::kScalar:
      return node.text;
    case YamlNode::Kind::kNull:
      return absl::InvalidArgumentError("no value given (an empty text is written \"\")");
    case YamlNode::Kind::kList:
      return absl::InvalidArgumentError("a list where one value belongs");
    case YamlNode::Kind::kMap:
      return absl::InvalidArgumentError("a map where one value belongs");
  }
  return absl::InternalError("a YAML node of no kind");
}

absl::StatusOr<std::uint64_t> ReadNumber(const YamlNode& node, std::uint64_t min, std::uint64_t max) {
  const absl::StatusOr<std::string> text = ReadText(node);
  if (!text.ok()) return text.status();
  if (node.quoted) return absl::InvalidArgumentError(absl::StrCat(Quoted(*text), " is text: leave the quotes away"));

  std::uint64_t number = 0;
  const char* const text_end = text->data() + text->size();
  const auto [end, error] = std::from_chars(text->data(), text_end, number);
  if (end != text_end || error == std::errc::invalid_argument) {
    return absl::InvalidArgumentError(absl::StrCat(Quoted(*text), " is not a whole number"));
  }
  // Some YAML readers take 010 for eight.
  if (text->size() > 1 && text->front() == '0') {
    return absl::InvalidArgumentError(absl::StrCat(Quoted(*text), " begins with a zero"));
  }
  if (error != std::errc() || number < min || number > max) {
    return absl::InvalidArgumentError(absl::StrCat(*text, " is out of range"));
  }
  return number;
}

absl::StatusOr<bool> ReadFlag(const YamlNode& node) {
  const absl::StatusOr<std::string> text = ReadText(node);
  if (!text.ok()) return text.status();
  if (node.quoted) return absl::InvalidArgumentError(absl::StrCat(Quoted(*text), " is text: leave the quotes away"));
  if (*text == "true") return true;
  if (*text == "false") return false;
  return absl::InvalidArgumentError(absl::StrCat(Quoted(*text), " is neither"));
}

std::string AllowedNumbers(std::uint64_t min, std::uint64_t max) {
  return absl::StrCat("a whole number from ", min, " to ", max);
}

}  // namespace persistd::config
