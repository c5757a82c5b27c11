// Which stream holds what, and the ways to reach it: what every part of the repository works on.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/mutex.h"
#include "server/base/task.h"
#include "server/domain/aggregate_ref.h"
#include "server/domain/position.h"
#include "server/jetstream/connection.h"
#include "server/jetstream/publisher.h"
#include "server/jetstream/reader.h"
#include "server/jetstream/streams.h"
#include "server/repository/committer.h"

namespace persistd::repository {

// How many streams the events are spread over.
enum class EventStreams { kPerAggregateType, kPerContext, kSingle };

// Names a type: context and aggregate.
using TypeName = std::pair<std::string, std::string>;

struct StorageOptions {
  std::string event_stream_name = "CIM-EVENTS";
  std::string aggregate_stream_name = "CIM-AGGREGATES";
  EventStreams event_streams = EventStreams::kPerAggregateType;
  bool auto_create = true;
  int max_streams = 200;
  jetstream::StreamSettings defaults;
  // Declared types, and what their streams have instead of the defaults: by context and aggregate.
  std::map<TypeName, jetstream::StreamSettings> types;
  std::set<TypeName> truncated;  // Types whose events may be removed. Each has streams of its own.
  CommitOptions commit;
};

// Connections by what goes over them, so that a long read never delays the answer to a write. May be the same one.
struct Connections {
  jetstream::Connection* writes = nullptr;
  jetstream::Connection* reads = nullptr;
};

// Of a message.
domain::Position PositionOf(const jetstream::Stream& stream, uint64_t sequence);

// What `type` says, and what `defaults` say of the rest.
jetstream::StreamSettings WithDefaults(jetstream::StreamSettings type, const jetstream::StreamSettings& defaults);

// Thread-safe.
class Storage {
 public:
  Storage(StorageOptions options, Connections connections, base::Executor* executor, const base::Clock* clock);

  // The stream that holds these events, or states, where that is known without asking; otherwise nullptr, which says
  // nothing.
  jetstream::StreamPtr KnownEvents(const domain::AggregateRef& ref) const { return Known(ref, &StreamNames::events); }
  jetstream::StreamPtr KnownState(const domain::AggregateRef& ref) const { return Known(ref, &StreamNames::states); }

  // nullptr: no aggregate of this type was ever saved. An error when there is no stream of events, but one of states.
  base::Task<absl::StatusOr<jetstream::StreamPtr>> FindEvents(domain::AggregateRef ref, base::SteadyTime deadline);
  base::Task<absl::StatusOr<jetstream::StreamPtr>> FindState(domain::AggregateRef ref, base::SteadyTime deadline);
  base::Task<absl::StatusOr<jetstream::StreamPtr>> CreateEvents(domain::AggregateRef ref, base::SteadyTime deadline);
  base::Task<absl::StatusOr<jetstream::StreamPtr>> CreateState(domain::AggregateRef ref, base::SteadyTime deadline);

  // True when the events of both are in one stream, so that one commit can hold both.
  bool SameEventStream(const domain::AggregateRef& a, const domain::AggregateRef& b) const;

  static jetstream::ReadFrom StrongRead(const jetstream::Stream& stream) { return Committer::StrongRead(stream); }

  // The stream that holds these of the type, as it is or would be made.
  jetstream::StreamSpec Spec(const TypeName& type, jetstream::StreamKind kind) const;
  // What a stream of this name holds; nullopt when no stream of ours has that name in this layout. The aggregate is
  // empty where a stream holds a whole context, both are where it holds everything. That of the chains is in all
  // layouts.
  struct Contents {
    TypeName type;
    jetstream::StreamKind kind = jetstream::StreamKind::kEvents;
  };
  std::optional<Contents> ContentsOf(const std::string& stream_name) const;

  // Names the limit in an error that says that the stream of events is full.
  absl::Status WithLimit(const domain::AggregateRef& ref, absl::Status status) const;

  // Types that were created by a call, on any daemon, beside those of the options. Replaces what was set before, but
  // for what was added since `began`, which a list that began then may not have.
  void SetCreated(std::map<TypeName, jetstream::StreamSettings> types, uint64_t began);
  // How often one was added.
  uint64_t created_count() const;
  void AddCreated(const TypeName& type, jetstream::StreamSettings settings);
  void RemoveCreated(const TypeName& type);
  std::vector<TypeName> created() const;
  // How to ask whether another daemon has created a type. To be set before the first call.
  using Lookup =
      std::function<base::Task<absl::StatusOr<std::optional<jetstream::StreamSettings>>>(TypeName, base::SteadyTime)>;
  void SetLookup(Lookup lookup) { lookup_ = std::move(lookup); }
  // What a type of either kind says of its streams; nullopt: there is no such type. Chains are always there.
  std::optional<jetstream::StreamSettings> Declared(const TypeName& type) const;

  // To be called when a stream does not answer: whether it still is there is asked when it is next needed.
  void Forget(const jetstream::Stream& stream) { streams_.Forget(stream.name); }

  Committer& committer() { return committer_; }
  jetstream::Reader& reader() { return reader_; }
  jetstream::Connection& writes() { return *connections_.writes; }
  std::vector<jetstream::StreamPtr> streams() const { return streams_.known(); }
  jetstream::Streams& all_streams() { return streams_; }
  const StorageOptions& options() const { return options_; }

 private:
  jetstream::StreamSpec Spec(const domain::AggregateRef& ref, jetstream::StreamKind kind) const {
    return Spec(TypeName(ref.context, ref.aggregate), kind);
  }
  base::Task<absl::StatusOr<jetstream::StreamPtr>> Find(domain::AggregateRef ref, jetstream::StreamKind kind,
                                                        base::SteadyTime deadline);
  // Whether the type is declared, as far as the other daemons have told.
  base::Task<absl::StatusOr<bool>> LearnOf(TypeName type, base::SteadyTime deadline);
  base::Task<absl::StatusOr<jetstream::StreamPtr>> Create(domain::AggregateRef ref, jetstream::StreamKind kind,
                                                          base::SteadyTime deadline);

  struct StreamNames {
    std::string events;
    std::string states;
  };
  jetstream::StreamPtr Known(const domain::AggregateRef& ref, std::string StreamNames::*name) const;
  // Remembers which streams the type has.
  void NoteEvents(const domain::AggregateRef& ref, const jetstream::Stream& stream);

  const StorageOptions options_;
  const Connections connections_;
  jetstream::Publisher publisher_;
  jetstream::Reader reader_;
  Committer committer_;
  jetstream::Streams streams_;
  Lookup lookup_;
  mutable base::Mutex mutex_;
  // By context and aggregate; bounded by the types that exist.
  mutable std::map<std::string, std::map<std::string, StreamNames>> names_ GUARDED_BY(mutex_);
  mutable base::Mutex types_mutex_;  // May be taken while mutex_ is held.
  struct CreatedType {
    jetstream::StreamSettings settings;
    uint64_t count = 0;  // created_count_ when it was added.
  };
  std::map<TypeName, CreatedType> created_ GUARDED_BY(types_mutex_);
  uint64_t created_count_ GUARDED_BY(types_mutex_) = 0;
};

}  // namespace persistd::repository
