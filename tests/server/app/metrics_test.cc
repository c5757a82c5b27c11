#include "server/app/metrics.h"

#include <limits>
#include <map>
#include <string>

#include "prometheus/check_names.h"
#include "prometheus/text_serializer.h"
#include "tests/testing/catch.h"

namespace persistd::app {
namespace {

namespace pb = cim::persistence::v1;
using prometheus::MetricFamily;
using prometheus::MetricType;
using testing::ContainsText;

std::string TextOf(const std::vector<MetricFamily>& families) {
  return prometheus::TextSerializer().Serialize(families);
}

const MetricFamily* Find(const std::vector<MetricFamily>& families, const std::string& name) {
  for (const MetricFamily& family : families) {
    if (family.name == name) return &family;
  }
  return nullptr;
}

pb::GetServerInfoResponse FullInfo() {
  pb::GetServerInfoResponse info;
  info.set_version("1.2.3");
  info.mutable_started_at()->set_seconds(1'700'000'000);
  info.mutable_started_at()->set_nanos(500'000'000);
  info.add_warnings("one");
  info.add_warnings("two");
  pb::NatsInfo& nats = *info.mutable_nats();
  nats.set_connected(true);
  nats.set_reconnects(3);
  nats.set_memory_bytes(1024);
  pb::StreamInfo& stream = *info.add_streams();
  stream.set_name("CIM-EVENTS+sales+order");
  stream.mutable_settings()->set_replicas(1);
  stream.set_messages(10);
  stream.set_bytes(2000);
  stream.set_subjects(4);
  stream.set_foreign_messages(1);
  pb::CacheInfo& cache = *info.add_caches();
  cache.set_name("heads");
  cache.set_entries(1);
  cache.set_bytes(200);
  cache.set_hits(3);
  cache.set_misses(4);
  cache.set_evictions(5);
  cache.set_outdated(6);
  info.mutable_index()->set_ready(true);
  info.mutable_index()->set_events_behind(7);
  pb::ScrubberInfo& scrubber = *info.mutable_scrubber();
  scrubber.set_events_per_second(100);
  scrubber.set_passes(2);
  scrubber.mutable_last_pass_ended_at()->set_seconds(1'700'000'100);
  scrubber.set_histories_verified(20);
  scrubber.set_events_verified(300);
  scrubber.set_events_without_cid(4);
  scrubber.set_histories_skipped(5);
  scrubber.add_damaged();
  scrubber.add_damaged();
  scrubber.set_damaged_not_listed(6);
  scrubber.set_problem("the index is being built");
  return info;
}

rpc::MethodCalls SaveCalls() {
  rpc::MethodCalls calls{.service = "cim.persistence.v1.AggregateService", .method = "Save", .counts = {}};
  calls.counts.by_code[0] = 5;
  calls.counts.by_code[10] = 2;
  calls.counts.by_duration[0] = 4;
  calls.counts.by_duration[2] = 2;
  calls.counts.by_duration.back() = 1;
  calls.counts.total_duration = std::chrono::milliseconds(40'500);
  calls.counts.running = 3;
  return calls;
}

TEST_CASE("Every number of GetServerInfo becomes a line", "[metrics]") {
  const std::string text = TextOf(ToMetrics(FullInfo()));
  INFO(text);
  for (const char* line : {
           "persistd_info{version=\"1.2.3\"} 1",
           "persistd_start_time_seconds 1700000000.5",
           "persistd_warnings 2",
           "persistd_nats_connected 1",
           "persistd_nats_reconnects_total 3",
           "persistd_nats_memory_bytes 1024",
           "persistd_stream_messages{stream=\"CIM-EVENTS+sales+order\"} 10",
           "persistd_stream_bytes{stream=\"CIM-EVENTS+sales+order\"} 2000",
           "persistd_stream_subjects{stream=\"CIM-EVENTS+sales+order\"} 4",
           "persistd_stream_foreign_messages_total{stream=\"CIM-EVENTS+sales+order\"} 1",
           "persistd_stream_problem{stream=\"CIM-EVENTS+sales+order\"} 0",
           "persistd_cache_entries{cache=\"heads\"} 1",
           "persistd_cache_bytes{cache=\"heads\"} 200",
           "persistd_cache_hits_total{cache=\"heads\"} 3",
           "persistd_cache_misses_total{cache=\"heads\"} 4",
           "persistd_cache_evictions_total{cache=\"heads\"} 5",
           "persistd_cache_outdated_total{cache=\"heads\"} 6",
           "persistd_index_ready 1",
           "persistd_index_events_behind 7",
           "persistd_scrubber_rate_limit_events_per_second 100",
           "persistd_scrubber_passes_total 2",
           "persistd_scrubber_last_pass_end_time_seconds 1700000100",
           "persistd_scrubber_histories_verified_total 20",
           "persistd_scrubber_events_verified_total 300",
           "persistd_scrubber_events_without_cid_total 4",
           "persistd_scrubber_histories_skipped_total 5",
           "persistd_scrubber_damaged_histories 2",
           "persistd_scrubber_damaged_not_listed_total 6",
           "persistd_scrubber_problem 1",
       }) {
    CHECK_THAT(text, ContainsText(std::string("\n") + line + "\n"));
  }
}

TEST_CASE("What is not known is left out, and what alerts stand on is always there", "[metrics]") {
  pb::GetServerInfoResponse info;
  info.add_streams()->set_name("S");
  info.mutable_streams(0)->set_problem("there is no such stream");
  const std::string text = TextOf(ToMetrics(info));
  INFO(text);
  for (const char* name : {"persistd_nats_memory_bytes", "persistd_stream_messages", "persistd_stream_bytes",
                           "persistd_stream_subjects", "persistd_scrubber_last_pass_end_time_seconds"}) {
    CHECK(text.find(name) == std::string::npos);
  }
  for (const char* line :
       {"persistd_nats_connected 0", "persistd_scrubber_damaged_histories 0", "persistd_warnings 0",
        "persistd_index_ready 0", "persistd_index_events_behind 0", "persistd_stream_problem{stream=\"S\"} 1"}) {
    CHECK_THAT(text, ContainsText(std::string("\n") + line + "\n"));
  }
}

TEST_CASE("Calls become counts by code, a number in flight and a histogram", "[metrics]") {
  const std::string text = TextOf(ToMetrics({SaveCalls()}));
  INFO(text);
  const std::string of = "service=\"cim.persistence.v1.AggregateService\",method=\"Save\"";
  for (const std::string& line : {
           "persistd_grpc_calls_total{" + of + ",code=\"OK\"} 5",
           "persistd_grpc_calls_total{" + of + ",code=\"ABORTED\"} 2",
           "persistd_grpc_calls_in_flight{" + of + "} 3",
           "persistd_grpc_call_duration_seconds_count{" + of + "} 7",
           "persistd_grpc_call_duration_seconds_sum{" + of + "} 40.5",
           "persistd_grpc_call_duration_seconds_bucket{" + of + ",le=\"0.00025\"} 4",
           "persistd_grpc_call_duration_seconds_bucket{" + of + ",le=\"0.001\"} 6",
           "persistd_grpc_call_duration_seconds_bucket{" + of + ",le=\"30\"} 6",
           "persistd_grpc_call_duration_seconds_bucket{" + of + ",le=\"+Inf\"} 7",
       }) {
    CHECK_THAT(text, ContainsText("\n" + line + "\n"));
  }
  CHECK(text.find("UNAVAILABLE") == std::string::npos);
}

TEST_CASE("A method that nobody has called yet has its zeros", "[metrics]") {
  const std::string text = TextOf(ToMetrics({{.service = "s", .method = "m", .counts = {}}}));
  INFO(text);
  CHECK_THAT(text, ContainsText("persistd_grpc_calls_total{service=\"s\",method=\"m\",code=\"OK\"} 0\n"));
  CHECK_THAT(text, ContainsText("persistd_grpc_call_duration_seconds_count{service=\"s\",method=\"m\"} 0\n"));
}

TEST_CASE("Names and types follow Prometheus's conventions, and each name has its help once", "[metrics]") {
  std::vector<MetricFamily> all = ToMetrics(FullInfo());
  for (MetricFamily& family : ToMetrics({SaveCalls()})) all.push_back(std::move(family));
  for (const MetricFamily& family : all) {
    INFO(family.name);
    CHECK(Find(all, family.name) == &family);
    CHECK(prometheus::CheckMetricName(family.name));
    CHECK(family.name.substr(0, 9) == "persistd_");
    CHECK(family.help.back() == '.');
    CHECK_FALSE(family.metric.empty());
    const bool total = family.name.size() > 6 && family.name.substr(family.name.size() - 6) == "_total";
    CHECK(total == (family.type == MetricType::Counter));
    for (const auto& sample : family.metric) {
      for (const auto& label : sample.label) CHECK(prometheus::CheckLabelName(label.name));
    }
  }
}

}  // namespace
}  // namespace persistd::app
