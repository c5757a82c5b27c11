#include "client/cpp/save_stream.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "client/cpp/errors.h"
#include "client/cpp/request_id.h"

namespace persistd::client {

namespace pb = cim::persistence::v1;

namespace {

SaveStream::Response ToResult(pb::SaveStreamResponse& answer) {
  if (answer.has_saved()) return std::move(*answer.mutable_saved());
  if (answer.has_error() && answer.error().code() != 0) return FromWireStatus(answer.error());
  return absl::InternalError("the daemon's answer holds neither a result nor an error");
}

}  // namespace

SaveStream::SaveStream(std::shared_ptr<Stub> stub, std::shared_ptr<Clock> clock, Options options)
    : stub_(std::move(stub)), clock_(std::move(clock)), options_(options), sender_([this] { Run(); }) {}

SaveStream::~SaveStream() {
  {
    std::lock_guard lock(mutex_);
    cancelled_ = true;
    finishing_ = true;
    if (call_ != nullptr) call_->Cancel();
    changed_.notify_all();
  }
  if (sender_.joinable()) sender_.join();
}

void SaveStream::Save(pb::SaveRequest request, Done done) {
  if (request.request_id().empty()) request.set_request_id(NewRequestId());
  absl::Status end;
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return pending_.size() < std::max<size_t>(options_.window, 1) || ended_; });
    if (!ended_) {
      const uint64_t id = next_id_++;
      Pending& pending = pending_[id];
      pending.request.set_id(id);
      pending.request.mutable_save()->Swap(&request);
      pending.done = std::move(done);
      changed_.notify_all();
      return;
    }
    end = end_.ok() ? absl::FailedPreconditionError("the stream is finished") : end_;
  }
  done(end);
}

std::future<SaveStream::Response> SaveStream::Save(pb::SaveRequest request) {
  auto promise = std::make_shared<std::promise<Response>>();
  std::future<Response> future = promise->get_future();
  Save(std::move(request), [promise](Response response) { promise->set_value(std::move(response)); });
  return future;
}

absl::Status SaveStream::Finish() {
  {
    std::lock_guard lock(mutex_);
    finishing_ = true;
    changed_.notify_all();
  }
  if (sender_.joinable()) sender_.join();
  return end_;
}

void SaveStream::Run() {
  std::optional<RetryLoop> retry;
  retry.emplace(options_.retry, *clock_, clock_->Now() + options_.retry.max_elapsed);
  while (true) {
    std::shared_ptr<SaveStreamCall> call = stub_->SaveStream();
    {
      std::unique_lock lock(mutex_);
      next_to_send_ = pending_.empty() ? next_id_ : pending_.begin()->first;
      answered_any_ = false;
      call_ended_ = false;
      call_ = call;
      if (cancelled_) call->Cancel();
    }
    absl::Status status = RunCall(*call);
    bool done = false;
    {
      std::unique_lock lock(mutex_);
      call_.reset();
      if (cancelled_) status = absl::CancelledError("the stream was closed before it was answered");
      done = cancelled_ || (status.ok() && finishing_ && pending_.empty());
      // Each call that got answers begins a new row of attempts.
      if (answered_any_) retry.emplace(options_.retry, *clock_, clock_->Now() + options_.retry.max_elapsed);
    }
    if (done) return FailAll(status);
    if (status.ok()) status = absl::UnavailableError("the daemon ended the stream before it had answered every save");
    if (!retry->WaitToRetry(status)) return FailAll(status);
  }
}

absl::Status SaveStream::RunCall(SaveStreamCall& call) {
  std::thread reader([&] { ReadAnswers(call); });
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return call_ended_ || next_to_send_ < next_id_ || finishing_; });
    if (call_ended_ || next_to_send_ == next_id_) break;
    auto next = pending_.lower_bound(next_to_send_);
    if (next == pending_.end()) {  // The ids up to next_id_ were answered by an earlier call.
      next_to_send_ = next_id_;
      continue;
    }
    const pb::SaveStreamRequest request = next->second.request;
    next_to_send_ = next->first + 1;
    const bool more = ++next != pending_.end();
    lock.unlock();
    const bool sent = call.Write(request, more);
    lock.lock();
    if (!sent) break;
  }
  lock.unlock();
  call.WritesDone();
  reader.join();
  return call.Finish();
}

void SaveStream::ReadAnswers(SaveStreamCall& call) {
  pb::SaveStreamResponse answer;
  while (call.Read(answer)) {
    Done done;
    {
      std::lock_guard lock(mutex_);
      const auto found = pending_.find(answer.id());
      if (found == pending_.end()) continue;
      done = std::move(found->second.done);
    }
    done(ToResult(answer));
    std::lock_guard lock(mutex_);
    pending_.erase(answer.id());
    answered_any_ = true;
    changed_.notify_all();
  }
  std::lock_guard lock(mutex_);
  call_ended_ = true;
  changed_.notify_all();
}

void SaveStream::FailAll(const absl::Status& status) {
  std::map<uint64_t, Pending> left;
  {
    std::lock_guard lock(mutex_);
    left.swap(pending_);
    ended_ = true;
    end_ = status;
    changed_.notify_all();
  }
  for (auto& [id, pending] : left) pending.done(status);
}

}  // namespace persistd::client
