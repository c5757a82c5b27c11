// What is measured, and what is demanded of it. A probe measures one thing in one world; a target is a figure made of
// the measurements of one run, most often a ratio to a baseline probe, with the floor and the goal that it is held to.
//
// To add a scenario: write probes and targets in a file of its own, and call it from AllScenarios().
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tests/bench/measurement.h"
#include "tests/bench/world.h"

namespace persistd::bench {

struct RunOptions {
  std::chrono::milliseconds time{4000};     // Of one measurement.
  std::chrono::milliseconds warm_up{1000};  // Before it.
  uint64_t large_events = 10'000'000;       // Of the probes that want a long stream.
  uint64_t memory_entities = 1'000'000;
};

struct Probe {
  std::string name;  // "save.unary.64"
  std::string what;
  std::function<Measurement(World&, const RunOptions&)> run;
  std::vector<Mode> modes = {Mode::kR1, Mode::kR1Always, Mode::kR3};
  bool once = false;   // Too long to be repeated.
  bool large = false;  // Only with --large.
};

// By probe name: the measurements of one run.
using Measurements = std::map<std::string, Measurement>;

struct Target {
  std::string name;  // "save.unary.64/raw"
  std::string what;
  std::vector<std::string> probes;  // What the figure is made of; the first one is what is judged.
  std::function<double(const Measurements&)> figure;
  double floor = 0;  // 0: only shown.
  double goal = 0;
  bool less_is_better = false;
  std::string unit = "x";
  std::vector<Mode> modes = {Mode::kR1, Mode::kR1Always, Mode::kR3};
};

class Registry {
 public:
  void Add(Probe probe) { probes_.push_back(std::move(probe)); }
  void Add(Target target) { targets_.push_back(std::move(target)); }

  const std::vector<Probe>& probes() const { return probes_; }
  const std::vector<Target>& targets() const { return targets_; }

 private:
  std::vector<Probe> probes_;
  std::vector<Target> targets_;
};

// rate of `probe` over rate of `baseline`.
std::function<double(const Measurements&)> RateOver(std::string probe, std::string baseline);
// p50 of `probe` over the sum of the p50 of the others.
std::function<double(const Measurements&)> MedianOver(std::string probe, std::vector<std::string> baselines);

void AddBaselines(Registry& registry);
void AddSaves(Registry& registry);
void AddStreamedSaves(Registry& registry);
void AddMultiEventSaves(Registry& registry);
void AddLoads(Registry& registry);
void AddHistories(Registry& registry);
void AddMixed(Registry& registry);
void AddContention(Registry& registry);
void AddChains(Registry& registry);
void AddMemory(Registry& registry);

Registry AllScenarios();

}  // namespace persistd::bench
