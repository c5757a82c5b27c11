#include "server/repository/types.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/base/logging.h"
#include "server/base/status_macros.h"
#include "server/domain/errors.h"
#include "server/domain/subject.h"
#include "server/repository/type_record.h"

namespace persistd::repository {
namespace {

using jetstream::StreamFacts;
using jetstream::StreamKind;
using jetstream::StreamSettings;

// NATS sends the subjects of a stream in one message, which a connection's thread has to parse.
constexpr uint64_t kMaxSubjectsToCount = 20'000;
constexpr StreamKind kKinds[] = {StreamKind::kEvents, StreamKind::kState};
constexpr size_t kMaxCreated = 10'000;
constexpr size_t kRecordsPerPage = 500;
constexpr size_t kBytesPerPage = 1 << 20;

jetstream::KvOptions ControlBucket(const StorageOptions& options) {
  return {.bucket = "cim-control",
          .replicas = options.defaults.replicas.value_or(1),
          .description = "aggregate types and what else all daemons of persistd share"};
}

std::string Difference(const StreamSettings& there, const StreamSettings& asked) {
  const std::string is = jetstream::ToString(there);
  const std::string wanted = jetstream::ToString(asked);
  return absl::StrCat("it has (", is.empty() ? "none of its own" : is, "), asked for is (",
                      wanted.empty() ? "none of its own" : wanted, ")");
}

}  // namespace

Types::Types(Storage* storage, Connections connections, base::Executor* executor)
    : storage_(storage), control_(ControlBucket(storage->options()), connections.writes, connections.reads, executor) {
  storage_->SetLookup([this](TypeName type, base::SteadyTime deadline) { return ReadOne(std::move(type), deadline); });
}

base::Task<absl::Status> Types::Refresh(base::SteadyTime deadline) {
  CO_RETURN_IF_ERROR(co_await ReadCreated(deadline));
  CO_ASSIGN_OR_RETURN(const std::vector<std::string> names, co_await storage_->all_streams().Names(deadline));
  bool follow = false;
  StreamsReport report;
  {
    base::MutexLock lock(mutex_);
    follow = !followed_;
    report.complaints = report_.complaints;
  }
  absl::Status failed;
  for (const std::string& name : names) {
    const std::optional<Storage::Contents> contents = storage_->ContentsOf(name);
    if (follow && contents.has_value()) {
      jetstream::StreamSpec spec = storage_->Spec(contents->type, contents->kind);
      absl::StatusOr<jetstream::Streams::Followed> followed =
          co_await storage_->all_streams().Follow(std::move(spec), deadline);
      const absl::Status& status = followed.status();
      report.complaints.erase(name);
      if (followed.ok()) {
        if (!followed->complaint.empty()) report.complaints[name] = followed->complaint;
      } else if (domain::HasReason(status, cim::persistence::v1::ERROR_REASON_STORAGE_UNSUITABLE)) {
        base::LogError("stream cannot be used", {{"stream", name}, {"reason", status.message()}});
        report.complaints[name] = std::string(status.message());
      } else {
        failed = status;
      }
    }
    absl::StatusOr<std::optional<StreamFacts>> facts = co_await storage_->all_streams().Look(name, deadline);
    if (!facts.ok()) {
      failed = facts.status();
    } else if (facts->has_value()) {
      report.streams.push_back(**std::move(facts));
    }
  }
  std::sort(report.streams.begin(), report.streams.end(),
            [](const StreamFacts& a, const StreamFacts& b) { return a.name < b.name; });
  base::MutexLock lock(mutex_);
  if (failed.ok()) followed_ = true;
  report_ = std::move(report);
  co_return failed;
}

StreamsReport Types::report() const {
  base::MutexLock lock(mutex_);
  return report_;
}

base::Task<absl::Status> Types::ReadCreated(base::SteadyTime deadline) {
  std::map<TypeName, StreamSettings> created;
  std::string after;
  do {
    absl::StatusOr<jetstream::KvPage> page =
        co_await control_.List(std::string(kTypeKeyPrefix), after, kRecordsPerPage, kBytesPerPage, deadline);
    if (!page.ok()) co_return page.status();
    for (const jetstream::KvEntry& entry : page->entries) {
      const std::optional<TypeName> type = TypeOfKey(entry.key);
      absl::StatusOr<StreamSettings> settings = DecodeTypeRecord(entry.value);
      if (type.has_value() && settings.ok()) {
        created[*type] = *std::move(settings);
      } else {
        base::LogError("aggregate type cannot be read", {{"key", entry.key}, {"reason", settings.status()}});
      }
    }
    after = page->next;
  } while (!after.empty() && created.size() < kMaxCreated);
  storage_->SetCreated(std::move(created));
  co_return absl::OkStatus();
}

base::Task<absl::StatusOr<std::optional<StreamSettings>>> Types::ReadOne(TypeName type, base::SteadyTime deadline) {
  CO_ASSIGN_OR_RETURN(const std::optional<jetstream::KvEntry> entry,
                      co_await control_.Get(TypeKey(type), jetstream::ReadFrom::kLeader, deadline));
  if (!entry.has_value()) co_return std::nullopt;
  absl::StatusOr<StreamSettings> settings = DecodeTypeRecord(entry->value);
  if (!settings.ok()) {
    co_return domain::StorageUnsuitable(
        absl::StrCat("key ", entry->key, " of bucket cim-control: ", settings.status().message()));
  }
  co_return std::optional<StreamSettings>(*std::move(settings));
}

base::Task<absl::StatusOr<AggregateTypes::Created>> Types::Create(TypeName type, StreamSettings settings,
                                                                  base::SteadyTime deadline) {
  const StorageOptions& options = storage_->options();
  if (options.event_streams != EventStreams::kPerAggregateType && settings != StreamSettings{}) {
    co_return domain::InvalidField("settings",
                                   "the type shares its streams with others (repository.event_streams), so it can have "
                                   "no settings of its own; leave them out");
  }
  Created result;
  TypeOrigin origin = TypeOrigin::kDeclared;
  std::optional<StreamSettings> there;
  uint64_t revision = 0;
  if (const auto found = options.types.find(type); found != options.types.end()) {
    there = found->second;
  } else {
    origin = TypeOrigin::kCreated;
    absl::StatusOr<uint64_t> written = co_await control_.Create(TypeKey(type), EncodeTypeRecord(settings), deadline);
    if (written.ok()) {
      result.created = true;
      revision = *written;
      there = settings;
    } else if (absl::IsAborted(written.status())) {
      CO_ASSIGN_OR_RETURN(there, co_await ReadOne(type, deadline));
      if (!there.has_value()) co_return domain::NatsUnavailable("the type is being created by another call");
    } else {
      co_return written.status();
    }
    storage_->AddCreated(type, *there);
  }
  if (*there != settings) co_return domain::TypeExists(type.first, type.second, Difference(*there, settings));
  if (const absl::Status made = co_await MakeStreams(type, deadline); !made.ok()) {
    // A type whose streams cannot be made must not be in the way of the next attempt. When NATS just did not answer it
    // may stay: its streams are made when they are needed.
    if (result.created && !absl::IsUnavailable(made)) {
      const absl::Status undone = (co_await control_.Purge(TypeKey(type), revision, deadline)).status();
      if (undone.ok()) storage_->RemoveCreated(type);
    }
    co_return made;
  }
  if (result.created) {
    base::LogInfo("aggregate type created",
                  {{"context", type.first}, {"aggregate", type.second}, {"settings", jetstream::ToString(settings)}});
  }
  CO_ASSIGN_OR_RETURN(result.info, co_await Info(std::move(type), origin, deadline));
  co_return result;
}

base::Task<absl::Status> Types::MakeStreams(TypeName type, base::SteadyTime deadline) {
  for (const StreamKind kind : kKinds) {
    const jetstream::StreamSpec spec = storage_->Spec(type, kind);
    CO_RETURN_IF_ERROR((co_await storage_->all_streams().FindOrCreate(spec, deadline)).status());
    // A save may have made it, before the type had settings.
    CO_ASSIGN_OR_RETURN(const jetstream::Streams::Followed followed,
                        co_await storage_->all_streams().Follow(spec, deadline));
    base::MutexLock lock(mutex_);
    report_.complaints.erase(spec.name);
    if (!followed.complaint.empty()) report_.complaints[spec.name] = followed.complaint;
  }
  co_return absl::OkStatus();
}

base::Task<absl::StatusOr<std::map<TypeName, TypeOrigin>>> Types::All(base::SteadyTime deadline) {
  CO_RETURN_IF_ERROR(co_await ReadCreated(deadline));
  CO_ASSIGN_OR_RETURN(const std::vector<std::string> names, co_await storage_->all_streams().Names(deadline));
  std::map<TypeName, TypeOrigin> all;
  if (storage_->options().event_streams == EventStreams::kPerAggregateType) {
    for (const std::string& name : names) {
      const std::optional<Storage::Contents> contents = storage_->ContentsOf(name);
      // Chains are no type of the callers.
      if (contents.has_value() && name != jetstream::kChainStream) all[contents->type] = TypeOrigin::kFirstUse;
    }
  }
  for (const TypeName& type : storage_->created()) all[type] = TypeOrigin::kCreated;
  for (const auto& [type, settings] : storage_->options().types) all[type] = TypeOrigin::kDeclared;
  co_return all;
}

base::Task<absl::StatusOr<TypePage>> Types::List(ListQuery query, base::SteadyTime deadline) {
  CO_ASSIGN_OR_RETURN(const auto all, co_await All(deadline));
  TypePage page;
  TypeName after;
  if (!query.page_token.empty()) {
    const std::optional<TypeName> last = TypeOfKey(query.page_token);
    if (!last) co_return domain::InvalidField("page_token", "is not one that this method has returned");
    after = *last;
  }
  for (auto it = query.page_token.empty() ? all.begin() : all.upper_bound(after); it != all.end(); ++it) {
    if (!query.context.empty() && it->first.first != query.context) continue;
    if (page.types.size() == query.page_size) {
      page.next_page_token = TypeKey(page.types.back().type);
      break;
    }
    CO_ASSIGN_OR_RETURN(TypeInfo info, co_await Info(it->first, it->second, deadline));
    page.types.push_back(std::move(info));
  }
  co_return page;
}

base::Task<absl::StatusOr<TypeStream>> Types::StreamOf(TypeName type, StreamKind kind, base::SteadyTime deadline) {
  TypeStream stream;
  stream.name = storage_->Spec(type, kind).name;
  CO_ASSIGN_OR_RETURN(stream.facts, co_await storage_->all_streams().Look(stream.name, deadline));
  base::MutexLock lock(mutex_);
  if (const auto found = report_.complaints.find(stream.name); found != report_.complaints.end()) {
    stream.complaint = found->second;
  }
  co_return stream;
}

base::Task<absl::StatusOr<TypeInfo>> Types::Info(TypeName type, TypeOrigin origin, base::SteadyTime deadline) {
  TypeInfo info;
  info.origin = origin;
  info.settings = storage_->Spec(type, StreamKind::kEvents).settings;
  CO_ASSIGN_OR_RETURN(info.events, co_await StreamOf(type, StreamKind::kEvents, deadline));
  CO_ASSIGN_OR_RETURN(info.states, co_await StreamOf(type, StreamKind::kState, deadline));
  info.type = std::move(type);
  co_return info;
}

base::Task<absl::StatusOr<TypeDescription>> Types::Describe(TypeName type, base::SteadyTime deadline) {
  CO_ASSIGN_OR_RETURN(const auto all, co_await All(deadline));
  const auto found = all.find(type);
  if (found == all.end()) co_return domain::TypeNotFound(type.first, type.second);
  TypeDescription description;
  CO_ASSIGN_OR_RETURN(description.info, co_await Info(type, found->second, deadline));
  const std::optional<StreamFacts>& events = description.info.events.facts;
  if (events.has_value() && events->subjects > kMaxSubjectsToCount) co_return description;
  description.event_types.emplace();
  description.aggregates = 0;
  if (!events.has_value()) co_return description;
  const std::string filter = absl::StrCat("cim.events.", type.first, ".", type.second, ".>");
  CO_ASSIGN_OR_RETURN(const auto subjects, co_await storage_->all_streams().Subjects(events->name, filter, deadline));
  std::map<std::pair<std::string, uint32_t>, uint64_t> counts;
  std::set<std::string> entities;
  for (const auto& [subject, count] : subjects) {
    const std::optional<domain::ParsedEventSubject> parsed = domain::ParseEventSubject(subject);
    if (!parsed.has_value()) continue;  // Not ours.
    counts[{parsed->type, parsed->schema_version}] += count;
    entities.insert(parsed->ref.entity_id);
  }
  for (const auto& [name, count] : counts) {
    description.event_types->push_back({.type = name.first, .schema_version = name.second, .events = count});
  }
  description.aggregates = entities.size();
  co_return description;
}

}  // namespace persistd::repository
