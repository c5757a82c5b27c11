// Writers that save to a few aggregates through any of several daemons, and settle every outcome.
//
// Each save is repeated with its request id, each time on a random daemon, until it is acknowledged or refused. Its
// events say which save they belong to, so that the stored history can be checked without knowing what was sent.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "client/cpp/client.h"
#include "tests/fault/ledger.h"

namespace persistd::fault {

struct WorkloadOptions {
  std::vector<std::string> addresses;  // Of the daemons.
  uint64_t seed = 0;
  int writers = 16;
  int aggregates = 4;
  int saves_per_writer = 30;
  int max_events = 5;
  std::chrono::milliseconds call_timeout{10'000};
  std::chrono::milliseconds settle_timeout{60'000};  // For one save with all its repeats.
  int replicas = 1;                                  // That answers must name.
};

// The owner's methods belong to one thread.
class Workload {
 public:
  explicit Workload(WorkloadOptions options);
  ~Workload();  // Waits for the writers.

  void Start();
  // Waits until all saves are settled.
  void Join();

  size_t total() const { return static_cast<size_t>(options_.writers * options_.saves_per_writer); }
  const Ledger& ledger() const { return ledger_; }

  // Everything that is wrong: what writers noticed, and where the data stored differs from what they were told, seen
  // through each of the daemons. Empty: every acknowledged save is there exactly once and whole, no other is, versions
  // have no gaps, states are those of the last save that had one, and all daemons tell the same.
  std::vector<std::string> FindProblems() const;

 private:
  void Write(int writer);
  void Settle(const std::vector<client::Client>& clients, class Random& random, SaveRecord record,
              cim::persistence::v1::SaveRequest request, uint64_t& known_version);

  const WorkloadOptions options_;
  Ledger ledger_;
  std::vector<std::thread> threads_;
};

// The aggregates that a workload writes to.
cim::persistence::v1::AggregateRef WorkloadRef(size_t aggregate);

// For REQUIRE: "" when there are none.
std::string Join(const std::vector<std::string>& problems);

}  // namespace persistd::fault
