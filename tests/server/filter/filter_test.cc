#include "server/filter/filter.h"

#include <cstdio>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/base/rfc3339.h"
#include "server/index/database.h"
#include "tests/testing/catch.h"
#include "tests/testing/must.h"

namespace persistd::filter {
namespace {

using ::persistd::testing::Must;

std::vector<Field> Fields() {
  return {{.name = "name", .type = Type::kText, .sql = "name"},
          {.name = "count", .type = Type::kNumber, .sql = "count"},
          {.name = "time", .type = Type::kTime, .sql = "time"},
          {.name = "gone", .type = Type::kBool, .sql = "gone"},
          {.name = "tags", .type = Type::kTexts, .sql = "tags"}};
}

struct Thing {
  std::string name = "widget";
  uint64_t count = 5;
  std::string time = "2026-01-31T12:00:00Z";
  bool gone = false;
  std::vector<std::string> tags = {"vip", "a b"};

  std::vector<Value> values() const { return {name, count, *base::ParseRfc3339(time), gone, tags}; }
};

bool Holds(absl::string_view text, const Thing& thing = {}) {
  INFO(text);
  return Must(Filter::Parse(text, Fields())).Holds(thing.values());
}

std::string ErrorOf(absl::string_view text) {
  const absl::StatusOr<Filter> filter = Filter::Parse(text, Fields());
  if (filter.ok()) return "";
  CHECK(absl::IsInvalidArgument(filter.status()));
  return std::string(filter.status().message());
}

TEST_CASE("Comparisons hold by the type of their field", "[filter]") {
  for (const char* text : {"",
                           "  ",
                           "name = widget",
                           "name = \"widget\"",
                           "name = 'widget'",
                           "name=widget",
                           "name != x",
                           "name < x",
                           "name >= widget",
                           "count = 5",
                           "count > 4",
                           "count <= 5",
                           "count != 6",
                           "time = \"2026-01-31T12:00:00Z\"",
                           "time < \"2026-01-31T12:00:00.001Z\"",
                           "time >= '2026-01-31T13:00:00+01:00'",
                           "gone = false",
                           "gone != true",
                           "tags:vip",
                           "tags : \"a b\"",
                           "tags:*"}) {
    CHECK(Holds(text));
  }
  for (const char* text : {"name = Widget", "name > x", "count = 50", "count < 5", "time > \"2026-01-31T12:00:00Z\"",
                           "gone = true", "tags:vi", "tags:\"*\"", "tags:\"a\""}) {
    CHECK_FALSE(Holds(text));
  }
  Thing bare;
  bare.tags = {};
  CHECK_FALSE(Holds("tags:*", bare));
}

TEST_CASE("Stars in texts stand for any characters, plain ones are escaped", "[filter]") {
  for (const char* text : {"name = w*", "name = \"*get\"", "name = *", "name = w*g*t", "name = \"*\"", "name != x*",
                           "name = *w*i*d*g*e*t*"}) {
    CHECK(Holds(text));
  }
  for (const char* text : {"name = x*", "name = w*x", "name != *", "name = \"w\\*\""}) CHECK_FALSE(Holds(text));
  Thing star;
  star.name = "a*b?[c]\\\"";
  CHECK(Holds("name = \"a\\*b?[c]\\\\\\\"\"", star));
  CHECK(Holds("name = \"*\\*b?[*\"", star));
  CHECK_FALSE(Holds("name = \"a\\*b?[c]*x\"", star));
}

TEST_CASE("OR binds closer than AND and than terms side by side; NOT and minus negate", "[filter]") {
  CHECK(Holds("count = 5 AND name = x OR name = widget"));
  CHECK_FALSE(Holds("count = 6 AND name = x OR name = widget"));
  CHECK(Holds("(count = 6 AND name = x) OR name = widget"));
  CHECK(Holds("count = 5 name = widget"));
  CHECK_FALSE(Holds("count = 5 name = x"));
  CHECK(Holds("count = 6 OR count = 5 name = widget"));
  CHECK(Holds("NOT count = 6"));
  CHECK(Holds("-count = 6 AND -(name = x)"));
  CHECK_FALSE(Holds("NOT (count = 5 OR name = x)"));
  CHECK(Holds("NOT NOT count = 5"));
  CHECK(Holds("((((count = 5))))"));
}

TEST_CASE("What is wrong is told with its column", "[filter]") {
  struct Case {
    const char* text;
    const char* begins;
    const char* says;
  };
  for (const Case& wrong :
       std::vector<Case>{{"nam = x", "column 1:", "there is no field `nam`; there are name, count, time, gone, tags"},
                         {"name.first = x", "column 1:", "there is no field `name.first`"},
                         {"count = 1 AND widget", "column 15:", "there is no field `widget`"},
                         {"name", "column 5:", "the end where a comparison of name"},
                         {"name(x)", "column 5:", "`(` where a comparison of name"},
                         {"\"name\" = x", "column 1:", "a text alone searches nothing"},
                         {"name = ", "column 8:", "the end where what name is compared with"},
                         {"name = = x", "column 8:", "`=` where what name is compared with"},
                         {"name = x = y", "column 10:", "`=` where the end"},
                         {"name : x", "column 6:", "`:` is for lists"},
                         {"tags = x", "column 6:", "only `:` can be used with the list tags"},
                         {"tags:v*", "column 6:", "stands alone"},
                         {"name < w*", "column 8:", "with = and != only"},
                         {"count = five", "column 9:", "`five` is no whole number"},
                         {"count = -5", "column 9:", "`-` where what count is compared with"},
                         {"count = 9223372036854775808", "column 9:", "is no whole number"},
                         {"count = 05", "column 9:", "is no whole number"},
                         {"time > yesterday", "column 8:", "is no time such as"},
                         {"gone = maybe", "column 8:", "is no true or false"},
                         {"gone < true", "column 6:", "compare gone with = or !="},
                         {"(name = x", "column 1:", "not closed"},
                         {"name = x)", "column 9:", "`)` where the end"},
                         {"()", "column 2:", "`)` where a field"},
                         {"name = \"x", "column 8:", "no closing quote"},
                         {"name = \"\\n\"", "column 9:", "after `\\` must come"},
                         {"name = a\\b", "column 9:", "must be in quotes"},
                         {"name ! x", "column 6:", "must be followed by `=`"},
                         {"name = a, b", "column 9:", "`,` is not allowed"},
                         {"AND name = x", "column 1:", "`AND` where a field"},
                         {"name = x AND", "column 13:", "the end where a field"},
                         {"name = x OR OR name = y", "column 13:", "`OR` where a field"},
                         {"NOT", "column 4:", "the end where a field"}}) {
    INFO(wrong.text);
    const std::string error = ErrorOf(wrong.text);
    INFO(error);
    CHECK(absl::StartsWith(error, wrong.begins));
    CHECK(absl::StrContains(error, wrong.says));
  }
  CHECK(absl::StrContains(ErrorOf(std::string("name = x\0", 9)), "NUL"));
  CHECK(absl::StrContains(ErrorOf("name = \xff"), "UTF-8"));
}

TEST_CASE("Length, depth and number are bounded", "[filter]") {
  CHECK(ErrorOf(absl::StrCat(std::string(kMaxDepth, '('), "count = 5", std::string(kMaxDepth, ')'))).empty());
  CHECK(absl::StrContains(ErrorOf(std::string(2000, '(')), "go deeper"));
  CHECK(absl::StrContains(ErrorOf(std::string(2000, '-')), "go deeper"));
  CHECK(absl::StrContains(ErrorOf(std::string(kMaxBytes + 1, ' ')), "at most"));
  const std::vector<std::string> most(kMaxRestrictions, "count=5");
  CHECK(ErrorOf(absl::StrJoin(most, " ")).empty());
  CHECK(absl::StrContains(ErrorOf(absl::StrCat(absl::StrJoin(most, " "), " count=5")), "more than"));
}

// Random filters, of texts that are likely to collide with the values.
class Maker {
 public:
  explicit Maker(uint64_t seed) : random_(seed) {}

