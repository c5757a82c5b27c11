// Repositories whose type `sales/order` is truncated after snapshots, over a real nats-server. For tests of one thread.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cim/persistence/v1/errors.pb.h"
#include "server/base/clock.h"
#include "server/domain/errors.h"
#include "server/domain/subject.h"
#include "server/jetstream/api.h"
#include "server/jetstream/reader.h"
#include "server/repository/snapshot_manifest.h"
#include "server/transform/runner.h"
#include "tests/server/repository/repository_fixture.h"
#include "tests/testing/must.h"
#include "tests/testing/nats_server.h"
#include "tests/testing/poll.h"
#include "tests/testing/runfiles.h"

namespace persistd::repository {

namespace pb = cim::persistence::v1;

inline constexpr char kOrderEvents[] = "CIM-EVENTS+sales+order";
// Counts the events, and adds up what is in them.
inline constexpr char kCount[] = R"jq({"n": (($state.n // 0) + 1), "sum": (($state.sum // 0) + (.data.n // 0))})jq";

// Wall time that tests move; what is waited for goes on by the machine's clock.
class MovedClock final : public base::Clock {
 public:
  base::WallTime WallNow() const override { return base::Clock::System().WallNow() + moved_.load(); }
  base::SteadyTime SteadyNow() const override { return base::Clock::System().SteadyNow(); }
  void Advance(std::chrono::minutes by) { moved_ = moved_.load() + by; }

 private:
  std::atomic<std::chrono::minutes> moved_{};
};

// A snapshot of the type is taken by each fourth event, or on request. min_age 0: what can be removed is removed at
// once.
inline RepositoryOptions Truncating(size_t keep = 1, std::chrono::milliseconds min_age = 0ms,
                                    bool fsync_always = true) {
  RepositoryOptions options;
  options.snapshot_policies[{"sales", "order"}] = {.every_events = 4, .keep = keep, .truncates = true};
  options.storage.types[{"sales", "order"}] = {};
  options.storage.truncated = {{"sales", "order"}};
  options.truncation_min_age = min_age;
  options.fsync_always = [fsync_always](int) { return fsync_always; };
  return options;
}

inline RepositoryOptions WithFold(RepositoryOptions options, transform::Runner& runner, uint32_t schema = 1) {
  options.rules[{"sales", "order"}] = {.fold = testing::Must(runner.Compile(kCount)), .state_schema_version = schema};
  options.transforms = &runner;
  return options;
}

inline bool IsRemovedError(const absl::Status& status) {
  return domain::HasReason(status, pb::ERROR_REASON_HISTORY_REMOVED);
}

inline NewState StateOf(std::string data, uint32_t schema = 1) {
  NewState state;
  state.schema_version = schema;
  state.payload = {.content_type = "application/json", .data = std::move(data)};
  return state;
}

inline HistoryQuery AllOf(domain::AggregateRef ref) {
  HistoryQuery query;
  query.ref = std::move(ref);
  return query;
}

// One daemon with what a test looks at behind its back.
class Truncated {
 public:
  explicit Truncated(const testing::NatsServer& nats, const RepositoryOptions& options = Truncating(),
                     const base::Clock* clock = &base::Clock::System())
      : daemon(nats.url(), options, clock) {}

