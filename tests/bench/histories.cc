// Whole histories of one aggregate, one at a time: its events adjacent in the stream, or spread evenly over a long one.

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cim/persistence/v1/aggregates.pb.h"
#include "tests/bench/datasets.h"
#include "tests/bench/grpc_calls.h"
#include "tests/bench/scenario.h"

namespace persistd::bench {
namespace {

namespace pb = cim::persistence::v1;

class Histories final : public Workload {
 public:
  Histories(std::shared_ptr<grpc::Channel> channel, const Dataset& dataset, uint64_t which)
      : channel_(std::move(channel)), events_(dataset.options().spread[which]) {
    pb::GetHistoryRequest request;
    request.mutable_ref()->set_context(kContext);
    request.mutable_ref()->set_aggregate(dataset.options().aggregate);
    request.mutable_ref()->set_entity_id(dataset.SpreadId(which));
    request_ = ToBytes(request);
  }

  bool Start(uint32_t slot) override { return slot == 0; }

  Done Wait() override {
    const StreamedAnswers answers = ReadAll(channel_, "/cim.persistence.v1.AggregateService/GetHistory", request_);
    Done done{.slot = 0, .failure = answers.failure};
    if (answers.messages != events_) absl::StrAppend(&done.failure, " a history of ", answers.messages, " events");
    return done;
  }

 private:
  const std::shared_ptr<grpc::Channel> channel_;
  const uint64_t events_;
  grpc::ByteBuffer request_;
};

Measurement MeasureHistory(World& world, const RunOptions& run, const Dataset& dataset, uint64_t which) {
  world.RestartDaemon();
  Histories histories(world.channel(), dataset, which);
  const auto begin = std::chrono::steady_clock::now();
  const Done first = histories.Wait();
  const double first_ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  if (!first.failure.empty()) throw std::runtime_error("a history: " + first.failure);
  Measurement measured =
      RunClosedLoop(histories, {.window = 1,
                                .time = run.time,
                                .warm_up = std::chrono::milliseconds(0),
                                .events_per_operation = static_cast<double>(dataset.options().spread[which]),
                                .processes = world.processes_with_daemon()});
  measured.note = absl::StrFormat("%.0f events/s; the first history took %.0f ms", measured.events_rate(), first_ms);
  return measured;
}

template <typename MakeDataset>
void AddHistory(Registry& registry, const std::string& kind, bool large, MakeDataset make) {
  for (const uint64_t which : {0u, 1u}) {
    const std::string name = absl::StrCat("history.", kind, ".", which == 0 ? 1000 : 10'000);
    registry.Add(Probe{
        .name = name,
        .what = absl::StrCat("GetHistory, events ", kind, ", one at a time"),
        .run = [which, make](World& world,
                             const RunOptions& run) { return MeasureHistory(world, run, make(world, run), which); },
        .large = large});
    registry.Add(Target{.name = name,
                        .what = absl::StrCat("GetHistory, events ", kind, ": events/s"),
                        .probes = {name},
                        .figure = [name](const Measurements& m) { return m.at(name).events_rate(); },
                        .floor = large ? 20'000.0 : 100'000.0,
                        .goal = large ? 50'000.0 : 200'000.0,
                        .unit = "events/s"});
  }
}

}  // namespace

void AddHistories(Registry& registry) {
  AddHistory(registry, "contiguous", false,
             [](World& world, const RunOptions&) -> const Dataset& { return Contiguous(world); });
  AddHistory(registry, "scattered", true,
             [](World& world, const RunOptions& run) -> const Dataset& { return Large(world, run); });
}

}  // namespace persistd::bench
