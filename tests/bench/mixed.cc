// Loads while saves run as fast as they can.

#include <thread>
#include <utility>

#include "tests/bench/datasets.h"
#include "tests/bench/load_workload.h"
#include "tests/bench/save_workload.h"
#include "tests/bench/scenario.h"

namespace persistd::bench {
namespace {

constexpr char kProbe[] = "load.while-saving";
constexpr uint32_t kSaves = 64;
constexpr uint32_t kLoads = 8;

Measurement MeasureLoadsAmongSaves(World& world, const RunOptions& run) {
  const Dataset& dataset = Middle(world);
  Loads loads(world.channel(), kLoads,
              {.aggregate = dataset.options().aggregate,
               .ids = dataset.Sample(world, dataset.options().with_state, true),
               .events = 0,
               .state = true});
  // A connection of their own, as other clients have; the world is not used by both threads from here on.
  UnarySaves saves(&world, NewChannel(world.daemon().address()), kSaves, {});
  const LoopOptions load_options{
      .window = kLoads, .time = run.time, .warm_up = run.warm_up, .processes = world.processes_with_daemon()};
  Measurement saved;
  std::thread saver([&saves, &saved, &run] {
    saved = RunClosedLoop(saves, {.window = kSaves, .time = run.time + run.warm_up, .warm_up = run.warm_up});
  });
  Measurement loaded = RunClosedLoop(loads, load_options);
  saver.join();
  loaded.failures += saved.failures;
  if (loaded.first_failure.empty()) loaded.first_failure = saved.first_failure;
  loaded.figures["saves_per_second"] = saved.rate();
  loaded.note = std::to_string(static_cast<int>(saved.rate())) + " saves/s meanwhile";
  return loaded;
}

}  // namespace

void AddMixed(Registry& registry) {
  registry.Add(Probe{.name = kProbe,
                     .what = "Load with state, 8 in flight, while saves run with 64 in flight",
                     .run = MeasureLoadsAmongSaves});
  registry.Add(Target{.name = kProbe,
                      .what = "Load p99 while saves run at full rate",
                      .probes = {kProbe},
                      .figure = [](const Measurements& m) { return m.at(kProbe).p99_us / 1000; },
                      .floor = 25,
                      .goal = 15,
                      .less_is_better = true,
                      .unit = "ms",
                      .modes = {Mode::kR1}});
}

}  // namespace persistd::bench
