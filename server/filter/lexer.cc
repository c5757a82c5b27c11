#include "server/filter/lexer.h"

#include "absl/strings/str_cat.h"

namespace persistd::filter {
namespace {

bool IsSpace(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

bool EndsWord(char c) { return IsSpace(c) || absl::string_view("()<>=!:\"',").find(c) != absl::string_view::npos; }

void AppendPlain(Token& token, char c) {
  token.text += c;
  if (c == '*' || c == '\\') token.pattern += '\\';
  token.pattern += c;
}

void AppendWildcard(Token& token) {
  token.text += '*';
  token.pattern += '*';
  token.wildcards = true;
}

}  // namespace

absl::Status FilterError(size_t column, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("column ", column, ": ", what));
}

absl::StatusOr<Token> Lexer::Next() {
  while (at_ < text_.size() && IsSpace(text_[at_])) ++at_;
  Token token;
  token.column = at_ + 1;
  if (at_ == text_.size()) return token;
  const char c = text_[at_];
  const char after = at_ + 1 < text_.size() ? text_[at_ + 1] : '\0';
  switch (c) {
    case '(':
    case ')':
      ++at_;
      token.kind = c == '(' ? Token::Kind::kOpen : Token::Kind::kClose;
      token.text = std::string(1, c);
      return token;
    case '-':
      ++at_;
      token.kind = Token::Kind::kMinus;
      token.text = std::string(1, c);
      return token;
    case '<':
    case '>':
    case '!':
    case '=':
    case ':': {
      const bool two = c != '=' && c != ':' && after == '=';
      if (c == '!' && !two)
        return FilterError(token.column, "`!` must be followed by `=`; to negate, write NOT or `-`");
      token.kind = Token::Kind::kComparator;
      token.text = std::string(text_.substr(at_, two ? 2 : 1));
      at_ += token.text.size();
      return token;
    }
    case '"':
    case '\'':
      return ReadString();
    case ',':
      return FilterError(token.column, "`,` is not allowed here");
    default:
      return ReadWord();
  }
}

absl::StatusOr<Token> Lexer::ReadString() {
  Token token;
  token.kind = Token::Kind::kString;
  token.column = at_ + 1;
  const char quote = text_[at_++];
  while (at_ < text_.size() && text_[at_] != quote) {
    const char c = text_[at_++];
    if (c == '*') {
      AppendWildcard(token);
    } else if (c == '\\') {
      const char escaped = at_ < text_.size() ? text_[at_] : '\0';
      if (escaped != '\\' && escaped != '*' && escaped != '"' && escaped != '\'') {
        return FilterError(at_, "after `\\` must come a quote, `*` or `\\`");
      }
      AppendPlain(token, escaped);
      ++at_;
    } else {
      AppendPlain(token, c);
    }
  }
  if (at_ == text_.size()) return FilterError(token.column, "this text has no closing quote");
  ++at_;
  return token;
}

absl::StatusOr<Token> Lexer::ReadWord() {
  Token token;
  token.kind = Token::Kind::kWord;
  token.column = at_ + 1;
  while (at_ < text_.size() && !EndsWord(text_[at_])) {
    const char c = text_[at_++];
    if (c == '\\') return FilterError(at_, "a text with `\\` must be in quotes");
    if (c == '*') {
      AppendWildcard(token);
    } else {
      AppendPlain(token, c);
    }
  }
  if (token.text == "AND") token.kind = Token::Kind::kAnd;
  if (token.text == "OR") token.kind = Token::Kind::kOr;
  if (token.text == "NOT") token.kind = Token::Kind::kNot;
  return token;
}

}  // namespace persistd::filter
