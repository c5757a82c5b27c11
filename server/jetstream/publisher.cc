#include "server/jetstream/publisher.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/base/uuid.h"
#include "server/domain/errors.h"
#include "server/jetstream/api.h"

namespace persistd::jetstream {
namespace {

using Kind = PublishOutcome::Kind;

PublishOutcome Outcome(Kind kind, absl::Status status) {
  return PublishOutcome{.kind = kind, .last_sequence = 0, .conflicting_sequence = 0, .status = std::move(status)};
}

// `wrong last sequence: 12` names 12.
uint64_t NamedSequence(absl::string_view description) {
  uint64_t sequence = 0;
  const size_t colon = description.rfind(": ");
  if (colon == absl::string_view::npos || !absl::SimpleAtoi(description.substr(colon + 2), &sequence)) return 0;
  return sequence;
}

// What an error of the server says about the messages it answers. Numbers from nats-server's errors.json.
PublishOutcome InterpretError(const ApiError& error, const std::string& stream) {
  const std::string what = absl::StrCat("stream ", stream, ": ", error.ToString());
  switch (error.err_code) {
    case kErrWrongLastSequence: {
      PublishOutcome conflict = Outcome(Kind::kConflict, absl::AbortedError(what));
      conflict.conflicting_sequence = NamedSequence(error.description);
      return conflict;
    }
    case kErrWrongLastSequenceInFlight:
      return Outcome(Kind::kConflict, absl::AbortedError(what));
    case 10002:  // Insufficient resources (account or server limits).
    case 10023:
    case 10028:
    case 10047:  // Insufficient storage resources.
    case 10077:  // The store refused: its limits, or the disk is full.
      return Outcome(Kind::kRefused, domain::StorageFull(what));
    case 10054:  // Over the stream's or the server's message size.
    case 10097:  // Headers over 64 KiB.
    case 10199:  // Batch too large.
      return Outcome(Kind::kRefused, domain::StorageUnsuitable(what));
    case 10109:  // Sealed.
    case 10165:  // A time to live that is none.
    case 10166:  // Times to live are off.
    case 10174:  // Atomic publish is off.
    case 10177:  // Unsupported header in a batch.
    case 10185:  // Required API level.
    case 10198:  // A mirror.
      return Outcome(Kind::kRefused, domain::StorageUnsuitable(what));
    case 10158:  // Message id in process.
    case 10167:  // Too many requests.
    case 10210:  // Too many batches in flight.
      return Outcome(Kind::kNotStored, domain::Overloaded(what));
    case 10008:  // JetStream temporarily unavailable.
    case 10176:  // Batch incomplete: a part of it was lost or came too late.
    case kErrStreamNotFound:
      return Outcome(Kind::kNotStored, domain::NatsUnavailable(what));
    default:
      // A number this code does not know may stand for anything.
      return Outcome(Kind::kUnknown, absl::UnknownError(what));
  }
}

// What the server says of messages that it has stored. nullopt: it says something else. Each save has one to read, so
// no tree is built of it.
struct Stored {
  std::string stream;
  uint64_t sequence = 0;
  std::string batch;
  uint64_t count = 0;
};

class StoredReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  bool null() override { return depth_ == 1; }
  bool boolean(bool) override { return depth_ == 1; }
  bool number_integer(int64_t) override { return depth_ == 1; }
  bool number_unsigned(uint64_t value) override {
    if (key_ == "seq") stored.sequence = value;
    if (key_ == "count") stored.count = value;
    return depth_ == 1;
  }
  bool number_float(double, const std::string&) override { return depth_ == 1; }
  bool string(std::string& value) override {
    if (key_ == "stream") stored.stream = value;
    if (key_ == "batch") stored.batch = value;
    return depth_ == 1;
  }
  bool binary(nlohmann::json::binary_t&) override { return false; }
  // Errors are objects inside of the answer: ParseApiAnswer is for those.
  bool start_object(size_t) override { return ++depth_ == 1; }
  bool key(std::string& name) override {
    key_ = name;
    return true;
  }
  bool end_object() override {
    --depth_;
    return true;
  }
  bool start_array(size_t) override { return false; }
  bool end_array() override { return false; }
  bool parse_error(size_t, const std::string&, const nlohmann::json::exception&) override { return false; }

  Stored stored;

 private:
  int depth_ = 0;
  std::string key_;
};

std::optional<Stored> ParseStored(const std::string& data) {
  StoredReader reader;
  if (!nlohmann::json::sax_parse(data, &reader)) return std::nullopt;
  return std::move(reader.stored);
}

}  // namespace

PublishOutcome InterpretAnswer(const std::string& data, const std::string& stream, const std::string& batch_id,
                               size_t count) {
  const std::optional<Stored> stored = ParseStored(data);
  if (!stored.has_value()) {
    const absl::StatusOr<ApiAnswer> answer = ParseApiAnswer(data);
    if (!answer.ok()) return Outcome(Kind::kUnknown, answer.status());
    if (answer->error.has_value()) return InterpretError(*answer->error, stream);
    return Outcome(Kind::kUnknown, absl::UnknownError(absl::StrCat("stream ", stream, " answered with ", data)));
  }
  if (stored->stream != stream || stored->sequence == 0) {
    return Outcome(Kind::kUnknown,
                   absl::UnknownError(absl::StrCat("stored in stream ", stored->stream, ", not ", stream)));
  }
  if (count > 1 && (stored->batch != batch_id || stored->count != count)) {
    return Outcome(Kind::kUnknown,
                   absl::UnknownError(absl::StrCat("stream ", stream, " did not take the whole batch")));
  }
  return PublishOutcome{
      .kind = Kind::kStored, .last_sequence = stored->sequence, .conflicting_sequence = 0, .status = absl::OkStatus()};
}

void AddCheck(const ExpectedLast& check, OutgoingMessage& message) {
  message.headers.Add("Nats-Expected-Last-Subject-Sequence", absl::StrCat(check.last_sequence));
  message.headers.Add("Nats-Expected-Last-Subject-Sequence-Subject", check.filter);
}

base::Task<PublishOutcome> Publisher::Publish(std::string stream, std::vector<const OutgoingMessage*> messages,
                                              base::SteadyTime deadline) {
  const size_t count = messages.size();
  const std::string batch_id = count > 1 ? base::NewUuidV7(base::Clock::System().WallNow()) : "";
  absl::StatusOr<Message> answer = co_await connection_->RequestBatch(messages, batch_id, deadline);
  if (!answer.ok()) {
    if (absl::IsUnknown(answer.status())) co_return Outcome(Kind::kUnknown, answer.status());
    if (absl::IsOutOfRange(answer.status())) {
      co_return Outcome(Kind::kRefused, domain::StorageUnsuitable(answer.status().message()));
    }
    if (absl::IsInvalidArgument(answer.status())) {
      co_return Outcome(Kind::kRefused, domain::Internal(answer.status().message()));
    }
    const bool ours = domain::GetErrorDetail(answer.status()).has_value();
    co_return Outcome(Kind::kNotStored, ours ? answer.status() : domain::NatsUnavailable(answer.status().message()));
  }
  co_return InterpretAnswer(answer->data, stream, batch_id, count);
}

}  // namespace persistd::jetstream
