#include "client/cli/json_text.h"

#include <rapidcheck.h>

#include <nlohmann/json.hpp>

#include "tests/testing/catch.h"

namespace persistd::cli {
namespace {

using nlohmann::ordered_json;

TEST_CASE("What is valid JSON is decided strictly", "[cli]") {
  for (const char* const text : {"null", "-1.5e3", "\"\"", "{}", " [1, 2] \n", R"({"a": {"b": "\ud83d\ude00"}})"}) {
    CAPTURE(text);
    CHECK(ValidateJson(text).ok());
  }
  for (const std::string text : {"", "{", "{a: 1}", "[1,]", "1 2", "// c\n1", "\"a\nb\"", "\"\xff\"", "NaN", "01",
                                 "\xef\xbb\xbf{}", "{\"a\":1"}) {
    CAPTURE(text);
    CHECK(absl::IsInvalidArgument(ValidateJson(text)));
  }
  CHECK_FALSE(ValidateJson(std::string("1\0", 2)).ok());
  CHECK_FALSE(ValidateJson(std::string("{}\0garbage", 10)).ok());
}

TEST_CASE("An error in JSON is located and shown without flooding the screen", "[cli]") {
  const std::string message(ValidateJson("{\"a\": \"" + std::string(10'000, 'x')).message());
  CHECK_THAT(message, testing::ContainsText("at byte 1000"));
  CHECK(message.size() < 200);
}

TEST_CASE("Deep nesting is no problem", "[cli]") {
  const std::string deep = std::string(200'000, '[') + std::string(200'000, ']');
  REQUIRE(ValidateJson(deep).ok());
  CHECK((CompactJson(deep) == deep));
}

TEST_CASE("Members keep their order, duplicates and exact text", "[cli]") {
  const auto members = JsonMembers(R"( { "a\u0062" : 9007199254740993 ,"x":{"y":[1, "}"]},"x":1.10 } )");
  REQUIRE(members.size() == 3);
  CHECK(members[0].name == "ab");
  CHECK(members[0].raw_name == R"("a\u0062")");
  CHECK(members[0].value == "9007199254740993");
  CHECK(members[1].value == R"({"y":[1, "}"]})");
  CHECK(members[2].name == "x");
  CHECK(members[2].value == "1.10");
  CHECK(JsonMembers("{ }").empty());
  CHECK(JsonMembers("[1]").empty());
  CHECK(JsonMembers("\"{}\"").empty());
}

TEST_CASE("Mapping changes values and nothing else", "[cli]") {
  const auto quote = [](absl::string_view value) { return "\"<" + std::string(value) + ">\""; };
  CHECK(MapJsonObject(R"({"a": 1, "b" : [2]})", [&](const JsonMember& m) { return quote(m.value); }) ==
        R"({"a":"<1>","b":"<[2]>"})");
  CHECK(MapJsonArray("[ 1 , \"a,b\",{} ]", quote) == R"(["<1>","<"a,b">","<{}>"])");
  CHECK(MapJsonArray("[]", quote) == "[]");
  CHECK(MapJsonArray("{\"a\":1}", quote) == "{\"a\":1}");
  CHECK(MapJsonObject("[1]", [&](const JsonMember&) { return ""; }) == "[1]");
}

TEST_CASE("Compact and pretty change white space only", "[cli]") {
  const std::string text = "{\n \"a b\" : [ 1.0 , {} , [ ] ],\t\"c\\\" :\": \"x,  y\"}";
  CHECK(CompactJson(text) == R"({"a b":[1.0,{},[]],"c\" :":"x,  y"})");
  CHECK(PrettyJson(text) == R"({
  "a b": [
    1.0,
    {},
    []
  ],
  "c\" :": "x,  y"
})");
  CHECK(PrettyJson("[ ]") == "[]");
  const std::string deep = std::string(20'000, '[') + "1" + std::string(20'000, ']');
  CHECK(PrettyJson(deep).size() < 40'000 * 150);
  CHECK(CompactJson(PrettyJson(deep)) == deep);
  CHECK(PrettyJson(" 1e5 ") == "1e5");
}

ordered_json AnyJson(int depth) {
  switch (*rc::gen::inRange(0, depth > 0 ? 6 : 4)) {
    case 0:
      return *rc::gen::arbitrary<int64_t>();
    case 1:
      return *rc::gen::element(0.1, -2.5e-7, 1e300);
    case 2:
      return *rc::gen::container<std::string>(rc::gen::element('a', '"', '\\', '{', ']', ',', ':', ' ', '\n'));
    case 3:
      return nullptr;
    case 4: {
      ordered_json array = ordered_json::array();
      for (int n = *rc::gen::inRange(0, 4); n > 0; --n) array.push_back(AnyJson(depth - 1));
      return array;
    }
    default: {
      ordered_json object = ordered_json::object();
      for (int n = *rc::gen::inRange(0, 4); n > 0; --n) {
        object[*rc::gen::container<std::string>(rc::gen::element('k', '"', '\\', ':'))] = AnyJson(depth - 1);
      }
      return object;
    }
  }
}

TEST_CASE("Any document survives taking apart, compacting and indenting", "[cli]") {
  CHECK(rc::check([] {
    const ordered_json document = AnyJson(4);
    const std::string compact = document.dump();
    RC_ASSERT(ValidateJson(compact).ok());
    RC_ASSERT(CompactJson(document.dump(3)) == compact);
    RC_ASSERT(CompactJson(PrettyJson(compact)) == compact);
    RC_ASSERT(MapJsonObject(document.dump(1), [](const JsonMember& m) { return CompactJson(m.value); }) ==
              (document.is_object() ? compact : document.dump(1)));
    RC_ASSERT(MapJsonArray(compact, [](absl::string_view value) { return std::string(value); }) == compact);
  }));
}

TEST_CASE("UTF-8 is told from other bytes", "[cli]") {
  CHECK(IsUtf8("Grüße 😀"));
  CHECK_FALSE(IsUtf8("\xc3"));
  CHECK_FALSE(IsUtf8("\xff"));
}

}  // namespace
}  // namespace persistd::cli
