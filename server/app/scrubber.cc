#include "server/app/scrubber.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cim/persistence/v1/errors.pb.h"
#include "server/base/logging.h"
#include "server/base/replace_file.h"
#include "server/base/status_macros.h"
#include "server/domain/errors.h"
#include "server/domain/subject.h"
#include "server/rpc/chain_mapping.h"
#include "server/rpc/response_mapping.h"

namespace persistd::app {
namespace {

namespace pb = cim::persistence::v1;

constexpr int kPageSize = 200;
constexpr size_t kMostDamaged = 100;
constexpr int kMostFailures = 5;
constexpr int kMostUnavailable = 60;
constexpr std::chrono::seconds kListPatience{60};
// For one history; its reads have deadlines of their own.
constexpr std::chrono::hours kVerifyPatience{24 * 365};
constexpr std::chrono::milliseconds kNap{100};
// What was not read in time is not made up for by more than this.
constexpr std::chrono::seconds kMostArrears{1};
constexpr std::chrono::seconds kRememberEvery{10};

bool HasReason(const absl::Status& status, pb::ErrorReason reason) { return domain::HasReason(status, reason); }

pb::ChainBreak CutEnd(const repository::AggregateInfo& listed, uint64_t version, const std::string& detail) {
  pb::ChainBreak cut;
  cut.set_version(version);
  cut.set_reason(pb::ChainBreak::REASON_TAIL_CUT);
  cut.set_expected(listed.head_cid);
  cut.set_detail(detail);
  cut.mutable_position()->set_token(listed.position.ToToken());
  return cut;
}

}  // namespace

Scrubber::Scrubber(Options options, index::AggregateList* list, repository::Repository* repository,
                   base::Executor* timers, const base::Clock* clock)
    : options_(std::move(options)), list_(*list), repository_(*repository), timers_(*timers), clock_(*clock) {
  base::MutexLock lock(mutex_);
  info_.set_events_per_second(options_.rate);
}

Scrubber::~Scrubber() { Stop(); }

void Scrubber::Start() {
  if (options_.rate == 0) return;
  Recall();
  thread_ = std::thread([this] { Loop(); });
}

void Scrubber::Stop() {
  {
    base::MutexLock lock(mutex_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

bool Scrubber::stopping() const {
  base::MutexLock lock(mutex_);
  return stopping_;
}

pb::ScrubberInfo Scrubber::info() const {
  base::MutexLock lock(mutex_);
  pb::ScrubberInfo info = info_;
  for (const auto& [ref, damaged] : damaged_) *info.add_damaged() = damaged;
  return info;
}

void Scrubber::Loop() {
  while (!stopping()) {
    const absl::Status done = Pass();
    if (stopping()) break;
    const std::string problem = done.ok() ? "" : done.ToString();
    {
      base::MutexLock lock(mutex_);
      const bool starting = HasReason(done, pb::ERROR_REASON_INDEX_NOT_READY);
      if (!problem.empty() && problem != info_.problem() && !starting) {
        base::LogWarn("histories are not verified for the moment", {{"reason", problem}});
      }
      info_.set_problem(problem);
    }
    WaitUntil(done.ok() ? pass_began_ + options_.pass_interval : clock_.SteadyNow() + options_.patience);
  }
  Remember();
}

absl::Status Scrubber::Pass() {
  BeginPass();
  do {
    absl::StatusOr<index::ListPage> page = ReadPage(page_token_);
    if (HasReason(page.status(), pb::ERROR_REASON_INVALID_FIELD) && !page_token_.empty()) {
      page_token_.clear();  // Of an earlier version of persistd.
      page = ReadPage(page_token_);
    }
    RETURN_IF_ERROR(page.status());
    RETURN_IF_ERROR(CheckPage(*page));
    page_token_ = page->next_page_token;
    settled_.clear();
    failures_.clear();
    if (clock_.SteadyNow() - remembered_ > kRememberEvery) Remember();
  } while (!page_token_.empty());
  EndPass();
  return absl::OkStatus();
}

absl::Status Scrubber::CheckPage(const index::ListPage& page) {
  absl::Status first_failure;
  for (const repository::AggregateInfo& listed : page.aggregates) {
    if (settled_.count(listed.ref) > 0) continue;
    const absl::Status checked = Check(listed);
    if (stopping()) return absl::CancelledError("stopping");
    if (checked.ok()) {
      settled_.insert(listed.ref);
    } else if (absl::IsUnavailable(checked)) {
      return checked;  // Most likely so it is for all.
    } else {
      first_failure.Update(checked);
    }
  }
  return first_failure;
}

absl::StatusOr<std::optional<repository::AggregateInfo>> Scrubber::FindListed(const domain::AggregateRef& ref) {
  // More may have come before it since, which moves it to a later page.
  std::string page_token = page_token_;
  while (true) {
    ASSIGN_OR_RETURN(const index::ListPage page, ReadPage(page_token));
    for (const repository::AggregateInfo& info : page.aggregates) {
      if (info.ref == ref) return info;
    }
    const bool past = !page.aggregates.empty() && page.aggregates.back().ref.entity_id > ref.entity_id;
    if (past || page.next_page_token.empty()) return std::nullopt;
    page_token = page.next_page_token;
  }
}

absl::StatusOr<index::ListPage> Scrubber::ReadPage(const std::string& page_token) {
  index::ListQuery query;
  query.page_size = kPageSize;
  query.page_token = page_token;
  query.show_deleted = true;
  query.with_chains = true;
  return base::BlockOn(list_.List(std::move(query), clock_.SteadyNow() + kListPatience));
}

absl::Status Scrubber::Check(const repository::AggregateInfo& listed) {
  absl::StatusOr<Damage> damage = LookTwice(listed);
  if (damage.ok()) {
    Note(listed.ref, *damage);
    return absl::OkStatus();
  }
  if (stopping()) return damage.status();
  // While NATS is away all of them fail; but it may be this one alone.
  const int most = absl::IsUnavailable(damage.status()) ? kMostUnavailable : kMostFailures;
  if (++failures_[listed.ref] < most) return damage.status();
  base::LogWarn("history cannot be verified", {{"context", listed.ref.context},
                                               {"aggregate", listed.ref.aggregate},
                                               {"entity_id", listed.ref.entity_id},
                                               {"reason", damage.status()}});
  base::MutexLock lock(mutex_);
  info_.set_histories_skipped(info_.histories_skipped() + 1);
  if (damaged_.count(listed.ref) > 0) skipped_damaged_.insert(listed.ref);
  return absl::OkStatus();
}

absl::StatusOr<Scrubber::Damage> Scrubber::LookTwice(const repository::AggregateInfo& listed) {
  ASSIGN_OR_RETURN(const Damage first, Verify(listed));
  if (!first.has_value()) return first;
  // Its stream may have been replaced, or the index may have taken for saved what was not.
  if (!WaitUntil(clock_.SteadyNow() + options_.before_second_look)) return absl::CancelledError("stopping");
  ASSIGN_OR_RETURN(const std::optional<repository::AggregateInfo> now, FindListed(listed.ref));
  if (!now.has_value()) return Damage();
  return Verify(*now);
}

absl::StatusOr<bool> Scrubber::IsCut(const repository::AggregateInfo& listed) {
  ASSIGN_OR_RETURN(const repository::AggregateInfo there,
                   base::BlockOn(repository_.Info(listed.ref, clock_.SteadyNow() + kListPatience)));
  return there.version < listed.version;
}

absl::StatusOr<Scrubber::Damage> Scrubber::Verify(const repository::AggregateInfo& listed) {
  repository::VerifyCommand command;
  command.ref = listed.ref;
  command.to_version = listed.version;
  command.expected_head_cid = listed.head_cid;
  uint64_t paid = 0;
  repository::VerifyProgressSink sink = [this, &paid](repository::VerifyProgress progress) -> base::Task<bool> {
    // A history that is read twice is counted twice.
    const uint64_t more = progress.verified >= paid ? progress.verified - paid : progress.verified;
    paid = progress.verified;
    co_return co_await SleepUntil(After(more));
  };
  absl::StatusOr<repository::Verification> verification =
      base::BlockOn(repository_.VerifyChain(std::move(command), std::move(sink), clock_.SteadyNow() + kVerifyPatience));
  const absl::Status& status = verification.status();
  pb::ChainVerification result;
  if (verification.ok()) {
    rpc::ToProto(*verification, result);
  } else if (HasReason(status, pb::ERROR_REASON_CORRUPT_DATA)) {
    result.mutable_first_break()->set_reason(pb::ChainBreak::REASON_UNREADABLE);
    result.mutable_first_break()->set_detail(std::string(status.message()));
  } else if (HasReason(status, pb::ERROR_REASON_AGGREGATE_NOT_FOUND)) {
    *result.mutable_first_break() = CutEnd(listed, 1, "none of its events is in the stream any more");
  } else if (HasReason(status, pb::ERROR_REASON_HISTORY_REMOVED)) {
    // Of a truncated one the last event is kept, whatever is removed before it.
    *result.mutable_first_break() = CutEnd(listed, listed.version, "its last event is not in the stream any more");
  } else {
    return status;
  }
  if (listed.head_cid.empty() && !result.has_first_break()) {
    ASSIGN_OR_RETURN(const bool cut, IsCut(listed));
    if (cut) {
      *result.mutable_first_break() = CutEnd(listed, listed.version, "its last event is not in the stream any more");
    }
  }
  const uint64_t events = result.verified() + result.without_cid();
  {
    base::MutexLock lock(mutex_);
    info_.set_histories_verified(info_.histories_verified() + 1);
    info_.set_events_verified(info_.events_verified() + result.verified());
    info_.set_events_without_cid(info_.events_without_cid() + result.without_cid());
  }
  // To look for one costs about as much as an event.
  WaitUntil(After(events > paid ? events - paid : 1));
  if (!result.has_first_break()) return Damage();
  return Damage(result.first_break());
}

void Scrubber::Note(const domain::AggregateRef& ref, const Damage& damage) {
  const base::WallTime now = clock_.WallNow();
  {
    base::MutexLock lock(mutex_);
    const auto known = damaged_.find(ref);
    if (!damage.has_value()) {
      if (known == damaged_.end()) return;
      damaged_.erase(known);
    } else if (known == damaged_.end() && damaged_.size() >= kMostDamaged) {
      info_.set_damaged_not_listed(info_.damaged_not_listed() + 1);
    } else {
      pb::DamagedHistory& listed = damaged_[ref];
      if (domain::IsChain(ref)) {
        listed.set_chain(ref.entity_id);
      } else {
        rpc::ToProto(ref, *listed.mutable_aggregate());
      }
      *listed.mutable_first_break() = *damage;
      if (!listed.has_found_at()) rpc::ToProto(now, *listed.mutable_found_at());
      rpc::ToProto(now, *listed.mutable_confirmed_at());
    }
  }
  const auto tell = damage.has_value() ? base::LogError : base::LogInfo;
  tell(damage.has_value() ? "history is damaged" : "history is whole again",
       {{"context", ref.context},
        {"aggregate", ref.aggregate},
        {"entity_id", ref.entity_id},
        {"version", damage.has_value() ? damage->version() : 0},
        {"reason", damage.has_value() ? pb::ChainBreak::Reason_Name(damage->reason()) : ""},
        {"expected", damage.has_value() ? damage->expected() : ""},
        {"actual", damage.has_value() ? damage->actual() : ""},
        {"position", damage.has_value() ? damage->position().token() : ""},
        {"detail", damage.has_value() ? damage->detail() : ""}});
  Remember();
}

void Scrubber::BeginPass() {
  if (page_token_.empty()) pass_began_ = clock_.SteadyNow();
  base::MutexLock lock(mutex_);
  if (!info_.has_pass_started_at()) rpc::ToProto(clock_.WallNow(), *info_.mutable_pass_started_at());
}

void Scrubber::EndPass() {
  {
    base::MutexLock lock(mutex_);
    // What the index does not list any more has been removed.
    const google::protobuf::Timestamp& started = info_.pass_started_at();
    for (auto it = damaged_.begin(); it != damaged_.end();) {
      const google::protobuf::Timestamp& seen = it->second.confirmed_at();
      const bool gone = skipped_damaged_.count(it->first) == 0 &&
                        std::pair(seen.seconds(), seen.nanos()) < std::pair(started.seconds(), started.nanos());
      it = gone ? damaged_.erase(it) : std::next(it);
    }
    skipped_damaged_.clear();
    info_.set_passes(info_.passes() + 1);
    info_.clear_pass_started_at();
    rpc::ToProto(clock_.WallNow(), *info_.mutable_last_pass_ended_at());
  }
  Remember();
}

base::SteadyTime Scrubber::After(uint64_t events) {
  const auto cost = std::chrono::duration_cast<base::SteadyTime::duration>(
      std::chrono::duration<double>(static_cast<double>(events) / static_cast<double>(options_.rate)));
  due_ = std::max(due_, clock_.SteadyNow() - kMostArrears) + cost;
  return due_;
}

bool Scrubber::WaitUntil(base::SteadyTime until) {
  base::MutexLock lock(mutex_);
  while (!stopping_ && clock_.SteadyNow() < until) changed_.WaitUntil(mutex_, until);
  return !stopping_;
}

base::Task<bool> Scrubber::SleepUntil(base::SteadyTime until) {
  while (!stopping() && clock_.SteadyNow() < until) {
    co_await timers_.Sleep(std::min(until, clock_.SteadyNow() + kNap));
  }
  co_return !stopping();
}

// The file is a convenience: without it a pass begins anew, and damage is found once more.
void Scrubber::Remember() {
  remembered_ = clock_.SteadyNow();
  pb::ScrubberInfo kept = info();
  kept.clear_problem();
  std::string text;
  if (!google::protobuf::util::MessageToJsonString(kept, &text).ok()) return;
  const nlohmann::json file = {{"page_token", page_token_}, {"info", nlohmann::json::parse(text, nullptr, false)}};
  const absl::Status written =
      base::ReplaceFile(options_.path, file.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  if (!written.ok()) base::LogWarn("how far the scrubber is cannot be kept", {{"reason", written}});
}

void Scrubber::Recall() {
  std::ifstream stream(options_.path);
  const nlohmann::json file = nlohmann::json::parse(stream, nullptr, /*allow_exceptions=*/false);
  pb::ScrubberInfo kept;
  const bool good = file.is_object() && file.contains("page_token") && file["page_token"].is_string() &&
                    file.contains("info") &&
                    google::protobuf::util::JsonStringToMessage(file["info"].dump(), &kept).ok();
  if (!good) return;
  page_token_ = file["page_token"].get<std::string>();
  base::MutexLock lock(mutex_);
  info_.set_passes(kept.passes());
  if (kept.has_pass_started_at()) *info_.mutable_pass_started_at() = kept.pass_started_at();
  if (kept.has_last_pass_ended_at()) *info_.mutable_last_pass_ended_at() = kept.last_pass_ended_at();
  for (pb::DamagedHistory& damaged : *kept.mutable_damaged()) {
    domain::AggregateRef ref = {.context = damaged.aggregate().context(),
                                .aggregate = damaged.aggregate().aggregate(),
                                .entity_id = damaged.aggregate().entity_id()};
    if (damaged.history_case() == pb::DamagedHistory::kChain) ref = domain::ChainRef(damaged.chain());
    if (damaged_.size() < kMostDamaged) damaged_.insert_or_assign(std::move(ref), std::move(damaged));
  }
}

}  // namespace persistd::app
