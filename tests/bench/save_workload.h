// Saves as the targets mean them: half of them of new aggregates, half of existing ones drawn uniformly, each with the
// exact expected version and a UUIDv7 as request_id; never two of one aggregate in flight.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "cim/persistence/v1/aggregates.pb.h"
#include "tests/bench/grpc_calls.h"
#include "tests/bench/world.h"

namespace persistd::bench {

// Makes requests, and keeps account of the versions of the aggregates in `world.items()`.
class SaveSource {
 public:
  struct Options {
    int events = 1;
    bool state = false;
    bool only_new = false;
  };

  SaveSource(World* world, uint32_t slots, Options options);

  // Valid until the next call.
  cim::persistence::v1::SaveRequest& Next(uint32_t slot);
  // The save of the slot has ended.
  void Finish(uint32_t slot, bool saved);

 private:
  static constexpr uint64_t kNew = ~uint64_t{0};

  World* const world_;
  EntityPool& pool_;
  const Options options_;
  std::mt19937_64 random_;
  cim::persistence::v1::SaveRequest request_;
  std::vector<uint64_t> slots_;  // Which aggregate of the pool is saved in the slot, or kNew.
};

class UnarySaves final : public Workload {
 public:
  UnarySaves(World* world, std::shared_ptr<grpc::Channel> channel, uint32_t slots, SaveSource::Options options);
  bool Start(uint32_t slot) override;
  Done Wait() override;

 private:
  SaveSource source_;
  UnaryCalls calls_;
};

// As UnarySaves, over one SaveStream.
class StreamedSaves final : public Workload {
 public:
  StreamedSaves(World* world, std::shared_ptr<grpc::Channel> channel, uint32_t slots, SaveSource::Options options);
  bool Start(uint32_t slot) override;
  Done Wait() override;

 private:
  SaveSource source_;
  cim::persistence::v1::SaveStreamRequest request_;
  BidiCall call_;
};

// The same saves by the raw client: one publish each, with the headers that persistd stores.
class RawPublishes final : public Workload {
 public:
  RawPublishes(World* world, RawNats* raw, uint32_t slots);
  bool Start(uint32_t slot) override;
  Done Wait() override;

 private:
  struct Slot {
    uint64_t number = 0;
    bool fresh = false;
  };

  World* const world_;
  RawNats* const raw_;
  std::mt19937_64 random_;
  const jetstream::OutgoingMessage first_;   // The headers of a first event,
  const jetstream::OutgoingMessage second_;  // and of a later one.
  std::vector<Slot> slots_;
};

// The same by the raw client, each save one atomic batch of `events` messages.
class RawBatches final : public Workload {
 public:
  RawBatches(World* world, RawNats* raw, int events);
  bool Start(uint32_t slot) override;
  Done Wait() override;

 private:
  World* const world_;
  RawNats* const raw_;
  const int events_;
};

}  // namespace persistd::bench
