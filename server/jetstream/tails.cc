#include "server/jetstream/tails.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/logging.h"
#include "server/base/status_macros.h"
#include "server/domain/subject.h"
#include "server/jetstream/api.h"
#include "server/jetstream/stream_config.h"

namespace persistd::jetstream {
namespace {

constexpr std::chrono::seconds kApiPatience{5};
constexpr std::chrono::milliseconds kStep{100};  // How late a nudge or a new connection is noticed.
// All tails together keep about so many messages under way, whose headers take about 1 KiB each.
constexpr uint64_t kAllWindows = 8192;
constexpr uint64_t kLeastWindow = 64;
constexpr uint64_t kMostWindow = 1024;

}  // namespace

Tails::Tails(Options options, Connection* connection, base::Executor* executor, TailsSink* sink)
    : options_(std::move(options)), connection_(connection), executor_(executor), sink_(sink) {}

Tails::~Tails() { Stop(); }

void Tails::Start() {
  {
    base::MutexLock lock(mutex_);
    started_ = true;
  }
  base::Spawn(Run());
}

void Tails::Stop() {
  std::map<std::string, std::shared_ptr<Tail>> tails;
  {
    base::MutexLock lock(mutex_);
    stopping_ = true;
    while (started_ && !ended_) ended_changed_.Wait(mutex_);
    tails.swap(tails_);
  }
  for (const auto& [name, tail] : tails) tail->Stop();
}

bool Tails::stopping() const {
  base::MutexLock lock(mutex_);
  return stopping_;
}

void Tails::Nudge() {
  base::MutexLock lock(mutex_);
  nudged_ = true;
}

void Tails::Done(const std::string& stream, uint64_t count) {
  std::shared_ptr<Tail> tail;
  {
    base::MutexLock lock(mutex_);
    const auto found = tails_.find(stream);
    if (found == tails_.end()) return;
    tail = found->second;
  }
  tail->Done(count);
}

void Tails::BeginAgain() {
  std::map<std::string, std::shared_ptr<Tail>> tails;
  {
    base::MutexLock lock(mutex_);
    tails = tails_;
  }
  for (const auto& [name, tail] : tails) tail->BeginAgain();
}

uint64_t Tails::pending(const std::string& stream) const {
  base::MutexLock lock(mutex_);
  const auto found = tails_.find(stream);
  return found == tails_.end() ? 0 : found->second->pending();
}

base::Task<void> Tails::Run() {
  uint64_t asked_on = 0;  // Connection::connects() of the last answer.
  base::SteadyTime look_at = base::Clock::System().SteadyNow();
  while (!stopping() && !connection_->closed()) {
    bool look;
    {
      base::MutexLock lock(mutex_);
      look = std::exchange(nudged_, false);
    }
    const base::SteadyTime now = base::Clock::System().SteadyNow();
    look = (look || now >= look_at || connection_->connects() != asked_on) && connection_->status().ok();
    if (look) {
      const uint64_t connects = connection_->connects();
      absl::StatusOr<std::vector<std::string>> streams = co_await ListStreams();
      if (streams.ok()) {
        asked_on = connects;
        Follow(*streams);
      } else if (connection_->status().ok()) {
        base::LogWarn("event streams cannot be listed", {{"reason", streams.status()}});
      }
      look_at = base::Clock::System().SteadyNow() + options_.look_every;
    }
    co_await executor_->Sleep(base::Clock::System().SteadyNow() + kStep);
  }
  base::MutexLock lock(mutex_);
  ended_ = true;
  ended_changed_.NotifyAll();
}

bool Tails::IsFollowed(const std::string& stream) const {
  return stream == kChainStream || stream == options_.event_stream_name ||
         absl::StartsWith(stream, options_.event_stream_name + "+");
}

base::Task<absl::StatusOr<std::vector<std::string>>> Tails::ListStreams() {
  std::vector<std::string> streams;
  CO_RETURN_IF_ERROR(co_await AddStreams("cim.events.>", streams));
  CO_RETURN_IF_ERROR(co_await AddStreams(domain::kChainSubjects, streams));
  co_return streams;
}

base::Task<absl::Status> Tails::AddStreams(absl::string_view subjects, std::vector<std::string>& streams) {
  uint64_t offset = 0;
  while (true) {
    const std::string body = absl::StrCat("{\"offset\":", offset, ",\"subject\":\"", subjects, "\"}");
    CO_ASSIGN_OR_RETURN(const ApiAnswer answer, co_await CallApi(*connection_, "$JS.API.STREAM.NAMES", body,
                                                                 base::Clock::System().SteadyNow() + kApiPatience));
    if (answer.error.has_value()) co_return absl::UnavailableError(answer.error->ToString());
    const auto names = answer.body.find("streams");
    if (names == answer.body.end() || !names->is_array() || names->empty()) break;
    for (const nlohmann::json& name : *names) {
      if (!name.is_string()) continue;
      const std::string& stream = name.get_ref<const std::string&>();
      const bool listed = std::find(streams.begin(), streams.end(), stream) != streams.end();
      if (IsFollowed(stream) && !listed) streams.push_back(stream);
    }
    offset += names->size();
    if (offset >= UnsignedField(answer.body, "total")) break;
  }
  co_return absl::OkStatus();
}

void Tails::Follow(const std::vector<std::string>& streams) {
  sink_->OnStreams(streams);
  const uint64_t window = std::clamp(kAllWindows / std::max<uint64_t>(1, streams.size()), kLeastWindow, kMostWindow);
  std::vector<std::shared_ptr<Tail>> added;
  {
    base::MutexLock lock(mutex_);
    if (stopping_) return;
    for (const std::string& name : streams) {
      if (tails_.contains(name)) continue;
      const std::shared_ptr<Tail> tail = Tail::Create(
          {.stream = name, .window = window, .heartbeat = options_.heartbeat}, connection_, executor_, sink_);
      tails_.emplace(name, tail);
      added.push_back(tail);
    }
  }
  for (const std::shared_ptr<Tail>& tail : added) tail->Start();
}

}  // namespace persistd::jetstream
