#include "tests/fault/ledger.h"

#include <algorithm>
#include <utility>

namespace persistd::fault {

void Ledger::Add(SaveRecord record) {
  base::MutexLock lock(mutex_);
  if (record.answer.has_value()) {
    uint64_t& version = acknowledged_version_[record.aggregate];
    version = std::max(version, record.answer->metadata().version());
  }
  records_.push_back(std::move(record));
  changed_.NotifyAll();
}

void Ledger::CountFailed(bool unknown) {
  base::MutexLock lock(mutex_);
  ++failed_;
  if (unknown) ++unknown_;
  changed_.NotifyAll();
}

void Ledger::Fail(std::string problem) {
  base::MutexLock lock(mutex_);
  problems_.push_back(std::move(problem));
}

uint64_t Ledger::acknowledged_version(size_t aggregate) const {
  base::MutexLock lock(mutex_);
  return acknowledged_version_[aggregate];
}

size_t Ledger::settled() const {
  base::MutexLock lock(mutex_);
  return records_.size();
}

size_t Ledger::failed() const {
  base::MutexLock lock(mutex_);
  return failed_;
}

size_t Ledger::unknown() const {
  base::MutexLock lock(mutex_);
  return unknown_;
}

std::vector<SaveRecord> Ledger::records() const {
  base::MutexLock lock(mutex_);
  return records_;
}

std::vector<std::string> Ledger::problems() const {
  base::MutexLock lock(mutex_);
  return problems_;
}

bool Ledger::WaitForSettled(size_t count, std::chrono::milliseconds timeout) const {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  base::MutexLock lock(mutex_);
  while (records_.size() < count) {
    if (!changed_.WaitUntil(mutex_, deadline)) return records_.size() >= count;
  }
  return true;
}

bool Ledger::WaitForFailed(size_t count, std::chrono::milliseconds timeout) const {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  base::MutexLock lock(mutex_);
  while (failed_ < count) {
    if (!changed_.WaitUntil(mutex_, deadline)) return failed_ >= count;
  }
  return true;
}

}  // namespace persistd::fault
