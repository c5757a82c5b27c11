#include "server/jetstream/streams.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/base/logging.h"
#include "server/base/rfc3339.h"
#include "server/base/status_macros.h"
#include "server/domain/errors.h"
#include "server/jetstream/api.h"

namespace persistd::jetstream {
namespace {

using nlohmann::json;

absl::Status SubjectsTaken(const StreamSpec& spec, absl::string_view by) {
  return domain::StorageUnsuitable(absl::StrCat("there is no stream ", spec.name, ", but another one already captures ",
                                                spec.subjects,
                                                " (was repository.event_streams changed over existing data?): ", by));
}

// Whether a server said that no server of the cluster fits. It says the same number when servers are away.
bool NoServerFits(const ApiError& error) {
  return error.err_code == 10005 && absl::StrContains(error.description, "tags not matched");
}

absl::StatusOr<StreamPtr> MakeStream(const json& info) {
  const json& config = ObjectField(info, "config");
  auto stream = std::make_shared<Stream>();
  stream->name = StringField(config, "name");
  const std::optional<base::WallTime> created = base::ParseRfc3339(StringField(info, "created"));
  if (!created.has_value()) {
    return domain::StorageUnsuitable(absl::StrCat("NATS does not tell when stream ", stream->name, " was created"));
  }
  const StreamSettings settings = SettingsOf(config);
  stream->incarnation = static_cast<uint64_t>(created->time_since_epoch().count());
  stream->replicas = *settings.replicas;
  stream->max_bytes = *settings.max_bytes;
  stream->in_memory = settings.storage == "memory";
  stream->purgeable = IsPurgeable(config);
  return stream;
}

bool SameStream(const Stream& a, const Stream& b) {
  return a.incarnation == b.incarnation && a.replicas == b.replicas && a.max_bytes == b.max_bytes &&
         a.purgeable == b.purgeable;
}

}  // namespace

StreamPtr Streams::Remembered(const std::string& name) const {
  const uint64_t connection = connection_->connects();
  base::MutexLock lock(mutex_);
  const auto found = known_.find(name);
  const bool usable = found != known_.end() && found->second.connection == connection && !found->second.forgotten;
  return usable ? found->second.stream : nullptr;
}

absl::StatusOr<StreamPtr> Streams::CheckAndRemember(const json& info, const StreamSpec& spec, uint64_t connection) {
  const json& config = ObjectField(info, "config");
  if (const std::string wrong = UnsuitableBecause(config, spec); !wrong.empty()) {
    return domain::StorageUnsuitable(
        absl::StrCat("stream ", spec.name, " exists with settings under which saves would not be safe: ", wrong));
  }
  ASSIGN_OR_RETURN(StreamPtr stream, MakeStream(info));
  base::MutexLock lock(mutex_);
  Known& known = known_[spec.name];
  // The same object as before says that nothing has changed. After a reconnect what NATS holds may have.
  const bool same = known.stream != nullptr && known.connection == connection && SameStream(*known.stream, *stream);
  if (!same) known.stream = std::move(stream);
  known.connection = connection;
  known.forgotten = false;
  return known.stream;
}

base::Task<absl::StatusOr<StreamPtr>> Streams::Find(StreamSpec spec, base::SteadyTime deadline) {
  if (StreamPtr known = Remembered(spec.name); known != nullptr) co_return known;
  const uint64_t connection = connection_->connects();
  absl::StatusOr<ApiAnswer> answer =
      co_await CallApi(*connection_, absl::StrCat("$JS.API.STREAM.INFO.", spec.name), "", deadline);
  if (!answer.ok()) co_return ReadError(answer.status(), absl::StrCat("looking for stream ", spec.name));
  if (answer->error.has_value()) {
    if (answer->error->err_code == kErrStreamNotFound) {
      if (spec.kind == StreamKind::kEvents) CO_RETURN_IF_ERROR(co_await CheckSubjectsFree(spec, deadline));
      co_return StreamPtr();
    }
    co_return domain::NatsUnavailable(absl::StrCat("looking for stream ", spec.name, ": ", answer->error->ToString()));
  }
  co_return CheckAndRemember(answer->body, spec, connection);
}

base::Task<absl::StatusOr<StreamPtr>> Streams::FindOrCreate(StreamSpec spec, base::SteadyTime deadline) {
  absl::StatusOr<StreamPtr> found = co_await Find(spec, deadline);
  if (!found.ok() || *found != nullptr) co_return found;
  // The states follow the events, one stream for each of theirs.
  if (IsEvents(spec.name)) CO_RETURN_IF_ERROR(co_await CheckRoomForOneMore(deadline));
  co_return co_await Create(std::move(spec), deadline);
}

base::Task<absl::StatusOr<StreamPtr>> Streams::Create(StreamSpec spec, base::SteadyTime deadline) {
  const std::string what = absl::StrCat("creating stream ", spec.name);
  const uint64_t connection = connection_->connects();
  absl::StatusOr<ApiAnswer> answer = co_await CallApi(*connection_, absl::StrCat("$JS.API.STREAM.CREATE.", spec.name),
                                                      NewStreamConfig(spec).dump(), deadline);
  if (!answer.ok()) co_return ReadError(answer.status(), what);
  if (!answer->error.has_value()) {
    base::LogInfo("stream created",
                  {{"stream", spec.name}, {"settings", ToString(SettingsOf(ObjectField(answer->body, "config")))}});
    co_return CheckAndRemember(answer->body, spec, connection);
  }
  switch (answer->error->err_code) {
    case kErrStreamNameInUse: {
      // Another daemon was faster, with settings that differ from ours but may suit.
      absl::StatusOr<StreamPtr> found = co_await Find(spec, deadline);
      if (!found.ok() || *found != nullptr) co_return found;
      break;
    }
    case kErrSubjectOverlap:
      co_return SubjectsTaken(spec, answer->error->ToString());
    case 10005:  // No server of the cluster fits.
      if (NoServerFits(*answer->error)) {
        co_return domain::StorageUnsuitable(absl::StrCat(what, ": ", answer->error->ToString(),
                                                         "; no server has what the type's placement or "
                                                         "repository.stream.placement asks for"));
      }
      break;
    case 10074:  // Replicas > 1 without a cluster.
      co_return domain::StorageUnsuitable(absl::StrCat(what, ": ", answer->error->ToString()));
    case 10023:
    case 10027:  // The account's max_streams.
    case 10028:
    case 10047:
      co_return domain::StorageFull(absl::StrCat(what, ": ", answer->error->ToString()));
    default:
      break;
  }
  co_return domain::NatsUnavailable(absl::StrCat(what, ": ", answer->error->ToString()));
}

base::Task<absl::StatusOr<Streams::Followed>> Streams::Follow(StreamSpec spec, base::SteadyTime deadline) {
  Followed followed;
  // Another daemon may write its own changes over ours between our look and our update: look again.
  constexpr int kAttempts = 3;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const uint64_t connection = connection_->connects();
    absl::StatusOr<ApiAnswer> answer =
        co_await CallApi(*connection_, absl::StrCat("$JS.API.STREAM.INFO.", spec.name), "", deadline);
    if (!answer.ok()) co_return ReadError(answer.status(), absl::StrCat("looking for stream ", spec.name));
    if (answer->error.has_value()) {
      if (answer->error->err_code == kErrStreamNotFound) co_return Followed{};
      co_return domain::NatsUnavailable(
          absl::StrCat("looking for stream ", spec.name, ": ", answer->error->ToString()));
    }
    CO_ASSIGN_OR_RETURN(followed.stream, CheckAndRemember(answer->body, spec, connection));
    StreamChange change = PlanChange(ObjectField(answer->body, "config"),
                                     UnsignedField(ObjectField(answer->body, "state"), "bytes"), spec.settings);
    if (spec.purgeable) PlanPurgeable(ObjectField(answer->body, "config"), change);
    followed.complaint = change.refused;
    if (change.steps.empty()) break;
    if (attempt + 1 == kAttempts) {
      followed.complaint = "other daemons change it at the same time; start them with the same configuration";
      break;
    }
    StreamChange::Step step = std::move(change.steps.front());
    CO_ASSIGN_OR_RETURN(const std::string refused, co_await Update(answer->body, spec, step, deadline));
    if (refused.empty()) continue;
    followed.complaint = absl::StrCat(step.what, " was refused: ", refused);
    break;
  }
  if (!followed.complaint.empty()) {
    base::LogError("stream does not follow its settings", {{"stream", spec.name}, {"reason", followed.complaint}});
  }
  co_return followed;
}

