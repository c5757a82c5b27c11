// Loads of random aggregates, each read once, with persistd's caches cold for half of them.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/bench/datasets.h"
#include "tests/bench/load_workload.h"
#include "tests/bench/scenario.h"

namespace persistd::bench {
namespace {

constexpr uint32_t kWarmUpWindow = 64;

struct LoadPlan {
  uint32_t window = 1;
  bool state = false;
};

uint64_t MostAggregates(uint32_t window) { return window == 1 ? 20'000 : 100'000; }

Loads::Options What(const Dataset& dataset, std::vector<std::string> ids, const LoadPlan& plan) {
  return {.aggregate = dataset.options().aggregate,
          .ids = std::move(ids),
          .events = plan.state ? 0 : static_cast<int>(dataset.options().events),
          .state = plan.state};
}

// The daemon starts anew, so that its caches are empty; then every second aggregate is read once before it is measured.
Measurement MeasureLoads(World& world, const RunOptions& run, const Dataset& dataset, const LoadPlan& plan) {
  const std::vector<std::string> ids = dataset.Sample(world, MostAggregates(plan.window), plan.state);
  std::vector<std::string> warm;
  for (size_t i = 0; i < ids.size(); i += 2) warm.push_back(ids[i]);
  world.RestartDaemon();
  Loads warm_up(world.channel(), kWarmUpWindow, What(dataset, std::move(warm), plan));
  static_cast<void>(RunClosedLoop(warm_up, {.window = kWarmUpWindow, .time = std::chrono::hours(1)}));
  Loads loads(world.channel(), plan.window, What(dataset, ids, plan));
  return RunClosedLoop(loads, {.window = plan.window,
                               .time = run.time,
                               .warm_up = std::chrono::milliseconds(0),
                               .most_operations = ids.size(),
                               .processes = world.processes_with_daemon()});
}

template <typename MakeDataset>
void AddProbes(Registry& registry, const std::string& size, const std::vector<uint32_t>& windows, bool large,
               MakeDataset make) {
  for (const uint32_t window : windows) {
    for (const bool state : {true, false}) {
      registry.Add(Probe{
          .name = absl::StrCat("load.", size, state ? "state." : "", window),
          .what = absl::StrCat("Load of random aggregates, each once, ",
                               state ? "with state, " : "without state, 10 scattered events, ", window, " in flight"),
          .run =
              [window, state, make](World& world, const RunOptions& run) {
                return MeasureLoads(world, run, make(world, run), {.window = window, .state = state});
              },
          .large = large});
    }
  }
}

void AddSizeTarget(Registry& registry, bool state) {
  const std::string small = absl::StrCat("load.small.", state ? "state." : "", "1");
  const std::string large = absl::StrCat("load.large.", state ? "state." : "", "1");
  registry.Add(Target{.name = large,
                      .what = absl::StrCat("Load ", state ? "with state" : "of 10 scattered events without state",
                                           ", 1 in flight: p50 among many events over p50 among 10,000"),
                      .probes = {large, small},
                      .figure = MedianOver(large, {small}),
                      .floor = state ? 1.5 : 2.0,
                      .goal = state ? 1.2 : 1.3,
                      .less_is_better = true});
}

}  // namespace

void AddLoads(Registry& registry) {
  AddProbes(registry, "", {1, 64}, false,
            [](World& world, const RunOptions&) -> const Dataset& { return Middle(world); });
  AddProbes(registry, "small.", {1}, false,
            [](World& world, const RunOptions&) -> const Dataset& { return Small(world); });
  AddProbes(registry, "large.", {1, 64}, true,
            [](World& world, const RunOptions& run) -> const Dataset& { return Large(world, run); });
  registry.Add(Target{.name = "load.state.1",
                      .what = "Load with state, 1 in flight: p50 over direct get p50 + echo p50",
                      .probes = {"load.state.1", "raw.get.1", "echo.1"},
                      .figure = MedianOver("load.state.1", {"raw.get.1", "echo.1"}),
                      .floor = 1.6,
                      .goal = 1.3,
                      .less_is_better = true});
  registry.Add(Target{.name = "load.state.64",
                      .what = "Load with state, 64 in flight, over direct gets",
                      .probes = {"load.state.64", "raw.get.64"},
                      .figure = RateOver("load.state.64", "raw.get.64"),
                      .floor = 0.25,
                      .goal = 0.4});
  registry.Add(Target{.name = "load.1",
                      .what = "Load of 10 scattered events, 1 in flight: p50 over direct get p50 + echo p50",
                      .probes = {"load.1", "raw.get.1", "echo.1"},
                      .figure = MedianOver("load.1", {"raw.get.1", "echo.1"}),
                      .less_is_better = true});
  for (const bool state : {true, false}) AddSizeTarget(registry, state);
}

}  // namespace persistd::bench
