// Unary saves of one event, alone and many at once, without and with state.

#include "absl/strings/str_cat.h"
#include "tests/bench/save_workload.h"
#include "tests/bench/scenario.h"

namespace persistd::bench {
namespace {

Measurement MeasureSaves(World& world, const RunOptions& run, uint32_t window, SaveSource::Options what) {
  UnarySaves saves(&world, world.channel(), window, what);
  return RunClosedLoop(saves, {.window = window,
                               .time = run.time,
                               .warm_up = run.warm_up,
                               .events_per_operation = static_cast<double>(what.events),
                               .processes = world.processes_with_daemon()});
}

void AddProbes(Registry& registry) {
  for (const uint32_t window : {1u, 8u, 64u, 256u}) {
    for (const bool state : {false, true}) {
      registry.Add(
          Probe{.name = absl::StrCat("save.", state ? "state." : "", window),
                .what = absl::StrCat("Save of one event", state ? " with state, " : ", ", window, " in flight"),
                .run = [window, state](World& world, const RunOptions& run) {
                  return MeasureSaves(world, run, window, {.state = state});
                }});
    }
  }
}

}  // namespace

void AddSaves(Registry& registry) {
  AddProbes(registry);
  registry.Add(Target{.name = "save.1",
                      .what = "Save, 1 in flight: p50 over raw publish p50 + echo p50",
                      .probes = {"save.1", "raw.publish.1", "echo.1"},
                      .figure = MedianOver("save.1", {"raw.publish.1", "echo.1"}),
                      .floor = 1.6,
                      .goal = 1.3,
                      .less_is_better = true,
                      .modes = {Mode::kR1}});
  for (const uint32_t window : {8u, 64u, 256u}) {
    const std::string probe = absl::StrCat("save.", window);
    const std::string raw = absl::StrCat("raw.publish.", window);
    const bool judged = window == 64;
    registry.Add(Target{.name = probe,
                        .what = absl::StrCat("Save, ", window, " in flight, over raw publishes"),
                        .probes = {probe, raw},
                        .figure = RateOver(probe, raw),
                        .floor = judged ? 0.25 : 0,
                        .goal = judged ? 0.4 : 0,
                        .modes = {Mode::kR1, Mode::kR3}});
    registry.Add(Target{.name = probe,
                        .what = absl::StrCat("Save, ", window, " in flight, over raw publishes"),
                        .probes = {probe, raw},
                        .figure = RateOver(probe, raw),
                        .floor = judged ? 3.0 : 0,
                        .goal = judged ? 5.0 : 0,
                        .modes = {Mode::kR1Always}});
  }
  for (const uint32_t window : {1u, 64u}) {
    const std::string with = absl::StrCat("save.state.", window);
    const std::string without = absl::StrCat("save.", window);
    registry.Add(Target{.name = with,
                        .what = absl::StrCat("Save with state, ", window, " in flight, over without"),
                        .probes = {with, without},
                        .figure = RateOver(with, without),
                        .floor = 0.45,
                        .goal = 0.6,
                        .modes = {Mode::kR1, Mode::kR1Always}});
  }
}

void AddStreamedSaves(Registry& registry) {
  for (const bool state : {false, true}) {
    registry.Add(Probe{
        .name = state ? "stream.state.256" : "stream.256",
        .what = absl::StrCat("SaveStream of one event", state ? " with state" : "", ", window 256"),
        .run = [state](World& world, const RunOptions& run) {
          StreamedSaves saves(&world, world.channel(), 256, {.state = state});
          return RunClosedLoop(
              saves,
              {.window = 256, .time = run.time, .warm_up = run.warm_up, .processes = world.processes_with_daemon()});
        }});
  }
  const Target over_raw{.name = "stream.256",
                        .what = "SaveStream, window 256, over raw publishes",
                        .probes = {"stream.256", "raw.publish.256"},
                        .figure = RateOver("stream.256", "raw.publish.256"),
                        .floor = 0.35,
                        .goal = 0.5,
                        .modes = {Mode::kR1}};
  registry.Add(over_raw);
  Target always = over_raw;
  always.floor = 6;
  always.goal = 10;
  always.modes = {Mode::kR1Always};
  registry.Add(always);
  Target replicated = over_raw;
  replicated.floor = replicated.goal = 0;
  replicated.modes = {Mode::kR3};
  registry.Add(replicated);
  registry.Add(Target{.name = "stream.state.256",
                      .what = "SaveStream with state, window 256, over without",
                      .probes = {"stream.state.256", "stream.256"},
                      .figure = RateOver("stream.state.256", "stream.256"),
                      .floor = 0.45,
                      .goal = 0.6,
                      .modes = {Mode::kR1, Mode::kR1Always}});
}

void AddMultiEventSaves(Registry& registry) {
  for (const int events : {3, 10}) {
    for (const bool state : {false, true}) {
      registry.Add(
          Probe{.name = absl::StrCat("save", events, state ? ".state" : "", ".64"),
                .what = absl::StrCat("Save of ", events, " events", state ? " with state" : "", ", 64 in flight"),
                .run = [events, state](World& world, const RunOptions& run) {
                  return MeasureSaves(world, run, 64, {.events = events, .state = state});
                }});
    }
  }
  registry.Add(Target{.name = "save3.events",
                      .what = "Saves of 3 events, 64 in flight: events/s",
                      .probes = {"save3.64"},
                      .figure = [](const Measurements& m) { return m.at("save3.64").events_rate(); },
                      .floor = 10'000,
                      .goal = 20'000,
                      .unit = "events/s",
                      .modes = {Mode::kR1}});
  registry.Add(Target{.name = "save3.batch",
                      .what = "Saves of 3 events, 64 in flight, over one atomic batch per save",
                      .probes = {"save3.64", "raw.batch3"},
                      .figure = RateOver("save3.64", "raw.batch3"),
                      .floor = 20,
                      .goal = 40,
                      .modes = {Mode::kR1}});
  registry.Add(Target{.name = "save10.events",
                      .what = "Saves of 10 events, 64 in flight: events/s",
                      .probes = {"save10.64"},
                      .figure = [](const Measurements& m) { return m.at("save10.64").events_rate(); },
                      .unit = "events/s"});
  for (const std::string& probe : {std::string("save3.state.64"), std::string("save10.state.64")}) {
    std::string without = probe;
    without.replace(without.find(".state"), 6, "");
    registry.Add(Target{.name = probe,
                        .what = "the same saves with state, over without",
                        .probes = {probe, without},
                        .figure = RateOver(probe, without),
                        .floor = 0.45,
                        .goal = 0.6,
                        .modes = {Mode::kR1, Mode::kR1Always}});
  }
}

}  // namespace persistd::bench
