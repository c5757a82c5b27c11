// A repository over a real nats-server, or several over one, as several daemons would be. For tests of one thread.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "server/base/clock.h"
#include "server/base/executor.h"
#include "server/base/future.h"
#include "server/base/uuid.h"
#include "server/jetstream/api.h"
#include "server/jetstream/connection.h"
#include "server/repository/repository.h"
#include "tests/testing/must.h"
#include "tests/testing/nats_server.h"

namespace persistd::repository {

using std::chrono_literals::operator""h;
using std::chrono_literals::operator""min;
using std::chrono_literals::operator""s;
using std::chrono_literals::operator""ms;

// One for all test cases of a program, which use aggregates of their own.
inline testing::NatsServer& Nats() {
  static const std::unique_ptr<testing::NatsServer> nats = testing::Must(testing::NatsServer::Start({}));
  return *nats;
}

inline domain::AggregateRef Order(std::string id) {
  return {.context = "sales", .aggregate = "order", .entity_id = std::move(id)};
}

inline SaveEvent NewEvent(std::string type, std::string data = "{}") {
  SaveEvent event;
  event.event.event_id = base::NewUuidV7(base::Clock::System().WallNow());
  event.event.type = std::move(type);
  event.event.payload = {.content_type = "application/json", .data = std::move(data)};
  event.event.time = base::Clock::System().WallNow();
  return event;
}

inline SaveCommand Command(domain::AggregateRef ref, std::optional<uint64_t> expected, size_t events = 1) {
  SaveCommand command;
  command.ref = std::move(ref);
  if (expected.has_value()) command.expectation = {.kind = Expectation::Kind::kExact, .version = *expected};
  for (size_t i = 0; i < events; ++i) {
    command.events.push_back(NewEvent("happened", std::string("{\"n\":") + std::to_string(i) + "}"));
  }
  return command;
}

inline SaveCommand WithId(SaveCommand command, std::string request_id) {
  command.request_id = std::move(request_id);
  return command;
}

inline std::string FreshId() { return base::NewUuidV7(base::Clock::System().WallNow()); }

class TestRepository {
 public:
  explicit TestRepository(const std::string& url, RepositoryOptions options = {},
                          const base::Clock* clock = &base::Clock::System())
      : writes_(
            ConnectTo(url), [](jetstream::RawConnection&) { return absl::OkStatus(); }, &executor_),
        reads_(
            ConnectTo(url), [](jetstream::RawConnection&) { return absl::OkStatus(); }, &executor_) {
    writes_.Start();
    reads_.Start();
    repository_ = Repository::Create(std::move(options), {.writes = &writes_, .reads = &reads_}, &executor_, clock);
    const base::SteadyTime give_up = In(20s);
    while (!(writes_.status().ok() && reads_.status().ok()) && base::Clock::System().SteadyNow() < give_up) {
      BlockOnSleep(5ms);
    }
    testing::Must(writes_.status());
    testing::Must(reads_.status());
  }

  ~TestRepository() {
    writes_.Stop();
    reads_.Stop();
    executor_.Stop();
  }

  static base::SteadyTime In(std::chrono::milliseconds time) { return base::Clock::System().SteadyNow() + time; }

  absl::StatusOr<SaveResult> Save(SaveCommand command, std::chrono::milliseconds timeout = 20s) {
    return base::BlockOn(repository_->Save(std::move(command), In(timeout)));
  }
  absl::StatusOr<LoadResult> Load(const domain::AggregateRef& ref, Consistency consistency = Consistency::kStrong,
                                  std::chrono::milliseconds timeout = 20s) {
    return Load(LoadCommand{.ref = ref, .consistency = consistency}, timeout);
  }
  absl::StatusOr<LoadResult> Load(LoadCommand command, std::chrono::milliseconds timeout = 20s) {
    return base::BlockOn(repository_->Load(std::move(command), In(timeout)));
  }
  absl::StatusOr<LoadResult> LoadVersion(const domain::AggregateRef& ref, uint64_t version) {
    return Load(LoadCommand{.ref = ref, .at = version});
  }
  absl::StatusOr<LoadResult> LoadAsOf(const domain::AggregateRef& ref, base::WallTime as_of) {
    return Load(LoadCommand{.ref = ref, .at = as_of});
  }
  absl::StatusOr<AggregateInfo> Info(const domain::AggregateRef& ref) {
    return base::BlockOn(repository_->Info(ref, In(20s)));
  }
  // All events of a history.
  absl::StatusOr<std::vector<Event>> History(HistoryQuery query) {
    auto events = std::make_shared<std::vector<Event>>();
    const EventSink sink = [events](Event event) -> base::Task<bool> {
      events->push_back(std::move(event));
      co_return true;
    };
    const absl::Status status = base::BlockOn(repository_->History(std::move(query), sink, In(120s)));
    if (!status.ok()) return status;
    return std::move(*events);
  }

  Repository& repository() { return *repository_; }
  jetstream::Connection& writes() { return writes_; }
  base::Executor& executor() { return executor_; }

 private:
  static jetstream::ConnectOptions ConnectTo(const std::string& url) {
    jetstream::ConnectOptions options;
    options.urls = {url};
    return options;
  }
  void BlockOnSleep(std::chrono::milliseconds time) {
    auto wait = [](base::Future<bool> future) -> base::Task<bool> { co_return co_await future; };
    base::BlockOn(wait(executor_.Sleep(In(time))));
  }

  base::Executor executor_{"test-timer"};
  jetstream::Connection writes_;
  jetstream::Connection reads_;
  std::unique_ptr<Repository> repository_;
};

// Publishes a message as it is, and answers with its sequence.
inline uint64_t PublishRaw(jetstream::Connection& connection, const jetstream::OutgoingMessage& message) {
  const auto request = [&]() -> base::Task<absl::StatusOr<jetstream::Message>> {
    base::Future<absl::StatusOr<jetstream::Message>> answer = connection.Request(message, TestRepository::In(20s));
    co_return co_await answer;
  };
  const jetstream::Message answer = testing::Must(base::BlockOn(request()));
  const jetstream::ApiAnswer parsed = testing::Must(jetstream::ParseApiAnswer(answer.data));
  if (parsed.error.has_value()) testing::Must(absl::InternalError(parsed.error->ToString()));
  return jetstream::UnsignedField(parsed.body, "seq");
}

}  // namespace persistd::repository
