#include "server/filter/filter.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/filter/parser.h"

namespace persistd::filter {
namespace {

// Whether `text` matches `pattern`, in which `*` stands for any characters and `\` makes the next one plain. Goes back
// to the last `*` only, which is enough: earlier ones have taken as little as they can.
bool Matches(absl::string_view text, absl::string_view pattern) {
  constexpr size_t kNone = absl::string_view::npos;
  size_t t = 0;
  size_t p = 0;
  size_t star = kNone;  // Behind the last `*` of the pattern ...
  size_t tried = 0;     // ... and where in the text what follows it was tried.
  while (true) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = ++p;
      tried = t;
      continue;
    }
    if (p == pattern.size() && t == text.size()) return true;
    const size_t plain = p < pattern.size() && pattern[p] == '\\' ? p + 1 : p;
    if (t < text.size() && plain < pattern.size() && pattern[plain] == text[t]) {
      ++t;
      p = plain + 1;
      continue;
    }
    if (star == kNone || tried == text.size()) return false;
    p = star;
    t = ++tried;
  }
}

// The same for SQLite's GLOB.
std::string ToGlob(absl::string_view pattern) {
  std::string glob;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] == '*') {
      glob += '*';
      continue;
    }
    if (pattern[i] == '\\') ++i;
    const char c = pattern[i];
    if (c == '*' || c == '?' || c == '[') {
      absl::StrAppend(&glob, "[", std::string(1, c), "]");
    } else {
      glob += c;
    }
  }
  return glob;
}

template <typename T>
bool Compare(Comparison comparison, const T& value, const T& operand) {
  switch (comparison) {
    case Comparison::kEqual:
      return value == operand;
    case Comparison::kNotEqual:
      return value != operand;
    case Comparison::kLess:
      return value < operand;
    case Comparison::kLessOrEqual:
      return value <= operand;
    case Comparison::kGreater:
      return value > operand;
    case Comparison::kGreaterOrEqual:
      return value >= operand;
    case Comparison::kHas:
    case Comparison::kMatches:
    case Comparison::kNotMatches:
      break;
  }
  return false;
}

const char* SqlOf(Comparison comparison) {
  switch (comparison) {
    case Comparison::kEqual:
      return " = ?";
    case Comparison::kNotEqual:
      return " <> ?";
    case Comparison::kLess:
      return " < ?";
    case Comparison::kLessOrEqual:
      return " <= ?";
    case Comparison::kGreater:
      return " > ?";
    case Comparison::kGreaterOrEqual:
      return " >= ?";
    case Comparison::kMatches:
      return " GLOB ?";
    case Comparison::kNotMatches:
      return " NOT GLOB ?";
    case Comparison::kHas:
      break;
  }
  return "";
}

bool RestrictionHolds(const Node& node, const Value& value) {
  if (const auto* texts = std::get_if<std::vector<std::string>>(&value)) {
    const auto* wanted = std::get_if<std::string>(&node.operand);
    return wanted == nullptr ? !texts->empty() : std::find(texts->begin(), texts->end(), *wanted) != texts->end();
  }
  if (const auto* text = std::get_if<std::string>(&value)) {
    const std::string& operand = std::get<std::string>(node.operand);
    if (node.comparison == Comparison::kMatches) return Matches(*text, operand);
    if (node.comparison == Comparison::kNotMatches) return !Matches(*text, operand);
    return Compare(node.comparison, *text, operand);
  }
  if (const auto* number = std::get_if<uint64_t>(&value)) {
    return Compare(node.comparison, *number, std::get<uint64_t>(node.operand));
  }
  if (const auto* time = std::get_if<base::WallTime>(&value)) {
    return Compare(node.comparison, *time, std::get<base::WallTime>(node.operand));
  }
  return Compare(node.comparison, std::get<bool>(value), std::get<bool>(node.operand));
}

bool NodeHolds(const Node& node, const std::vector<Value>& values) {
  const auto holds = [&values](const Node& child) { return NodeHolds(child, values); };
  switch (node.kind) {
    case Node::Kind::kAnd:
      return std::all_of(node.children.begin(), node.children.end(), holds);
    case Node::Kind::kOr:
      return std::any_of(node.children.begin(), node.children.end(), holds);
    case Node::Kind::kNot:
      return !holds(node.children.front());
    case Node::Kind::kRestriction:
      break;
  }
  return RestrictionHolds(node, values[node.field]);
}

void AppendRestriction(const Node& node, const std::string& column, SqlFilter& sql) {
  if (node.comparison == Comparison::kHas) {
    if (const auto* wanted = std::get_if<std::string>(&node.operand)) {
      absl::StrAppend(&sql.where, "EXISTS(SELECT 1 FROM json_each(", column, ") WHERE value = ?)");
      sql.parameters.emplace_back(*wanted);
    } else {
      absl::StrAppend(&sql.where, "coalesce(json_array_length(", column, "), 0) > 0");
    }
    return;
  }
  absl::StrAppend(&sql.where, column, SqlOf(node.comparison));
  const bool pattern = node.comparison == Comparison::kMatches || node.comparison == Comparison::kNotMatches;
  if (const auto* text = std::get_if<std::string>(&node.operand)) {
    sql.parameters.emplace_back(pattern ? ToGlob(*text) : *text);
  } else if (const auto* number = std::get_if<uint64_t>(&node.operand)) {
    sql.parameters.emplace_back(static_cast<int64_t>(*number));
  } else if (const auto* time = std::get_if<base::WallTime>(&node.operand)) {
    sql.parameters.emplace_back(int64_t{time->time_since_epoch().count()});
  } else {
    sql.parameters.emplace_back(int64_t{std::get<bool>(node.operand) ? 1 : 0});
  }
}

void AppendSql(const Node& node, const std::vector<Field>& fields, SqlFilter& sql) {
  if (node.kind == Node::Kind::kRestriction) {
    AppendRestriction(node, fields[node.field].sql, sql);
    return;
  }
  if (node.kind == Node::Kind::kNot) absl::StrAppend(&sql.where, "NOT ");
  absl::StrAppend(&sql.where, "(");
  for (size_t i = 0; i < node.children.size(); ++i) {
    if (i > 0) absl::StrAppend(&sql.where, node.kind == Node::Kind::kAnd ? " AND " : " OR ");
    AppendSql(node.children[i], fields, sql);
  }
  absl::StrAppend(&sql.where, ")");
}

}  // namespace

absl::StatusOr<Filter> Filter::Parse(absl::string_view text, std::vector<Field> fields) {
  ASSIGN_OR_RETURN(std::optional<Node> root, ParseFilter(text, fields));
  Filter filter;
  filter.fields_ = std::make_shared<const std::vector<Field>>(std::move(fields));
  if (root.has_value()) filter.root_ = std::make_shared<const Node>(*std::move(root));
  return filter;
}

bool Filter::Holds(const std::vector<Value>& values) const { return empty() || NodeHolds(*root_, values); }

SqlFilter Filter::ToSql() const {
  SqlFilter sql;
  if (empty()) {
    sql.where.push_back('1');  // Not assigned: GCC 12 then warns of an overlap that is none, when it optimises.
  } else {
    AppendSql(*root_, *fields_, sql);
  }
  return sql;
}

}  // namespace persistd::filter
