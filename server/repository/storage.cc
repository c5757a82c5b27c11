#include "server/repository/storage.h"

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/domain/errors.h"

namespace persistd::repository {

using jetstream::StreamKind;
using jetstream::StreamPtr;

Storage::Storage(StorageOptions options, Connections connections, base::Executor* executor, const base::Clock* clock)
    : options_(std::move(options)),
      connections_(connections),
      publisher_(connections.writes),
      reader_(connections.reads),
      committer_(options_.commit, &publisher_, &reader_, executor, clock),
      streams_({.max_streams = options_.max_streams, .event_stream_name = options_.event_stream_name},
               connections.writes) {}

jetstream::StreamSpec Storage::Spec(const domain::AggregateRef& ref, StreamKind kind) const {
  const bool events = kind == StreamKind::kEvents;
  const auto declared = options_.types.find({ref.context, ref.aggregate});
  const TypeOptions& type = declared != options_.types.end() ? declared->second : options_.defaults;
  jetstream::StreamSpec spec;
  spec.kind = kind;
  spec.replicas = type.replicas;
  spec.compression = type.compression;
  spec.name = events ? options_.event_stream_name : options_.aggregate_stream_name;
  spec.subjects = events ? "cim.events." : "cim.aggregates.";
  // '+' cannot occur in a token, so `a-b`,`c` and `a`,`b-c` do not share a stream.
  switch (options_.event_streams) {
    case EventStreams::kPerAggregateType:
      absl::StrAppend(&spec.name, "+", ref.context, "+", ref.aggregate);
      absl::StrAppend(&spec.subjects, ref.context, ".", ref.aggregate, ".>");
      break;
    case EventStreams::kPerContext:
      absl::StrAppend(&spec.name, "+", ref.context);
      absl::StrAppend(&spec.subjects, ref.context, ".>");
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

base::Task<absl::StatusOr<StreamPtr>> Storage::FindEvents(domain::AggregateRef ref, base::SteadyTime deadline) {
  CO_ASSIGN_OR_RETURN(StreamPtr events, co_await streams_.Find(Spec(ref, StreamKind::kEvents), deadline));
  if (events != nullptr) {
    base::MutexLock lock(mutex_);
    StreamNames& names = names_[ref.context][ref.aggregate];
    if (names.events.empty()) {
      names = {.events = events->name, .states = Spec(ref, StreamKind::kState).name};
    }
    co_return events;
  }
  const jetstream::StreamSpec state_spec = Spec(ref, StreamKind::kState);
  streams_.Forget(state_spec.name);  // It may have been removed, too.
  CO_ASSIGN_OR_RETURN(const StreamPtr states, co_await streams_.Find(state_spec, deadline));
  if (states == nullptr) co_return events;
  // Another daemon may have made both just now.
  const jetstream::StreamSpec spec = Spec(ref, StreamKind::kEvents);
  CO_ASSIGN_OR_RETURN(events, co_await streams_.Find(spec, deadline));
  if (events != nullptr) co_return events;
  co_return domain::StorageUnsuitable(
      absl::StrCat("stream ", spec.name, " is gone, but ", states->name,
                   " with the states after its events is there: it was removed, or the NATS server cannot read it (its "
                   "log says more). Restore it; if it was removed on purpose, remove ",
                   states->name, ", too"));
}

base::Task<absl::StatusOr<StreamPtr>> Storage::FindState(domain::AggregateRef ref, base::SteadyTime deadline) {
  return streams_.Find(Spec(ref, StreamKind::kState), deadline);
}

base::Task<absl::StatusOr<StreamPtr>> Storage::CreateEvents(domain::AggregateRef ref, base::SteadyTime deadline) {
  return Create(std::move(ref), StreamKind::kEvents, deadline);
}

base::Task<absl::StatusOr<StreamPtr>> Storage::CreateState(domain::AggregateRef ref, base::SteadyTime deadline) {
  return Create(std::move(ref), StreamKind::kState, deadline);
}

base::Task<absl::StatusOr<StreamPtr>> Storage::Create(domain::AggregateRef ref, StreamKind kind,
                                                      base::SteadyTime deadline) {
  if (!options_.auto_create && !options_.types.contains({ref.context, ref.aggregate})) {
    co_return domain::TypeNotDeclared(ref);
  }
  if (kind == StreamKind::kEvents) {
    CO_ASSIGN_OR_RETURN(StreamPtr found, co_await FindEvents(ref, deadline));
    if (found != nullptr) co_return found;
  }
  co_return co_await streams_.FindOrCreate(Spec(ref, kind), deadline);
}

}  // namespace persistd::repository
