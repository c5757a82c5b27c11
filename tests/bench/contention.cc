// Saves of which every tenth meets a save of the same aggregate by a second daemon: what the others lose by it. Both
// runs do the same work; in the run without contention the second daemon's saves are of other aggregates.

#include <random>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/bench/save_workload.h"
#include "tests/bench/scenario.h"

namespace persistd::bench {
namespace {

namespace pb = cim::persistence::v1;

constexpr uint32_t kWindow = 64;
constexpr uint64_t kOneIn = 10;

class ContendedSaves final : public Workload {
 public:
  ContendedSaves(World* world, bool contended)
      : contended_(contended),
        source_(world, 2 * kWindow, {}),
        random_(world->random()()),
        calls_({world->channel(), world->second_channel()}, "/cim.persistence.v1.AggregateService/Save", 2 * kWindow),
        pairs_(kWindow) {}

  // Slots from kWindow on are the second daemon's saves.
  bool Start(uint32_t slot) override {
    Pair& pair = pairs_[slot];
    pair = {.under_way = 1, .with_rival = random_() % kOneIn == 0};
    pb::SaveRequest& request = source_.Next(slot);
    calls_.Start(slot, ToBytes(request));
    if (!pair.with_rival) return true;
    pair.under_way = 2;
    if (contended_) {
      request.mutable_request_id()->back() = request.request_id().back() == '0' ? '1' : '0';
      calls_.Start(slot + kWindow, ToBytes(request), 1);
    } else {
      calls_.Start(slot + kWindow, ToBytes(source_.Next(slot + kWindow)), 1);
    }
    return true;
  }

  Done Wait() override {
    while (true) {
      Done done = calls_.Wait();
      const bool rival = done.slot >= kWindow;
      const bool conflict = calls_.status(done.slot).error_code() == grpc::StatusCode::ABORTED;
      const uint32_t slot = done.slot % kWindow;
      Pair& pair = pairs_[slot];
      pair.saved = pair.saved || done.failure.empty();
      if (rival && !contended_) source_.Finish(done.slot, done.failure.empty());
      if (!done.failure.empty() && !(conflict && contended_ && pair.with_rival)) pair.failure = done.failure;
      if (--pair.under_way > 0) continue;
      source_.Finish(slot, pair.saved);
      if (!pair.saved && pair.failure.empty()) pair.failure = "two rivals, and none of them saved";
      return {.slot = slot, .failure = pair.failure, .counts = !pair.with_rival || !pair.failure.empty()};
    }
  }

 private:
  struct Pair {
    int under_way = 0;
    bool with_rival = false;
    bool saved = false;
    std::string failure = {};
  };

  const bool contended_;
  SaveSource source_;
  std::mt19937_64 random_;
  UnaryCalls calls_;
  std::vector<Pair> pairs_;
};

}  // namespace

void AddContention(Registry& registry) {
  for (const bool contended : {false, true}) {
    registry.Add(Probe{.name = contended ? "contention.on" : "contention.off",
                       .what = contended ? "Save, 64 in flight, every tenth contended by a second daemon; the others"
                                         : "the same saves, the second daemon's of other aggregates",
                       .run = [contended](World& world, const RunOptions& run) {
                         auto saves = std::make_unique<ContendedSaves>(&world, contended);
                         Measurement measured = RunClosedLoop(*saves, {.window = kWindow,
                                                                       .time = run.time,
                                                                       .warm_up = run.warm_up,
                                                                       .processes = world.processes_with_daemon()});
                         saves = nullptr;
                         world.StopSecondDaemon();
                         return measured;
                       }});
  }
  registry.Add(Target{.name = "contention",
                      .what = "saves that are not contended, while every tenth is, over none contended",
                      .probes = {"contention.on", "contention.off"},
                      .figure = RateOver("contention.on", "contention.off"),
                      .floor = 0.7,
                      .goal = 0.7});
}

}  // namespace persistd::bench