  size_t Below(size_t bound) { return std::uniform_int_distribution<size_t>(0, bound - 1)(random_); }

  std::string Text() {
    static constexpr const char* kParts[] = {"a", "b", "*", "?", "[", "]", "\\", "\"", "ä", " ", "%", "_", "'"};
    std::string text;
    for (size_t i = Below(4); i > 0; --i) text += kParts[Below(std::size(kParts))];
    return text;
  }

  std::string Quoted(const std::string& text, bool stars) {
    std::string quoted = "\"";
    for (const char c : text) {
      if (c == '\\' || c == '"' || (c == '*' && !stars)) quoted += '\\';
      quoted += c;
    }
    return quoted + "\"";
  }

  std::string Restriction() {
    static constexpr const char* kOrders[] = {"=", "!=", "<", "<=", ">", ">="};
    switch (Below(6)) {
      case 0:
        return absl::StrCat("name ", kOrders[Below(6)], " ", Quoted(Text(), false));
      case 1:
        return absl::StrCat("name ", kOrders[Below(2)], " ", Quoted(Text(), true));
      case 2:
        return absl::StrCat("count ", kOrders[Below(6)], " ", Below(4));
      case 3:
        return absl::StrCat("time ", kOrders[Below(6)], " \"2026-01-0", 1 + Below(4), "T00:00:00Z\"");
      case 4:
        return absl::StrCat("gone ", kOrders[Below(2)], Below(2) == 0 ? " true" : " false");
      default:
        return Below(4) == 0 ? "tags:*" : absl::StrCat("tags:", Quoted(Text(), false));
    }
  }