base::Task<absl::StatusOr<std::string>> Streams::Update(json info, StreamSpec spec, StreamChange::Step step,
                                                        base::SteadyTime deadline) {
  const std::string& name = spec.name;
  json config = ObjectField(info, "config");
  config.update(step.fields);
  // Copies that are not complete yet answer direct gets as soon as they are there: from now on ask the leader.
  json expected = info;
  expected["config"] = config;
  if (SettingsOf(config).replicas > SettingsOf(ObjectField(info, "config")).replicas) NoticeChange(name, expected);
  absl::StatusOr<ApiAnswer> answer =
      co_await CallApi(*connection_, absl::StrCat("$JS.API.STREAM.UPDATE.", name), config.dump(), deadline);
  if (!answer.ok()) co_return ReadError(answer.status(), absl::StrCat("changing stream ", name, ": ", step.what));
  if (answer->error.has_value()) {
    NoticeChange(name, info);
    co_return answer->error->ToString();
  }
  NoticeChange(name, answer->body);
  base::LogInfo("stream changed", {{"stream", name}, {"change", step.what}});
  co_return "";
}

base::Task<absl::StatusOr<std::optional<StreamFacts>>> Streams::Look(std::string name, base::SteadyTime deadline) {
  absl::StatusOr<ApiAnswer> answer =
      co_await CallApi(*connection_, absl::StrCat("$JS.API.STREAM.INFO.", name), "", deadline);
  if (!answer.ok()) co_return ReadError(answer.status(), absl::StrCat("looking for stream ", name));
  if (answer->error.has_value()) {
    if (answer->error->err_code == kErrStreamNotFound) co_return std::nullopt;
    co_return domain::NatsUnavailable(absl::StrCat("looking for stream ", name, ": ", answer->error->ToString()));
  }
  NoticeChange(name, answer->body);
  const json& state = ObjectField(answer->body, "state");
  co_return StreamFacts{.name = std::move(name),
                        .settings = SettingsOf(ObjectField(answer->body, "config")),
                        .messages = UnsignedField(state, "messages"),
                        .bytes = UnsignedField(state, "bytes"),
                        .subjects = UnsignedField(state, "num_subjects"),
                        .last_sequence = UnsignedField(state, "last_seq")};
}

