#include "tests/bench/runner.h"

#include <algorithm>
#include <exception>
#include <limits>
#include <set>
#include <stdexcept>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace persistd::bench {
namespace {

bool In(const std::vector<Mode>& modes, Mode mode) {
  return std::find(modes.begin(), modes.end(), mode) != modes.end();
}

// A filter is a part of a name; with `=` before it, the whole name.
bool Chosen(const RunPlan& plan, const std::string& name) {
  return plan.filters.empty() ||
         std::any_of(plan.filters.begin(), plan.filters.end(), [&name](const std::string& filter) {
           return filter.starts_with("=") ? filter.substr(1) == name : absl::StrContains(name, filter);
         });
}

const Probe* FindProbe(const Registry& registry, const std::string& name) {
  for (const Probe& probe : registry.probes()) {
    if (probe.name == name) return &probe;
  }
  throw std::logic_error("a target names a probe that does not exist: " + name);
}

// The probes to run, and in `targets` the targets that they make.
std::vector<ProbeResult> Choose(const Registry& registry, const RunPlan& plan, Mode mode,
                                std::vector<TargetResult>& targets) {
  const auto possible = [&plan, mode](const Probe& probe) {
    return In(probe.modes, mode) && (plan.large || !probe.large);
  };
  std::set<std::string> needed;
  for (const Target& target : registry.targets()) {
    if (!In(target.modes, mode) || !Chosen(plan, target.name)) continue;
    if (!std::all_of(target.probes.begin(), target.probes.end(),
                     [&](const std::string& name) { return possible(*FindProbe(registry, name)); })) {
      continue;
    }
    targets.push_back({.target = &target, .figures = {}});
    needed.insert(target.probes.begin(), target.probes.end());
  }
  std::vector<ProbeResult> chosen;
  for (const Probe& probe : registry.probes()) {
    if (!possible(probe)) continue;
    if (needed.contains(probe.name) || Chosen(plan, probe.name)) chosen.push_back({.probe = &probe, .runs = {}});
  }
  return chosen;
}

// One that cannot be measured does not keep the others from it.
Measurement Run(const Probe& probe, World& world, const RunOptions& options) {
  try {
    return probe.run(world, options);
  } catch (const std::exception& error) {
    Measurement none;
    none.failures = 1;
    none.first_failure = error.what();
    return none;
  }
}

// The worst one when a part of it could not be measured, or when an operation of what is judged failed: a refusal is
// quicker than a save.
double FigureOf(const Target& target, const Measurements& measurements) {
  const bool measured = std::all_of(target.probes.begin(), target.probes.end(), [&](const std::string& name) {
    return measurements.at(name).operations > 0 && measurements.at(name).failures == 0;
  });
  if (measured) return target.figure(measurements);
  return target.less_is_better ? std::numeric_limits<double>::infinity() : 0;
}

void Report(const Measurement& measured, const std::string& name, int run) {
  Progress(absl::StrFormat(
      "  run %d  %-22s %9.0f/s  p50 %8.0f us  p99 %8.0f us%s", run + 1, name, measured.rate(), measured.p50_us,
      measured.p99_us,
      measured.failures == 0 ? "" : absl::StrCat("  ", measured.failures, " FAILED, first: ", measured.first_failure)));
}

}  // namespace

ModeResult RunMode(const Registry& registry, const RunPlan& plan, Mode mode) {
  ModeResult result{.mode = mode, .probes = {}, .targets = {}};
  result.probes = Choose(registry, plan, mode, result.targets);
  if (result.probes.empty()) return result;
  World::Options options = plan.world;
  options.mode = mode;
  World world(options);
  for (int run = 0; run < plan.runs; ++run) {
    Measurements measurements;
    for (ProbeResult& each : result.probes) {
      if (each.probe->once && run > 0) {
        measurements[each.probe->name] = each.runs.front();
        continue;
      }
      Measurement measured = Run(*each.probe, world, plan.options);
      Report(measured, each.probe->name, run);
      measurements[each.probe->name] = measured;
      each.runs.push_back(std::move(measured));
    }
    for (TargetResult& each : result.targets) each.figures.push_back(FigureOf(*each.target, measurements));
  }
  return result;
}

}  // namespace persistd::bench
