#include "client/cpp/history.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cpp/errors.h"

namespace persistd::client {
namespace {

namespace pb = cim::persistence::v1;

std::unique_ptr<HistoryStream> Open(Stub& stub, const pb::GetHistoryRequest& request, Stub::Deadline deadline) {
  return stub.GetHistory(request, deadline);
}
uint64_t NumberOf(const pb::RecordedEvent& event) { return event.version(); }
uint64_t From(const pb::GetHistoryRequest& request) { return request.from_version(); }
std::optional<uint64_t> To(const pb::GetHistoryRequest& request) {
  return request.has_to_version() ? std::optional(request.to_version()) : std::nullopt;
}
void SetFrom(uint64_t version, pb::GetHistoryRequest& request) { request.set_from_version(version); }
void SetTo(uint64_t version, pb::GetHistoryRequest& request) { request.set_to_version(version); }

std::unique_ptr<ChainStream> Open(Stub& stub, const pb::GetChainRequest& request, Stub::Deadline deadline) {
  return stub.GetChain(request, deadline);
}
uint64_t NumberOf(const pb::GetChainResponse& entry) { return entry.sequence(); }
uint64_t From(const pb::GetChainRequest& request) { return request.from_sequence(); }
std::optional<uint64_t> To(const pb::GetChainRequest& request) {
  return request.has_to_sequence() ? std::optional(request.to_sequence()) : std::nullopt;
}
void SetFrom(uint64_t sequence, pb::GetChainRequest& request) { request.set_from_sequence(sequence); }
void SetTo(uint64_t sequence, pb::GetChainRequest& request) { request.set_to_sequence(sequence); }

}  // namespace

template <typename Call>
ResumingReader<Call>::ResumingReader(std::shared_ptr<Stub> stub, std::shared_ptr<Clock> clock, Options options,
                                     Request request)
    : stub_(std::move(stub)), clock_(std::move(clock)), options_(options), request_(std::move(request)) {}

template <typename Call>
absl::StatusOr<std::optional<typename Call::Item>> ResumingReader<Call>::Next() {
  if (end_.has_value()) return End(*end_);
  const Clock::TimePoint deadline = clock_->Now() + options_.timeout;
  RetryLoop retry(options_.retry, *clock_, deadline);
  while (true) {
    if (stream_ == nullptr) {
      if (Exhausted()) return End(absl::OkStatus());
      stream_ = Open(*stub_, request_, deadline);
      stream_delivered_ = false;
    }
    absl::StatusOr<std::optional<Item>> item = stream_->Next();
    if (item.ok() && item->has_value()) {
      if (absl::Status status = Advance(**item); !status.ok()) return End(std::move(status));
      stream_delivered_ = true;
      return item;
    }
    stream_.reset();
    if (item.ok()) return End(absl::OkStatus());
    // A stream cannot outlive the deadline it was opened with, but a long history or a slow reader may. One that has
    // delivered before is simply opened again; only one that delivers nothing in time is a failure.
    if (absl::IsDeadlineExceeded(item.status()) && stream_delivered_) continue;
    if (!retry.WaitToRetry(item.status())) {
      if (retry.attempts() == 1) return End(item.status());
      return End(Annotate(item.status(), absl::StrCat("after ", retry.attempts(), " attempts")));
    }
  }
}

template <typename Call>
absl::Status ResumingReader<Call>::Advance(const Item& item) {
  const uint64_t number = NumberOf(item);
  const bool continues = request_.reverse() ? number <= To(request_).value_or(UINT64_MAX) : number > From(request_);
  if (number == 0 || !continues) {
    return absl::InternalError(absl::StrCat("the daemon sent version ", number,
                                            ", which does not continue the history (", request_.ShortDebugString(),
                                            ")"));
  }
  returned_any_ = true;
  if (request_.reverse()) {
    SetTo(number - 1, request_);
  } else {
    SetFrom(number, request_);
  }
  return absl::OkStatus();
}

template <typename Call>
bool ResumingReader<Call>::Exhausted() const {
  // Before the first event the request is the caller's, and the daemon is to judge it.
  return returned_any_ && To(request_).value_or(UINT64_MAX) <= From(request_);
}

template <typename Call>
absl::StatusOr<std::optional<typename Call::Item>> ResumingReader<Call>::End(absl::Status status) {
  stream_.reset();
  end_ = std::move(status);
  if (!end_->ok()) return *end_;
  return std::nullopt;
}

template class ResumingReader<HistoryCall>;
template class ResumingReader<ChainCall>;

}  // namespace persistd::client
