// AIP-160 filters (https://google.aip.dev/160) over named, typed fields: parsed, checked, evaluated, or turned into
// SQL.
//
// What does not parse, names an unknown field or compares what cannot be compared is refused, with the column: no part
// of a filter is ever dropped. Differences from the AIP, each refused where it would matter: a bare word (a search over
// everything) is an error, and so are functions and fields of fields. `*` in a text that is compared with `=` or `!=`
// stands for any characters; `\*` for itself. OR binds closer than AND, as the AIP says.
//
// Pure. A parsed filter never changes, and may be shared between threads.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/clock.h"

namespace persistd::filter {

inline constexpr size_t kMaxBytes = 4096;
inline constexpr int kMaxDepth = 32;  // Of parentheses and negations.
inline constexpr size_t kMaxRestrictions = 256;

enum class Type {
  kText,
  kNumber,  // A whole number from 0.
  kTime,    // An RFC 3339 time, in quotes.
  kBool,
  kTexts,  // A list of texts: `tags:"vip"` says that it has one, `tags:*` that it is not empty.
};

// What a field is called, what it holds, and the SQL expression that stands for it: of a time in nanoseconds since
// 1970, of a bool 0 or 1, of a list a JSON array or NULL.
struct Field {
  std::string name;
  Type type = Type::kText;
  std::string sql;
};

// The value of a field, of the C++ type that goes with its Type.
using Value = std::variant<std::string, uint64_t, base::WallTime, bool, std::vector<std::string>>;

enum class Comparison {
  kEqual,
  kNotEqual,
  kLess,
  kLessOrEqual,
  kGreater,
  kGreaterOrEqual,
  kHas,
  kMatches,
  kNotMatches
};

// A restriction, or AND, OR, NOT of others.
struct Node {
  enum class Kind { kRestriction, kAnd, kOr, kNot };
  Kind kind = Kind::kRestriction;
  std::vector<Node> children;  // Two or more of AND and OR, one of NOT.

  size_t field = 0;  // Its place among the fields.
  Comparison comparison = Comparison::kEqual;
  // What it is compared with. With kMatches a pattern, in which `*` stands for any characters and `\` makes the next
  // one plain. With kHas of nothing (`*`) monostate.
  std::variant<std::monostate, std::string, uint64_t, base::WallTime, bool> operand;
};

struct SqlFilter {
  std::string where;  // An expression with `?` for each parameter; never holds anything that the caller wrote.
  std::vector<std::variant<std::string, int64_t>> parameters;
};

class Filter {
 public:
  // InvalidArgument: `column 12: …`, counted in bytes from 1. An empty filter (or only spaces) holds for everything.
  static absl::StatusOr<Filter> Parse(absl::string_view text, std::vector<Field> fields);

  bool empty() const { return root_ == nullptr; }

  // values: one for each field, in their order.
  bool Holds(const std::vector<Value>& values) const;
  // `1` when it is empty.
  SqlFilter ToSql() const;

 private:
  Filter() = default;

  std::shared_ptr<const std::vector<Field>> fields_;
  std::shared_ptr<const Node> root_;
};

}  // namespace persistd::filter
