#include "server/index/local_index.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/logging.h"
#include "server/base/status_macros.h"
#include "server/domain/errors.h"
#include "server/index/cid_key.h"

namespace persistd::index {
namespace {

// A stream that has just come needs so long until it is read, and no longer.
constexpr std::chrono::milliseconds kReadyPatience{2000};
constexpr std::chrono::milliseconds kLookAgain{10};
constexpr std::chrono::milliseconds kLookSeldom{500};

base::SteadyTime Now() { return base::Clock::System().SteadyNow(); }

}  // namespace

LocalIndex::LocalIndex(Options options, Indexer* indexer, std::function<void()> nudge, base::Executor* timers)
    : indexer_(indexer),
      nudge_(std::move(nudge)),
      timers_(timers),
      lists_("persistd-list", options),
      hints_("persistd-hint", options) {}

LocalIndex::~LocalIndex() { Stop(); }

void LocalIndex::Cancel() {
  std::list<base::Promise<bool>> flushing;
  {
    base::MutexLock lock(mutex_);
    cancelled_ = true;
    flushing = flushing_;
  }
  for (const base::Promise<bool>& promise : flushing) promise.TrySet(false);
}

void LocalIndex::Stop() {
  Cancel();
  lists_.executor.Stop();
  hints_.executor.Stop();
}

bool LocalIndex::cancelled() const {
  base::MutexLock lock(mutex_);
  return cancelled_;
}

base::Future<bool> LocalIndex::On(Reads& reads, base::SteadyTime deadline) {
  base::Promise<bool> promise;
  const base::Executor::TimerId timer = timers_->RunAt(deadline, [promise] { promise.TrySet(false); });
  reads.executor.Post([promise, timer, timers = timers_] {
    timers->Cancel(timer);
    promise.TrySet(true);
  });
  return promise.future();
}

void LocalIndex::ReopenIfOther(Reads& reads) {
  const uint64_t file = indexer_->status().file;
  if (std::exchange(reads.file, file) != file) reads.reader.Reopen();
}

base::Task<absl::Status> LocalIndex::Flush(base::SteadyTime deadline) {
  base::Promise<bool> promise;
  std::list<base::Promise<bool>>::iterator place;
  {
    base::MutexLock lock(mutex_);
    if (cancelled_) co_return domain::ShuttingDown();
    place = flushing_.insert(flushing_.end(), promise);
  }
  const base::Executor::TimerId timer = timers_->RunAt(deadline, [promise] { promise.TrySet(false); });
  indexer_->Flush(promise);
  const bool flushed = co_await promise.future();
  timers_->Cancel(timer);
  {
    base::MutexLock lock(mutex_);
    flushing_.erase(place);
  }
  if (flushed) co_return absl::OkStatus();
  if (cancelled()) co_return domain::ShuttingDown();
  co_return domain::IndexNotReady(Now() >= deadline ? "writing what has come takes longer than the call may"
                                                    : "it cannot be written now");
}

base::Task<absl::Status> LocalIndex::WaitUntilReady(base::SteadyTime deadline) {
  const base::SteadyTime until = std::min(deadline, Now() + kReadyPatience);
  while (!indexer_->status().ready) {
    if (cancelled()) co_return domain::ShuttingDown();
    if (Now() >= until) co_return domain::IndexNotReady("the index is being built");
    co_await timers_->Sleep(std::min(until, Now() + kLookAgain));
  }
  co_return absl::OkStatus();
}

base::Task<absl::Status> LocalIndex::WaitFor(domain::Position position, base::SteadyTime deadline) {
  // Soon at first: what was just saved is on its way. Each look has all written that has come, which is not cheap.
  std::chrono::milliseconds wait = kLookAgain;
  while (!indexer_->Has(position)) {
    nudge_();
    CO_RETURN_IF_ERROR(co_await Flush(deadline));
    if (indexer_->Has(position)) break;
    if (Now() >= deadline) {
      co_return domain::IndexNotReady(absl::StrCat("it has not reached the position ", position.ToToken()));
    }
    co_await timers_->Sleep(std::min(deadline, Now() + wait));
    wait = std::min(wait * 3 / 2, kLookSeldom);
  }
  co_return absl::OkStatus();
}

base::Task<absl::StatusOr<ListPage>> LocalIndex::List(ListQuery query, base::SteadyTime deadline) {
  CO_ASSIGN_OR_RETURN(const CheckedList checked, CheckList(query));
  if (query.at_least.has_value()) CO_RETURN_IF_ERROR(co_await WaitFor(*query.at_least, deadline));
  CO_RETURN_IF_ERROR(co_await WaitUntilReady(deadline));
  // What has come is seen, also when it would be written a little later.
  CO_RETURN_IF_ERROR(co_await Flush(deadline));
  const bool in_time = co_await On(lists_, deadline);
  if (!in_time) co_return domain::IndexNotReady("other reads of it took all of this call's time");
  ReopenIfOther(lists_);
  absl::StatusOr<ListPage> page = lists_.reader.Read(query, checked, deadline);
  if (!page.ok()) {
    base::LogWarn("index cannot be read", {{"reason", page.status()}});
    if (absl::IsDataLoss(page.status())) indexer_->OnDamage();
    co_return domain::IndexNotReady(absl::IsCancelled(page.status()) ? "reading it takes longer than the call may"
                                                                     : "it cannot be read now");
  }
  co_return page;
}

base::Task<std::optional<uint64_t>> LocalIndex::FirstVersion(domain::AggregateRef ref, std::string commit_id,
                                                             base::SteadyTime deadline) {
  const bool in_time = co_await On(hints_, deadline);
  if (!in_time) co_return std::nullopt;
  ReopenIfOther(hints_);
  absl::StatusOr<std::optional<uint64_t>> version = hints_.reader.FirstVersion(ref, commit_id);
  if (!version.ok()) {
    base::LogWarn("index cannot be read", {{"reason", version.status()}});
    if (absl::IsDataLoss(version.status())) indexer_->OnDamage();
    hints_.reader.Reopen();
    co_return std::nullopt;
  }
  co_return *version;
}

base::Task<absl::StatusOr<std::vector<repository::MessagePlace>>> LocalIndex::FindBlock(ipld::Cid cid, bool up_to_date,
                                                                                        base::SteadyTime deadline) {
  if (up_to_date) {
    nudge_();
    CO_RETURN_IF_ERROR(co_await WaitUntilReady(deadline));
    CO_RETURN_IF_ERROR(co_await Flush(deadline));
  }
  const bool in_time = co_await On(hints_, deadline);
  if (!in_time) co_return domain::IndexNotReady("other reads of it took all of this call's time");
  ReopenIfOther(hints_);
  absl::StatusOr<std::vector<CidSegments::Found>> found = hints_.reader.FindCid(CidKey(cid));
  std::vector<repository::MessagePlace> places;
  if (!found.ok()) {
    base::LogWarn("index cannot be read", {{"reason", found.status()}});
    if (absl::IsDataLoss(found.status())) indexer_->OnDamage();
    hints_.reader.Reopen();
    if (up_to_date) co_return domain::IndexNotReady("it cannot be read now");
    co_return places;
  }
  for (CidSegments::Found& one : *found) places.push_back({.stream = std::move(one.stream), .sequence = one.sequence});
  co_return places;
}

}  // namespace persistd::index
