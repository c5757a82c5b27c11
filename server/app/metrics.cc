#include "server/app/metrics.h"

#include <chrono>
#include <cstddef>
#include <functional>
#include <limits>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "google/protobuf/timestamp.pb.h"

namespace persistd::app {
namespace {

namespace pb = cim::persistence::v1;
using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Families = std::vector<MetricFamily>;
using Labels = std::vector<ClientMetric::Label>;

struct Text {
  const char* name;  // Ends with _total where it only ever grows while the daemon runs.
  const char* help;
};

MetricFamily FamilyOf(const Text& text) {
  const bool counter = absl::EndsWith(text.name, "_total");
  return {
      .name = text.name, .help = text.help, .type = counter ? MetricType::Counter : MetricType::Gauge, .metric = {}};
}

void AddSample(MetricFamily& family, double value, Labels labels = {}) {
  ClientMetric& sample = family.metric.emplace_back();
  sample.label = std::move(labels);
  (family.type == MetricType::Counter ? sample.counter.value : sample.gauge.value) = value;
}

template <typename Number>
void Add(Families& families, const Text& text, Number value) {
  AddSample(families.emplace_back(FamilyOf(text)), static_cast<double>(value));
}

// A number of each item, by the item's name.
template <typename Items, typename Value>
void AddEach(Families& families, const Text& text, const char* label, const Items& items, Value value) {
  if (items.empty()) return;
  MetricFamily& family = families.emplace_back(FamilyOf(text));
  for (const auto& item : items) {
    AddSample(family, static_cast<double>(std::invoke(value, item)), {{label, item.name()}});
  }
}

double SecondsOf(const google::protobuf::Timestamp& time) {
  return static_cast<double>(time.seconds()) + static_cast<double>(time.nanos()) / 1e9;
}

double SecondsOf(std::chrono::nanoseconds duration) { return std::chrono::duration<double>(duration).count(); }

void AddDaemon(const pb::GetServerInfoResponse& info, Families& families) {
  AddSample(families.emplace_back(FamilyOf({"persistd_info", "Always 1; the label says the daemon's version."})), 1,
            {{"version", info.version()}});
  Add(families, {"persistd_start_time_seconds", "When the daemon started, in Unix time."},
      SecondsOf(info.started_at()));
  Add(families,
      {"persistd_warnings", "Things that an operator should know now; GetServerInfo (persistctl info) says which."},
      info.warnings_size());
}

void AddNats(const pb::NatsInfo& nats, Families& families) {
  Add(families, {"persistd_nats_connected", "1 while the daemon is connected to NATS; otherwise saves and loads fail."},
      nats.connected());
  Add(families, {"persistd_nats_reconnects_total", "Times that the connection to NATS was made again."},
      nats.reconnects());
  if (nats.memory_bytes() == 0) return;  // Not known.
  Add(families, {"persistd_nats_memory_bytes", "Memory in use by the NATS servers together, as far as they are known."},
      nats.memory_bytes());
}

void AddStreams(const pb::GetServerInfoResponse& info, Families& families) {
  std::vector<pb::StreamInfo> seen;
  for (const pb::StreamInfo& stream : info.streams()) {
    if (stream.has_settings()) seen.push_back(stream);
  }
  AddEach(families, {"persistd_stream_messages", "Messages in the stream, at most 30 seconds ago."}, "stream", seen,
          &pb::StreamInfo::messages);
  AddEach(families, {"persistd_stream_bytes", "Bytes of the stream's messages, as NATS counts them."}, "stream", seen,
          &pb::StreamInfo::bytes);
  AddEach(families,
          {"persistd_stream_subjects", "Subjects in the stream, each of which takes memory of the NATS server."},
          "stream", seen, &pb::StreamInfo::subjects);
  AddEach(families,
          {"persistd_stream_foreign_messages_total", "Messages met in the stream that persistd did not write."},
          "stream", info.streams(), &pb::StreamInfo::foreign_messages);
  AddEach(
      families,
      {"persistd_stream_problem", "1 when the stream is not as configured, or cannot be used; GetServerInfo says why."},
      "stream", info.streams(), [](const pb::StreamInfo& stream) { return !stream.problem().empty(); });
}

void AddCaches(const pb::GetServerInfoResponse& info, Families& families) {
  const auto add = [&](const Text& text, auto value) { AddEach(families, text, "cache", info.caches(), value); };
  add({"persistd_cache_entries", "Aggregates in the cache."}, &pb::CacheInfo::entries);
  add({"persistd_cache_bytes", "Bytes that the cache takes, about."}, &pb::CacheInfo::bytes);
  add({"persistd_cache_hits_total", "Look-ups that found the aggregate in the cache."}, &pb::CacheInfo::hits);
  add({"persistd_cache_misses_total", "Look-ups that did not find it."}, &pb::CacheInfo::misses);
  add({"persistd_cache_evictions_total", "Entries dropped for want of room."}, &pb::CacheInfo::evictions);
  add({"persistd_cache_outdated_total", "Entries dropped because another daemon had saved the aggregate."},
      &pb::CacheInfo::outdated);
}

void AddIndex(const pb::IndexInfo& index, Families& families) {
  Add(families, {"persistd_index_ready", "1 when lists are answered, 0 while the local index is being built."},
      index.ready());
  Add(families, {"persistd_index_events_behind", "Events in the streams that are not in the local index yet."},
      index.events_behind());
}

void AddScrubber(const pb::ScrubberInfo& scrubber, Families& families) {
  Add(families,
      {"persistd_scrubber_rate_limit_events_per_second",
       "Events that the scrubber reads in a second at most (scrubber.rate); 0: it is off."},
      scrubber.events_per_second());
  Add(families, {"persistd_scrubber_passes_total", "Times that all histories were verified; kept over restarts."},
      scrubber.passes());
  Add(families, {"persistd_scrubber_histories_verified_total", "Histories that were verified, each time counted."},
      scrubber.histories_verified());
  Add(families, {"persistd_scrubber_events_verified_total", "Events that match their CIDs, each time counted."},
      scrubber.events_verified());
  Add(families,
      {"persistd_scrubber_events_without_cid_total", "Events of which nothing can be said, each time counted."},
      scrubber.events_without_cid());
  Add(families,
      {"persistd_scrubber_histories_skipped_total",
       "Histories that could not be read to the end for another reason than damage; the log names them."},
      scrubber.histories_skipped());
  Add(families,
      {"persistd_scrubber_damaged_histories",
       "Histories that do not match their CIDs or are not whole, at most 100; GetServerInfo lists them."},
      scrubber.damaged_size());
  Add(families,
      {"persistd_scrubber_damaged_not_listed_total", "Times that damage was found for which that list had no room."},
      scrubber.damaged_not_listed());
  Add(families, {"persistd_scrubber_problem", "1 while the scrubber cannot go on; GetServerInfo says why."},
      !scrubber.problem().empty());
  if (!scrubber.has_last_pass_ended_at()) return;
  Add(families,
      {"persistd_scrubber_last_pass_end_time_seconds", "When all histories had last been verified, in Unix time."},
      SecondsOf(scrubber.last_pass_ended_at()));
}

ClientMetric::Histogram HistogramOf(const rpc::CallCounts& counts) {
  ClientMetric::Histogram histogram;
  for (size_t i = 0; i < counts.by_duration.size(); ++i) {
    histogram.sample_count += counts.by_duration[i];
    const bool last = i == rpc::kDurationBounds.size();
    histogram.bucket.push_back(
        {.cumulative_count = histogram.sample_count,
         .upper_bound = last ? std::numeric_limits<double>::infinity() : SecondsOf(rpc::kDurationBounds[i])});
  }
  histogram.sample_sum = SecondsOf(counts.total_duration);
  return histogram;
}

}  // namespace

std::vector<MetricFamily> ToMetrics(const pb::GetServerInfoResponse& info) {
  Families families;
  AddDaemon(info, families);
  AddNats(info.nats(), families);
  AddStreams(info, families);
  AddCaches(info, families);
  AddIndex(info.index(), families);
  AddScrubber(info.scrubber(), families);
  return families;
}

std::vector<MetricFamily> ToMetrics(const std::vector<rpc::MethodCalls>& calls) {
  MetricFamily ended =
      FamilyOf({"persistd_grpc_calls_total", "Calls that have ended, by the status code that the daemon gave them."});
  MetricFamily running = FamilyOf({"persistd_grpc_calls_in_flight", "Calls that have not ended yet."});
  MetricFamily durations = FamilyOf({"persistd_grpc_call_duration_seconds",
                                     "How long calls took in the daemon; a stream from its beginning to its end."});
  durations.type = MetricType::Histogram;
  for (const rpc::MethodCalls& of : calls) {
    const Labels labels = {{"service", of.service}, {"method", of.method}};
    for (size_t i = 0; i < of.counts.by_code.size(); ++i) {
      const auto code = static_cast<absl::StatusCode>(i);
      // A rate needs a number before the first call; there are too many codes to name each.
      if (of.counts.by_code[i] == 0 && code != absl::StatusCode::kOk) continue;
      Labels with_code = labels;
      with_code.push_back({"code", absl::StatusCodeToString(code)});
      AddSample(ended, static_cast<double>(of.counts.by_code[i]), std::move(with_code));
    }
    AddSample(running, static_cast<double>(of.counts.running), labels);
    ClientMetric& sample = durations.metric.emplace_back();
    sample.label = labels;
    sample.histogram = HistogramOf(of.counts);
  }
  return {std::move(ended), std::move(running), std::move(durations)};
}

}  // namespace persistd::app
