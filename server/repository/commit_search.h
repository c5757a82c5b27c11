// Finds out whether a save was stored before, by its commit id. Thread-safe.
#pragma once

#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/clock.h"
#include "server/base/task.h"
#include "server/repository/commit_hints.h"
#include "server/repository/commit_window.h"
#include "server/repository/head.h"
#include "server/repository/history.h"
#include "server/repository/repository.h"

namespace persistd::repository {

class CommitSearch {
 public:
  // How far the clock that made a UUIDv7 may be ahead of the clock that recorded its save; the saver holds callers to
  // it.
  static constexpr std::chrono::minutes kClockSkew{5};
  // How many events are searched for an id that carries no time, beside what the hints say.
  static constexpr uint64_t kSearchedEvents = 1000;

  // hints: nullptr when there are none.
  CommitSearch(History* history, CommitHints* hints) : history_(history), hints_(hints) {}

  // The first event of the save with this id, if that save begins at `version`; the only place for a save that expected
  // version - 1. HISTORY_REMOVED: that event is not kept.
  base::Task<absl::StatusOr<std::optional<domain::RecordedEvent>>> At(domain::AggregateRef ref, Head head,
                                                                      std::string commit_id, uint64_t version,
                                                                      base::SteadyTime deadline);

  // The first version of the save with this id, wherever it is; nullopt: it was not stored. Extends `window`, which
  // ends at head.version, as far as it has to look. HISTORY_REMOVED: it may be among events that are not kept.
  base::Task<absl::StatusOr<std::optional<uint64_t>>> Anywhere(domain::AggregateRef ref, Head head,
                                                               std::string commit_id, CommitWindow& window,
                                                               base::SteadyTime deadline);

  // Extends `window` to head.version.
  base::Task<absl::Status> CatchUp(domain::AggregateRef ref, Head head, CommitWindow& window,
                                   base::SteadyTime deadline);

 private:
  // Visits the ends of saves from `last` down to `first`, or to the first one that is kept; the visitor returns false
  // to stop. Answers with the version that it went, or would have gone, down to; last + 1 when nothing of it is kept.
  using CommitVisitor = std::function<bool(const domain::RecordedEvent& end)>;
  base::Task<absl::StatusOr<uint64_t>> VisitCommits(domain::AggregateRef ref, Head head, uint64_t first, uint64_t last,
                                                    CommitVisitor visitor, base::SteadyTime deadline);

  // The first version of the save if the hints know it, and the stream agrees.
  base::Task<absl::StatusOr<std::optional<uint64_t>>> ByHint(domain::AggregateRef ref, Head head, std::string commit_id,
                                                             base::SteadyTime deadline);

  // The answer where the save may be among events that are not kept: it must not be stored again.
  static absl::Status MayBeRemoved(const domain::AggregateRef& ref, const absl::Status& removed);

  History* const history_;
  CommitHints* const hints_;
};

// OK when the stored events, and the labels stored with them, are those that `command` asks to save; otherwise
// REQUEST_ID_REUSED.
absl::Status CheckSameContent(const SaveCommand& command, absl::string_view request_id,
                              const std::vector<Event>& stored, const domain::AggregateLabels& labels);

}  // namespace persistd::repository
