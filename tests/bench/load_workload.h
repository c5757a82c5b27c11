// Loads of aggregates that are named beforehand, each once.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cim/persistence/v1/aggregates.pb.h"
#include "tests/bench/grpc_calls.h"
#include "tests/bench/world.h"

namespace persistd::bench {

class Loads final : public Workload {
 public:
  struct Options {
    std::string aggregate;
    std::vector<std::string> ids;  // Loaded in this order; then it is over.
    int events = 0;                // That each answer must hold.
    bool state = false;            // Whether each answer must hold a state.
  };

  Loads(std::shared_ptr<grpc::Channel> channel, uint32_t slots, Options options);
  bool Start(uint32_t slot) override;
  Done Wait() override;

 private:
  // Parsing costs the client more than receiving; every so many-th answer is looked at.
  static constexpr uint64_t kLookAtEvery = 64;

  const Options options_;
  UnaryCalls calls_;
  cim::persistence::v1::LoadRequest request_;
  size_t next_ = 0;
  uint64_t answers_ = 0;
};

}  // namespace persistd::bench
