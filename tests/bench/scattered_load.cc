// Loads an aggregate whose 50 events are spread evenly over a long stream, and one whose 50 events are adjacent, in
// turn, and prints both medians and their ratio. Measures a real daemon on its embedded nats-server; not a test:
// nothing fails.
//
// usage: scattered_load [--stream-events N] [--loads N] [--set KEY=VALUE]...   (--set: of the daemon's configuration)

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "client/cpp/client.h"
#include "tests/testing/daemon.h"
#include "tests/testing/must.h"

namespace persistd::bench {
namespace {

namespace pb = cim::persistence::v1;
using testing::Must;

constexpr uint64_t kEvents = 50;
constexpr uint64_t kFillerPerSave = 1000;

struct Arguments {
  uint64_t stream_events = 1'000'000;
  uint64_t loads = 500;
  std::vector<std::string> sets = {"nats.embedded.sync_interval=2m"};
};

pb::AggregateRef Item(const std::string& id) { return client::Ref("bench", "item", id); }

void Save(const client::Client& client, const pb::AggregateRef& ref, uint64_t events, uint64_t expected) {
  const std::string payload = "{\"text\":\"" + std::string(240, 'x') + "\"}";
  pb::SaveRequest request;
  *request.mutable_ref() = ref;
  request.set_expected_version(expected);
  for (uint64_t i = 0; i < events; ++i) *request.add_events() = client::JsonEvent("happened", payload);
  Must(client.Save(request));
}

double LoadMicroseconds(const client::Client& client, const pb::AggregateRef& ref) {
  const auto start = std::chrono::steady_clock::now();
  const pb::LoadResponse loaded = Must(client.Load(ref));
  const auto end = std::chrono::steady_clock::now();
  if (loaded.events_size() != static_cast<int>(kEvents)) Must(absl::InternalError("a load without its 50 events"));
  return std::chrono::duration<double, std::micro>(end - start).count();
}

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

void Run(const Arguments& arguments) {
  const auto daemon = Must(testing::Daemon::Start({.sets = arguments.sets}));
  const client::Client client = Must(client::Client::Connect({.address = daemon->address()}));
  const uint64_t stride = arguments.stream_events / kEvents;
  uint64_t filled = 0;
  for (uint64_t i = 0; i < kEvents; ++i) {
    Save(client, Item("scattered"), 1, i);
    for (uint64_t end = (i + 1) * stride; filled < end; filled += kFillerPerSave) {
      Save(client, Item("filler-" + std::to_string(filled)), kFillerPerSave, 0);
    }
    std::cerr << "\rfilling the stream: " << filled << " of " << arguments.stream_events << " events" << std::flush;
  }
  for (uint64_t i = 0; i < kEvents; ++i) Save(client, Item("adjacent"), 1, i);
  std::cerr << "\n";

  std::vector<double> scattered;
  std::vector<double> adjacent;
  for (uint64_t i = 0; i < arguments.loads; ++i) {
    scattered.push_back(LoadMicroseconds(client, Item("scattered")));
    adjacent.push_back(LoadMicroseconds(client, Item("adjacent")));
  }
  const double slow = Median(scattered);
  const double fast = Median(adjacent);
  std::cout << "stream of " << filled << " events, loads of " << kEvents << " events, " << arguments.loads
            << " each, in turn\n"
            << "scattered: first " << scattered.front() << " us, median " << slow << " us\n"
            << "adjacent:  first " << adjacent.front() << " us, median " << fast << " us\n"
            << "ratio of the medians: " << slow / fast << "\n";
}

}  // namespace
}  // namespace persistd::bench

int main(int argc, char** argv) {
  persistd::bench::Arguments arguments;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    if (name == "--set") arguments.sets.push_back(argv[i + 1]);
    const uint64_t value = std::strtoull(argv[i + 1], nullptr, 10);
    if (name == "--stream-events" && value >= 50'000) arguments.stream_events = value;
    if (name == "--loads" && value > 0) arguments.loads = value;
  }
  persistd::bench::Run(arguments);
  return 0;
}
