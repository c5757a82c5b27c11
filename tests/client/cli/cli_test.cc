#include "client/cli/cli.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/client/fake_server.h"
#include "tests/testing/catch.h"

namespace persistd::cli {
namespace {

namespace pb = cim::persistence::v1;
using ::persistd::testing::DaemonError;
using ::persistd::testing::FakeServer;
using testing::ContainsText;

struct Result {
  int code;
  std::string out;
  std::string err;
};

struct Fixture {
  FakeServer server;

  // Runs persistctl against the fake server, which it finds through the environment.
  Result Persistctl(const std::vector<std::string>& args, const std::string& input = "") {
    if (server.address().empty()) server.Start();
    std::istringstream in(input);
    std::ostringstream out, err;
    const int code = Run(args, {.in = in, .out = out, .err = err, .getenv = [this](const char* name) {
                                  return std::string(name) == "PERSISTCTL_ADDRESS" ? server.address().c_str() : nullptr;
                                }});
    return {code, out.str(), err.str()};
  }
};

TEST_CASE_METHOD(Fixture, "save sends what was typed and prints what was saved", "[cli]") {
  pb::SaveRequest received;
  server.on_save = [&](const pb::SaveRequest& request, pb::SaveResponse& response) {
    received = request;
    response.mutable_metadata()->set_version(1);
    response.add_events()->set_version(1);
    response.set_state_result(pb::STATE_RESULT_WRITTEN);
    return grpc::Status::OK;
  };
  const Result result = Persistctl({"save", "sales/order/a/b", "--event", R"(placed={"total": 12})",
                                    "--expected-version", "0", "--state", "{}", "--tag", "x", "--request-id", "r1"});
  CHECK(result.err.empty());
  CHECK(result.code == 0);
  CHECK(received.ref().entity_id() == "a/b");
  CHECK(received.events(0).payload().data() == R"({"total": 12})");
  CHECK(received.has_expected_version());
  CHECK(received.request_id() == "r1");
  CHECK(result.out == R"({
  "metadata": {
    "version": "1"
  },
  "events": [
    {
      "version": "1"
    }
  ],
  "stateResult": "STATE_RESULT_WRITTEN"
}
)");
}

TEST_CASE_METHOD(Fixture, "save reads a request from standard input", "[cli]") {
  pb::SaveRequest received;
  server.on_save = [&](const pb::SaveRequest& request, pb::SaveResponse&) {
    received = request;
    return grpc::Status::OK;
  };
  const Result result =
      Persistctl({"save", "a/b/c", "--file", "-"}, R"({"events": [{"type": "e", "payload": {"json": [0.10]}}]})");
  CHECK(result.code == 0);
  CHECK(received.events(0).payload().data() == "[0.10]");
}

TEST_CASE_METHOD(Fixture, "A version conflict is explained", "[cli]") {
  server.on_save = [&](const pb::SaveRequest& request, pb::SaveResponse&) {
    pb::ErrorDetail detail;
    detail.set_reason(pb::ERROR_REASON_VERSION_CONFLICT);
    *detail.mutable_ref() = request.ref();
    detail.mutable_version_conflict()->set_expected_version(0);
    detail.mutable_version_conflict()->set_actual_version(3);
    return DaemonError(grpc::StatusCode::ABORTED, "the aggregate is at version 3", detail);
  };
  const Result result = Persistctl({"save", "sales/order/42", "--event", "placed", "--expected-version", "0"});
  CHECK(result.code == 1);
  CHECK(result.out.empty());
  CHECK(result.err ==
        "persistctl: save sales/order/42 failed\n"
        "  ABORTED (VERSION_CONFLICT): the aggregate is at version 3\n"
        "  expected version: 0\n"
        "  actual version: 3\n"
        "  advice: somebody else saved it first: load it again, decide again, and save with its version now\n");
}

TEST_CASE_METHOD(Fixture, "Fields, limits and lost data are named", "[cli]") {
  pb::ErrorDetail detail;
  server.on_load = [&](const pb::LoadRequest&, pb::LoadResponse&) {
    return DaemonError(grpc::StatusCode::INVALID_ARGUMENT, "no", detail);
  };
  detail.mutable_field_violation()->set_field("ref.context");
  detail.mutable_field_violation()->set_description("must not be empty");
  CHECK_THAT(Persistctl({"load", "a/b/c"}).err, ContainsText("field: ref.context: must not be empty"));

  detail.mutable_limit()->set_name("events[0].payload");
  detail.mutable_limit()->set_value(9);
  detail.mutable_limit()->set_limit(8);
  detail.mutable_limit()->set_config_key("limits.max_event_size");
  CHECK_THAT(Persistctl({"load", "a/b/c"}).err,
             ContainsText("limit: events[0].payload is 9, at most 8 (set by limits.max_event_size)"));

  detail.mutable_data_loss()->set_stream("S");
  detail.mutable_data_loss()->set_sequence(7);
  detail.mutable_data_loss()->set_description("torn");
  detail.mutable_data_loss()->set_expected_cid("bafy1");
  detail.mutable_data_loss()->set_actual_cid("bafy2");
  detail.set_deleted(true);
  detail.mutable_retry_delay()->set_seconds(2);
  const std::string text = Persistctl({"load", "a/b/c"}).err;
  CHECK_THAT(text, ContainsText("where: stream S, sequence 7: torn\n  expected cid: bafy1\n  actual cid: bafy2\n"));
  CHECK_THAT(text, ContainsText("deleted: yes"));
  CHECK_THAT(text, ContainsText("retry after: 2s"));
}

TEST_CASE_METHOD(Fixture, "A save with an unknown outcome says how to settle it", "[cli]") {
  server.on_save = [](const pb::SaveRequest&, pb::SaveResponse&) {
    return DaemonError(grpc::StatusCode::UNAVAILABLE, pb::ERROR_REASON_OUTCOME_UNKNOWN);
  };
  const Result result = Persistctl({"save", "a/b/c", "--event", "e", "--request-id", "my-id", "--timeout", "20ms"});
  CHECK(result.code == 1);
  CHECK_THAT(result.err, ContainsText("outcome: unknown"));
  CHECK_THAT(result.err, ContainsText("--request-id my-id"));
}

TEST_CASE_METHOD(Fixture, "load prints the state with its exact numbers", "[cli]") {
  server.on_load = [](const pb::LoadRequest&, pb::LoadResponse& response) {
    auto& payload = *response.mutable_state()->mutable_payload();
    payload.set_content_type("application/json");
    payload.set_data(R"({"total":9007199254740993,"rate":0.10})");
    return grpc::Status::OK;
  };
  const Result result = Persistctl({"load", "sales/order/42"});
  CHECK(result.code == 0);
  CHECK_THAT(result.out, ContainsText("\"total\": 9007199254740993,\n"));
  CHECK_THAT(result.out, ContainsText("\"rate\": 0.10\n"));
  CHECK(nlohmann::json::accept(result.out));
}

TEST_CASE_METHOD(Fixture, "load with a version asks for the past", "[cli]") {
  server.on_load = [](const pb::LoadRequest& request, pb::LoadResponse& response) {
    response.mutable_metadata()->set_version(request.options().version());
    return grpc::Status::OK;
  };
  CHECK_THAT(Persistctl({"load", "a/b/c", "--version", "4"}).out, ContainsText("\"version\": \"4\""));
}

TEST_CASE_METHOD(Fixture, "history prints one JSON document a line and stops at the limit", "[cli]") {
  server.on_get_history = [](const pb::GetHistoryRequest&, grpc::ServerWriter<pb::RecordedEvent>& writer) {
    pb::RecordedEvent event;
    event.mutable_payload()->set_content_type("application/json");
    event.mutable_payload()->set_data("{\n  \"n\": 1\n}");
    for (uint64_t version = 1; version <= 5; ++version) {
      event.set_version(version);
      if (!writer.Write(event)) return grpc::Status::CANCELLED;
    }
    return grpc::Status::OK;
  };
  const Result all = Persistctl({"history", "a/b/c"});
  CHECK(all.code == 0);
  std::istringstream lines(all.out);
  std::string line;
  int count = 0;
  while (std::getline(lines, line)) {
    const auto json = nlohmann::json::parse(line);
    CHECK(json["version"] == std::to_string(++count));
    CHECK(json["payload"]["json"]["n"] == 1);
  }
  CHECK(count == 5);

  const std::string two = Persistctl({"history", "a/b/c", "--limit", "2"}).out;
  CHECK(std::count(two.begin(), two.end(), '\n') == 2);
  CHECK(Persistctl({"history", "a/b/c", "--limit", "0"}).out.empty());
}

TEST_CASE_METHOD(Fixture, "A history that fails half-way keeps what was printed and exits with 1", "[cli]") {
  server.on_get_history = [](const pb::GetHistoryRequest&, grpc::ServerWriter<pb::RecordedEvent>& writer) {
    pb::RecordedEvent event;
    event.set_version(1);
    writer.Write(event);
    return DaemonError(grpc::StatusCode::DATA_LOSS, pb::ERROR_REASON_CORRUPT_DATA);
  };
  const Result result = Persistctl({"history", "a/b/c"});
  CHECK(result.code == 1);
  CHECK(result.out == "{\"version\":\"1\"}\n");
  CHECK_THAT(result.err, ContainsText("DATA_LOSS (CORRUPT_DATA)"));
}

TEST_CASE_METHOD(Fixture, "info prints what the daemon tells about itself", "[cli]") {
  server.on_get_server_info = [](const pb::GetServerInfoRequest&, pb::GetServerInfoResponse& response) {
    response.set_version("1.2.3");
    response.add_warnings("fsync is not always");
    return grpc::Status::OK;
  };
  const Result result = Persistctl({"info"});
  CHECK(result.code == 0);
  CHECK(nlohmann::json::parse(result.out)["version"] == "1.2.3");
  CHECK(Persistctl({"info", "--address", server.address()}).code == 0);
  CHECK(Persistctl({"--address", "127.0.0.1:1", "info", "--address", server.address()}).code == 0);
  CHECK(Persistctl({"info", "now"}).code == 2);
}

TEST_CASE_METHOD(Fixture, "A daemon that is not there is reported with advice", "[cli]") {
  const Result result = Persistctl({"info", "--address", "unix-abstract:persistd-nobody", "--timeout", "50ms"});
  CHECK(result.code == 1);
  CHECK_THAT(result.err, ContainsText("persistctl: info failed"));
  CHECK_THAT(result.err, ContainsText("advice: "));
}

TEST_CASE_METHOD(Fixture, "An output that cannot be written is a failure", "[cli]") {
  server.on_get_server_info = [](const pb::GetServerInfoRequest&, pb::GetServerInfoResponse&) {
    return grpc::Status::OK;
  };
  server.Start();
  std::istringstream in;
  std::ostringstream out, err;
  out.setstate(std::ios::badbit);
  const auto no_environment = [](const char*) -> const char* { return nullptr; };
  CHECK(Run({"info", "--address", server.address()}, {.in = in, .out = out, .err = err, .getenv = no_environment}) ==
        1);
  CHECK_THAT(err.str(), ContainsText("cannot write the output"));
}

TEST_CASE_METHOD(Fixture, "Help is printed for persistctl and each command", "[cli]") {
  CHECK_THAT(Persistctl({"--help"}).out, ContainsText("commands:"));
  for (const char* const name : {"save", "load", "history", "info"}) {
    const Result result = Persistctl({name, "--help"});
    CHECK(result.code == 0);
    CHECK_THAT(result.out, ContainsText(std::string("usage: persistctl ") + name) && ContainsText("examples:"));
    CHECK(Persistctl({"help", name}).out == result.out);
    CHECK(Persistctl({"-h", name}).out == result.out);
  }
}

TEST_CASE_METHOD(Fixture, "A command typed wrongly exits with 2 and points to the help", "[cli]") {
  CHECK(Persistctl({}).code == 2);
  for (const std::vector<std::string>& args :
       std::vector<std::vector<std::string>>{{"sav"},
                                             {"--bogus", "info"},
                                             {"save", "a/b/c", "--bogus"},
                                             {"save", "a/b/c"},
                                             {"load"},
                                             {"load", "a/b/c\xff"},
                                             {"history", "a/b/c", "--limit", "many"},
                                             {"info", "--timeout", "soon"},
                                             {"info", "--timeout", "0s"},
                                             {"info", "--timeout", "inf"},
                                             {"info", "--address", ""}}) {
    const Result result = Persistctl(args);
    CAPTURE(args);
    CHECK(result.code == 2);
    CHECK(result.out.empty());
    CHECK_THAT(result.err, ContainsText("--help"));
  }
}

TEST_CASE_METHOD(Fixture, "types creates with the settings that were typed", "[cli]") {
  pb::CreateAggregateTypeRequest received;
  server.on_create_type = [&](const pb::CreateAggregateTypeRequest& request,
                              pb::CreateAggregateTypeResponse& response) {
    received = request;
    response.set_created(true);
    return grpc::Status::OK;
  };
  const Result result =
      Persistctl({"types", "create", "sales/order", "--replicas", "3", "--storage", "memory", "--compression", "s2",
                  "--cluster", "eu", "--server-tag", "ssd", "--server-tag", "az:1", "--max-bytes", "10GiB"});
  CHECK(result.err.empty());
  CHECK(result.code == 0);
  CHECK(result.out == "{\n  \"created\": true\n}\n");
  CHECK(received.context() == "sales");
  CHECK(received.aggregate() == "order");
  CHECK(received.settings().replicas() == 3);
  CHECK(received.settings().storage() == pb::StreamSettings::STORAGE_MEMORY);
  CHECK(received.settings().compression() == pb::StreamSettings::COMPRESSION_S2);
  CHECK(received.settings().placement().cluster() == "eu");
  CHECK(received.settings().placement().tags_size() == 2);
  CHECK(received.settings().max_bytes() == uint64_t{10} << 30);
  REQUIRE(Persistctl({"types", "create", "sales/order"}).code == 0);
  CHECK_FALSE(received.settings().has_replicas());
  CHECK_FALSE(received.settings().has_max_bytes());
  CHECK_FALSE(received.settings().has_placement());
}

TEST_CASE_METHOD(Fixture, "types lists and describes", "[cli]") {
  server.on_list_types = [&](const pb::ListAggregateTypesRequest& request, pb::ListAggregateTypesResponse& response) {
    CHECK(request.context() == "sales");
    CHECK(request.page_size() == 2);
    CHECK(request.page_token() == "t");
    response.add_types()->set_context("sales");
    return grpc::Status::OK;
  };
  const Result listed = Persistctl({"types", "list", "--context", "sales", "--page-size", "2", "--page-token", "t"});
  CHECK(listed.code == 0);
  CHECK_THAT(listed.out, ContainsText("\"context\": \"sales\""));
  server.on_describe_type = [&](const pb::DescribeAggregateTypeRequest& request, pb::DescribeAggregateTypeResponse&) {
    pb::ErrorDetail detail;
    detail.set_reason(pb::ERROR_REASON_TYPE_NOT_FOUND);
    return DaemonError(grpc::StatusCode::NOT_FOUND, "there is no " + request.context() + "." + request.aggregate(),
                       detail);
  };
  const Result described = Persistctl({"types", "describe", "a/b"});
  CHECK(described.code == 1);
  CHECK_THAT(described.err, ContainsText("there is no a.b"));
}

TEST_CASE_METHOD(Fixture, "types typed wrongly says what it needs", "[cli]") {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{"types"}, "list, describe or create"},
      {{"types", "drop", "a/b"}, "list, describe or create"},
      {{"types", "list", "a"}, "list takes no arguments"},
      {{"types", "list", "--replicas", "1"}, "list takes no --replicas"},
      {{"types", "create", "a/b", "--page-size", "1"}, "create takes no --page-size"},
      {{"types", "describe"}, "describe takes one CONTEXT/AGGREGATE"},
      {{"types", "describe", "ab"}, "\"ab\" is no CONTEXT/AGGREGATE"},
      {{"types", "describe", "/b"}, "is no CONTEXT/AGGREGATE"},
      {{"types", "create", "a/b", "--storage", "tape"}, "--storage needs file or memory"},
      {{"types", "create", "a/b", "--compression", "zip"}, "--compression needs none or s2"},
      {{"types", "create", "a/b", "--max-bytes", "1EiB"}, "--max-bytes"},
      {{"types", "create", "a/b", "--max-bytes", "2048TiB"}, "--max-bytes"},
      {{"types", "create", "a/b", "--replicas", "x"}, "--replicas"},
      {{"types", "list", "--page-size", "x"}, "--page-size"}};
  for (const auto& [args, text] : cases) {
    INFO(text);
    const Result result = Persistctl(args);
    CHECK(result.code == 2);
    CHECK_THAT(result.err, ContainsText(text));
  }
}

}  // namespace
}  // namespace persistd::cli
