// Measures persistd beside the raw parts that it is made of: README.md.

#include <exception>
#include <iostream>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "tests/bench/report.h"
#include "tests/bench/runner.h"
#include "tests/bench/supervisor.h"

namespace persistd::bench {
namespace {

constexpr char kUsage[] = R"(usage: bench [OPTION]...

Starts nats-server, persistd and an echo server of its own, measures, and removes their data again.

  --mode LIST      of r1, r1-always, r3, separated by commas; default r1
  --filter LIST    only targets and probes whose names contain one of these, and what they need; =NAME: exactly that one
  --list           print the names of targets and probes
  --quick          2 s per measurement and 1 run, in place of 5 s and 5 interleaved runs
  --runs N         interleaved runs; results are their medians
  --seconds N      per measurement
  --entities N     aggregates that exist before saves are measured; default 100000
  --large [N]      also what needs a stream of N events (default 10000000, which takes minutes and 10 GB of disk)
  --set KEY=VALUE  more configuration of persistd; can be repeated
  --json           print JSON
  --markdown       print Markdown
  --help           print this

Data is stored under $TEST_TMPDIR, else /tmp. Exit code: 0 measured, whatever came out; 1 could not measure, or operations
failed; 2 bad arguments.
)";

struct Arguments {
  RunPlan plan;
  Format format = Format::kText;
  bool list = false;
  bool help = false;
};

bool ParseModes(const std::string& text, std::vector<Mode>& modes) {
  modes.clear();
  for (const absl::string_view name : absl::StrSplit(text, ',')) {
    const size_t before = modes.size();
    for (const Mode mode : {Mode::kR1, Mode::kR1Always, Mode::kR3}) {
      if (name == NameOf(mode)) modes.push_back(mode);
    }
    if (modes.size() == before) return false;
  }
  return true;
}

// An empty text, or what is wrong.
std::string Parse(const std::vector<std::string>& words, Arguments& arguments) {
  RunPlan& plan = arguments.plan;
  plan.options.time = std::chrono::seconds(5);
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    const auto next = [&] { return i + 1 < words.size() ? words[++i] : std::string(); };
    const auto number = [&](uint64_t& into) { return absl::SimpleAtoi(next(), &into) && into > 0; };
    uint64_t value = 0;
    bool ok = true;
    if (word == "--mode") {
      ok = ParseModes(next(), plan.modes);
    } else if (word == "--filter") {
      plan.filters = absl::StrSplit(next(), ',', absl::SkipEmpty());
    } else if (word == "--quick") {
      plan.runs = 1;
      plan.options.time = std::chrono::seconds(2);
    } else if (word == "--runs") {
      ok = number(value);
      plan.runs = static_cast<int>(value);
    } else if (word == "--seconds") {
      ok = number(value);
      plan.options.time = std::chrono::seconds(value);
    } else if (word == "--entities") {
      ok = number(plan.world.entities) && plan.world.entities >= 1000;
    } else if (word == "--large") {
      plan.large = true;
      if (i + 1 < words.size() && absl::SimpleAtoi(words[i + 1], &value)) plan.options.large_events = value, ++i;
    } else if (word == "--set") {
      plan.world.sets.push_back(next());
    } else if (word == "--json") {
      arguments.format = Format::kJson;
    } else if (word == "--markdown") {
      arguments.format = Format::kMarkdown;
    } else if (word == "--list") {
      arguments.list = true;
    } else if (word == "--help") {
      arguments.help = true;
    } else {
      ok = false;
    }
    if (!ok) return "bad argument " + word;
  }
  return "";
}

void List(const Registry& registry) {
  std::cout << "targets:\n";
  for (const Target& target : registry.targets()) {
    std::vector<std::string> modes;
    for (const Mode mode : target.modes) modes.emplace_back(NameOf(mode));
    std::cout << "  " << target.name << ": " << target.what << " (" << absl::StrJoin(modes, ", ") << ")\n";
  }
  std::cout << "probes:\n";
  for (const Probe& probe : registry.probes()) std::cout << "  " << probe.name << ": " << probe.what << "\n";
}

int Measure(const Registry& registry, const Arguments& arguments) {
  std::vector<ModeResult> results;
  bool failed = false;
  try {
    for (const Mode mode : arguments.plan.modes) {
      results.push_back(RunMode(registry, arguments.plan, mode));
      for (const ProbeResult& probe : results.back().probes) {
        for (const Measurement& run : probe.runs) failed = failed || run.failures > 0;
      }
    }
  } catch (const std::exception& error) {
    std::cerr << "cannot measure: " << error.what() << std::endl;
    failed = true;
  }
  std::cout << Render(results, arguments.plan, arguments.format) << std::flush;
  return failed ? 1 : 0;
}

int Main(const std::vector<std::string>& words) {
  Arguments arguments;
  if (const std::string wrong = Parse(words, arguments); !wrong.empty()) {
    std::cerr << wrong << "\n" << kUsage;
    return 2;
  }
  const Registry registry = AllScenarios();
  if (arguments.help) {
    std::cout << kUsage;
  } else if (arguments.list) {
    List(registry);
  } else {
    return RunSupervised([&] { return Measure(registry, arguments); });
  }
  return 0;
}

}  // namespace
}  // namespace persistd::bench

int main(int argc, char** argv) { return persistd::bench::Main({argv + 1, argv + argc}); }
