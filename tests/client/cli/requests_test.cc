#include "client/cli/requests.h"

#include <google/protobuf/util/time_util.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "tests/testing/catch.h"

namespace persistd::cli {
namespace {

namespace pb = cim::persistence::v1;
using Words = std::vector<std::string>;

absl::StatusOr<pb::SaveRequest> Save(const Words& words, const std::string& input = "") {
  const auto arguments = Arguments::Parse(words, SaveFlags());
  if (!arguments.ok()) return arguments.status();
  std::istringstream in(input);
  return BuildSave(*arguments, in);
}

std::string SaveError(const Words& words, const std::string& input = "") {
  const auto request = Save(words, input);
  REQUIRE(absl::IsInvalidArgument(request.status()));
  return std::string(request.status().message());
}

auto Load(const Words& words) { return BuildLoad(*Arguments::Parse(words, LoadFlags())); }
auto History(const Words& words) { return BuildHistory(*Arguments::Parse(words, HistoryFlags())); }

std::string WriteFile(const std::string& name, const std::string& text) {
  const std::string path = std::string(std::getenv("TEST_TMPDIR")) + "/" + name;
  std::ofstream(path) << text;
  return path;
}

TEST_CASE("An entity id is all that follows the second slash", "[cli]") {
  const auto ref = ParseRef("sales/order/2024/05//é");
  REQUIRE(ref.ok());
  CHECK(ref->context() == "sales");
  CHECK(ref->aggregate() == "order");
  CHECK(ref->entity_id() == "2024/05//é");
  for (const char* const text : {"", "sales", "sales/order", "sales/order/", "/order/42", "sales//42", "//"}) {
    CAPTURE(text);
    CHECK(absl::IsInvalidArgument(ParseRef(text).status()));
  }
}

TEST_CASE("Save takes events with versions, files and no payload", "[cli]") {
  const auto request = Save({"sales/order/42", "--event", R"(placed={"total": 9007199254740993})", "--event",
                             R"(paid@2={"note": "a=b@c"})", "--event=shipped", "--event",
                             "packed=@" + WriteFile("packed.json", "[1,\n 2]\n")});
  REQUIRE(request.ok());
  CHECK(request->ref().entity_id() == "42");
  CHECK(request->expectation_case() == pb::SaveRequest::EXPECTATION_NOT_SET);
  CHECK(request->request_id().size() == 36);
  REQUIRE(request->events_size() == 4);
  CHECK(request->events(0).type() == "placed");
  CHECK(request->events(0).schema_version() == 0);
  CHECK(request->events(0).payload().data() == R"({"total": 9007199254740993})");
  CHECK(request->events(0).payload().content_type() == "application/json");
  CHECK(request->events(1).type() == "paid");
  CHECK(request->events(1).schema_version() == 2);
  CHECK(request->events(1).payload().data() == R"({"note": "a=b@c"})");
  CHECK(request->events(2).type() == "shipped");
  CHECK_FALSE(request->events(2).has_payload());
  CHECK(request->events(3).payload().data() == "[1,\n 2]\n");
}

TEST_CASE("Save takes an expectation, a state, options and who did it", "[cli]") {
  const auto request = Save({"a/b/c",
                             "--event",
                             "e",
                             "--expected-version",
                             "0",
                             "--state",
                             "{}",
                             "--state-schema-version",
                             "3",
                             "--tag",
                             "x",
                             "--tag",
                             "y",
                             "--metadata",
                             "k=v=w",
                             "--actor",
                             "alice",
                             "--correlation-id",
                             "co",
                             "--causation-id",
                             "ca",
                             "--request-id",
                             "r",
                             "--clear-tags",
                             "--clear-metadata"});
  REQUIRE(request.ok());
  CHECK(request->has_expected_version());
  CHECK(request->expected_version() == 0);
  CHECK(request->state().data() == "{}");
  CHECK(request->state_schema_version() == 3);
  CHECK(request->options().tags_size() == 2);
  CHECK(request->options().metadata().at("k") == "v=w");
  CHECK(request->options().clear_tags());
  CHECK(request->options().clear_metadata());
  CHECK(request->events(0).metadata().actor() == "alice");
  CHECK(request->events(0).metadata().correlation_id() == "co");
  CHECK(request->events(0).metadata().causation_id() == "ca");
  CHECK(request->request_id() == "r");
  CHECK(Save({"a/b/c", "--event", "e", "--must-exist"})->must_exist());
}

TEST_CASE("Flags go before what a file says", "[cli]") {
  const std::string json = R"({"ref": {"context": "a", "aggregate": "b", "entityId": "c"}, "expectedVersion": 4,
                               "events": [{"type": "one"}], "requestId": "from-file"})";
  const auto plain = Save({"--file", "-"}, json);
  REQUIRE(plain.ok());
  CHECK(plain->ref().entity_id() == "c");
  CHECK(plain->expected_version() == 4);
  CHECK(plain->request_id() == "from-file");