base::Task<absl::StatusOr<std::map<std::string, uint64_t>>> Streams::Subjects(std::string name, std::string filter,
                                                                              base::SteadyTime deadline) {
  const std::string body = json{{"subjects_filter", filter}}.dump();
  absl::StatusOr<ApiAnswer> answer =
      co_await CallApi(*connection_, absl::StrCat("$JS.API.STREAM.INFO.", name), body, deadline);
  if (!answer.ok()) co_return ReadError(answer.status(), absl::StrCat("counting subjects of stream ", name));
  if (answer->error.has_value()) {
    co_return domain::NatsUnavailable(
        absl::StrCat("counting subjects of stream ", name, ": ", answer->error->ToString()));
  }
  std::map<std::string, uint64_t> counts;
  for (const auto& [subject, count] : ObjectField(ObjectField(answer->body, "state"), "subjects").items()) {
    if (count.is_number_unsigned()) counts[subject] = count.get<uint64_t>();
  }
  co_return counts;
}

void Streams::NoticeChange(const std::string& name, const json& info) {
  const absl::StatusOr<StreamPtr> now = MakeStream(info);
  base::MutexLock lock(mutex_);
  const auto found = known_.find(name);
  if (found == known_.end() || found->second.stream == nullptr || found->second.forgotten) return;
  if (now.ok() && SameStream(*found->second.stream, **now)) return;
  if (now.ok() && (*now)->incarnation == found->second.stream->incarnation) {
    found->second.stream = *now;
  } else {
    found->second.forgotten = true;  // Another stream of this name: check it before it is used.
  }
}

