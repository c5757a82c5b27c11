// A history of 100,000 events, in both directions, past a reader that does not read, in bounded memory.
#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/integration/api.h"
#include "tests/testing/catch.h"
#include "tests/testing/daemon.h"
#include "tests/testing/files.h"
#include "tests/testing/must.h"

namespace persistd::integration {
namespace {

using testing::Daemon;
using testing::Must;

constexpr uint64_t kEvents = 100'000;
constexpr int kEventsPerSave = 1000;
constexpr size_t kPayloadBytes = 1000;  // 100 MB in all, more than the growth that is allowed.
constexpr uint64_t kMaxGrowthKiB = 64 * 1024;

// Of a line such as `VmHWM:     1234 kB` in /proc/PID/status.
uint64_t MemoryKiB(pid_t pid, const std::string& name) {
  std::istringstream status(testing::ReadFile(absl::StrCat("/proc/", pid, "/status")));
  for (std::string line; std::getline(status, line);) {
    uint64_t value = 0;
    if (absl::StartsWith(line, name + ":") && std::istringstream(line.substr(name.size() + 1)) >> value) return value;
  }
  return 0;
}

// Forgets the high-water mark of memory, so that it counts from now on.
void ResetPeak(pid_t pid) { std::ofstream(absl::StrCat("/proc/", pid, "/clear_refs")) << 5; }

// What survives a power cut is tested elsewhere.
constexpr char kFastDisk[] = "nats.embedded.sync_interval=2m";

std::string PayloadOf(uint64_t version) {
  std::string payload = absl::StrCat(version, ":");
  payload.resize(kPayloadBytes, static_cast<char>('a' + version % 26));
  return payload;
}

void Fill(Api& api, const pb::AggregateRef& ref) {
  for (uint64_t done = 0; done < kEvents; done += kEventsPerSave) {
    pb::SaveRequest save = SaveOf(ref, done, kEventsPerSave, "");
    for (int i = 0; i < kEventsPerSave; ++i) {
      save.mutable_events(i)->mutable_payload()->set_data(PayloadOf(done + static_cast<uint64_t>(i) + 1));
    }
    Must(api.Save(save).status());
  }
}

// Reads what is left of a history whose next event has version `first`, down or up to `last`.
void ReadThrough(HistoryCall& history, uint64_t first, uint64_t last) {
  const bool reverse = first > last;
  for (uint64_t version = first;; reverse ? --version : ++version) {
    const pb::RecordedEvent event = history.MustNext();
    if (event.version() != version || event.payload().data() != PayloadOf(version)) {
      FAIL("version " << event.version() << " came in place of " << version);
    }
    if (version == last) break;
  }
  CHECK_FALSE(Must(history.Next()).has_value());
}

TEST_CASE("100,000 events stream in both directions in bounded memory, also past readers that do not read",
          "[history]") {
  const auto daemon = Must(Daemon::Start({.sets = {kFastDisk}}));
  Api api(daemon->address());
  const pb::AggregateRef ref = Order("long");
  Fill(api, ref);
  const uint64_t before = MemoryKiB(daemon->pid(), "VmRSS");
  REQUIRE(before > 0);
  ResetPeak(daemon->pid());

  // These two stop reading after one event; the daemon must stop reading for them. Each is 100 MB in all.
  const CallOptions long_call{.timeout = 300s};
  Api slow_api(daemon->address());
  const auto slow = slow_api.StartHistory(HistoryOf(ref), long_call);
  CHECK(slow->MustNext().version() == 1);
  const auto slow_reverse = slow_api.StartHistory(HistoryOf(ref, true), long_call);
  CHECK(slow_reverse->MustNext().version() == kEvents);

  // Others are served meanwhile.
  pb::GetHistoryRequest part = HistoryOf(ref);
  part.set_from_version(kEvents / 2);
  part.set_to_version(kEvents / 2 + 5000);
  ReadThrough(*api.StartHistory(part), kEvents / 2 + 1, kEvents / 2 + 5000);
  CHECK(Must(api.GetMetadata(ref)).version() == kEvents);
  Must(api.Save(SaveOf(ref, kEvents, 1, "{}")).status());

  // The slow ones go on where they were, and see nothing of the save that came after them.
  ReadThrough(*slow, 2, kEvents);
  ReadThrough(*slow_reverse, kEvents - 1, 1);

  const uint64_t peak = MemoryKiB(daemon->pid(), "VmHWM");
  INFO("memory before " << before << " KiB, at most " << peak << " KiB");
#ifndef __SANITIZE_ADDRESS__  // It keeps what was freed for a while.
  CHECK(peak < before + kMaxGrowthKiB);
#endif
}

TEST_CASE("Parts of a long history come without reading what lies outside", "[history]") {
  const auto daemon = Must(Daemon::Start({.sets = {kFastDisk}}));
  Api api(daemon->address());
  const pb::AggregateRef ref = Order("long");
  for (int i = 0; i < 10; ++i) Must(api.Save(SaveOf(ref, kEventsPerSave)).status());
  pb::GetHistoryRequest part = HistoryOf(ref);
  part.set_from_version(4711);
  part.set_to_version(4813);
  for (const bool reverse : {false, true}) {
    part.set_reverse(reverse);
    const std::vector<pb::RecordedEvent> events = Must(api.History(part));
    REQUIRE(events.size() == 102);
    for (size_t i = 0; i < events.size(); ++i) {
      CHECK(events[i].version() == (reverse ? 4813 - i : 4712 + i));
    }
  }
  part.set_from_version(10'000);
  part.clear_to_version();
  CHECK(Must(api.History(part)).empty());
}

}  // namespace
}  // namespace persistd::integration
