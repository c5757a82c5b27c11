// What the content identifiers of events cost: the same saves by a daemon that makes them and by one that does not.

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/bench/save_workload.h"
#include "tests/bench/scenario.h"

namespace persistd::bench {
namespace {

constexpr uint32_t kWindow = 256;

Measurement MeasureSaves(World& world, const RunOptions& run, bool chained, int events) {
  world.ReplaceDaemon({absl::StrCat("repository.enable_ipld=", chained ? "true" : "false")});
  Measurement measured;
  {
    StreamedSaves saves(&world, world.channel(), kWindow, {.events = events, .only_new = true});
    measured = RunClosedLoop(saves, {.window = kWindow,
                                     .time = run.time,
                                     .warm_up = run.warm_up,
                                     .events_per_operation = static_cast<double>(events),
                                     .processes = world.processes_with_daemon()});
  }
  world.ReplaceDaemon({});
  return measured;
}

}  // namespace

void AddChains(Registry& registry) {
  for (const int events : {1, 10}) {
    const std::string name = absl::StrCat("chains.", events);
    for (const bool chained : {false, true}) {
      registry.Add(Probe{.name = absl::StrCat(name, chained ? ".on" : ".off"),
                         .what = absl::StrCat("SaveStream of new aggregates, ", events, " events each, window ",
                                              kWindow, chained ? ", with CIDs" : ", without CIDs"),
                         .run = [chained, events](World& world, const RunOptions& run) {
                           return MeasureSaves(world, run, chained, events);
                         }});
    }
    registry.Add(Target{.name = name,
                        .what = absl::StrCat("saves of ", events, " events with CIDs, over without"),
                        .probes = {name + ".on", name + ".off"},
                        .figure = RateOver(name + ".on", name + ".off"),
                        .floor = 0.9,
                        .goal = 0.95});
  }
}

}  // namespace persistd::bench