base::Task<absl::Status> Streams::CheckSubjectsFree(StreamSpec spec, base::SteadyTime deadline) {
  const std::string body = json{{"subject", spec.subjects}}.dump();
  absl::StatusOr<ApiAnswer> answer = co_await CallApi(*connection_, "$JS.API.STREAM.NAMES", body, deadline);
  if (!answer.ok()) co_return ReadError(answer.status(), absl::StrCat("looking for ", spec.subjects));
  const auto names = answer->body.find("streams");
  if (names == answer->body.end() || !names->is_array() || names->empty()) co_return absl::OkStatus();
  // Another daemon may have made the stream just now.
  if (std::find(names->begin(), names->end(), json(spec.name)) != names->end()) co_return absl::OkStatus();
  co_return SubjectsTaken(spec, names->front().dump());
}

base::Task<absl::StatusOr<uint64_t>> Streams::PurgeBelow(std::string name, std::string filter, uint64_t sequence,
                                                         base::SteadyTime deadline) {
  const std::string what = absl::StrCat("removing events of stream ", name);
  // Without these NATS would remove everything.
  if (filter.empty() || sequence <= 1) co_return domain::Internal(absl::StrCat(what, " without filter or sequence"));
  const std::string body = json{{"filter", filter}, {"seq", sequence}}.dump();
  absl::StatusOr<ApiAnswer> answer =
      co_await CallApi(*connection_, absl::StrCat("$JS.API.STREAM.PURGE.", name), body, deadline);
  if (!answer.ok()) co_return ReadError(answer.status(), what);
  if (answer->error.has_value())
    co_return domain::StorageUnsuitable(absl::StrCat(what, ": ", answer->error->ToString()));
  co_return UnsignedField(answer->body, "purged");
}

bool Streams::IsEvents(const std::string& name) const {
  return name == options_.event_stream_name || absl::StartsWith(name, options_.event_stream_name + "+");
}

bool Streams::IsOurs(const std::string& name) const {
  return IsEvents(name) || name == kChainStream || name == options_.aggregate_stream_name ||
         absl::StartsWith(name, options_.aggregate_stream_name + "+");
}

base::Task<absl::StatusOr<std::vector<std::string>>> Streams::Names(base::SteadyTime deadline) {
  std::vector<std::string> ours;
  uint64_t offset = 0;
  while (true) {
    const std::string body = absl::StrCat("{\"offset\":", offset, "}");
    absl::StatusOr<ApiAnswer> answer = co_await CallApi(*connection_, "$JS.API.STREAM.NAMES", body, deadline);
    if (!answer.ok()) co_return ReadError(answer.status(), "listing streams");
    if (answer->error.has_value()) {
      co_return domain::NatsUnavailable(absl::StrCat("listing streams: ", answer->error->ToString()));
    }
    const auto names = answer->body.find("streams");
    if (names == answer->body.end() || !names->is_array() || names->empty()) break;
    for (const json& name : *names) {
      if (name.is_string() && IsOurs(name.get_ref<const std::string&>())) ours.push_back(name.get<std::string>());
    }
    offset += names->size();
    if (offset >= UnsignedField(answer->body, "total")) break;
  }
  co_return ours;
}

base::Task<absl::Status> Streams::CheckRoomForOneMore(base::SteadyTime deadline) {
  CO_ASSIGN_OR_RETURN(const std::vector<std::string> names, co_await Names(deadline));
  const auto is_events = [this](const std::string& name) { return IsEvents(name); };
  const auto ours = static_cast<uint64_t>(std::count_if(names.begin(), names.end(), is_events));
  const auto limit = static_cast<uint64_t>(options_.max_streams);
  if (ours < limit) co_return absl::OkStatus();
  co_return domain::StorageFull(
      absl::StrCat("there are ", ours, " event streams already, repository.max_streams allows ", limit),
      domain::LimitExceeded{
          .name = "event streams", .limit = limit, .value = ours + 1, .config_key = "repository.max_streams"});
}

void Streams::Forget(const std::string& name) {
  base::MutexLock lock(mutex_);
  if (const auto found = known_.find(name); found != known_.end()) found->second.forgotten = true;
}

std::vector<StreamPtr> Streams::known() const {
  base::MutexLock lock(mutex_);
  std::vector<StreamPtr> streams;
  for (const auto& [name, known] : known_) streams.push_back(known.stream);
  return streams;
}

}  // namespace persistd::jetstream