  std::string Expression(int depth) {
    if (depth == 0 || Below(3) == 0) return Restriction();
    switch (Below(4)) {
      case 0:
        return absl::StrCat("(", Expression(depth - 1), " AND ", Expression(depth - 1), ")");
      case 1:
        return absl::StrCat("(", Expression(depth - 1), " OR ", Expression(depth - 1), ")");
      case 2:
        return absl::StrCat("NOT (", Expression(depth - 1), ")");
      default:
        return absl::StrCat(Expression(depth - 1), " ", Expression(depth - 1));
    }
  }

  Thing AnyThing() {
    Thing thing;
    thing.name = Text();
    thing.count = Below(4);
    thing.time = absl::StrCat("2026-01-0", 1 + Below(4), "T00:00:00Z");
    thing.gone = Below(2) == 0;
    thing.tags.clear();
    for (size_t i = Below(3); i > 0; --i) thing.tags.push_back(Text());
    return thing;
  }

 private:
  std::mt19937_64 random_;
};

std::string JsonOf(const std::vector<std::string>& texts) {
  return absl::StrCat("[",
                      absl::StrJoin(texts, ",",
                                    [](std::string* out, const std::string& text) {
                                      *out += '"';
                                      for (const char c : text) {
                                        if (c == '"' || c == '\\') *out += '\\';
                                        *out += c;
                                      }
                                      *out += '"';
                                    }),
                      "]");
}

TEST_CASE("A filter holds for the same things in SQLite", "[filter]") {
  const uint64_t seed = std::random_device()();
  INFO("seed " << seed);
  Maker maker(seed);
  const auto database = Must(index::Database::Open({.path = ":memory:"}));
  REQUIRE(
      database
          ->Execute("CREATE TABLE things(id INTEGER, name TEXT, count INTEGER, time INTEGER, gone INTEGER, tags TEXT)")
          .ok());
  std::vector<Thing> things;
  index::Statement insert = Must(database->Prepare("INSERT INTO things VALUES(?1, ?2, ?3, ?4, ?5, ?6)"));
  for (int64_t i = 0; i < 60; ++i) {
    const Thing thing = maker.AnyThing();
    const std::string tags = JsonOf(thing.tags);
    insert.Bind(1, i);
    insert.Bind(2, thing.name);
    insert.Bind(3, static_cast<int64_t>(thing.count));
    insert.Bind(4, int64_t{base::ParseRfc3339(thing.time)->time_since_epoch().count()});
    insert.Bind(5, thing.gone ? 1 : 0);
    if (thing.tags.empty()) {
      insert.BindNull(6);
    } else {
      insert.Bind(6, tags);
    }
    REQUIRE(insert.Run().ok());
    things.push_back(thing);
  }
  size_t held = 0;
  for (int round = 0; round < 2000; ++round) {
    const std::string text = maker.Expression(4);
    INFO(text);
    const Filter filter = Must(Filter::Parse(text, Fields()));
    const SqlFilter sql = filter.ToSql();
    INFO(sql.where);
    index::Statement select =
        Must(database->Prepare(absl::StrCat("SELECT id FROM things WHERE ", sql.where, " ORDER BY id")));
    for (size_t i = 0; i < sql.parameters.size(); ++i) {
      std::visit([&](const auto& value) { select.Bind(static_cast<int>(i + 1), value); }, sql.parameters[i]);
    }
    std::vector<int64_t> found;
    while (Must(select.Step())) found.push_back(select.Integer(0));
    std::vector<int64_t> expected;
    for (size_t i = 0; i < things.size(); ++i) {
      if (filter.Holds(things[i].values())) expected.push_back(static_cast<int64_t>(i));
    }
    REQUIRE(found == expected);
    held += expected.size();
  }
  CHECK(held > 1000);
}

TEST_CASE("Any text is parsed or refused with a column inside it", "[filter]") {
  const uint64_t seed = std::random_device()();
  INFO("seed " << seed);
  Maker maker(seed);
  static constexpr const char* kPieces[] = {
      "name", "count", "time", "gone", "tags", " ", "=", "!=",   "<", ">=", ":", "(", ")", "AND", "OR",
      "NOT",  "-",     "\"",   "'",    "\\",   "*", "5", "true", ",", "!",  ".", "x", "ä", "\t",  "\x01"};
  size_t parsed = 0;
  for (int round = 0; round < 50'000; ++round) {
    std::string text;
    for (size_t i = maker.Below(14); i > 0; --i) {
      text += kPieces[maker.Below(std::size(kPieces))];
      if (maker.Below(2) == 0) text += ' ';
    }
    const absl::StatusOr<Filter> filter = Filter::Parse(text, Fields());
    if (filter.ok()) {
      ++parsed;
      Must(filter).Holds(Thing().values());
      continue;
    }
    size_t column = 0;
    INFO(text << " -> " << filter.status().message());
    const std::string message(filter.status().message());
    REQUIRE(sscanf(message.c_str(), "column %zu: ", &column) == 1);
    REQUIRE(column >= 1);
    REQUIRE(column <= text.size() + 1);
  }
  CHECK(parsed > 10);
}

}  // namespace
}  // namespace persistd::filter
