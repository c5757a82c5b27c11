// Verifies all stored histories, again and again, no faster than it may, and remembers what is damaged.
//
// It goes through what the local index lists: all aggregates, deleted ones too, and all named chains. A history has to
// lead up to the last event that the index knows of it, so one whose end was removed is noticed as well. What is found
// is looked at twice, the second time against what the index says then.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cim/persistence/v1/admin.pb.h"
#include "server/base/clock.h"
#include "server/base/executor.h"
#include "server/base/mutex.h"
#include "server/domain/aggregate_ref.h"
#include "server/index/aggregate_list.h"
#include "server/repository/repository.h"

namespace persistd::app {

// Thread-safe; works on a thread of its own.
class Scrubber {
 public:
  struct Options {
    uint64_t rate = 0;                                    // Events a second, at most; 0: never.
    std::string path{};                                   // Of the file that remembers how far it is.
    std::chrono::milliseconds pass_interval{10'000};      // From the start of a pass to that of the next, at least.
    std::chrono::milliseconds patience{5'000};            // Before it goes on after an error.
    std::chrono::milliseconds before_second_look{1'000};  // At what seems damaged.
  };

  // All must outlive it.
  Scrubber(Options options, index::AggregateList* list, repository::Repository* repository, base::Executor* timers,
           const base::Clock* clock);
  ~Scrubber();  // Stops.

  void Start();
  // Returns when the thread has ended. The connections must have been closed, for it waits for their answers, and reads
  // of the index cancelled.
  void Stop();

  cim::persistence::v1::ScrubberInfo info() const;

 private:
  using Damage = std::optional<cim::persistence::v1::ChainBreak>;

  void Loop();
  absl::Status Pass();
  // The page that page_token_ names: all that were not settled before.
  absl::Status CheckPage(const index::ListPage& page);
  absl::StatusOr<index::ListPage> ReadPage(const std::string& page_token);
  // What the index says of it now; nullopt: it does not list it. It was on the page that page_token_ names.
  absl::StatusOr<std::optional<repository::AggregateInfo>> FindListed(const domain::AggregateRef& ref);
  // Skips one that cannot be read again and again.
  absl::Status Check(const repository::AggregateInfo& listed);
  absl::StatusOr<Damage> LookTwice(const repository::AggregateInfo& listed);
  absl::StatusOr<Damage> Verify(const repository::AggregateInfo& listed);
  // Whether the last event that the index knows, which has no CID, is not there any more.
  absl::StatusOr<bool> IsCut(const repository::AggregateInfo& listed);
  void Note(const domain::AggregateRef& ref, const Damage& damage);
  void BeginPass();
  void EndPass();

  // When so many more events may have been read.
  base::SteadyTime After(uint64_t events);
  // False: it is to stop.
  bool WaitUntil(base::SteadyTime until);
  base::Task<bool> SleepUntil(base::SteadyTime until);
  bool stopping() const;

  void Remember();
  void Recall();

  const Options options_;
  index::AggregateList& list_;
  repository::Repository& repository_;
  base::Executor& timers_;
  const base::Clock& clock_;

  // Of its thread, and of the verification that it waits for.
  std::string page_token_{};  // Of the page that comes next.
  base::SteadyTime due_{};
  base::SteadyTime pass_began_{};
  base::SteadyTime remembered_{};
  // Of the page: what was verified or skipped, and what has failed how often.
  std::set<domain::AggregateRef> settled_{};
  std::map<domain::AggregateRef, int> failures_{};
  std::set<domain::AggregateRef> skipped_damaged_{};  // Of the pass.

  mutable base::Mutex mutex_;
  base::CondVar changed_;
  bool stopping_ GUARDED_BY(mutex_) = false;
  cim::persistence::v1::ScrubberInfo info_ GUARDED_BY(mutex_);  // Without `damaged`.
  std::map<domain::AggregateRef, cim::persistence::v1::DamagedHistory> damaged_ GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace persistd::app
