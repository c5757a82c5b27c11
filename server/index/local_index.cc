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

base::SteadyTime Now() { return base::Clock::System().SteadyNow(); }

bool Has(const IndexStatus& status, const domain::Position& position) {
  return std::all_of(position.streams().begin(), position.streams().end(), [&](const domain::StreamPosition& wanted) {
    const auto found = status.streams.find(wanted.stream);
    return found != status.streams.end() && found->second.incarnation == wanted.incarnation &&
           found->second.sequence >= wanted.sequence;
  });
}

}  // namespace

LocalIndex::LocalIndex(Options options, Indexer* indexer, std::function<void()> nudge, base::Executor* timers)
    : indexer_(indexer),
      nudge_(std::move(nudge)),
      timers_(timers),
      reader_({.path = options.path, .cache_bytes = options.reader_cache_bytes}) {}

LocalIndex::~LocalIndex() { Stop(); }

void LocalIndex::Stop() { executor_.Stop(); }

base::Future<bool> LocalIndex::OnReader() {
  base::Promise<bool> promise;
  executor_.Post([promise] { promise.TrySet(true); });
  return promise.future();
}

void LocalIndex::ReopenIfOther() {
  const uint64_t file = indexer_->status().file;
  if (std::exchange(file_, file) != file) reader_.Reopen();
}

base::Task<absl::Status> LocalIndex::WaitUntilReady(base::SteadyTime deadline) {
  const base::SteadyTime until = std::min(deadline, Now() + kReadyPatience);
  while (!indexer_->status().ready) {
    if (Now() >= until) co_return domain::IndexNotReady("the index is being built");
    co_await timers_->Sleep(std::min(until, Now() + kLookAgain));
  }
  co_return absl::OkStatus();
}

base::Task<absl::Status> LocalIndex::WaitFor(domain::Position position, base::SteadyTime deadline) {
  while (!Has(indexer_->status(), position)) {
    nudge_();
    const bool flushed = co_await indexer_->Flush();
    if (!flushed) co_return domain::ShuttingDown();
    if (Has(indexer_->status(), position)) break;
    if (Now() >= deadline) {
      co_return domain::IndexNotReady(absl::StrCat("it has not reached the position ", position.ToToken()));
    }
    co_await timers_->Sleep(std::min(deadline, Now() + kLookAgain));
  }
  co_return absl::OkStatus();
}

base::Task<absl::StatusOr<ListPage>> LocalIndex::List(ListQuery query, base::SteadyTime deadline) {
  CO_ASSIGN_OR_RETURN(const CheckedList checked, CheckList(query));
  if (query.at_least.has_value()) CO_RETURN_IF_ERROR(co_await WaitFor(*query.at_least, deadline));
  CO_RETURN_IF_ERROR(co_await WaitUntilReady(deadline));
  // What has come is seen, also when it would be written a little later.
  const bool flushed = co_await indexer_->Flush();
  if (!flushed) co_return domain::ShuttingDown();
  co_await OnReader();
  ReopenIfOther();
  absl::StatusOr<ListPage> page = reader_.Read(query, checked, deadline);
  if (!page.ok()) {
    base::LogWarn("index cannot be read", {{"reason", page.status()}});
    co_return domain::IndexNotReady(absl::IsCancelled(page.status()) ? "reading it takes longer than the call may"
                                                                     : "it cannot be read now");
  }
  co_return page;
}

base::Task<std::optional<uint64_t>> LocalIndex::FirstVersion(domain::AggregateRef ref, std::string commit_id,
                                                             base::SteadyTime /*deadline*/) {
  co_await OnReader();
  ReopenIfOther();
  absl::StatusOr<std::optional<uint64_t>> version = reader_.FirstVersion(ref, commit_id);
  if (!version.ok()) {
    base::LogWarn("index cannot be read", {{"reason", version.status()}});
    reader_.Reopen();
    co_return std::nullopt;
  }
  co_return *version;
}

base::Task<absl::StatusOr<std::vector<repository::MessagePlace>>> LocalIndex::FindBlock(ipld::Cid cid, bool up_to_date,
                                                                                        base::SteadyTime deadline) {
  if (up_to_date) {
    nudge_();
    CO_RETURN_IF_ERROR(co_await WaitUntilReady(deadline));
    const bool flushed = co_await indexer_->Flush();
    if (!flushed) co_return domain::ShuttingDown();
  }
  co_await OnReader();
  ReopenIfOther();
  absl::StatusOr<std::vector<CidSegments::Found>> found = reader_.FindCid(CidKey(cid));
  std::vector<repository::MessagePlace> places;
  if (!found.ok()) {
    base::LogWarn("index cannot be read", {{"reason", found.status()}});
    reader_.Reopen();
    if (up_to_date) co_return domain::IndexNotReady("it cannot be read now");
    co_return places;
  }
  for (CidSegments::Found& one : *found) places.push_back({.stream = std::move(one.stream), .sequence = one.sequence});
  co_return places;
}

}  // namespace persistd::index
