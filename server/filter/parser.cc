#include "server/filter/parser.h"

#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/base/decimal.h"
#include "server/base/rfc3339.h"
#include "server/base/status_macros.h"
#include "server/domain/utf8.h"
#include "server/filter/lexer.h"

namespace persistd::filter {
namespace {

using Kind = Token::Kind;

std::optional<Comparison> ComparisonOf(absl::string_view text) {
  if (text == "=") return Comparison::kEqual;
  if (text == "!=") return Comparison::kNotEqual;
  if (text == "<") return Comparison::kLess;
  if (text == "<=") return Comparison::kLessOrEqual;
  if (text == ">") return Comparison::kGreater;
  if (text == ">=") return Comparison::kGreaterOrEqual;
  if (text == ":") return Comparison::kHas;
  return std::nullopt;
}

// A part of AND or OR that is of the same kind becomes part of it.
void AddTo(Node& list, Node child) {
  if (child.kind == list.kind && child.kind != Node::Kind::kRestriction) {
    for (Node& grandchild : child.children) list.children.push_back(std::move(grandchild));
  } else {
    list.children.push_back(std::move(child));
  }
}

Node ListOf(Node::Kind kind, Node first) {
  Node list;
  list.kind = kind;
  AddTo(list, std::move(first));
  return list;
}

class Parser {
 public:
  Parser(absl::string_view text, const std::vector<Field>& fields) : lexer_(text), fields_(fields) {}

  absl::StatusOr<std::optional<Node>> Parse() {
    RETURN_IF_ERROR(Advance());
    if (token_.kind == Kind::kEnd) return std::optional<Node>();
    ASSIGN_OR_RETURN(Node root, Expression(0));
    if (token_.kind != Kind::kEnd) return Unexpected("the end");
    return std::optional<Node>(std::move(root));
  }

 private:
  absl::Status Advance() {
    ASSIGN_OR_RETURN(token_, lexer_.Next());
    return absl::OkStatus();
  }

  absl::Status Unexpected(absl::string_view wanted) const {
    const std::string found = token_.kind == Kind::kEnd ? "the end" : absl::StrCat("`", token_.text, "`");
    return FilterError(token_.column, absl::StrCat(found, " where ", wanted, " should be"));
  }

  bool BeginsTerm() const {
    return token_.kind == Kind::kWord || token_.kind == Kind::kString || token_.kind == Kind::kNot ||
           token_.kind == Kind::kMinus || token_.kind == Kind::kOpen;
  }

  absl::StatusOr<Node> Expression(int depth) {
    ASSIGN_OR_RETURN(Node node, Sequence(depth));
    while (token_.kind == Kind::kAnd) {
      RETURN_IF_ERROR(Advance());
      ASSIGN_OR_RETURN(Node next, Sequence(depth));
      if (node.kind != Node::Kind::kAnd) node = ListOf(Node::Kind::kAnd, std::move(node));
      AddTo(node, std::move(next));
    }
    return node;
  }

  // Terms side by side: all of them must hold.
  absl::StatusOr<Node> Sequence(int depth) {
    ASSIGN_OR_RETURN(Node node, Factor(depth));
    while (BeginsTerm()) {
      ASSIGN_OR_RETURN(Node next, Factor(depth));
      if (node.kind != Node::Kind::kAnd) node = ListOf(Node::Kind::kAnd, std::move(node));
      AddTo(node, std::move(next));
    }
    return node;
  }

  absl::StatusOr<Node> Factor(int depth) {
    ASSIGN_OR_RETURN(Node node, Term(depth));
    while (token_.kind == Kind::kOr) {
      RETURN_IF_ERROR(Advance());
      ASSIGN_OR_RETURN(Node next, Term(depth));
      if (node.kind != Node::Kind::kOr) node = ListOf(Node::Kind::kOr, std::move(node));
      AddTo(node, std::move(next));
    }
    return node;
  }

  absl::StatusOr<Node> Term(int depth) {
    if (depth > kMaxDepth) {
      return FilterError(token_.column, absl::StrCat("parentheses and negations go deeper than ", kMaxDepth));
    }
    if (token_.kind == Kind::kNot || token_.kind == Kind::kMinus) {
      RETURN_IF_ERROR(Advance());
      ASSIGN_OR_RETURN(Node negated, Term(depth + 1));
      Node node;
      node.kind = Node::Kind::kNot;
      node.children.push_back(std::move(negated));
      return node;
    }
    if (token_.kind != Kind::kOpen) return Restriction();
    const size_t opened = token_.column;
    RETURN_IF_ERROR(Advance());
    ASSIGN_OR_RETURN(Node node, Expression(depth + 1));
    if (token_.kind == Kind::kEnd) return FilterError(opened, "this parenthesis is not closed");
    if (token_.kind != Kind::kClose) return Unexpected("`)`");
    RETURN_IF_ERROR(Advance());
    return node;
  }

