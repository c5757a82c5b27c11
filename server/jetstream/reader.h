// Reads single messages of a stream: by sequence, or the last one of a filter. Never a consumer. Thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/clock.h"
#include "server/base/future.h"
#include "server/base/task.h"
#include "server/jetstream/connection.h"
#include "server/jetstream/message.h"

namespace persistd::jetstream {

// Who answers a read. A direct get may be answered by a replica that is behind, or by a mirror of the stream:
// nats-server lets mirrors of the same account answer for their origin.
enum class ReadFrom { kAnyReplica, kLeader };

// True when a direct get of `stream` was answered by one of its mirrors.
bool IsFromMirror(const Message& message, absl::string_view stream);

class Reader {
 public:
  explicit Reader(Connection* connection) : connection_(connection) {}

  // Sends a get by sequence; pass what the future brings to FinishGet. So many gets can be under way at once.
  base::Future<absl::StatusOr<Message>> StartGet(const std::string& stream, uint64_t sequence,
                                                 base::SteadyTime deadline, ReadFrom from = ReadFrom::kAnyReplica);
  // nullopt: there is no such message (on the replica that answered).
  absl::StatusOr<std::optional<Message>> FinishGet(absl::StatusOr<Message> answer, const std::string& stream,
                                                   ReadFrom from = ReadFrom::kAnyReplica);

  // Sends a get of the `count` messages that follow each other from `first` on; pass what the future brings to
  // FinishRange. The server stops early when they are over `max_bytes`, after one message at least.
  base::Future<absl::StatusOr<std::vector<Message>>> StartRange(const std::string& stream, uint64_t first,
                                                                uint64_t count, size_t max_bytes,
                                                                base::SteadyTime deadline);
  // The same for the first `count` messages from `first` on whose subject matches `filter`.
  base::Future<absl::StatusOr<std::vector<Message>>> StartNext(const std::string& stream, const std::string& filter,
                                                               uint64_t first, uint64_t count, size_t max_bytes,
                                                               base::SteadyTime deadline);
  // Those that there are (on the replica that answered), in order.
  absl::StatusOr<std::vector<Message>> FinishRange(absl::StatusOr<std::vector<Message>> answers,
                                                   const std::string& stream);

  // The same as StartGet and FinishGet for the last message whose subject matches `filter`.
  base::Future<absl::StatusOr<Message>> StartLast(const std::string& stream, const std::string& filter, ReadFrom from,
                                                  base::SteadyTime deadline);
  absl::StatusOr<std::optional<Message>> FinishLast(absl::StatusOr<Message> answer, const std::string& stream,
                                                    ReadFrom from);

  base::Task<absl::StatusOr<std::optional<Message>>> Get(std::string stream, uint64_t sequence, ReadFrom from,
                                                         base::SteadyTime deadline);
  // The last message whose subject matches `filter`.
  base::Task<absl::StatusOr<std::optional<Message>>> Last(std::string stream, std::string filter, ReadFrom from,
                                                          base::SteadyTime deadline);
  // The first message at or after `sequence` whose subject matches `filter`. Walks the stream: slow where messages of
  // the filter are far apart.
  base::Task<absl::StatusOr<std::optional<Message>>> Next(std::string stream, std::string filter, uint64_t sequence,
                                                          ReadFrom from, base::SteadyTime deadline);

 private:
  base::Future<absl::StatusOr<Message>> Start(const std::string& stream, std::string query, ReadFrom from,
                                              base::SteadyTime deadline);
  absl::StatusOr<std::optional<Message>> Finish(absl::StatusOr<Message> answer, const std::string& stream,
                                                ReadFrom from);
  base::Task<absl::StatusOr<std::optional<Message>>> Ask(std::string stream, std::string query, ReadFrom from,
                                                         base::SteadyTime deadline);

  Connection* const connection_;
};

// Parts of the wire formats; for tests.
absl::StatusOr<std::optional<Message>> ParseDirectGet(Message answer);
absl::StatusOr<std::optional<Message>> ParseMessageGet(const std::string& data);

}  // namespace persistd::jetstream
