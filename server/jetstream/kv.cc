#include "server/jetstream/kv.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/logging.h"
#include "server/base/status_macros.h"
#include "server/domain/errors.h"
#include "server/jetstream/api.h"
#include "server/jetstream/kv_bucket.h"
#include "server/jetstream/publisher.h"

namespace persistd::jetstream {
namespace {

using nlohmann::json;

constexpr size_t kListWindow = 32;  // Gets under way at once.
constexpr size_t kListRounds = 8;   // Looks at the keys for one page.
constexpr std::chrono::milliseconds kMissingFor{1000};
constexpr std::chrono::milliseconds kFirstWait{5};
constexpr std::chrono::milliseconds kLongestWait{250};
constexpr std::chrono::milliseconds kFirstAttempt{2000};
constexpr absl::string_view kOperation = "KV-Operation";
constexpr absl::string_view kMarkerReason = "Nats-Marker-Reason";  // The server's own tombstones.

absl::Status CreateError(const ApiError& error, absl::string_view what) {
  const std::string text = absl::StrCat(what, ": ", error.ToString());
  switch (error.err_code) {
    case kErrSubjectOverlap:
    case 10052:  // The configuration is not one that this server takes.
    case 10074:  // Replicas > 1 without a cluster.
      return domain::StorageUnsuitable(text);
    case 10023:
    case 10027:  // The account's max_streams.
    case 10028:
    case 10047:
      return domain::StorageFull(text);
    default:
      return domain::NatsUnavailable(text);
  }
}

// Without those that are for, or from, the server.
std::vector<std::pair<std::string, std::string>> OwnHeaders(const Headers& headers) {
  std::vector<std::pair<std::string, std::string>> own;
  for (const auto& field : headers.fields()) {
    if (!absl::StartsWith(field.first, "Nats-")) own.push_back(field);
  }
  return own;
}

// What a missing answer to a write means, as the answer itself would be interpreted.
PublishOutcome NoAnswer(const absl::Status& status) {
  PublishOutcome outcome;
  outcome.status = status;
  if (absl::IsUnknown(status)) return outcome;
  if (absl::IsOutOfRange(status) || absl::IsInvalidArgument(status)) {
    outcome.kind = PublishOutcome::Kind::kRefused;
    outcome.status =
        absl::IsOutOfRange(status) ? domain::StorageUnsuitable(status.message()) : domain::Internal(status.message());
    return outcome;
  }
  outcome.kind = PublishOutcome::Kind::kNotStored;
  if (!domain::GetErrorDetail(status).has_value()) outcome.status = domain::NatsUnavailable(status.message());
  return outcome;
}

}  // namespace

Kv::Kv(KvOptions options, Connection* writes, Connection* reads, base::Executor* executor)
    : options_(std::move(options)),
      stream_(StreamOfBucket(options_.bucket)),
      subject_prefix_(absl::StrCat("$KV.", options_.bucket, ".")),
      writes_(writes),
      reads_(reads),
      executor_(executor),
      reader_(reads),
      publisher_(writes) {}

std::string Kv::SubjectOf(absl::string_view key) const { return absl::StrCat(subject_prefix_, key); }

std::optional<KvEntry> Kv::EntryOf(Message message) const {
  if (!absl::StartsWith(message.subject, subject_prefix_)) return std::nullopt;
  KvEntry entry;
  entry.key = message.subject.substr(subject_prefix_.size());
  entry.revision = message.sequence;
  entry.time = message.time;
  const bool deleted = message.headers.Find(kOperation) != nullptr || message.headers.Find(kMarkerReason) != nullptr;
  entry.operation = deleted ? KvEntry::Operation::kDelete : KvEntry::Operation::kPut;
  entry.headers = std::move(message.headers);
  if (!deleted) entry.value = std::move(message.data);
  return entry;
}

void Kv::Forget() {
  base::MutexLock lock(mutex_);
  found_on_ = 0;
}

bool Kv::MissingLately() const {
  base::MutexLock lock(mutex_);
  return base::Clock::System().SteadyNow() - missed_ < kMissingFor;
}

bool Kv::replicated() const {
  base::MutexLock lock(mutex_);
  return replicated_;
}

absl::Status Kv::CheckInfo(const json& info, uint64_t connection) {
  const json& config = ObjectField(info, "config");
  if (const std::string wrong = BucketUnsuitableBecause(config, options_); !wrong.empty()) {
    return domain::StorageUnsuitable(
        absl::StrCat("bucket ", options_.bucket, " exists with settings that do not suit: ", wrong));
  }
  base::MutexLock lock(mutex_);
  found_on_ = connection;
  missed_ = base::SteadyTime();
  replicated_ = UnsignedField(config, "num_replicas") > 1;
  return absl::OkStatus();
}

base::Task<absl::StatusOr<bool>> Kv::Exists(base::SteadyTime deadline) {
  const uint64_t connection = writes_->connects();
  {
    base::MutexLock lock(mutex_);
    if (found_on_ == connection && connection > 0) co_return true;
  }
  const std::string what = absl::StrCat("looking for bucket ", options_.bucket);
  absl::StatusOr<ApiAnswer> answer =
      co_await CallApi(*writes_, absl::StrCat("$JS.API.STREAM.INFO.", stream_), "", deadline);
  if (!answer.ok()) co_return ReadError(answer.status(), what);
  if (!answer->error.has_value()) {
    CO_RETURN_IF_ERROR(CheckInfo(answer->body, connection));
    co_return true;
  }
  if (answer->error->err_code == kErrStreamNotFound) {
    base::MutexLock lock(mutex_);
    missed_ = base::Clock::System().SteadyNow();
    co_return false;
  }
  co_return domain::NatsUnavailable(absl::StrCat(what, ": ", answer->error->ToString()));
}

base::Task<absl::StatusOr<std::optional<Kv::Facts>>> Kv::Look(base::SteadyTime deadline) {
  const std::string what = absl::StrCat("looking at bucket ", options_.bucket);
  absl::StatusOr<ApiAnswer> answer =
      co_await CallApi(*writes_, absl::StrCat("$JS.API.STREAM.INFO.", stream_), "", deadline);
  if (!answer.ok()) co_return ReadError(answer.status(), what);
  if (answer->error.has_value()) {
    if (answer->error->err_code == kErrStreamNotFound) co_return std::optional<Facts>();
    co_return domain::NatsUnavailable(absl::StrCat(what, ": ", answer->error->ToString()));
  }
  const json& config = ObjectField(answer->body, "config");
  const auto age = config.find("max_age");
  Facts facts;
  facts.replicas = static_cast<int>(UnsignedField(config, "num_replicas"));
  facts.on_disk = StringField(config, "storage") == "file" && StringField(config, "persist_mode") != "async";
  facts.for_ever = age == config.end() || (age->is_number() && age->get<int64_t>() <= 0);
  co_return std::optional<Facts>(facts);
}

base::Task<absl::Status> Kv::Ensure(base::SteadyTime deadline) {
  CO_ASSIGN_OR_RETURN(const bool exists, co_await Exists(deadline));
  if (exists) co_return absl::OkStatus();
  co_return co_await MakeBucket(deadline);
}

base::Task<absl::Status> Kv::MakeBucket(base::SteadyTime deadline) {
  const std::string what = absl::StrCat("creating bucket ", options_.bucket);
  const uint64_t connection = writes_->connects();
  std::string body = BucketConfig(options_).dump();
  absl::StatusOr<ApiAnswer> answer =
      co_await CallApi(*writes_, absl::StrCat("$JS.API.STREAM.CREATE.", stream_), std::move(body), deadline);
  if (!answer.ok()) co_return ReadError(answer.status(), what);
  if (!answer->error.has_value()) {
    base::LogInfo("bucket created", {{"bucket", options_.bucket}, {"replicas", options_.replicas}});
    co_return CheckInfo(answer->body, connection);
  }
  if (answer->error->err_code == kErrStreamNameInUse) {
    // Another daemon was faster, with settings that differ from ours but may suit.
    CO_ASSIGN_OR_RETURN(const bool exists, co_await Exists(deadline));
    if (exists) co_return absl::OkStatus();
  }
  co_return CreateError(*answer->error, what);
}

base::Future<absl::StatusOr<Message>> Kv::StartGet(const std::string& key, ReadFrom from, base::SteadyTime deadline) {
  return reader_.StartLast(stream_, SubjectOf(key), from, deadline);
}

absl::StatusOr<std::optional<KvEntry>> Kv::FinishGet(absl::StatusOr<Message> answer, ReadFrom from) const {
  Reader reader(reads_);
  ASSIGN_OR_RETURN(std::optional<Message> message, reader.FinishLast(std::move(answer), stream_, from));
  if (!message.has_value()) return std::optional<KvEntry>();
  return EntryOf(*std::move(message));
}

base::Task<absl::StatusOr<std::optional<KvEntry>>> Kv::Last(std::string key, ReadFrom from, base::SteadyTime deadline) {
  // Most systems never make some of the buckets: reads that may be behind need not ask each time.
  if (from == ReadFrom::kAnyReplica && MissingLately()) co_return std::optional<KvEntry>();
  CO_ASSIGN_OR_RETURN(const bool exists, co_await Exists(deadline));
  if (!exists) co_return std::optional<KvEntry>();
  // Without replicas whoever answers a direct get knows everything, unless it is a mirror, which the answer names.
  const bool direct = from == ReadFrom::kAnyReplica || !replicated();
  if (direct) {
    absl::StatusOr<std::optional<Message>> message =
        co_await reader_.Last(stream_, SubjectOf(key), ReadFrom::kAnyReplica, deadline);
    if (!message.ok()) {
      Forget();
      co_return message.status();
    }
    const bool sure = message->has_value() && !IsFromMirror(**message, stream_);
    if (sure) co_return EntryOf(**std::move(message));
    if (from == ReadFrom::kAnyReplica) {
      if (!message->has_value()) co_return std::optional<KvEntry>();
      co_return EntryOf(**std::move(message));
    }
  }
  absl::StatusOr<std::optional<Message>> message =
      co_await reader_.Last(stream_, SubjectOf(key), ReadFrom::kLeader, deadline);
  if (!message.ok()) {
    Forget();
    co_return message.status();
  }
  if (!message->has_value()) co_return std::optional<KvEntry>();
  co_return EntryOf(**std::move(message));
}

base::Task<absl::StatusOr<std::optional<KvEntry>>> Kv::Get(std::string key, ReadFrom from, base::SteadyTime deadline) {
  absl::StatusOr<std::optional<KvEntry>> entry = co_await Last(std::move(key), from, deadline);
  if (entry.ok() && entry->has_value() && (*entry)->operation == KvEntry::Operation::kDelete) {
    co_return std::optional<KvEntry>();
  }
  co_return entry;
}

OutgoingMessage Kv::Encode(const KvWrite& write) const {
  OutgoingMessage message;
  message.subject = SubjectOf(write.key);
  message.headers = write.headers;
  message.data = write.value;
  if (write.revision.has_value()) {
    message.headers.Add("Nats-Expected-Last-Subject-Sequence", absl::StrCat(*write.revision));
  }
  return message;
}

base::Task<absl::StatusOr<std::optional<uint64_t>>> Kv::FindCopy(const KvWrite& write, base::SteadyTime deadline) {
  CO_ASSIGN_OR_RETURN(const std::optional<KvEntry> entry, co_await Last(write.key, ReadFrom::kLeader, deadline));
  const bool same = entry.has_value() && entry->revision > write.revision.value_or(0) &&
                    entry->operation == write.operation && entry->value == write.value &&
                    OwnHeaders(entry->headers) == OwnHeaders(write.headers);
  co_return same ? std::optional(entry->revision) : std::nullopt;
}

base::Task<absl::StatusOr<uint64_t>> Kv::Send(KvWrite write, base::SteadyTime deadline) {
  std::vector<KvWrite> writes;
  writes.push_back(std::move(write));
  co_return co_await WriteAll(std::move(writes), deadline);
}

base::Task<absl::StatusOr<uint64_t>> Kv::WriteAll(std::vector<KvWrite> writes, base::SteadyTime deadline) {
  std::vector<OutgoingMessage> messages;
  for (const KvWrite& write : writes) {
    if (!IsKvKey(write.key)) co_return domain::Internal(absl::StrCat("not a key: ", write.key));
    messages.push_back(Encode(write));
  }
  std::vector<const OutgoingMessage*> sent;
  for (const OutgoingMessage& message : messages) sent.push_back(&message);
  const std::string what =
      absl::StrCat("writing ", options_.bucket, "/", writes.front().key, writes.size() > 1 ? " and others" : "");
  bool unknown = false;  // A copy may be stored, or be stored later.
  std::chrono::milliseconds wait = kFirstWait;
  std::chrono::milliseconds patience = kFirstAttempt;
  while (true) {
    absl::Status failed = co_await Ensure(deadline);
    if (failed.ok()) {
      const base::SteadyTime now = base::Clock::System().SteadyNow();
      const PublishOutcome outcome = co_await publisher_.Publish(stream_, sent, std::min(deadline, now + patience));
      failed = outcome.status;
      switch (outcome.kind) {
        case PublishOutcome::Kind::kStored:
          co_return outcome.last_sequence;
        case PublishOutcome::Kind::kConflict: {
          if (!unknown) co_return absl::AbortedError(absl::StrCat(what, ": another revision is there"));
          // The last is stored after all others, so it tells of all.
          const absl::StatusOr<std::optional<uint64_t>> copy = co_await FindCopy(writes.back(), deadline);
          if (copy.ok() && copy->has_value()) co_return **copy;
          co_return domain::WriteOutcomeUnknown(what,
                                                copy.ok() ? "others have written since" : copy.status().message());
        }
        case PublishOutcome::Kind::kRefused:
          if (unknown) co_return domain::WriteOutcomeUnknown(what, outcome.status.message());
          co_return outcome.status;
        case PublishOutcome::Kind::kNotStored:
          Forget();
          break;
        case PublishOutcome::Kind::kUnknown:
          unknown = true;
          patience *= 2;
          break;
      }
    }
    const base::SteadyTime next = base::Clock::System().SteadyNow() + wait;
    const bool permanent = absl::IsFailedPrecondition(failed) || absl::IsInternal(failed);
    if (permanent || next >= deadline || writes_->closed()) {
      if (unknown) co_return domain::WriteOutcomeUnknown(what, failed.message());
      co_return failed;
    }
    co_await executor_->Sleep(next);
    wait = std::min(wait * 2, kLongestWait);
  }
}

base::Task<absl::StatusOr<uint64_t>> Kv::Put(std::string key, std::string value, base::SteadyTime deadline,
                                             Headers headers) {
  KvWrite write;
  write.key = std::move(key);
  write.value = std::move(value);
  write.headers = std::move(headers);
  co_return co_await Send(std::move(write), deadline);
}

base::Task<absl::StatusOr<uint64_t>> Kv::Create(std::string key, std::string value, base::SteadyTime deadline,
                                                Headers headers) {
  KvWrite write;
  write.key = std::move(key);
  write.value = std::move(value);
  write.headers = std::move(headers);
  write.revision = 0;
  absl::StatusOr<uint64_t> created = co_await Send(write, deadline);
  if (!absl::IsAborted(created.status())) co_return created;
  CO_ASSIGN_OR_RETURN(const std::optional<KvEntry> there, co_await Last(write.key, ReadFrom::kLeader, deadline));
  if (!there.has_value() || there->operation == KvEntry::Operation::kPut) co_return created;
  write.revision = there->revision;
  co_return co_await Send(std::move(write), deadline);
}

base::Task<absl::StatusOr<uint64_t>> Kv::Update(std::string key, std::string value, uint64_t revision,
                                                base::SteadyTime deadline, Headers headers) {
  KvWrite write;
  write.key = std::move(key);
  write.value = std::move(value);
  write.headers = std::move(headers);
  write.revision = revision;
  co_return co_await Send(std::move(write), deadline);
}

base::Task<absl::StatusOr<uint64_t>> Kv::Delete(std::string key, std::optional<uint64_t> revision,
                                                base::SteadyTime deadline) {
  KvWrite write;
  write.key = std::move(key);
  write.revision = revision;
  write.operation = KvEntry::Operation::kDelete;
  write.headers.Add(kOperation, "DEL");
  co_return co_await Send(std::move(write), deadline);
}

base::Task<absl::StatusOr<uint64_t>> Kv::Purge(std::string key, std::optional<uint64_t> revision,
                                               base::SteadyTime deadline) {
  KvWrite write;
  write.key = std::move(key);
  write.revision = revision;
  write.operation = KvEntry::Operation::kDelete;
  write.headers.Add(kOperation, "PURGE");
  write.headers.Add("Nats-Rollup", "sub");
  co_return co_await Send(std::move(write), deadline);
}

base::Task<absl::Status> Kv::Erase(std::string key, uint64_t revision, base::SteadyTime deadline) {
  const absl::StatusOr<uint64_t> erased = co_await EraseCounted(std::move(key), revision, deadline);
  co_return erased.status();
}

base::Task<absl::StatusOr<uint64_t>> Kv::EraseCounted(std::string key, uint64_t revision, base::SteadyTime deadline) {
  CO_ASSIGN_OR_RETURN(const bool exists, co_await Exists(deadline));
  if (!exists) co_return uint64_t{0};
  const std::string what = absl::StrCat("removing ", options_.bucket, "/", key);
  std::string body = json{{"filter", SubjectOf(key)}, {"seq", revision + 1}}.dump();
  absl::StatusOr<ApiAnswer> answer =
      co_await CallApi(*writes_, absl::StrCat("$JS.API.STREAM.PURGE.", stream_), std::move(body), deadline);
  if (absl::IsUnknown(answer.status())) co_return domain::WriteOutcomeUnknown(what, answer.status().message());
  if (!answer.ok()) co_return ReadError(answer.status(), what);
  if (answer->error.has_value()) co_return CreateError(*answer->error, what);
  co_return UnsignedField(answer->body, "purged");
}

base::Future<absl::StatusOr<Message>> Kv::StartCreate(const std::string& key, std::string value,
                                                      base::SteadyTime deadline, Headers headers) {
  KvWrite write;
  write.key = key;
  write.value = std::move(value);
  write.headers = std::move(headers);
  write.revision = 0;
  return writes_->Request(Encode(write), deadline);
}

absl::StatusOr<uint64_t> Kv::FinishCreate(absl::StatusOr<Message> answer) const {
  const PublishOutcome outcome =
      answer.ok() ? InterpretAnswer(answer->data, stream_, "", 1) : NoAnswer(answer.status());
  if (outcome.kind == PublishOutcome::Kind::kStored) return outcome.last_sequence;
  return outcome.status;
}

base::Task<absl::StatusOr<std::vector<std::string>>> Kv::Keys(KeyFilter filter, std::string after, size_t max,
                                                              base::SteadyTime deadline) {
  const std::string what = absl::StrCat("listing bucket ", options_.bucket);
  std::set<std::string> first;  // Of those after `after`.
  uint64_t offset = 0;
  while (true) {
    std::string body = json{{"subjects_filter", SubjectOf(filter.pattern)}, {"offset", offset}}.dump();
    absl::StatusOr<ApiAnswer> answer =
        co_await CallApi(*writes_, absl::StrCat("$JS.API.STREAM.INFO.", stream_), std::move(body), deadline);
    if (!answer.ok()) co_return ReadError(answer.status(), what);
    if (answer->error.has_value()) co_return CreateError(*answer->error, what);
    const json& subjects = ObjectField(ObjectField(answer->body, "state"), "subjects");
    if (subjects.empty()) break;
    for (const auto& [subject, count] : subjects.items()) {
      std::string key = subject.substr(std::min(subject.size(), subject_prefix_.size()));
      if (key <= after || !absl::StartsWith(key, filter.prefix) || (first.size() == max && key > *first.rbegin()))
        continue;
      first.insert(std::move(key));
      if (first.size() > max) first.erase(std::prev(first.end()));
    }
    offset += subjects.size();
    if (offset >= UnsignedField(answer->body, "total")) break;
  }
  co_return std::vector<std::string>(first.begin(), first.end());
}

base::Task<absl::StatusOr<size_t>> Kv::AppendEntries(std::span<const std::string> keys, std::vector<KvEntry>& entries,
                                                     size_t& bytes, base::SteadyTime deadline) {
  // Once more than the server's own answer only where a replica or a mirror might be behind.
  const ReadFrom from = replicated() ? ReadFrom::kLeader : ReadFrom::kAnyReplica;
  std::vector<base::Future<absl::StatusOr<Message>>> gets;
  for (const std::string& key : keys) gets.push_back(StartGet(key, from, deadline));
  absl::Status failed;
  size_t read = 0;
  for (base::Future<absl::StatusOr<Message>>& get : gets) {
    absl::StatusOr<Message> answer = co_await get;
    if (bytes == 0) continue;
    ++read;
    absl::StatusOr<std::optional<KvEntry>> entry = FinishGet(std::move(answer), from);
    if (!entry.ok()) {
      failed = entry.status();
      continue;
    }
    // Nothing: erased since.
    if (!entry->has_value() || (*entry)->operation == KvEntry::Operation::kDelete) continue;
    bytes -= std::min(bytes, (*entry)->value.size());
    entries.push_back(**std::move(entry));
  }
  if (failed.ok()) co_return read;
  Forget();
  co_return failed;
}

base::Task<absl::StatusOr<KvPage>> Kv::List(std::string prefix, std::string after, size_t max_entries, size_t max_bytes,
                                            base::SteadyTime deadline) {
  KeyFilter filter;
  if (!prefix.empty()) filter.pattern = absl::StrCat(prefix, ".>");
  co_return co_await ListMatching(std::move(filter), std::move(after), max_entries, max_bytes, deadline);
}

base::Task<absl::StatusOr<KvPage>> Kv::ListMatching(KeyFilter filter, std::string after, size_t max_entries,
                                                    size_t max_bytes, base::SteadyTime deadline) {
  KvPage page;
  max_entries = std::max<size_t>(max_entries, 1);
  CO_ASSIGN_OR_RETURN(const bool exists, co_await Exists(deadline));
  if (!exists) co_return page;
  size_t bytes = std::max<size_t>(max_bytes, 1);
  // Deleted keys take room in this, so one page may need several.
  for (size_t round = 0; round < kListRounds; ++round) {
    const size_t wanted = std::max(max_entries, kListWindow);
    CO_ASSIGN_OR_RETURN(const std::vector<std::string> keys, co_await Keys(filter, after, wanted, deadline));
    if (keys.empty()) co_return page;
    for (size_t done = 0; done < keys.size();) {
      const size_t room = max_entries - page.entries.size();
      const size_t count = std::min({kListWindow, keys.size() - done, room});
      const std::span<const std::string> window(keys.data() + done, count);
      CO_ASSIGN_OR_RETURN(const size_t read, co_await AppendEntries(window, page.entries, bytes, deadline));
      done += read;
      after = keys[done - 1];
      const bool last = done == keys.size() && keys.size() < wanted;
      if (last) co_return page;
      if (page.entries.size() >= max_entries || bytes == 0) {
        page.next = after;
        co_return page;
      }
    }
  }
  page.next = after;
  co_return page;
}

}  // namespace persistd::jetstream
