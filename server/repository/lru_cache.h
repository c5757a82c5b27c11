// A map by aggregate that forgets what was used longest ago, bounded by entries and bytes. Thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/hash/hash.h"
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
    entries_.splice(entries_.begin(), entries_, *found);
    return (*found)->value;
  }

  // bytes: what the value takes. A value larger than the whole cache is not kept.
  void Put(const domain::AggregateRef& ref, Value value, size_t bytes) {
    base::MutexLock lock(mutex_);
    PutLocked(ref, std::move(value), bytes);
  }

  // Whether it holds a value of the aggregate of which `predicate` is true. Does not count as use.
  template <typename Predicate>
  bool Holds(const domain::AggregateRef& ref, Predicate predicate) const {
    base::MutexLock lock(mutex_);
    const auto found = index_.find(ref);
    return found != index_.end() && predicate(std::as_const((*found)->value));
  }

  // Puts the value in, unless `is_current` is true of the one that is there. That one is outdated otherwise.
  template <typename Predicate>
  void PutUnless(const domain::AggregateRef& ref, Value value, size_t bytes, Predicate is_current) {
    base::MutexLock lock(mutex_);
    if (DropUnlessLocked(ref, is_current)) PutLocked(ref, std::move(value), bytes);
  }

  // Drops the aggregate's value, unless `is_current` is true of it.
  template <typename Predicate>
  void EraseUnless(const domain::AggregateRef& ref, Predicate is_current) {
    base::MutexLock lock(mutex_);
    DropUnlessLocked(ref, is_current);
  }

  void Erase(const domain::AggregateRef& ref) {
    base::MutexLock lock(mutex_);
    EraseLocked(index_.find(ref));
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

  using Entries = std::list<Entry>;
  using Place = typename Entries::iterator;

  // By the aggregate, which is kept in the entry alone.
  struct Hash {
    using is_transparent = void;
    size_t operator()(const domain::AggregateRef& ref) const { return absl::Hash<domain::AggregateRef>{}(ref); }
    size_t operator()(const Place& place) const { return (*this)(place->ref); }
  };
  struct Equal {
    using is_transparent = void;
    bool operator()(const Place& a, const Place& b) const { return a->ref == b->ref; }
    bool operator()(const Place& a, const domain::AggregateRef& b) const { return a->ref == b; }
    bool operator()(const domain::AggregateRef& a, const Place& b) const { return a == b->ref; }
  };
  using Index = absl::flat_hash_set<Place, Hash, Equal>;

  void EraseLocked(typename Index::iterator found) REQUIRES(mutex_) {
    if (found == index_.end()) return;
    const Place place = *found;
    bytes_ -= place->bytes;
    index_.erase(found);
    entries_.erase(place);
  }

  void PutLocked(const domain::AggregateRef& ref, Value value, size_t bytes) REQUIRES(mutex_) {
    EraseLocked(index_.find(ref));
    if (bytes > options_.max_bytes || options_.max_entries == 0) return;
    entries_.push_front(Entry{.ref = ref, .value = std::move(value), .bytes = bytes});
    index_.insert(entries_.begin());
    bytes_ += bytes;
    while (entries_.size() > options_.max_entries || bytes_ > options_.max_bytes) {
      EraseLocked(index_.find(std::prev(entries_.end())));
      ++evictions_;
    }
  }

  // False: the value that is there is current.
  template <typename Predicate>
  bool DropUnlessLocked(const domain::AggregateRef& ref, Predicate is_current) REQUIRES(mutex_) {
    const auto found = index_.find(ref);
    if (found == index_.end()) return true;
    if (is_current(std::as_const((*found)->value))) return false;
    EraseLocked(found);
    ++outdated_;
    return true;
  }

  const Options options_;
  mutable base::Mutex mutex_;
  Entries entries_ GUARDED_BY(mutex_);  // Most recently used first.
  Index index_ GUARDED_BY(mutex_);
  size_t bytes_ GUARDED_BY(mutex_) = 0;
  uint64_t hits_ GUARDED_BY(mutex_) = 0;
  uint64_t misses_ GUARDED_BY(mutex_) = 0;
  uint64_t evictions_ GUARDED_BY(mutex_) = 0;
  uint64_t outdated_ GUARDED_BY(mutex_) = 0;
};

}  // namespace persistd::repository
