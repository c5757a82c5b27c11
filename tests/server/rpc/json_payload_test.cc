#include "server/rpc/json_payload.h"

#include <rapidcheck.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "google/protobuf/util/json_util.h"
#include "server/domain/errors.h"
#include "tests/testing/catch.h"

namespace persistd::rpc {
namespace {

using google::protobuf::Struct;

// Reads JSON as a client does that types it.
Struct Typed(const std::string& json) {
  Struct object;
  REQUIRE(google::protobuf::util::JsonStringToMessage(json, &object).ok());
  return object;
}

std::string Stored(const Struct& object) { return StructToJson(object, FieldPath("payload")).value(); }

TEST_CASE("Typed JSON is stored compact, with sorted keys and whole numbers in digits") {
  CHECK(Stored(Typed(R"({ "b": 12, "a": [1, 2.5, "x", true, null, {}], "ä": {"z": 1, "y": -0.1} })")) ==
        R"({"a":[1,2.5,"x",true,null,{}],"b":12,"ä":{"y":-0.1,"z":1}})");
  CHECK(Stored(Typed("{}")) == "{}");
  CHECK(Stored(Typed(R"({"a": 100000, "b": 9007199254740992, "c": 1e300, "d": -3, "e": 0.1, "f": 1.0})")) ==
        R"({"a":100000,"b":9007199254740992,"c":1e+300,"d":-3,"e":0.1,"f":1})");
  CHECK(Stored(Typed(R"({"a": "q\"\\\n\u0001é"})")) == "{\"a\":\"q\\\"\\\\\\n\\u0001é\"}");
}

TEST_CASE("A number that JSON does not have is refused with the field") {
  for (const double number : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    Struct object;
    (*object.mutable_fields())["a"].mutable_list_value()->add_values()->set_number_value(number);
    const auto json = StructToJson(object, FieldPath("state").Child("json"));
    REQUIRE_FALSE(json.ok());
    CHECK(domain::GetErrorDetail(json.status())->field_violation().field() == "state.json");
  }
}

TEST_CASE("A text that is not UTF-8 is refused") {
  Struct object;
  (*object.mutable_fields())["a"].set_string_value("\xff");
  CHECK_FALSE(StructToJson(object, FieldPath("x")).ok());
  Struct key;
  (*key.mutable_fields())["\xff"].set_bool_value(true);
  CHECK_FALSE(StructToJson(key, FieldPath("x")).ok());
}

TEST_CASE("A stored object that a Struct holds exactly is shown") {
  for (const std::string json : {
           R"({})",
           R"( { "a" : 1 } )",
           R"({"a":9007199254740992,"b":-9007199254740992})",
           R"({"a":0.1,"b":1.50,"c":1e3,"d":100.00e-2,"e":-0.0,"f":0e5,"g":1E+22})",
           R"({"a":[[],{},null,true,"\u00e9\u0000"]})",
       }) {
    CAPTURE(json);
    const auto object = JsonToStruct(json);
    REQUIRE(object.has_value());
    CHECK(nlohmann::json::parse(Stored(*object)) == nlohmann::json::parse(json));
  }
}

TEST_CASE("What a Struct would change, or cannot hold, is not shown") {
  for (const std::string json : {
           R"({"a":9007199254740993})",                      // Beyond 2^53.
           R"({"a":-9007199254740993})",                     //
           R"({"a":123456789012345678901234567890})",        // Beyond 64 bits.
           R"({"a":0.1000000000000000055511151231257827})",  // More digits than a double keeps.
           R"({"a":12345678.123456789012})",                 //
           R"({"a":1e-400})",                                // Becomes 0.
           R"({"a":1e400})",                                 // Becomes infinite.
           R"({"a":1,"a":2})",                               // A key twice.
           R"({"a":"\ud800"})",                              // Half a surrogate pair.
           "{\"a\":\"\xff\"}",                               // Not UTF-8.
           R"([])",                                          // Not objects:
           R"([{}])",                                        //
           R"(1)",                                           //
           R"("a")",                                         //
           R"(null)",                                        //
           R"({} {})",                                       // More than one value.
           R"({"a":)",                                       // Not JSON:
           R"()",                                            //
           R"({'a':1})",                                     //
       }) {
    CAPTURE(json);
    CHECK_FALSE(JsonToStruct(json).has_value());
  }
}

TEST_CASE("Nesting is shown as deep as clients can parse") {
  const auto nested = [](int depth) {
    std::string json = "{}";
    for (int i = 1; i < depth; ++i) json = R"({"a":)" + json + "}";
    return json;
  };
  const auto deepest = JsonToStruct(nested(30));
  REQUIRE(deepest.has_value());
  Struct parsed;
  CHECK(parsed.ParseFromString(deepest->SerializeAsString()));
  CHECK_FALSE(JsonToStruct(nested(31)).has_value());
  CHECK_FALSE(JsonToStruct(R"({"a":)" + std::string(100'000, '[') + std::string(100'000, ']') + "}").has_value());
}

TEST_CASE("Content types that say JSON are recognised") {
  for (const char* type : {"application/json", "Application/JSON", "application/json; charset=utf-8",
                           "application/json ;x=y", "application/vnd.sales+json", "application/x+json;v=1"}) {
    CHECK(IsJsonType(type));
  }
  for (const char* type : {"", "application/octet-stream", "text/plain", "application/jsonl", "application/json-seq",
                           "text/plain; as=application/json"}) {
    CHECK_FALSE(IsJsonType(type));
  }
}

bool Survives(double number) {
  Struct object;
  (*object.mutable_fields())["a"].set_number_value(number);
  const auto shown = JsonToStruct(Stored(object));
  if (!shown.has_value()) return false;
  const double back = shown->fields().at("a").number_value();
  return std::memcmp(&back, &number, sizeof(number)) == 0;
}

TEST_CASE("Every finite double survives being stored and shown") {
  // Whole ones beyond 2^53, and zero with a sign.
  for (const double number : {9007199254740994.0, -9007199254740994.0, 1e20, -0.0, 0.0, 4503599627370497.5}) {
    INFO(number);
    CHECK(Survives(number));
  }
  CHECK(rc::check([](uint64_t bits) {
    double number;
    std::memcpy(&number, &bits, sizeof(number));
    RC_PRE(std::isfinite(number));
    RC_ASSERT(Survives(number));
  }));
}

TEST_CASE("Arbitrary bytes never crash the reader") {
  CHECK(rc::check([](const std::string& bytes) {
    const auto object = JsonToStruct("{\"a\":" + bytes + "}");
    if (object.has_value()) RC_ASSERT(StructToJson(*object, FieldPath("x")).ok());
  }));
}

}  // namespace
}  // namespace persistd::rpc
