#include "tests/bench/report.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace persistd::bench {
namespace {

using nlohmann::json;

std::string CpuModel() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  }
  return "unknown processor";
}

std::string Machine() { return absl::StrCat(std::thread::hardware_concurrency(), " cores, ", CpuModel()); }

// Enough digits for three that mean something.
std::string Number(double value) {
  return absl::StrFormat(value >= 1000 ? "%.0f" : value >= 10 ? "%.1f" : "%.2f", value);
}

std::string Bound(const Target& target, double bound) {
  return bound == 0 ? "" : absl::StrCat(target.less_is_better ? "<= " : ">= ", Number(bound));
}

const char* Mark(const TargetResult& result) {
  if (result.target->floor == 0) return "";
  if (!result.reaches(result.target->floor)) return "BELOW";
  return result.reaches(result.target->goal) ? "PASS, goal" : "PASS";
}

std::string Spread(const std::vector<double>& figures) {
  if (figures.size() < 2) return "";
  const auto [least, most] = std::minmax_element(figures.begin(), figures.end());
  return absl::StrCat(Number(*least), " to ", Number(*most));
}

using Row = std::vector<std::string>;

std::vector<Row> TargetRows(const ModeResult& result) {
  std::vector<Row> rows = {{"target", "what", "median", "of runs", "unit", "floor", "goal", "mark"}};
  for (const TargetResult& each : result.targets) {
    const Target& target = *each.target;
    rows.push_back({target.name, target.what, Number(each.median()), Spread(each.figures), target.unit,
                    Bound(target, target.floor), Bound(target, target.goal), Mark(each)});
  }
  return rows;
}

std::vector<Row> ProbeRows(const ModeResult& result) {
  std::vector<Row> rows = {
      {"probe", "ops/s", "p50 us", "p99 us", "p99.9 us", "CPU us/op", "CPU cores by process", "peak MiB", "note"}};
  for (const ProbeResult& each : result.probes) {
    const Measurement& run = MedianRun(each.runs);
    std::vector<std::string> cores;
    std::vector<std::string> memory;
    for (const ProcessUse& use : run.processes) {
      cores.push_back(absl::StrFormat("%s %.2f", use.name, use.cpu_seconds / run.seconds));
      memory.push_back(absl::StrFormat("%s %.0f", use.name, use.peak_mib));
    }
    std::string note = run.note;
    if (run.failures > 0)
      absl::StrAppend(&note, note.empty() ? "" : "; ", run.failures, " FAILED: ", run.first_failure);
    rows.push_back({each.probe->name, Number(run.rate()), Number(run.p50_us), Number(run.p99_us), Number(run.p999_us),
                    Number(run.cpu_us_per_operation()), absl::StrJoin(cores, ", "), absl::StrJoin(memory, ", "), note});
  }
  return rows;
}

std::string AsText(const std::vector<Row>& rows) {
  std::vector<size_t> widths(rows.front().size());
  for (const Row& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const Row& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      absl::StrAppend(&line, row[i], std::string(widths[i] - row[i].size() + 2, ' '));
    }
    line.erase(line.find_last_not_of(' ') + 1);
    absl::StrAppend(&text, line, "\n");
  }
  return text;
}

std::string AsMarkdown(const std::vector<Row>& rows) {
  std::string text;
  for (size_t i = 0; i < rows.size(); ++i) {
    absl::StrAppend(&text, "| ", absl::StrJoin(rows[i], " | "), " |\n");
    if (i > 0) continue;
    for (size_t column = 0; column < rows[i].size(); ++column) absl::StrAppend(&text, "|---");
    absl::StrAppend(&text, "|\n");
  }
  return text;
}

json ToJson(const Measurement& run) {
  json processes = json::array();
  for (const ProcessUse& use : run.processes) {
    processes.push_back({{"name", use.name}, {"cpu_seconds", use.cpu_seconds}, {"peak_mib", use.peak_mib}});
  }
  return {{"operations", run.operations},
          {"failures", run.failures},
          {"first_failure", run.first_failure},
          {"seconds", run.seconds},
          {"operations_per_second", run.rate()},
          {"events_per_second", run.events_rate()},
          {"p50_us", run.p50_us},
          {"p99_us", run.p99_us},
          {"p999_us", run.p999_us},
          {"cpu_us_per_operation", run.cpu_us_per_operation()},
          {"processes", std::move(processes)},
          {"figures", run.figures},
          {"note", run.note}};
}

json ToJson(const ModeResult& result) {
  json probes = json::array();
  for (const ProbeResult& each : result.probes) {
    json runs = json::array();
    for (const Measurement& run : each.runs) runs.push_back(ToJson(run));
    probes.push_back({{"name", each.probe->name}, {"what", each.probe->what}, {"runs", std::move(runs)}});
  }
  json targets = json::array();
  for (const TargetResult& each : result.targets) {
    const Target& target = *each.target;
    json entry = {{"name", target.name},
                  {"what", target.what},
                  {"unit", target.unit},
                  {"less_is_better", target.less_is_better},
                  {"runs", each.figures},
                  {"median", each.median()},
                  {"baseline", std::vector<std::string>(target.probes.begin() + 1, target.probes.end())}};
    if (target.floor != 0) {
      entry["floor"] = target.floor;
      entry["goal"] = target.goal;
      entry["floor_reached"] = each.reaches(target.floor);
      entry["goal_reached"] = each.reaches(target.goal);
    }
    targets.push_back(std::move(entry));
  }
  return {{"mode", NameOf(result.mode)}, {"probes", std::move(probes)}, {"targets", std::move(targets)}};
}

}  // namespace

std::string Render(const std::vector<ModeResult>& results, const RunPlan& plan, Format format) {
  if (format == Format::kJson) {
    json modes = json::array();
    for (const ModeResult& result : results) modes.push_back(ToJson(result));
    return json{{"machine", Machine()}, {"runs", plan.runs}, {"modes", std::move(modes)}}.dump(2) + "\n";
  }
  const bool markdown = format == Format::kMarkdown;
  const auto table = [markdown](const std::vector<Row>& rows) { return markdown ? AsMarkdown(rows) : AsText(rows); };
  std::string text =
      absl::StrCat(Machine(), "; ", plan.runs, plan.runs == 1 ? " run of " : " interleaved runs of ",
                   Number(std::chrono::duration<double>(plan.options.time).count()), " s for each measurement\n");
  for (const ModeResult& result : results) {
    absl::StrAppend(&text, "\n", markdown ? "### " : "", "mode ", NameOf(result.mode), "\n\n");
    if (!result.targets.empty()) absl::StrAppend(&text, table(TargetRows(result)), "\n");
    absl::StrAppend(&text, table(ProbeRows(result)));
  }
  return text;
}

}  // namespace persistd::bench
