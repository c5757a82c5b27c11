// Runs the chosen scenarios in one mode: every probe that a chosen target needs, one after the other, and that as often
// as asked for, so that a slow minute of the machine meets all of them alike.
#pragma once

#include <string>
#include <vector>

#include "tests/bench/scenario.h"

namespace persistd::bench {

struct RunPlan {
  std::vector<Mode> modes = {Mode::kR1};
  std::vector<std::string> filters = {};  // Parts of names of targets and probes; empty: all.
  int runs = 5;
  bool large = false;
  RunOptions options = {};
  World::Options world = {};
};

struct ProbeResult {
  const Probe* probe = nullptr;
  std::vector<Measurement> runs;
};

struct TargetResult {
  const Target* target = nullptr;
  std::vector<double> figures;  // One for each run.

  double median() const { return Median(figures); }
  // Against floor or goal; true when there is none.
  bool reaches(double bound) const {
    return bound == 0 || (target->less_is_better ? median() <= bound : median() >= bound);
  }
};

struct ModeResult {
  Mode mode = Mode::kR1;
  std::vector<ProbeResult> probes;
  std::vector<TargetResult> targets;
};

// The results point into `registry`. Failed operations are reported in the measurements, so is a probe that cannot be
// measured at all: it has one failure and no operations. Throws when the servers do not start.
ModeResult RunMode(const Registry& registry, const RunPlan& plan, Mode mode);

}  // namespace persistd::bench