  absl::StatusOr<SnapshotInfo> Snapshot(const domain::AggregateRef& ref, uint64_t version = 0,
                                        std::optional<NewState> state = std::nullopt) {
    SnapshotCommand command{.ref = ref, .version = version, .state = std::move(state)};
    return base::BlockOn(daemon.repository().CreateSnapshot(std::move(command), TestRepository::In(60s)));
  }
  absl::Status Delete(const domain::AggregateRef& ref, uint64_t version) {
    return base::BlockOn(daemon.repository().DeleteSnapshot(ref, version, TestRepository::In(20s)));
  }
  std::vector<uint64_t> Snapshots(const domain::AggregateRef& ref) {
    std::vector<uint64_t> versions;
    for (const SnapshotInfo& info :
         testing::Must(base::BlockOn(daemon.repository().ListSnapshots(ref, TestRepository::In(20s))))) {
      versions.push_back(info.version);
    }
    return versions;
  }
  // The version of the newest one; 0: there is none.
  uint64_t Newest(const domain::AggregateRef& ref) {
    const std::vector<uint64_t> versions = Snapshots(ref);
    return versions.empty() ? 0 : versions.front();
  }
  // Saves `events` events, each alone, with the state after it.
  void Grow(const domain::AggregateRef& ref, uint64_t from, size_t events) {
    for (size_t i = 0; i < events; ++i) {
      const uint64_t version = from + i;
      SaveCommand command = Command(ref, version);
      command.state = StateOf(std::string("{\"v\":") + std::to_string(version + 1) + "}");
      testing::Must(daemon.Save(std::move(command)));
    }
  }
  // The versions whose events are in the stream.
  std::vector<uint64_t> Stored(const domain::AggregateRef& ref) {
    jetstream::Reader reader(&daemon.writes());
    std::vector<uint64_t> versions;
    for (uint64_t sequence = 1;; ++sequence) {
      const std::optional<jetstream::Message> message = testing::Must(base::BlockOn(reader.Next(
          kOrderEvents, domain::EventFilter(ref), sequence, jetstream::ReadFrom::kLeader, TestRepository::In(20s))));
      if (!message.has_value()) return versions;
      sequence = message->sequence;
      versions.push_back(std::stoull(*message->headers.Find("ce-aggregateversion")));
    }
  }
  // Whether all events up to `last` are in the stream from the first one on that is. While some are being removed they
  // are read anew.
  bool IsWhole(const domain::AggregateRef& ref, uint64_t last) {
    return testing::PollUntil(
        [&] {
          const std::vector<uint64_t> versions = Stored(ref);
          for (size_t i = 1; i < versions.size(); ++i) {
            if (versions[i] != versions[i - 1] + 1) return false;
          }
          return !versions.empty() && versions.back() == last;
        },
        5s);
  }
  uint64_t FirstStored(const domain::AggregateRef& ref) {
    jetstream::Reader reader(&daemon.writes());
    const std::optional<jetstream::Message> message = testing::Must(base::BlockOn(
        reader.Next(kOrderEvents, domain::EventFilter(ref), 1, jetstream::ReadFrom::kLeader, TestRepository::In(20s))));
    return message.has_value() ? std::stoull(*message->headers.Find("ce-aggregateversion")) : 0;
  }
  // Whether the first event that is stored becomes that of `version`.
  bool FirstBecomes(const domain::AggregateRef& ref, uint64_t version) {
    return testing::PollUntil([&] { return FirstStored(ref) == version; }, 20s);
  }
  std::vector<uint64_t> History(HistoryQuery query) {
    std::vector<uint64_t> versions;
    for (const Event& event : testing::Must(daemon.History(std::move(query)))) versions.push_back(event.event.version);
    return versions;
  }
  std::string LoadedState(const domain::AggregateRef& ref) {
    const LoadResult loaded = testing::Must(daemon.Load(ref));
    return loaded.state.has_value() ? loaded.state->payload.data : "";
  }

  jetstream::Kv Bucket() {
    return jetstream::Kv({.bucket = "cim-snapshots"}, &daemon.writes(), &daemon.writes(), &daemon.executor());
  }
  std::optional<jetstream::KvEntry> Record(const std::string& key) {
    jetstream::Kv kv = Bucket();
    return testing::Must(base::BlockOn(kv.Last(key, jetstream::ReadFrom::kLeader, TestRepository::In(20s))));
  }
  SnapshotManifest Manifest(const domain::AggregateRef& ref) {
    const std::optional<jetstream::KvEntry> entry = Record(ManifestKey(ref));
    return entry.has_value() ? testing::Must(SnapshotManifest::Parse(entry->value)) : SnapshotManifest();
  }
  void Overwrite(const std::string& key, std::string value) {
    jetstream::Kv kv = Bucket();
    testing::Must(base::BlockOn(kv.Put(key, std::move(value), TestRepository::In(20s))));
  }
  void Erase(const std::string& key) {
    jetstream::Kv kv = Bucket();
    testing::Must(base::BlockOn(kv.Erase(key, 1'000'000'000, TestRepository::In(20s))));
  }
  // What a daemon does with its streams when it starts; the complaint about the orders' events.
  std::string Follow() {
    testing::Must(base::BlockOn(daemon.repository().types()->Refresh(TestRepository::In(20s))));
    const StreamsReport report = daemon.repository().types()->report();
    const auto found = report.complaints.find(kOrderEvents);
    return found != report.complaints.end() ? found->second : "";
  }

  TestRepository daemon;
};

// One whose type has a fold, with a runner of its own: what waits for it must end before the daemon does.
class TruncatedFolding {
 public:
  explicit TruncatedFolding(const testing::NatsServer& nats, const RepositoryOptions& options = Truncating(),
                            uint32_t schema = 1)
      : runner_({.worker_program = testing::Must(testing::Runfile("persistd/server/transform/worker_main")),
                 .time_limit = 20s}),
        truncated_(nats, WithFold(options, runner_, schema)) {}
  ~TruncatedFolding() { runner_.Stop(); }

  Truncated* operator->() { return &truncated_; }
  Truncated& operator*() { return truncated_; }

 private:
  transform::Runner runner_;
  Truncated truncated_;
};

inline std::vector<uint64_t> Range(uint64_t first, uint64_t last) {
  std::vector<uint64_t> versions;
  for (uint64_t version = first; version <= last; ++version) versions.push_back(version);
  return versions;
}

}  // namespace persistd::repository
