// What the writers of a workload asked for and what they were told: the claims that the stored data is held against.
//
// Thread-safe. Problems are collected, not asserted, because Catch2's assertions belong to one thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cim/persistence/v1/aggregates.pb.h"
#include "server/base/mutex.h"

namespace persistd::fault {

// One save, once its outcome is settled.
struct SaveRecord {
  size_t aggregate = 0;
  std::string request_id;
  int events = 0;
  bool with_state = false;
  // The answer; absent: refused with a version conflict, so it must not be stored.
  std::optional<cim::persistence::v1::SaveResponse> answer;
};

class Ledger {
 public:
  explicit Ledger(size_t aggregates) : acknowledged_version_(aggregates) {}

  void Add(SaveRecord record);
  // An attempt got no verdict and is repeated. unknown: it may have been stored.
  void CountFailed(bool unknown);
  void Fail(std::string problem);

  // The highest version that any writer was told of so far.
  uint64_t acknowledged_version(size_t aggregate) const;
  size_t settled() const;
  size_t failed() const;
  size_t unknown() const;
  std::vector<SaveRecord> records() const;
  std::vector<std::string> problems() const;

  // False when fewer saves were settled, or attempts had failed, by the timeout.
  [[nodiscard]] bool WaitForSettled(size_t count, std::chrono::milliseconds timeout) const;
  [[nodiscard]] bool WaitForFailed(size_t count, std::chrono::milliseconds timeout) const;

 private:
  mutable base::Mutex mutex_;
  mutable base::CondVar changed_;
  std::vector<SaveRecord> records_ GUARDED_BY(mutex_);
  std::vector<uint64_t> acknowledged_version_ GUARDED_BY(mutex_);
  std::vector<std::string> problems_ GUARDED_BY(mutex_);
  size_t failed_ GUARDED_BY(mutex_) = 0;
  size_t unknown_ GUARDED_BY(mutex_) = 0;  // Of those.
};

}  // namespace persistd::fault
