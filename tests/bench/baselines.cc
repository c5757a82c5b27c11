// The raw parts that persistd is made of, measured beside it: publishes, batches and gets by nats.c, and a gRPC echo.

#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cim/persistence/v1/aggregates.pb.h"
#include "server/domain/subject.h"
#include "tests/bench/grpc_calls.h"
#include "tests/bench/save_workload.h"
#include "tests/bench/scenario.h"

namespace persistd::bench {
namespace {

namespace pb = cim::persistence::v1;

// The last event of random aggregates by DIRECT.GET, asked for as persistd asks.
class DirectGets final : public Workload {
 public:
  DirectGets(World* world, RawNats* raw) : raw_(raw), entities_(world->items().size()), random_(world->random()()) {
    request_.subject = absl::StrCat("$JS.API.DIRECT.GET.", EventStream("item"));
  }

  bool Start(uint32_t slot) override {
    const domain::AggregateRef ref{
        .context = kContext, .aggregate = "item", .entity_id = EntityId('p', random_() % entities_)};
    request_.data = absl::StrCat("{\"last_by_subj\":\"", domain::EventFilter(ref), "\"}");
    raw_->Send(request_, slot);
    return true;
  }

  Done Wait() override {
    const RawNats::Answer answer = raw_->Next();
    return {.slot = answer.token, .failure = answer.data.size() == kPayloadBytes ? "" : "a get without a message"};
  }

 private:
  RawNats* const raw_;
  const uint64_t entities_;
  std::mt19937_64 random_;
  jetstream::OutgoingMessage request_;
};

// Adjacent events by DIRECT.GET of a range, asked for as persistd asks.
class DirectRanges final : public Workload {
 public:
  static constexpr uint32_t kMessages = 256;

  DirectRanges(World* world, RawNats* raw)
      : raw_(raw), starts_(world->items().size() - kMessages), random_(world->random()()) {
    request_.subject = absl::StrCat("$JS.API.DIRECT.GET.", EventStream("item"));
  }

  bool Start(uint32_t slot) override {
    request_.data = absl::StrCat("{\"seq\":", 1 + random_() % starts_, ",\"batch\":", kMessages, "}");
    raw_->Send(request_, slot);
    return true;
  }

  Done Wait() override {
    // Those of several ranges do not mix: the server sends one after the other.
    for (uint32_t messages = 0;; ++messages) {
      const RawNats::Answer answer = raw_->Next();
      if (!answer.status_only) continue;
      return {.slot = answer.token, .failure = messages == kMessages ? "" : "a range of another length"};
    }
  }

 private:
  RawNats* const raw_;
  const uint64_t starts_;
  std::mt19937_64 random_;
  jetstream::OutgoingMessage request_;
};

class Echoes final : public Workload {
 public:
  Echoes(World* world, uint32_t slots) : calls_(world->echo_channel(), "/bench.Echo/Echo", slots) {
    grpc::Slice slice(PayloadText());
    request_ = grpc::ByteBuffer(&slice, 1);
  }
  bool Start(uint32_t slot) override {
    calls_.Start(slot, request_);
    return true;
  }
  Done Wait() override { return calls_.Wait(); }

 private:
  UnaryCalls calls_;
  grpc::ByteBuffer request_;
};

LoopOptions Options(const RunOptions& run, uint32_t window, std::vector<NamedProcess> processes) {
  return {.window = window, .time = run.time, .warm_up = run.warm_up, .processes = std::move(processes)};
}

// With SendAsap on and off, half the time each: the faster is the baseline. At one in flight only on, which saves the
// hop to nats.c's flusher thread.
template <typename Make>
Measurement BetterOfBoth(World& world, const RunOptions& run, uint32_t window, Make make) {
  std::array<Measurement, 2> measured;
  for (const bool send_asap : {true, false}) {
    LoopOptions options = Options(run, window, world.processes_with_nats());
    if (window > 1) options.time /= 2;
    if (window == 1 && !send_asap) continue;
    auto workload = make(&world.raw(send_asap));
    measured[send_asap] = RunClosedLoop(*workload, options);
    measured[send_asap].note = send_asap ? "SendAsap on" : "SendAsap off";
  }
  const bool better = measured[1].rate() >= measured[0].rate();
  return measured[better];
}

}  // namespace

void AddBaselines(Registry& registry) {
  for (const uint32_t window : {1u, 8u, 64u, 256u}) {
    registry.Add(Probe{.name = absl::StrCat("raw.publish.", window),
                       .what = absl::StrCat("nats.c publishes of the same saves, ", window, " in flight"),
                       .run = [window](World& world, const RunOptions& run) {
                         return BetterOfBoth(world, run, window, [&](RawNats* raw) {
                           return std::make_unique<RawPublishes>(&world, raw, window);
                         });
                       }});
  }
  for (const uint32_t window : {1u, 64u}) {
    registry.Add(Probe{.name = absl::StrCat("raw.get.", window),
                       .what = absl::StrCat("nats.c direct gets of the last event, ", window, " in flight"),
                       .run = [window](World& world, const RunOptions& run) {
                         world.items();
                         return BetterOfBoth(world, run, window,
                                             [&](RawNats* raw) { return std::make_unique<DirectGets>(&world, raw); });
                       }});
  }
  for (const uint32_t window : {1u, 64u}) {
    registry.Add(Probe{.name = absl::StrCat("echo.", window),
                       .what = absl::StrCat("gRPC echo of 256 bytes, ", window, " in flight"),
                       .run = [window](World& world, const RunOptions& run) {
                         Echoes echoes(&world, window);
                         return RunClosedLoop(echoes, Options(run, window, world.processes_with_echo()));
                       }});
  }
  registry.Add(Probe{.name = "raw.batch3",
                     .what = "nats.c, one atomic batch of 3 messages per save, 40 in flight",
                     .run = [](World& world, const RunOptions& run) {
                       RawBatches batches(&world, &world.raw(false), 3);
                       LoopOptions options = Options(run, 40, world.processes_with_nats());
                       options.events_per_operation = 3;
                       return RunClosedLoop(batches, options);
                     }});
  // What the server itself can do: nothing that gathers saves in batches, or reads ranges, can be faster.
  for (const int events : {32, 64, 96, 128, 192, 256}) {
    registry.Add(Probe{.name = absl::StrCat("raw.batch", events, ".1"),
                       .what = absl::StrCat("nats.c, atomic batches of ", events, " messages, one after the other"),
                       .run = [events](World& world, const RunOptions& run) {
                         RawBatches batches(&world, &world.raw(true), events);
                         LoopOptions options = Options(run, 1, world.processes_with_nats());
                         options.events_per_operation = events;
                         Measurement measured = RunClosedLoop(batches, options);
                         measured.note = absl::StrFormat("%.0f events/s", measured.events_rate());
                         return measured;
                       }});
  }
  registry.Add(Probe{.name = "raw.range",
                     .what = absl::StrCat("nats.c direct gets of ", DirectRanges::kMessages, " events, 2 in flight"),
                     .run = [](World& world, const RunOptions& run) {
                       DirectRanges ranges(&world, &world.raw(true));
                       LoopOptions options = Options(run, 2, world.processes_with_nats());
                       options.events_per_operation = DirectRanges::kMessages;
                       Measurement measured = RunClosedLoop(ranges, options);
                       measured.note = absl::StrFormat("%.0f events/s", measured.events_rate());
                       return measured;
                     }});
}

}  // namespace persistd::bench
