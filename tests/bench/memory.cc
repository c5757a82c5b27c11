// What a million new aggregates cost in memory: persistd, which must not grow with them, and nats-server, which does.

#include <chrono>

#include "absl/strings/str_format.h"
#include "tests/bench/save_workload.h"
#include "tests/bench/scenario.h"

namespace persistd::bench {
namespace {

constexpr char kProbe[] = "memory";
constexpr uint32_t kWindow = 256;
constexpr char kDaemonPeak[] = "persistd_peak_mib";
constexpr char kNatsGrowth[] = "nats_server_mib_per_million";

double NatsMib(const World& world) {
  double sum = 0;
  for (const pid_t pid : world.nats_pids()) sum += ResidentMib(pid);
  return sum;
}

Measurement MeasureMemory(World& world, const RunOptions& run) {
  world.items();
  const double before = NatsMib(world);
  UnarySaves saves(&world, world.channel(), kWindow, {.only_new = true});
  Measurement measured = RunClosedLoop(saves, {.window = kWindow,
                                               .time = std::chrono::hours(1),
                                               .warm_up = std::chrono::milliseconds(0),
                                               .most_operations = run.memory_entities,
                                               .processes = world.processes_with_daemon()});
  for (const ProcessUse& use : measured.processes) {
    if (use.name == "persistd") measured.figures[kDaemonPeak] = use.peak_mib;
  }
  const double growth = NatsMib(world) - before;
  measured.figures[kNatsGrowth] = growth * 1e6 / static_cast<double>(run.memory_entities);
  measured.note = absl::StrFormat("%d new aggregates; nats-server grew by %.0f MiB", run.memory_entities, growth);
  return measured;
}

}  // namespace

void AddMemory(Registry& registry) {
  registry.Add(Probe{.name = kProbe,
                     .what = "Save of new aggregates, 256 in flight",
                     .run = MeasureMemory,
                     .modes = {Mode::kR1},
                     .once = true});
  registry.Add(Target{.name = "memory.persistd",
                      .what = "persistd's peak of resident memory while new aggregates are saved",
                      .probes = {kProbe},
                      .figure = [](const Measurements& m) { return m.at(kProbe).figures.at(kDaemonPeak); },
                      .floor = 250,
                      .goal = 250,
                      .less_is_better = true,
                      .unit = "MiB",
                      .modes = {Mode::kR1}});
  registry.Add(Target{.name = "memory.nats-server",
                      .what = "nats-server's resident memory for each million of aggregates",
                      .probes = {kProbe},
                      .figure = [](const Measurements& m) { return m.at(kProbe).figures.at(kNatsGrowth); },
                      .less_is_better = true,
                      .unit = "MiB",
                      .modes = {Mode::kR1}});
}

}  // namespace persistd::bench
