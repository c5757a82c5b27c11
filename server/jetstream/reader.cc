#include "server/jetstream/reader.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/base/rfc3339.h"
#include "server/base/status_macros.h"
#include "server/jetstream/api.h"
#include "server/jetstream/gather.h"
#include "server/jetstream/wire_parser.h"

namespace persistd::jetstream {
namespace {

std::string Query(const nlohmann::json& query) { return query.dump(); }

// Subjects hold nothing that JSON would escape (domain/subject.h).
std::string LastQuery(const std::string& filter) { return absl::StrCat("{\"last_by_subj\":\"", filter, "\"}"); }

std::string SequenceQuery(uint64_t sequence) { return absl::StrCat("{\"seq\":", sequence, "}"); }

}  // namespace

bool IsFromMirror(const Message& message, absl::string_view stream) {
  const std::string* answered_by = message.headers.Find("Nats-Stream");
  return answered_by != nullptr && *answered_by != stream;
}

absl::StatusOr<std::optional<Message>> ParseDirectGet(Message answer) {
  if (const std::string* status = answer.headers.Find("Status")) {
    if (*status == "404") return std::optional<Message>();
    const std::string* description = answer.headers.Find("Description");
    return absl::UnavailableError(
        absl::StrCat("NATS answered ", *status, " ", description != nullptr ? *description : ""));
  }
  const std::string* subject = answer.headers.Find("Nats-Subject");
  const std::string* sequence = answer.headers.Find("Nats-Sequence");
  const std::string* time = answer.headers.Find("Nats-Time-Stamp");
  if (subject == nullptr || sequence == nullptr || time == nullptr || !absl::SimpleAtoi(*sequence, &answer.sequence)) {
    return absl::UnavailableError("NATS answered a direct get without subject, sequence or time");
  }
  answer.subject = *subject;
  answer.time = base::ParseRfc3339(*time).value_or(base::WallTime());
  return std::optional<Message>(std::move(answer));
}

absl::StatusOr<std::optional<Message>> ParseMessageGet(const std::string& data) {
  ASSIGN_OR_RETURN(const ApiAnswer answer, ParseApiAnswer(data));
  if (answer.error.has_value()) {
    if (answer.error->err_code == kErrMessageNotFound) return std::optional<Message>();
    return absl::UnavailableError(answer.error->ToString());
  }
  const nlohmann::json& stored = ObjectField(answer.body, "message");
  Message message;
  std::string headers;
  message.subject = StringField(stored, "subject");
  message.sequence = UnsignedField(stored, "seq");
  if (message.subject.empty() || message.sequence == 0 ||
      !absl::Base64Unescape(StringField(stored, "data"), &message.data) ||
      !absl::Base64Unescape(StringField(stored, "hdrs"), &headers)) {
    return absl::UnavailableError("NATS answered a message get in an unknown form");
  }
  message.headers = ParseHeaders(headers);
  message.time = base::ParseRfc3339(StringField(stored, "time")).value_or(base::WallTime());
  return std::optional<Message>(std::move(message));
}

base::Future<absl::StatusOr<Message>> Reader::Start(const std::string& stream, std::string query, ReadFrom from,
                                                    base::SteadyTime deadline) {
  OutgoingMessage request;
  const bool direct = from == ReadFrom::kAnyReplica;
  request.subject = absl::StrCat(direct ? "$JS.API.DIRECT.GET." : "$JS.API.STREAM.MSG.GET.", stream);
  request.data = std::move(query);
  return connection_->Request(request, deadline);
}

absl::StatusOr<std::optional<Message>> Reader::Finish(absl::StatusOr<Message> answer, const std::string& stream,
                                                      ReadFrom from) {
  absl::Status failed = answer.status();
  if (answer.ok()) {
    absl::StatusOr<std::optional<Message>> message =
        from == ReadFrom::kAnyReplica ? ParseDirectGet(*std::move(answer)) : ParseMessageGet(answer->data);
    if (message.ok()) return message;
    failed = message.status();
  }
  return ReadError(failed, absl::StrCat("reading stream ", stream));
}

base::Future<absl::StatusOr<Message>> Reader::StartGet(const std::string& stream, uint64_t sequence,
                                                       base::SteadyTime deadline, ReadFrom from) {
  return Start(stream, SequenceQuery(sequence), from, deadline);
}

absl::StatusOr<std::optional<Message>> Reader::FinishGet(absl::StatusOr<Message> answer, const std::string& stream,
                                                         ReadFrom from) {
  return Finish(std::move(answer), stream, from);
}

base::Future<absl::StatusOr<std::vector<Message>>> Reader::StartRange(const std::string& stream, uint64_t first,
                                                                      uint64_t count, size_t max_bytes,
                                                                      base::SteadyTime deadline) {
  OutgoingMessage request;
  request.subject = absl::StrCat("$JS.API.DIRECT.GET.", stream);
  request.data = absl::StrCat("{\"seq\":", first, ",\"batch\":", count, ",\"max_bytes\":", max_bytes, "}");
  return Gather(*connection_, request, deadline);
}

base::Future<absl::StatusOr<std::vector<Message>>> Reader::StartNext(const std::string& stream,
                                                                     const std::string& filter, uint64_t first,
                                                                     uint64_t count, size_t max_bytes,
                                                                     base::SteadyTime deadline) {
  OutgoingMessage request;
  request.subject = absl::StrCat("$JS.API.DIRECT.GET.", stream);
  request.data = Query({{"next_by_subj", filter}, {"seq", first}, {"batch", count}, {"max_bytes", max_bytes}});
  return Gather(*connection_, request, deadline);
}

absl::StatusOr<std::vector<Message>> Reader::FinishRange(absl::StatusOr<std::vector<Message>> answers,
                                                         const std::string& stream) {
  const std::string attempt = absl::StrCat("reading stream ", stream);
  if (!answers.ok()) return ReadError(answers.status(), attempt);
  for (Message& answer : *answers) {
    absl::StatusOr<std::optional<Message>> message = ParseDirectGet(std::move(answer));
    if (!message.ok()) return ReadError(message.status(), attempt);
    answer = **std::move(message);  // Without a status it is a message.
  }
  return answers;
}

base::Future<absl::StatusOr<Message>> Reader::StartLast(const std::string& stream, const std::string& filter,
                                                        ReadFrom from, base::SteadyTime deadline) {
  return Start(stream, LastQuery(filter), from, deadline);
}

absl::StatusOr<std::optional<Message>> Reader::FinishLast(absl::StatusOr<Message> answer, const std::string& stream,
                                                          ReadFrom from) {
  return Finish(std::move(answer), stream, from);
}

base::Task<absl::StatusOr<std::optional<Message>>> Reader::Ask(std::string stream, std::string query, ReadFrom from,
                                                               base::SteadyTime deadline) {
  absl::StatusOr<Message> answer = co_await Start(stream, std::move(query), from, deadline);
  co_return Finish(std::move(answer), stream, from);
}

base::Task<absl::StatusOr<std::optional<Message>>> Reader::Get(std::string stream, uint64_t sequence, ReadFrom from,
                                                               base::SteadyTime deadline) {
  return Ask(std::move(stream), SequenceQuery(sequence), from, deadline);
}

base::Task<absl::StatusOr<std::optional<Message>>> Reader::Last(std::string stream, std::string filter, ReadFrom from,
                                                                base::SteadyTime deadline) {
  return Ask(std::move(stream), LastQuery(filter), from, deadline);
}

base::Task<absl::StatusOr<std::optional<Message>>> Reader::Next(std::string stream, std::string filter,
                                                                uint64_t sequence, ReadFrom from,
                                                                base::SteadyTime deadline) {
  return Ask(std::move(stream), Query({{"next_by_subj", filter}, {"seq", sequence}}), from, deadline);
}

}  // namespace persistd::jetstream
