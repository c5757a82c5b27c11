#include "server/jetstream/connection.h"

#include <pthread.h>

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/logging.h"
#include "server/domain/errors.h"

namespace persistd::jetstream {
namespace {

constexpr std::chrono::milliseconds kReconnectWait{250};

}  // namespace

Connection::Connection(ConnectOptions options, Gate gate, base::Executor* executor)
    : options_(std::move(options)),
      on_change_([] {}),
      gate_(std::move(gate)),
      executor_(executor),
      status_(domain::NatsUnavailable("not connected to NATS yet")) {}

Connection::~Connection() { Stop(); }

void Connection::Start() {
  thread_ = std::thread([this] { Run(); });
  pthread_setname_np(thread_.native_handle(), "nats-inbox");
}

void Connection::Close() {
  std::shared_ptr<RawConnection> open;
  {
    base::MutexLock lock(mutex_);
    stopping_ = true;
    status_ = domain::ShuttingDown();
    current_ = nullptr;
    open = std::move(open_);
    stop_changed_.NotifyAll();
  }
  if (open != nullptr) open->Close();
}

void Connection::Stop() {
  Close();
  if (thread_.joinable()) thread_.join();
  FailPending(absl::UnknownError("the connection was closed"));
}

bool Connection::closed() const {
  base::MutexLock lock(mutex_);
  return stopping_;
}

base::Future<absl::StatusOr<Message>> Connection::Request(const OutgoingMessage& message, base::SteadyTime deadline) {
  const OutgoingMessage* const one = &message;
  return RequestBatch({&one, 1}, "", deadline);
}

base::Future<absl::StatusOr<Message>> Connection::RequestBatch(std::span<const OutgoingMessage* const> messages,
                                                               std::string_view batch_id, base::SteadyTime deadline) {
  base::Promise<absl::StatusOr<Message>> promise;
  std::shared_ptr<RawConnection> connection;
  absl::Status refused;
  uint64_t token = 0;
  {
    base::MutexLock lock(mutex_);
    connection = current_;
    if (connection == nullptr) {
      refused = status_;
    } else {
      token = next_token_++;
      // Registered before it is sent: the answer may be here before Publish returns.
      pending_.emplace(token, Pending{promise, executor_->RunAt(deadline, [this, token] { TimeOut(token); })});
    }
  }
  if (connection == nullptr) {
    promise.TrySet(refused);
    return promise.future();
  }
  absl::Status sent;
  for (size_t i = 0; i < messages.size() && sent.ok(); ++i)
    sent = connection->CheckSendable(*messages[i], messages.size() > 1);
  for (size_t i = 0; i < messages.size() && sent.ok(); ++i) {
    const bool last = i + 1 == messages.size();
    const BatchPlace place{.id = batch_id, .number = i + 1, .commit = last};
    sent = connection->Publish(*messages[i], last ? token : 0, messages.size() > 1 ? &place : nullptr);
    // The start of a batch went out. Without its end the server drops it, but say no more than is known.
    if (!sent.ok() && i > 0) sent = absl::UnknownError(sent.message());
  }
  if (!sent.ok()) {
    base::Executor::TimerId timer;
    {
      base::MutexLock lock(mutex_);
      const auto found = pending_.find(token);
      if (found != pending_.end()) {
        timer = found->second.timer;
        pending_.erase(found);
      }
    }
    executor_->Cancel(timer);
    promise.TrySet(sent);
  }
  return promise.future();
}

absl::StatusOr<uint64_t> Connection::OpenChannel(Channel channel) {
  auto shared = std::make_shared<const Channel>(std::move(channel));
  base::MutexLock lock(mutex_);
  if (current_ == nullptr) return status_;
  channels_.emplace(next_token_, std::move(shared));
  return next_token_++;
}

absl::Status Connection::Tell(const OutgoingMessage& message) {
  std::shared_ptr<RawConnection> connection;
  {
    base::MutexLock lock(mutex_);
    if (current_ == nullptr) return status_;
    connection = current_;
  }
  if (absl::Status sendable = connection->CheckSendable(message); !sendable.ok()) return sendable;
  return connection->Publish(message, 0);
}

absl::Status Connection::Send(const OutgoingMessage& message, uint64_t channel) {
  std::shared_ptr<RawConnection> connection;
  {
    base::MutexLock lock(mutex_);
    // A channel belongs to the connection that it was opened on: those of an older one are gone.
    if (channels_.contains(channel)) connection = current_;
  }
  if (connection == nullptr) return absl::UnavailableError("the channel is closed");
  if (absl::Status sendable = connection->CheckSendable(message); !sendable.ok()) return sendable;
  return connection->Publish(message, channel);
}

void Connection::CloseChannel(uint64_t channel) {
  base::MutexLock lock(mutex_);
  channels_.erase(channel);
}

void Connection::TimeOut(uint64_t token) {
  base::Promise<absl::StatusOr<Message>> promise;
  {
    base::MutexLock lock(mutex_);
    const auto found = pending_.find(token);
    if (found == pending_.end()) return;
    promise = found->second.promise;
    pending_.erase(found);
  }
  promise.TrySet(absl::UnknownError("no answer from NATS in time"));
}

absl::Status Connection::status() const {
  base::MutexLock lock(mutex_);
  return status_;
}

std::string Connection::server_url() const {
  base::MutexLock lock(mutex_);
  return server_url_;
}

uint64_t Connection::connects() const {
  base::MutexLock lock(mutex_);
  return connects_;
}

void Connection::Run() {
  while (true) {
    absl::StatusOr<std::shared_ptr<RawConnection>> connection = RawConnection::Connect(options_);
    absl::Status refused = connection.status();
    if (refused.ok()) {
      {
        base::MutexLock lock(mutex_);
        if (stopping_) break;
        open_ = *connection;
      }
      refused = gate_(**connection);
    }
    if (refused.ok()) {
      const std::string url = (*connection)->server_url();
      {
        base::MutexLock lock(mutex_);
        if (stopping_) break;
        current_ = *connection;
        status_ = absl::OkStatus();
        server_url_ = url;
        ++connects_;
      }
      base::LogInfo("nats connected", {{"url", url}});
      on_change_();
      (*connection)->Serve([this](Reply reply) { TakeAnswer(std::move(reply)); });
      refused = domain::NatsUnavailable("the connection to NATS is lost");
    } else if (!domain::GetErrorDetail(refused).has_value()) {
      refused = domain::NatsUnavailable(absl::StrCat("cannot connect to NATS: ", refused.message()));
    }
    SetDown(refused);
    connection = absl::UnavailableError("");  // Closes it before the wait.
    if (!WaitBeforeReconnect()) break;
  }
  FailPending(absl::UnknownError("the connection was closed"));
  nats_ReleaseThreadMemory();
}

void Connection::TakeAnswer(Reply reply) {
  Pending pending;
  std::shared_ptr<const Channel> channel;
  {
    base::MutexLock lock(mutex_);
    const auto found = pending_.find(reply.token);
    if (found != pending_.end()) {
      pending = std::move(found->second);
      pending_.erase(found);
    } else if (const auto open = channels_.find(reply.token); open != channels_.end()) {
      channel = open->second;
    } else {
      return;  // It timed out, or was closed, before.
    }
  }
  if (channel != nullptr) {
    channel->on_message(std::move(reply.message));
    return;
  }
  executor_->Cancel(pending.timer);
  if (reply.no_responders) {
    pending.promise.TrySet(absl::UnavailableError("no NATS server answers for this stream now"));
  } else {
    pending.promise.TrySet(std::move(reply.message));
  }
}

void Connection::SetDown(absl::Status why) {
  bool changed;
  {
    base::MutexLock lock(mutex_);
    current_ = nullptr;
    open_ = nullptr;
    if (stopping_) return;
    changed = status_ != why;
    status_ = why;
  }
  if (changed) {
    base::LogWarn("nats disconnected", {{"reason", why}});
    on_change_();
  }
  FailPending(absl::UnknownError("the connection to NATS was lost"));
}

void Connection::FailPending(const absl::Status& status) {
  std::unordered_map<uint64_t, Pending> failed;
  std::unordered_map<uint64_t, std::shared_ptr<const Channel>> lost;
  {
    base::MutexLock lock(mutex_);
    failed.swap(pending_);
    lost.swap(channels_);
  }
  for (auto& [token, pending] : failed) {
    executor_->Cancel(pending.timer);
    pending.promise.TrySet(status);
  }
  for (const auto& [token, channel] : lost) channel->on_lost();
}

bool Connection::WaitBeforeReconnect() {
  base::MutexLock lock(mutex_);
  const base::SteadyTime until = std::chrono::steady_clock::now() + kReconnectWait;
  while (!stopping_) {
    if (!stop_changed_.WaitUntil(mutex_, until)) break;
  }
  return !stopping_;
}

}  // namespace persistd::jetstream