  const auto changed = Save({"x/y/z", "--file", WriteFile("save.json", json), "--event", "two", "--any", "--actor",
                             "alice", "--request-id", "typed"});
  REQUIRE(changed.ok());
  CHECK(changed->ref().entity_id() == "z");
  CHECK(changed->expectation_case() == pb::SaveRequest::EXPECTATION_NOT_SET);
  CHECK(changed->events_size() == 2);
  CHECK(changed->events(0).metadata().actor() == "alice");
  CHECK(changed->request_id() == "typed");
}

TEST_CASE("A save typed wrongly is refused with what is wrong", "[cli]") {
  using testing::ContainsText;
  CHECK_THAT(SaveError({"--event", "e"}), ContainsText("CONTEXT/AGGREGATE/ENTITY"));
  CHECK_THAT(SaveError({"a/b/c", "d/e/f", "--event", "e"}), ContainsText("one aggregate"));
  CHECK_THAT(SaveError({"a/b/c"}), ContainsText("nothing to save"));
  CHECK_THAT(SaveError({"a/b/c", "--event", "e", "--request-id", ""}), ContainsText("--request-id must not be empty"));
  CHECK_THAT(SaveError({"a/b/c", "--event", "placed={total: 12}"}),
             ContainsText("--event placed: it is not valid JSON"));
  CHECK_THAT(SaveError({"a/b/c", "--event", "placed="}), ContainsText("not valid JSON"));
  CHECK_THAT(SaveError({"a/b/c", "--event", "={}"}), ContainsText("names no type"));
  CHECK_THAT(SaveError({"a/b/c", "--event", "e@two={}"}), ContainsText("schema version"));
  CHECK_THAT(SaveError({"a/b/c", "--event", "e@4294967296"}), ContainsText("4294967295"));
  CHECK_THAT(SaveError({"a/b/c", "--event", "e=@/no/such/file"}), ContainsText("cannot open /no/such/file"));
  CHECK_THAT(SaveError({"a/b/c", "--event", "e=@/"}), ContainsText("cannot read"));
  CHECK_THAT(SaveError({"a/b/c", "--event", "e", "--state", "nope"}), ContainsText("--state"));
  CHECK_THAT(SaveError({"a/b/c", "--event", "e", "--any", "--must-exist"}), ContainsText("only one of"));
  CHECK_THAT(SaveError({"a/b/c", "--event", "e", "--expected-version", "x"}), ContainsText("--expected-version"));
  CHECK_THAT(SaveError({"a/b/c", "--event", "e", "--metadata", "novalue"}), ContainsText("KEY=VALUE"));
  CHECK_THAT(SaveError({"--file", "-"}, "{"), ContainsText("--file -: it is not valid JSON"));
  CHECK_THAT(SaveError({"--file", "-"}, R"({"x": 1})"), ContainsText("--file -: it is not a SaveRequest"));
}

TEST_CASE("Load asks for now, the cache, a version or a time", "[cli]") {
  CHECK(Load({"a/b/c"})->options().consistency() == pb::CONSISTENCY_UNSPECIFIED);
  CHECK(Load({"a/b/c", "--cached"})->options().consistency() == pb::CONSISTENCY_CACHED);
  CHECK(Load({"a/b/c", "--version", "3"})->options().version() == 3);
  const auto as_of = Load({"a/b/c", "--as-of", "2024-05-01T12:30:00.5+02:00"})->options();
  CHECK(google::protobuf::util::TimeUtil::ToString(as_of.as_of()) == "2024-05-01T10:30:00.500Z");
  for (const Words& words : std::vector<Words>{{},
                                               {"a/b"},
                                               {"a/b/c", "--version", "3", "--cached"},
                                               {"a/b/c", "--version", "3", "--as-of", "2024-05-01T12:30:00Z"},
                                               {"a/b/c", "--as-of", "yesterday"},
                                               {"a/b/c", "--version", "-1"}}) {
    CHECK(absl::IsInvalidArgument(Load(words).status()));
  }
}

TEST_CASE("History asks for a range, a direction and types", "[cli]") {
  const auto all = History({"a/b/c"});
  REQUIRE(all.ok());
  CHECK_FALSE(all->has_to_version());
  const auto some =
      History({"a/b/c", "--from", "2", "--to", "9", "--reverse", "--type", "placed", "--type", "paid", "--limit", "1"});
  REQUIRE(some.ok());
  CHECK(some->from_version() == 2);
  CHECK(some->to_version() == 9);
  CHECK(some->reverse());
  CHECK(some->event_types_size() == 2);
  CHECK(absl::IsInvalidArgument(History({"a/b/c", "--to", "x"}).status()));
}

}  // namespace
}  // namespace persistd::cli
