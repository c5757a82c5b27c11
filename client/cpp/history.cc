#include "client/cpp/history.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cpp/errors.h"

namespace persistd::client {

namespace pb = cim::persistence::v1;

HistoryReader::HistoryReader(std::shared_ptr<Stub> stub, std::shared_ptr<Clock> clock, Options options,
                             pb::GetHistoryRequest request)
    : stub_(std::move(stub)), clock_(std::move(clock)), options_(options), request_(std::move(request)) {}

absl::StatusOr<std::optional<pb::RecordedEvent>> HistoryReader::Next() {
  if (end_.has_value()) return End(*end_);
  const Clock::TimePoint deadline = clock_->Now() + options_.timeout;
  RetryLoop retry(options_.retry, *clock_, deadline);
  while (true) {
    if (stream_ == nullptr) {
      if (Exhausted()) return End(absl::OkStatus());
      stream_ = stub_->GetHistory(request_, deadline);
      stream_delivered_ = false;
    }
    absl::StatusOr<std::optional<pb::RecordedEvent>> event = stream_->Next();
    if (event.ok() && event->has_value()) {
      if (absl::Status status = Advance(**event); !status.ok()) return End(std::move(status));
      stream_delivered_ = true;
      return event;
    }
    stream_.reset();
    if (event.ok()) return End(absl::OkStatus());
    // A stream cannot outlive the deadline it was opened with, but a long history or a slow reader may. One that has
    // delivered before is simply opened again; only one that delivers nothing in time is a failure.
    if (absl::IsDeadlineExceeded(event.status()) && stream_delivered_) continue;
    if (!retry.WaitToRetry(event.status())) {
      if (retry.attempts() == 1) return End(event.status());
      return End(Annotate(event.status(), absl::StrCat("after ", retry.attempts(), " attempts")));
    }
  }
}

absl::Status HistoryReader::Advance(const pb::RecordedEvent& event) {
  const uint64_t version = event.version();
  const bool continues = request_.reverse() ? !request_.has_to_version() || version <= request_.to_version()
                                            : version > request_.from_version();
  if (version == 0 || !continues) {
    return absl::InternalError(absl::StrCat("the daemon sent version ", version,
                                            ", which does not continue the history (", request_.ShortDebugString(),
                                            ")"));
  }
  returned_any_ = true;
  if (request_.reverse()) {
    request_.set_to_version(version - 1);
  } else {
    request_.set_from_version(version);
  }
  return absl::OkStatus();
}

bool HistoryReader::Exhausted() const {
  // Before the first event the request is the caller's, and the daemon is to judge it.
  return returned_any_ && request_.has_to_version() && request_.to_version() <= request_.from_version();
}

absl::StatusOr<std::optional<pb::RecordedEvent>> HistoryReader::End(absl::Status status) {
  stream_.reset();
  end_ = std::move(status);
  if (!end_->ok()) return *end_;
  return std::nullopt;
}

}  // namespace persistd::client
