// The words of filters; see filter.h. Pure.
#pragma once

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace persistd::filter {

struct Token {
  enum class Kind { kEnd, kWord, kString, kAnd, kOr, kNot, kMinus, kOpen, kClose, kComparator };
  Kind kind = Kind::kEnd;
  size_t column = 0;       // From 1, in bytes.
  std::string text;        // As a plain text, or the comparator.
  std::string pattern;     // Of words and strings: `*` stands for any characters, `\` makes the next one plain.
  bool wildcards = false;  // The pattern has a `*` that is not plain.
};

// InvalidArgument: `column N: what`.
absl::Status FilterError(size_t column, absl::string_view what);

class Lexer {
 public:
  explicit Lexer(absl::string_view text) : text_(text) {}

  absl::StatusOr<Token> Next();

 private:
  absl::StatusOr<Token> ReadString();
  absl::StatusOr<Token> ReadWord();

  const absl::string_view text_;
  size_t at_ = 0;
};

}  // namespace persistd::filter
