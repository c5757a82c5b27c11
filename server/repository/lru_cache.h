// A map by aggregate that forgets what was used longest ago, bounded by entries and bytes. Thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <optional>
#include <utility>

#include "server/base/mutex.h"
#include "server/domain/aggregate_ref.h"

namespace persistd::repository {

// What a cache holds, and what it was good for since the start.
struct CacheStats {
  uint64_t entries = 0;
  uint64_t bytes = 0;
  uint64_t hits = 0;
  uint64_t misses = 0;
  uint64_t evictions = 0;  // Dropped for want of room.
  uint64_t outdated = 0;   // Dropped because another daemon saved.
};

template <typename Value>
class LruCache {
 public:
  struct Options {
    size_t max_entries = 0;
    size_t max_bytes = 0;
  };

  explicit LruCache(Options options) : options_(options) {}

  std::optional<Value> Get(const domain::AggregateRef& ref) {
    base::MutexLock lock(mutex_);
    const auto found = index_.find(ref);
    if (found == index_.end()) {
      ++misses_;
      return std::nullopt;
    }
    ++hits_;
    entries_.splice(entries_.begin(), entries_, found->second);
    return found->second->value;
  }

  // bytes: what the value takes. A value larger than the whole cache is not kept.
  void Put(const domain::AggregateRef& ref, Value value, size_t bytes) {
    base::MutexLock lock(mutex_);
    EraseLocked(ref);
    if (bytes > options_.max_bytes || options_.max_entries == 0) return;
    entries_.push_front(Entry{.ref = ref, .value = std::move(value), .bytes = bytes});
    index_.emplace(ref, entries_.begin());
    bytes_ += bytes;
    while (entries_.size() > options_.max_entries || bytes_ > options_.max_bytes) {
      const domain::AggregateRef oldest = entries_.back().ref;
      EraseLocked(oldest);
      ++evictions_;
    }
  }

  void Erase(const domain::AggregateRef& ref) {
    base::MutexLock lock(mutex_);
    EraseLocked(ref);
  }

  // Drops the aggregate's value if `is_outdated` says so of it.
  template <typename Predicate>
  void EraseOutdated(const domain::AggregateRef& ref, Predicate is_outdated) {
    base::MutexLock lock(mutex_);
    const auto found = index_.find(ref);
    if (found == index_.end() || !is_outdated(std::as_const(found->second->value))) return;
    EraseLocked(ref);
    ++outdated_;
  }

  CacheStats stats() const {
    base::MutexLock lock(mutex_);
    return {.entries = entries_.size(),
            .bytes = bytes_,
            .hits = hits_,
            .misses = misses_,
            .evictions = evictions_,
            .outdated = outdated_};
  }

  size_t size() const {
    base::MutexLock lock(mutex_);
    return entries_.size();
  }

 private:
  struct Entry {
    domain::AggregateRef ref;
    Value value;
    size_t bytes;
  };

  void EraseLocked(const domain::AggregateRef& ref) REQUIRES(mutex_) {
    const auto found = index_.find(ref);
    if (found == index_.end()) return;
    bytes_ -= found->second->bytes;
    entries_.erase(found->second);
    index_.erase(found);
  }

  const Options options_;
  mutable base::Mutex mutex_;
  std::list<Entry> entries_ GUARDED_BY(mutex_);  // Most recently used first.
  std::map<domain::AggregateRef, typename std::list<Entry>::iterator> index_ GUARDED_BY(mutex_);
  size_t bytes_ GUARDED_BY(mutex_) = 0;
  uint64_t hits_ GUARDED_BY(mutex_) = 0;
  uint64_t misses_ GUARDED_BY(mutex_) = 0;
  uint64_t evictions_ GUARDED_BY(mutex_) = 0;
  uint64_t outdated_ GUARDED_BY(mutex_) = 0;
};

}  // namespace persistd::repository
