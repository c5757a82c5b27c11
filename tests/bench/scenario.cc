#include "tests/bench/scenario.h"

namespace persistd::bench {

std::function<double(const Measurements&)> RateOver(std::string probe, std::string baseline) {
  return [probe = std::move(probe), baseline = std::move(baseline)](const Measurements& measurements) {
    return measurements.at(probe).rate() / measurements.at(baseline).rate();
  };
}

std::function<double(const Measurements&)> MedianOver(std::string probe, std::vector<std::string> baselines) {
  return [probe = std::move(probe), baselines = std::move(baselines)](const Measurements& measurements) {
    double sum = 0;
    for (const std::string& baseline : baselines) sum += measurements.at(baseline).p50_us;
    return measurements.at(probe).p50_us / sum;
  };
}

Registry AllScenarios() {
  Registry registry;
  AddBaselines(registry);
  AddSaves(registry);
  AddStreamedSaves(registry);
  AddMultiEventSaves(registry);
  AddLoads(registry);
  AddHistories(registry);
  AddMixed(registry);
  AddContention(registry);
  AddChains(registry);
  AddMemory(registry);
  return registry;
}

}  // namespace persistd::bench