  absl::StatusOr<Node> Restriction() {
    if (token_.kind == Kind::kString) {
      return FilterError(token_.column,
                         "a text alone searches nothing; write the name of a field, without quotes, and "
                         "what it is compared with");
    }
    if (token_.kind != Kind::kWord) return Unexpected("a field");
    if (++restrictions_ > kMaxRestrictions) {
      return FilterError(token_.column, absl::StrCat("more than ", kMaxRestrictions, " comparisons"));
    }
    const Token name = token_;
    Node node;
    bool known = false;
    for (size_t i = 0; i < fields_.size() && !known; ++i) {
      known = fields_[i].name == name.text;
      if (known) node.field = i;
    }
    if (!known) {
      const std::string names =
          absl::StrJoin(fields_, ", ", [](std::string* out, const Field& field) { absl::StrAppend(out, field.name); });
      return FilterError(name.column, absl::StrCat("there is no field `", name.text, "`; there are ", names));
    }
    RETURN_IF_ERROR(Advance());
    if (token_.kind != Kind::kComparator) return Unexpected(absl::StrCat("a comparison of ", name.text));
    const Token comparator = token_;
    RETURN_IF_ERROR(Advance());
    if (token_.kind != Kind::kWord && token_.kind != Kind::kString) {
      return Unexpected(absl::StrCat("what ", name.text, " is compared with"));
    }
    node.comparison = *ComparisonOf(comparator.text);
    RETURN_IF_ERROR(SetOperand(fields_[node.field], comparator, node));
    RETURN_IF_ERROR(Advance());
    return node;
  }

  absl::Status SetOperand(const Field& field, const Token& comparator, Node& node) const {
    const bool has = node.comparison == Comparison::kHas;
    const bool equality = node.comparison == Comparison::kEqual || node.comparison == Comparison::kNotEqual;
    if (has != (field.type == Type::kTexts)) {
      return FilterError(comparator.column,
                         has ? absl::StrCat("`:` is for lists; compare ", field.name, " with =, !=, <, <=, > or >=")
                             : absl::StrCat("only `:` can be used with the list ", field.name));
    }
    const auto wrong = [&](absl::string_view wanted) {
      return FilterError(token_.column, absl::StrCat("`", token_.text, "` is no ", wanted));
    };
    switch (field.type) {
      case Type::kTexts:
        if (token_.kind == Kind::kWord && token_.wildcards) {
          if (token_.text != "*")
            return FilterError(token_.column, "`*` stands alone after `:`, or in quotes for itself");
          node.operand = std::monostate();
        } else {
          node.operand = token_.text;
        }
        return absl::OkStatus();
      case Type::kText:
        node.operand = token_.text;
        if (!token_.wildcards) return absl::OkStatus();
        if (!equality) return FilterError(token_.column, "`*` can be used with = and != only; write `\\*` for itself");
        node.comparison = node.comparison == Comparison::kEqual ? Comparison::kMatches : Comparison::kNotMatches;
        node.operand = token_.pattern;
        return absl::OkStatus();
      case Type::kNumber: {
        const std::optional<uint64_t> number = base::ParseDecimal(token_.text);
        if (!number.has_value() || *number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
          return wrong("whole number from 0");
        }
        node.operand = *number;
        return absl::OkStatus();
      }
      case Type::kTime: {
        const std::optional<base::WallTime> time = base::ParseRfc3339(token_.text);
        if (!time.has_value()) return wrong("time such as \"2026-01-31T12:00:00Z\", in quotes");
        node.operand = *time;
        return absl::OkStatus();
      }
      case Type::kBool:
        if (token_.text != "true" && token_.text != "false") return wrong("true or false");
        if (!equality) return FilterError(comparator.column, absl::StrCat("compare ", field.name, " with = or !="));
        node.operand = token_.text == "true";
        return absl::OkStatus();
    }
    return absl::OkStatus();
  }

  Lexer lexer_;
  const std::vector<Field>& fields_;
  Token token_;
  size_t restrictions_ = 0;
};

}  // namespace

absl::StatusOr<std::optional<Node>> ParseFilter(absl::string_view text, const std::vector<Field>& fields) {
  if (text.size() > kMaxBytes) {
    return FilterError(kMaxBytes + 1, absl::StrCat("a filter has at most ", kMaxBytes, " bytes"));
  }
  if (!domain::IsUtf8(text)) return FilterError(1, "a filter must be UTF-8");
  if (const size_t nul = text.find('\0'); nul != absl::string_view::npos) {
    return FilterError(nul + 1, "a filter must not hold a NUL");
  }
  return Parser(text, fields).Parse();
}

}  // namespace persistd::filter
