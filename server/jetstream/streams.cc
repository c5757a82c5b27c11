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

json CreateRequest(const StreamSpec& spec) {
  json config = {
      {"name", spec.name},
      {"description", spec.kind == StreamKind::kEvents ? "events of persistd; do not change" : "states of persistd"},
      {"subjects", {spec.subjects}},
      {"retention", "limits"},
      {"storage", "file"},
      {"discard", "new"},
      {"num_replicas", spec.replicas},
      {"compression", spec.compression},
      {"allow_direct", true},
      {"allow_atomic", true},
  };
  if (spec.kind == StreamKind::kEvents) {
    config["deny_delete"] = true;
    config["deny_purge"] = true;
  } else {
    config["max_msgs_per_subject"] = 1;
  }
  return config;
}

bool Unlimited(const json& config, const char* name) {
  const auto found = config.find(name);
  return found == config.end() || !found->is_number() || found->get<int64_t>() <= 0;
}

bool HasItems(const json& config, const char* name) {
  const auto found = config.find(name);
  return found != config.end() && !found->is_null() && !found->empty();
}

absl::Status SubjectsTaken(const StreamSpec& spec, absl::string_view by) {
  return domain::StorageUnsuitable(absl::StrCat("there is no stream ", spec.name, ", but another one already captures ",
                                                spec.subjects,
                                                " (was repository.event_streams changed over existing data?): ", by));
}

}  // namespace

std::string UnsuitableBecause(const json& config, const StreamSpec& spec) {
  std::vector<std::string> wrong;
  const auto demand = [&wrong](bool ok, absl::string_view text) {
    if (!ok) wrong.emplace_back(text);
  };
  demand(config.contains("subjects") && config["subjects"] == json::array({spec.subjects}),
         absl::StrCat("subjects must be ", spec.subjects));
  demand(StringField(config, "retention") == "limits", "retention must be limits");
  demand(StringField(config, "storage") == "file", "storage must be file");
  demand(StringField(config, "discard") == "new", "discard must be new");
  demand(Unlimited(config, "max_age"), "max_age must be unset, or history would vanish");
  demand(BoolField(config, "allow_atomic"), "allow_atomic must be on");
  demand(BoolField(config, "allow_direct"), "allow_direct must be on");
  demand(!BoolField(config, "sealed"), "it must not be sealed");
  demand(!BoolField(config, "no_ack"), "no_ack must be off, or no save would be answered");
  demand(!BoolField(config, "allow_msg_counter"), "it must not hold counters");
  demand(StringField(config, "persist_mode") != "async", "persist_mode must not be async");
  demand(!HasItems(config, "mirror") && !HasItems(config, "sources"), "it must be neither a mirror nor have sources");
  demand(!HasItems(config, "subject_transform"), "it must not transform subjects");
  if (spec.kind == StreamKind::kEvents) {
    demand(Unlimited(config, "max_msgs_per_subject"), "max_msgs_per_subject must be unset");
    demand(BoolField(config, "deny_delete"), "deny_delete must be on");
    demand(BoolField(config, "deny_purge"), "deny_purge must be on");
  } else {
    demand(UnsignedField(config, "max_msgs_per_subject") == 1, "max_msgs_per_subject must be 1");
    demand(!BoolField(config, "deny_delete"), "deny_delete must be off, or states of older schema versions would stay");
    demand(!BoolField(config, "discard_new_per_subject"),
           "discard_new_per_subject must be off, or no state would change");
  }
  return absl::StrJoin(wrong, "; ");
}

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
  const std::optional<base::WallTime> created = base::ParseRfc3339(StringField(info, "created"));
  if (!created.has_value()) {
    return domain::StorageUnsuitable(absl::StrCat("NATS does not tell when stream ", spec.name, " was created"));
  }
  auto stream = std::make_shared<Stream>();
  stream->name = spec.name;
  stream->incarnation = static_cast<uint64_t>(created->time_since_epoch().count());
  stream->replicas = static_cast<int>(UnsignedField(config, "num_replicas"));
  base::MutexLock lock(mutex_);
  Known& known = known_[spec.name];
  // The same object as before says that nothing has changed. After a reconnect what NATS holds may have.
  const bool same = known.stream != nullptr && known.connection == connection &&
                    known.stream->incarnation == stream->incarnation && known.stream->replicas == stream->replicas;
  if (!same) known.stream = stream;
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
  if (spec.kind == StreamKind::kEvents) CO_RETURN_IF_ERROR(co_await CheckRoomForOneMore(deadline));
  co_return co_await Create(std::move(spec), deadline);
}

base::Task<absl::StatusOr<StreamPtr>> Streams::Create(StreamSpec spec, base::SteadyTime deadline) {
  const std::string what = absl::StrCat("creating stream ", spec.name);
  const uint64_t connection = connection_->connects();
  absl::StatusOr<ApiAnswer> answer = co_await CallApi(*connection_, absl::StrCat("$JS.API.STREAM.CREATE.", spec.name),
                                                      CreateRequest(spec).dump(), deadline);
  if (!answer.ok()) co_return ReadError(answer.status(), what);
  if (!answer->error.has_value()) {
    base::LogInfo("stream created", {{"stream", spec.name}, {"replicas", spec.replicas}});
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

base::Task<absl::Status> Streams::CheckRoomForOneMore(base::SteadyTime deadline) {
  uint64_t ours = 0;
  uint64_t offset = 0;
  while (true) {
    const std::string body = absl::StrCat("{\"offset\":", offset, "}");
    absl::StatusOr<ApiAnswer> answer = co_await CallApi(*connection_, "$JS.API.STREAM.NAMES", body, deadline);
    if (!answer.ok()) co_return ReadError(answer.status(), "counting streams");
    const auto names = answer->body.find("streams");
    if (names == answer->body.end() || !names->is_array() || names->empty()) break;
    for (const json& name : *names) {
      if (!name.is_string()) continue;
      const std::string& stream = name.get_ref<const std::string&>();
      if (stream == options_.event_stream_name || absl::StartsWith(stream, options_.event_stream_name + "+")) ++ours;
    }
    offset += names->size();
    if (offset >= UnsignedField(answer->body, "total")) break;
  }
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
