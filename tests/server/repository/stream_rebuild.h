// What somebody with access to the NATS server can do to a stream: its messages are read, altered, and stored anew in a
// stream of the same name and configuration. For tests.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "server/jetstream/api.h"
#include "server/jetstream/event_codec.h"
#include "server/jetstream/message.h"
#include "server/jetstream/reader.h"
#include "tests/server/repository/repository_fixture.h"
#include "tests/testing/catch.h"
#include "tests/testing/must.h"

namespace persistd::repository {

class StreamRebuild {
 public:
  StreamRebuild(TestRepository* repository, std::string stream)
      : connection_(repository->writes()), stream_(std::move(stream)) {}

  // In the order of the stream, with what NATS adds to headers taken off.
  std::vector<jetstream::Message> ReadAll() {
    jetstream::Reader reader(&connection_);
    std::vector<jetstream::Message> messages;
    for (uint64_t sequence = 1;;) {
      std::optional<jetstream::Message> message = testing::Must(
          base::BlockOn(reader.Next(stream_, ">", sequence, jetstream::ReadFrom::kLeader, TestRepository::In(20s))));
      if (!message.has_value()) return messages;
      sequence = message->sequence + 1;
      jetstream::Headers headers;
      for (const auto& [name, value] : message->headers.fields()) {
        if (name.rfind("Nats-", 0) != 0) headers.Add(name, value);
      }
      message->headers = std::move(headers);
      messages.push_back(*std::move(message));
    }
  }

  // Each message gets its own sequence where that is possible, or else the next one; 0: the next one.
  void Replace(const std::vector<jetstream::Message>& messages) {
    nlohmann::json config = Call("STREAM.INFO." + stream_, "").at("config");
    Call("STREAM.DELETE." + stream_, "");
    nlohmann::json open = config;
    open["deny_delete"] = false;
    Call("STREAM.CREATE." + stream_, open.dump());
    uint64_t next = 1;
    for (const jetstream::Message& message : messages) {
      for (; next < message.sequence; ++next) {
        PublishRaw(connection_, {.subject = message.subject, .headers = {}, .data = "in between"});
        Call("STREAM.MSG.DELETE." + stream_, nlohmann::json{{"seq", next}, {"no_erase", true}}.dump());
      }
      PublishRaw(connection_, {.subject = message.subject, .headers = message.headers, .data = message.data});
      ++next;
    }
    Call("STREAM.UPDATE." + stream_, config.dump());
  }

 private:
  nlohmann::json Call(const std::string& what, const std::string& body) {
    jetstream::ApiAnswer answer =
        testing::Must(base::BlockOn(jetstream::CallApi(connection_, "$JS.API." + what, body, TestRepository::In(20s))));
    if (answer.error.has_value()) FAIL(what << ": " << answer.error->ToString());
    return answer.body;
  }

  jetstream::Connection& connection_;
  const std::string stream_;
};

inline void SetHeader(jetstream::Message& message, const std::string& name, const std::string& value) {
  jetstream::Headers headers;
  for (const auto& [field, old] : message.headers.fields()) {
    if (field != name) headers.Add(field, old);
  }
  if (!value.empty()) headers.Add(name, value);
  message.headers = std::move(headers);
}

}  // namespace persistd::repository
