#include "client/cli/stream_saves.h"

#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "client/cli/messages.h"
#include "client/cpp/request_id.h"

namespace persistd::cli {
namespace {

namespace pb = cim::persistence::v1;
using SteadyClock = std::chrono::steady_clock;

// Counts what becomes of the lines, and tells of it. Thread-safe.
class Tally {
 public:
  explicit Tally(std::ostream& err) : err_(err) {}

  void Add(uint64_t line, const std::string& request_id, const absl::StatusOr<pb::SaveResponse>& answer) {
    std::lock_guard lock(mutex_);
    if (answer.ok()) {
      ++summary_.saved;
      summary_.deduplicated += answer->deduplicated();
      summary_.events += static_cast<uint64_t>(answer->events_size());
    } else {
      CountFailure(line, answer.status().ToString(absl::StatusToStringMode::kWithNoExtraData),
                   client::MayHaveBeenStored(answer.status()) ? request_id : "");
    }
    const auto now = SteadyClock::now();
    if (now < next_progress_) return;
    next_progress_ = now + std::chrono::seconds(1);
    const double seconds = Seconds(now);
    err_ << summary_.saved << " saved, " << summary_.failed << " failed, "
         << static_cast<uint64_t>(static_cast<double>(summary_.saved) / seconds) << "/s" << std::endl;
  }

  void AddUnreadable(uint64_t line, absl::string_view why) {
    std::lock_guard lock(mutex_);
    CountFailure(line, why, "");
  }

  StreamSummary Take() {
    std::lock_guard lock(mutex_);
    summary_.seconds = Seconds(SteadyClock::now());
    return summary_;
  }

 private:
  // request_id: of a save that may be stored all the same.
  void CountFailure(uint64_t line, absl::string_view why, const std::string& request_id) {
    ++summary_.failed;
    err_ << "line " << line << ": " << why;
    if (!request_id.empty()) err_ << " (outcome unknown; repeat it with \"requestId\": \"" << request_id << "\")";
    err_ << std::endl;
  }
  double Seconds(SteadyClock::time_point now) const { return std::chrono::duration<double>(now - start_).count(); }

  std::ostream& err_;
  const SteadyClock::time_point start_ = SteadyClock::now();
  std::mutex mutex_;
  // What follows is guarded by mutex_.
  StreamSummary summary_;
  SteadyClock::time_point next_progress_ = start_ + std::chrono::seconds(1);
};

}  // namespace

StreamSummary StreamSaves(const client::Client& client, size_t window, std::istream& in, std::ostream& err) {
  Tally tally(err);
  const std::unique_ptr<client::SaveStream> stream = client.OpenSaveStream(window);
  std::string text;
  for (uint64_t line = 1; std::getline(in, text); ++line) {
    if (absl::StripAsciiWhitespace(text).empty()) continue;
    absl::StatusOr<pb::SaveRequest> request = SaveRequestFromJson(text);
    if (!request.ok()) {
      tally.AddUnreadable(line, request.status().message());
      continue;
    }
    if (request->request_id().empty()) request->set_request_id(client::NewRequestId());
    const std::string id = request->request_id();
    stream->Save(*std::move(request),
                 [&tally, line, id](const client::SaveStream::Response& answer) { tally.Add(line, id, answer); });
  }
  const absl::Status end = stream->Finish();
  StreamSummary summary = tally.Take();
  summary.end = end;
  return summary;
}

}  // namespace persistd::cli
