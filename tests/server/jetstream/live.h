// A Connection to a real nats-server, and short ways to ask it. For one thread.
#pragma once

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "server/base/executor.h"
#include "server/base/future.h"
#include "server/base/task.h"
#include "server/jetstream/api.h"
#include "server/jetstream/connection.h"
#include "tests/testing/must.h"
#include "tests/testing/poll.h"

namespace persistd::jetstream {

inline constexpr std::chrono::seconds kPatience{30};

inline base::SteadyTime In(std::chrono::milliseconds wait) { return std::chrono::steady_clock::now() + wait; }

inline ConnectOptions To(const std::string& url) {
  ConnectOptions options;
  options.urls = {url};
  return options;
}

inline absl::Status AnyServer(RawConnection&) { return absl::OkStatus(); }

// Waits for a future.
template <typename T>
T Await(base::Future<T> future) {
  return base::BlockOn([](base::Future<T> inner) -> base::Task<T> { co_return co_await inner; }(std::move(future)));
}

class Live {
 public:
  explicit Live(ConnectOptions options, Connection::Gate gate = AnyServer)
      : executor_("test"), connection_(std::move(options), std::move(gate), &executor_) {
    connection_.Start();
  }

  Connection& connection() { return connection_; }
  base::Executor& executor() { return executor_; }

  // True when the connection was made for the n-th time and stands.
  [[nodiscard]] bool WaitUntilUp(uint64_t n = 1) {
    return persistd::testing::PollUntil([&] { return connection_.connects() >= n && connection_.status().ok(); },
                                        kPatience);
  }
  [[nodiscard]] bool WaitUntilDown() {
    return persistd::testing::PollUntil([&] { return !connection_.status().ok(); }, kPatience);
  }

  absl::StatusOr<Message> Ask(OutgoingMessage message, std::chrono::milliseconds wait = kPatience) {
    return Await(connection_.Request(message, In(wait)));
  }

  // JetStream's API; throws when there is no answer.
  ApiAnswer Api(const std::string& subject, const std::string& body = "") {
    return persistd::testing::Must(
        base::BlockOn(CallApi(connection_, absl::StrCat("$JS.API.", subject), body, In(kPatience))));
  }
  void MakeStream(const nlohmann::json& config) {
    const ApiAnswer answer = Api(absl::StrCat("STREAM.CREATE.", config.at("name").get<std::string>()), config.dump());
    if (answer.error.has_value()) throw std::runtime_error(answer.error->ToString());
  }
  uint64_t CountMessages(const std::string& stream) {
    const ApiAnswer info = Api(absl::StrCat("STREAM.INFO.", stream));
    return UnsignedField(ObjectField(info.body, "state"), "messages");
  }

 private:
  base::Executor executor_;
  Connection connection_;
};

// A stream as persistd makes it for events, for the given subjects.
inline nlohmann::json EventStreamConfig(const std::string& name, const std::string& subjects) {
  return {{"name", name},          {"subjects", nlohmann::json::array({subjects})},
          {"retention", "limits"}, {"storage", "file"},
          {"discard", "new"},      {"allow_direct", true},
          {"allow_atomic", true},  {"deny_delete", true},
          {"deny_purge", true}};
}

}  // namespace persistd::jetstream
