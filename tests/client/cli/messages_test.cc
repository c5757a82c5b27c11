#include "client/cli/messages.h"

#include "client/cpp/requests.h"
#include "tests/testing/catch.h"

namespace persistd::cli {
namespace {

namespace pb = cim::persistence::v1;

// What no double and no re-serialising would keep.
constexpr char kExact[] = R"({"big":9007199254740993,"dec":0.10,"exp":1E+2,"dup":1,"dup":2})";

pb::RecordedEvent EventWith(const std::string& content_type, const std::string& data) {
  pb::RecordedEvent event;
  event.set_version(3);
  event.mutable_payload()->set_content_type(content_type);
  event.mutable_payload()->set_data(data);
  return event;
}

TEST_CASE("A JSON payload is shown as stored, on one line", "[cli]") {
  CHECK(*ToJson(EventWith("application/json", kExact)) ==
        R"({"version":"3","payload":{"contentType":"application/json","json":)" + std::string(kExact) + "}}");
  CHECK(*ToJson(EventWith("Application/CloudEvents+JSON; charset=utf-8", "{\n \"a b\": 1 }\n")) ==
        R"({"version":"3","payload":{"contentType":"Application/CloudEvents+JSON; charset=utf-8","json":{"a b":1}}})");
  CHECK(*ToJson(EventWith("application/json", "12")) ==
        R"({"version":"3","payload":{"contentType":"application/json","json":12}})");
}

TEST_CASE("Anything else is shown as base64", "[cli]") {
  const auto shown = [](const std::string& type, const std::string& data) { return *ToJson(EventWith(type, data)); };
  CHECK(shown("application/protobuf", "{}") ==
        R"({"version":"3","payload":{"contentType":"application/protobuf","data":"e30="}})");
  CHECK(shown("application/json", "{oops") ==
        R"({"version":"3","payload":{"contentType":"application/json","data":"e29vcHM="}})");
  CHECK(shown("application/json", "") == R"({"version":"3","payload":{"contentType":"application/json","data":""}})");
  CHECK(*ToJson(pb::RecordedEvent()) == "{}");
}

TEST_CASE("Payloads of a loaded state and its events are shown, look-alikes are left alone", "[cli]") {
  pb::LoadResponse response;
  (*response.mutable_metadata()->mutable_metadata())["payload"] = "text";
  response.mutable_state()->set_version(2);
  *response.mutable_state()->mutable_payload() = client::JsonPayload(R"({"payload": {"data": "e30="}})");
  *response.add_events() = EventWith("application/json", "[1]");
  CHECK(*ToJson(response) ==
        R"({"metadata":{"metadata":{"payload":"text"}},)"
        R"("state":{"payload":{"contentType":"application/json","json":{"payload":{"data":"e30="}}},"version":"2"},)"
        R"("events":[{"version":"3","payload":{"contentType":"application/json","json":[1]}}]})");
}

TEST_CASE("Angles are shown as they are, and a backslash before such an escape is none", "[cli]") {
  pb::RecordedEvent event;
  event.set_subject("a.>");
  event.set_type(R"(<\u003e\u003c)");
  event.set_commit_id("\"<");
  *event.mutable_payload() = client::JsonPayload(R"("\u003e")");
  CHECK(
      *ToJson(event) ==
      R"({"type":"<\\u003e\\u003c","payload":{"contentType":"application/json","json":"\u003e"},"commitId":"\"<","subject":"a.>"})");
}

TEST_CASE("JSON of a SaveRequest is sent byte for byte", "[cli]") {
  const auto request = SaveRequestFromJson(R"({
    "ref": {"context": "sales", "aggregate": "order", "entityId": "4\u00fc"},
    "expectedVersion": "3",
    "events": [
      {"type": "placed", "payload": {"json": )" +
                                           std::string(kExact) + R"(}},
      {"type": "paid", "schema_version": 2, "payload": {"content_type": "text/x+json", "json": [ 1.0 ]}},
      {"type": "sealed", "payload": {"contentType": "application/cbor", "data": "oA=="}},
      {"type": "shipped"}
    ],
    "state": {"json": {"total": 12.50 } },
    "options": {"tags": ["json", "data"]}
  })");
  REQUIRE(request.ok());
  CHECK(request->ref().entity_id() == "4ü");
  CHECK(request->expected_version() == 3);
  REQUIRE(request->events_size() == 4);
  CHECK(request->events(0).payload().data() == kExact);
  CHECK(request->events(0).payload().content_type() == "application/json");
  CHECK(request->events(1).payload().data() == "[ 1.0 ]");
  CHECK(request->events(1).payload().content_type() == "text/x+json");
  CHECK(request->events(1).schema_version() == 2);
  CHECK(request->events(2).payload().data() == "\xa0");
  CHECK_FALSE(request->events(3).has_payload());
  CHECK(request->state().data() == R"({"total": 12.50 })");
  CHECK(request->options().tags_size() == 2);
}

TEST_CASE("What is no SaveRequest is refused with the reason", "[cli]") {
  for (const char* const json :
       {"", "[]", "7", "{\"ref\":", R"({"evnts": []})", R"({"events": {"payload": {"json": {}}}})",
        R"({"events": [[{"payload": {"json": {}}}]]})", R"({"events": [{"type": 5}]})",
        R"({"events": [{"payload": "x"}]})", R"({"events": [{"payload": {"json": {}, "data": "e30="}}]})"}) {
    CAPTURE(json);
    CHECK(absl::IsInvalidArgument(SaveRequestFromJson(json).status()));
  }
  CHECK_THAT(std::string(SaveRequestFromJson(R"({"evnts": []})").status().message()), testing::ContainsText("evnts"));
}

TEST_CASE("What was shown can be read back", "[cli]") {
  const std::string shown = *ToJson(EventWith("application/json", kExact));
  const size_t payload = shown.find(R"({"contentType")");
  const std::string again = R"({"state":)" + shown.substr(payload, shown.size() - payload - 1) + "}";
  CHECK(SaveRequestFromJson(again)->state().data() == kExact);
}

TEST_CASE("An answer that JSON cannot hold is an error", "[cli]") {
  pb::GetServerInfoResponse response;
  response.mutable_started_at()->set_seconds(INT64_MAX);
  CHECK(absl::IsDataLoss(ToJson(response).status()));
}

}  // namespace
}  // namespace persistd::cli
