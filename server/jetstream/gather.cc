#include "server/jetstream/gather.h"

#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/base/executor.h"
#include "server/base/mutex.h"

namespace persistd::jetstream {
namespace {

constexpr absl::string_view kEndOfBatch = "204";
constexpr absl::string_view kNotFound = "404";

class Gathering {
 public:
  explicit Gathering(Connection* connection) : connection_(*connection) {}

  base::Future<absl::StatusOr<std::vector<Message>>> future() const { return promise_.future(); }

  void Opened(uint64_t channel, base::Executor::TimerId timer) {
    base::MutexLock lock(mutex_);
    channel_ = channel;
    timer_ = timer;
  }

  void Take(Message message) {
    const std::string* status = message.headers.Find("Status");
    if (status == nullptr) {
      base::MutexLock lock(mutex_);
      if (!done_) messages_.push_back(std::move(message));
      return;
    }
    if (*status == kEndOfBatch || *status == kNotFound) {
      Finish(absl::OkStatus());
    } else if (*status == "503") {
      Finish(absl::UnavailableError("no NATS server answers for this stream now"));
    } else {
      const std::string* description = message.headers.Find("Description");
      Finish(absl::UnavailableError(
          absl::StrCat("NATS answered ", *status, " ", description != nullptr ? *description : "")));
    }
  }

  void Finish(absl::Status status) {
    std::vector<Message> messages;
    uint64_t channel;
    base::Executor::TimerId timer;
    {
      base::MutexLock lock(mutex_);
      if (std::exchange(done_, true)) return;
      messages.swap(messages_);
      channel = channel_;
      timer = timer_;
    }
    connection_.CloseChannel(channel);
    connection_.executor().Cancel(timer);
    if (status.ok()) {
      promise_.TrySet(std::move(messages));
    } else {
      promise_.TrySet(std::move(status));
    }
  }

 private:
  Connection& connection_;
  const base::Promise<absl::StatusOr<std::vector<Message>>> promise_;
  base::Mutex mutex_;
  bool done_ GUARDED_BY(mutex_) = false;
  uint64_t channel_ GUARDED_BY(mutex_) = 0;
  base::Executor::TimerId timer_ GUARDED_BY(mutex_);
  std::vector<Message> messages_ GUARDED_BY(mutex_);
};

}  // namespace

base::Future<absl::StatusOr<std::vector<Message>>> Gather(Connection& connection, const OutgoingMessage& request,
                                                          base::SteadyTime deadline) {
  auto gathering = std::make_shared<Gathering>(&connection);
  base::Future<absl::StatusOr<std::vector<Message>>> future = gathering->future();
  Connection::Channel channel;
  channel.on_message = [gathering](Message message) { gathering->Take(std::move(message)); };
  channel.on_lost = [gathering] { gathering->Finish(absl::UnknownError("the connection to NATS was lost")); };
  absl::StatusOr<uint64_t> opened = connection.OpenChannel(std::move(channel));
  if (!opened.ok()) {
    gathering->Finish(opened.status());
    return future;
  }
  const base::Executor::TimerId timer = connection.executor().RunAt(
      deadline, [gathering] { gathering->Finish(absl::UnknownError("no answer from NATS in time")); });
  gathering->Opened(*opened, timer);
  if (absl::Status sent = connection.Send(request, *opened); !sent.ok()) gathering->Finish(std::move(sent));
  return future;
}

}  // namespace persistd::jetstream
