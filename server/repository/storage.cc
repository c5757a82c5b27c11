#include "server/repository/storage.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "cim/persistence/v1/errors.pb.h"
#include "server/base/status_macros.h"
#include "server/domain/errors.h"
#include "server/domain/subject.h"

namespace persistd::repository {
namespace {

bool IsChains(const TypeName& type) { return type.first == domain::kChainContext; }

}  // namespace

using jetstream::StreamKind;
using jetstream::StreamPtr;

Storage::Storage(StorageOptions options, Connections connections, base::Executor* executor, const base::Clock* clock)
    : options_(std::move(options)),
      connections_(connections),
      publisher_(connections.writes),
      reader_(connections.reads),
      committer_(options_.commit, &publisher_, &reader_, executor, clock),
      streams_({.max_streams = options_.max_streams,
                .event_stream_name = options_.event_stream_name,
                .aggregate_stream_name = options_.aggregate_stream_name},
               connections.writes) {}

domain::Position PositionOf(const jetstream::Stream& stream, uint64_t sequence) {
  return domain::Position({.stream = stream.name, .incarnation = stream.incarnation, .sequence = sequence});
}

jetstream::StreamSettings WithDefaults(jetstream::StreamSettings type, const jetstream::StreamSettings& defaults) {
  if (!type.replicas) type.replicas = defaults.replicas;
  if (!type.storage) type.storage = defaults.storage;
  if (!type.compression) type.compression = defaults.compression;
  if (!type.placement) type.placement = defaults.placement;
  if (!type.max_bytes) type.max_bytes = defaults.max_bytes;
  return type;
}

void Storage::SetCreated(std::map<TypeName, jetstream::StreamSettings> types, uint64_t began) {
  base::MutexLock lock(types_mutex_);
  std::erase_if(created_, [&](const auto& entry) { return entry.second.count <= began; });
  for (auto& [type, settings] : types) created_.try_emplace(type, CreatedType{std::move(settings), began});
}

uint64_t Storage::created_count() const {
  base::MutexLock lock(types_mutex_);
  return created_count_;
}

void Storage::AddCreated(const TypeName& type, jetstream::StreamSettings settings) {
  base::MutexLock lock(types_mutex_);
  created_[type] = {std::move(settings), ++created_count_};
}

void Storage::RemoveCreated(const TypeName& type) {
  base::MutexLock lock(types_mutex_);
  created_.erase(type);
}

std::vector<TypeName> Storage::created() const {
  base::MutexLock lock(types_mutex_);
  std::vector<TypeName> types;
  for (const auto& [type, created] : created_) types.push_back(type);
  return types;
}

std::optional<jetstream::StreamSettings> Storage::Declared(const TypeName& type) const {
  if (IsChains(type)) return jetstream::StreamSettings{};
  if (const auto found = options_.types.find(type); found != options_.types.end()) return found->second;
  base::MutexLock lock(types_mutex_);
  if (const auto found = created_.find(type); found != created_.end()) return found->second.settings;
  return std::nullopt;
}

jetstream::StreamSpec Storage::Spec(const TypeName& type, StreamKind kind) const {
  const auto& [context, aggregate] = type;
  const bool events = kind == StreamKind::kEvents;
  jetstream::StreamSpec spec;
  spec.kind = kind;
  spec.settings = WithDefaults(Declared(type).value_or(jetstream::StreamSettings{}), options_.defaults);
  spec.purgeable =
      events && options_.truncated.contains(type) && options_.event_streams == EventStreams::kPerAggregateType;
  if (events && IsChains(type)) {
    spec.name = jetstream::kChainStream;
    spec.subjects = domain::kChainSubjects;
    return spec;
  }
  spec.name = events ? options_.event_stream_name : options_.aggregate_stream_name;
  spec.subjects = events ? "cim.events." : "cim.aggregates.";
  // '+' cannot occur in a token, so `a-b`,`c` and `a`,`b-c` do not share a stream.
  switch (options_.event_streams) {
    case EventStreams::kPerAggregateType:
      absl::StrAppend(&spec.name, "+", context, "+", aggregate);
      absl::StrAppend(&spec.subjects, context, ".", aggregate, ".>");
      break;
    case EventStreams::kPerContext:
      absl::StrAppend(&spec.name, "+", context);
      absl::StrAppend(&spec.subjects, context, ".>");
      break;
    case EventStreams::kSingle:
      absl::StrAppend(&spec.subjects, ">");
      break;
  }
  return spec;
}

StreamPtr Storage::Known(const domain::AggregateRef& ref, std::string StreamNames::*name) const {
  std::string stream;
  {
    base::MutexLock lock(mutex_);
    const auto context = names_.find(ref.context);
    if (context == names_.end()) return nullptr;
    const auto type = context->second.find(ref.aggregate);
    if (type == context->second.end()) return nullptr;
    stream = type->second.*name;
  }
  return streams_.Remembered(stream);
}

bool Storage::SameEventStream(const domain::AggregateRef& a, const domain::AggregateRef& b) const {
  if (domain::IsChain(a) || domain::IsChain(b)) return domain::IsChain(a) && domain::IsChain(b);
  switch (options_.event_streams) {
    case EventStreams::kPerAggregateType:
      return a.context == b.context && a.aggregate == b.aggregate;
    case EventStreams::kPerContext:
      return a.context == b.context;
    case EventStreams::kSingle:
      return true;
  }
  return false;
}

std::optional<Storage::Contents> Storage::ContentsOf(const std::string& stream_name) const {
  if (stream_name == jetstream::kChainStream) {
    return Contents{.type = {domain::kChainContext, domain::kChainAggregate}, .kind = StreamKind::kEvents};
  }
  std::vector<std::string> parts = absl::StrSplit(stream_name, '+');
  Contents contents;
  if (parts[0] == options_.aggregate_stream_name) {
    contents.kind = StreamKind::kState;
  } else if (parts[0] != options_.event_stream_name) {
    return std::nullopt;
  }
  const size_t names = options_.event_streams == EventStreams::kPerAggregateType ? 2
                       : options_.event_streams == EventStreams::kPerContext     ? 1
                                                                                 : 0;
  if (parts.size() != names + 1) return std::nullopt;
  if (names > 0) contents.type.first = std::move(parts[1]);
  if (names > 1) contents.type.second = std::move(parts[2]);
  return contents;
}

absl::Status Storage::WithLimit(const domain::AggregateRef& ref, absl::Status status) const {
  const std::optional<cim::persistence::v1::ErrorDetail> detail = domain::GetErrorDetail(status);
  if (!detail || detail->reason() != cim::persistence::v1::ERROR_REASON_STORAGE_FULL || detail->has_limit() ||
      !absl::StrContains(status.message(), "maximum bytes")) {
    return status;
  }
  const std::string name = Spec(ref, StreamKind::kEvents).name;
  for (const StreamPtr& stream : streams_.known()) {
    if (stream->name != name || stream->max_bytes == 0) continue;
    return domain::StorageFull(
        absl::StrCat("stream ", name, " is full: it holds ", stream->max_bytes,
                     " bytes at most, and has no room for this save; raise max_bytes of the type (under "
                     "repository.aggregates) or repository.stream.max_bytes, and start the daemon again"),
        domain::LimitExceeded{.name = absl::StrCat("bytes of stream ", name),
                              .limit = stream->max_bytes,
                              .value = stream->max_bytes,
                              .config_key = "repository.stream.max_bytes"});
  }
  return status;
}

base::Task<absl::StatusOr<bool>> Storage::LearnOf(TypeName type, base::SteadyTime deadline) {
  if (Declared(type)) co_return true;
  if (!lookup_) co_return false;
  CO_ASSIGN_OR_RETURN(std::optional<jetstream::StreamSettings> settings, co_await lookup_(type, deadline));
  if (!settings.has_value()) co_return false;
  AddCreated(type, *std::move(settings));
  co_return true;
}

base::Task<absl::StatusOr<StreamPtr>> Storage::Find(domain::AggregateRef ref, StreamKind kind,
                                                    base::SteadyTime deadline) {
  absl::StatusOr<StreamPtr> found = co_await streams_.Find(Spec(ref, kind), deadline);
  const TypeName type(ref.context, ref.aggregate);
  const bool suits =
      found.ok() || !domain::HasReason(found.status(), cim::persistence::v1::ERROR_REASON_STORAGE_UNSUITABLE);
  if (suits || Declared(type)) co_return found;
  // It may suit what another daemon was told of the type.
  CO_ASSIGN_OR_RETURN(const bool learned, co_await LearnOf(type, deadline));
  if (learned) co_return co_await streams_.Find(Spec(ref, kind), deadline);
  co_return found;
}

void Storage::NoteEvents(const domain::AggregateRef& ref, const jetstream::Stream& stream) {
  base::MutexLock lock(mutex_);
  StreamNames& names = names_[ref.context][ref.aggregate];
  if (names.events.empty()) names = {.events = stream.name, .states = Spec(ref, StreamKind::kState).name};
}

base::Task<absl::StatusOr<StreamPtr>> Storage::FindEvents(domain::AggregateRef ref, base::SteadyTime deadline) {
  CO_ASSIGN_OR_RETURN(StreamPtr events, co_await Find(ref, StreamKind::kEvents, deadline));
  if (events != nullptr) {
    NoteEvents(ref, *events);
    co_return events;
  }
  if (domain::IsChain(ref)) co_return events;  // They have no states.
  const jetstream::StreamSpec state_spec = Spec(ref, StreamKind::kState);
  streams_.Forget(state_spec.name);  // It may have been removed, too.
  CO_ASSIGN_OR_RETURN(const StreamPtr states, co_await Find(ref, StreamKind::kState, deadline));
  if (states == nullptr) co_return events;
  // Another daemon may have made both just now.
  const jetstream::StreamSpec spec = Spec(ref, StreamKind::kEvents);
  CO_ASSIGN_OR_RETURN(events, co_await Find(ref, StreamKind::kEvents, deadline));
  if (events != nullptr) co_return events;
  co_return domain::StorageUnsuitable(
      absl::StrCat("stream ", spec.name, " is gone, but ", states->name,
                   " with the states after its events is there: it was removed, or the NATS server cannot read it (its "
                   "log says more). Restore it; if it was removed on purpose, remove ",
                   states->name, ", too"));
}

base::Task<absl::StatusOr<StreamPtr>> Storage::FindState(domain::AggregateRef ref, base::SteadyTime deadline) {
  return Find(std::move(ref), StreamKind::kState, deadline);
}

base::Task<absl::StatusOr<StreamPtr>> Storage::CreateEvents(domain::AggregateRef ref, base::SteadyTime deadline) {
  return Create(std::move(ref), StreamKind::kEvents, deadline);
}

base::Task<absl::StatusOr<StreamPtr>> Storage::CreateState(domain::AggregateRef ref, base::SteadyTime deadline) {
  return Create(std::move(ref), StreamKind::kState, deadline);
}

base::Task<absl::StatusOr<StreamPtr>> Storage::Create(domain::AggregateRef ref, StreamKind kind,
                                                      base::SteadyTime deadline) {
  const TypeName type(ref.context, ref.aggregate);
  if (!options_.auto_create) {
    CO_ASSIGN_OR_RETURN(const bool declared, co_await LearnOf(type, deadline));
    if (!declared) co_return domain::TypeNotDeclared(ref);
  }
  absl::StatusOr<StreamPtr> found = StreamPtr();
  if (kind == StreamKind::kEvents) {
    found = co_await FindEvents(ref, deadline);
  } else {
    found = co_await FindState(ref, deadline);
  }
  if (!found.ok() || *found != nullptr) co_return found;
  CO_RETURN_IF_ERROR((co_await LearnOf(type, deadline)).status());
  CO_ASSIGN_OR_RETURN(StreamPtr created, co_await streams_.FindOrCreate(Spec(ref, kind), deadline));
  if (kind == StreamKind::kEvents) NoteEvents(ref, *created);
  co_return created;
}

}  // namespace persistd::repository
