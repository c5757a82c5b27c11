// GET /metrics of a whole daemon.
#include <cstdlib>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "tests/integration/api.h"
#include "tests/integration/persistd_process.h"
#include "tests/integration/world.h"
#include "tests/testing/catch.h"
#include "tests/testing/http.h"
#include "tests/testing/poll.h"

namespace persistd::integration {
namespace {

using testing::HttpGet;
using testing::PollUntil;

constexpr char kFreePort[] = "metrics.listen_address=127.0.0.1:0";

// The port that a daemon said it listens on for metrics; 0: none.
int PortIn(const std::string& log) {
  const std::string before = "metrics address=127.0.0.1:";
  const size_t at = log.rfind(before);
  return at == std::string::npos ? 0 : std::atoi(log.c_str() + at + before.size());
}

class Metrics {
 public:
  explicit Metrics(World& world) : port_(PortIn(world.daemon().log())) { REQUIRE(port_ != 0); }

  // -1: there is no such sample.
  double Read(const std::string& sample) {
    text_ = Must(HttpGet(port_, "/metrics"));
    const size_t at = text_.find(absl::StrCat("\n", sample, " "));
    if (at == std::string::npos) return -1;
    const size_t begin = at + sample.size() + 2;
    double value = -1;
    REQUIRE(absl::SimpleAtod(text_.substr(begin, text_.find('\n', begin) - begin), &value));
    return value;
  }
  int port() const { return port_; }
  // As it was read last.
  const std::string& text() const { return text_; }

 private:
  const int port_;
  std::string text_;
};

std::string Calls(const std::string& method, const std::string& code) {
  return absl::StrCat("persistd_grpc_calls_total{service=\"cim.persistence.v1.AggregateService\",method=\"", method,
                      "\",code=\"", code, "\"}");
}

std::string Duration(const std::string& method, const std::string& suffix) {
  return absl::StrCat("persistd_grpc_call_duration_seconds_", suffix,
                      "{service=\"cim.persistence.v1.AggregateService\",method=\"", method, "\"}");
}

TEST_CASE("Calls, streams, caches and the index are in /metrics", "[metrics]") {
  World world({kFreePort});
  Metrics metrics(world);
  CHECK(metrics.Read(Calls("Save", "OK")) == 0);
  Must(world.api().Save(SaveOf(Order("1"), 0, 2, "{}")));
  Must(world.api().Save(SaveOf(Order("1"), 2, 1, "{}")));
  CHECK_FALSE(world.api().Save(SaveOf(Order("1"), 2, 1, "{}")).ok());
  Must(world.api().Load(Order("1")));
  CHECK_FALSE(world.api().Load(Order("none")).ok());
  CHECK(Must(world.api().History(Order("1"))).size() == 3);

  // Each is counted before its client has the answer.
  CHECK(metrics.Read(Calls("Save", "OK")) == 2);
  CHECK(metrics.Read(Calls("Save", "ABORTED")) == 1);
  CHECK(metrics.Read(Calls("Load", "OK")) == 1);
  CHECK(metrics.Read(Calls("Load", "NOT_FOUND")) == 1);
  CHECK(metrics.Read(Calls("GetHistory", "OK")) == 1);
  CHECK(metrics.Read(Duration("Save", "count")) == 3);
  CHECK(metrics.Read(Duration("Save", "sum")) > 0);
  CHECK(metrics.Read("persistd_nats_connected") == 1);
  CHECK(metrics.Read("persistd_scrubber_rate_limit_events_per_second") == 0);
  CHECK(metrics.Read("persistd_cache_hits_total{cache=\"heads\"}") >= 1);
  CHECK(PollUntil([&] { return metrics.Read("persistd_index_ready") == 1; }, kPatience));
  CHECK(PollUntil([&] { return metrics.Read("persistd_index_events_behind") == 0; }, kPatience));

  const pb::GetServerInfoResponse info = Must(world.api().GetServerInfo());
  CHECK(metrics.Read(absl::StrCat("persistd_info{version=\"", info.version(), "\"}")) == 1);
  CHECK(metrics.Read("persistd_warnings") == info.warnings_size());
  INFO(metrics.text());
  CHECK(absl::StrContains(metrics.text(), "# TYPE persistd_grpc_call_duration_seconds histogram\n"));
  CHECK_FALSE(HttpGet(metrics.port(), "/").ok());

  // A daemon looks at the streams before it serves, and then every 30 seconds.
  world.StartDaemon({kFreePort});
  Metrics again(world);
  CHECK(again.Read("persistd_stream_messages{stream=\"CIM-EVENTS+sales+order\"}") == 3);
  CHECK(again.Read("persistd_stream_problem{stream=\"CIM-EVENTS+sales+order\"}") == 0);
  CHECK(again.Read(Calls("Save", "OK")) == 0);
}

TEST_CASE("A call in flight is seen, and a daemon without NATS still answers", "[metrics]") {
  World world({kFreePort});
  Metrics metrics(world);
  const std::string in_flight =
      "persistd_grpc_calls_in_flight{service=\"cim.persistence.v1.AggregateService\",method=\"GetHistory\"}";
  for (int i = 0; i < 16; ++i) Must(world.api().Save(SaveOf(Order("long"), 2, std::string(500'000, 'x'))));
  auto history = world.api().StartHistory(HistoryOf(Order("long")));
  CHECK(history->MustNext().version() == 1);
  CHECK(metrics.Read(in_flight) == 1);
  world.nats().Kill9();
  CHECK(PollUntil([&] { return metrics.Read("persistd_nats_connected") == 0; }, kPatience));
  history = nullptr;
  CHECK(PollUntil([&] { return metrics.Read(in_flight) == 0; }, kPatience));
}

TEST_CASE("A metrics port that is taken is named with its key, and nothing is left running", "[metrics]") {
  World world({kFreePort});
  const std::string address = absl::StrCat("127.0.0.1:", Metrics(world).port());
  PersistdProcess second({.sets = {"metrics.listen_address=" + address}});
  const auto status = second.WaitForEnd();
  REQUIRE(status.has_value());
  INFO(second.log());
  CHECK(status->code == 1);
  CHECK(absl::StrContains(second.log(), "metrics.listen_address: cannot listen on " + address));
  CHECK(absl::StrContains(second.log(), "in use"));
  CHECK(second.ready().empty());
  CHECK(Metrics(world).Read("persistd_nats_connected") == 1);
}

TEST_CASE("By default nobody listens for metrics", "[metrics]") {
  World world;
  CHECK(PortIn(world.daemon().log()) == 0);
}

}  // namespace
}  // namespace persistd::integration
