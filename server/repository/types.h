// Aggregate types: those that the configuration declares, those that a call created (on any daemon; kept in the KV
// bucket `cim-control`), and those that a save made by itself. And their streams: that they follow their settings, and
// what they hold.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/executor.h"
#include "server/base/mutex.h"
#include "server/base/task.h"
#include "server/jetstream/kv.h"
#include "server/jetstream/streams.h"
#include "server/repository/storage.h"

namespace persistd::repository {

enum class TypeOrigin {
  kDeclared,  // In the configuration of this daemon.
  kCreated,   // By a call.
  kFirstUse,  // By its first save: only its stream tells of it.
};

struct TypeStream {
  std::string name;
  std::optional<jetstream::StreamFacts> facts;  // nullopt: it does not exist yet.
  std::string complaint;                        // Why it does not have the settings of its type; or empty.
};

struct TypeInfo {
  TypeName type;
  TypeOrigin origin = TypeOrigin::kFirstUse;
  jetstream::StreamSettings settings;  // Asked of its streams, by the type or as a default.
  TypeStream events;
  TypeStream states;
};

struct TypePage {
  std::vector<TypeInfo> types;  // In the order of their names.
  std::string next_page_token;  // Empty: this is the last page.
};

struct EventTypeCount {
  std::string type;
  uint32_t schema_version = 1;
  uint64_t events = 0;
};

struct TypeDescription {
  TypeInfo info;
  // Absent where the stream has too many subjects to look at each.
  std::optional<std::vector<EventTypeCount>> event_types;
  std::optional<uint64_t> aggregates;
};

// What was last known of all our streams.
struct StreamsReport {
  std::vector<jetstream::StreamFacts> streams;  // By name.
  std::map<std::string, std::string> complaints;
};

// What rpc/ calls.
class AggregateTypes {
 public:
  virtual ~AggregateTypes() = default;

  struct Created {
    TypeInfo info;
    bool created = false;  // False: it was there, with these settings.
  };
  // settings: only what the type is to have of its own. TYPE_EXISTS when it has others.
  virtual base::Task<absl::StatusOr<Created>> Create(TypeName type, jetstream::StreamSettings settings,
                                                     base::SteadyTime deadline) = 0;
  struct ListQuery {
    std::string context{};     // Empty: all.
    size_t page_size = 0;      // From 1.
    std::string page_token{};  // Of the page before; empty: the first one.
  };
  virtual base::Task<absl::StatusOr<TypePage>> List(ListQuery query, base::SteadyTime deadline) = 0;
  // TYPE_NOT_FOUND.
  virtual base::Task<absl::StatusOr<TypeDescription>> Describe(TypeName type, base::SteadyTime deadline) = 0;
};

// Thread-safe.
class Types final : public AggregateTypes {
 public:
  Types(Storage* storage, jetstream::KvOptions control_bucket, Connections connections, base::Executor* executor);

  base::Task<absl::StatusOr<Created>> Create(TypeName type, jetstream::StreamSettings settings,
                                             base::SteadyTime deadline) override;
  base::Task<absl::StatusOr<TypePage>> List(ListQuery query, base::SteadyTime deadline) override;
  base::Task<absl::StatusOr<TypeDescription>> Describe(TypeName type, base::SteadyTime deadline) override;

  // To be called when NATS is first there, and then every now and then: learns of types that were created elsewhere,
  // makes the streams follow their settings (once), and looks at what they hold. Not OK: NATS did not answer.
  base::Task<absl::Status> Refresh(base::SteadyTime deadline);
  StreamsReport report() const;

 private:
  base::Task<absl::Status> ReadCreated(base::SteadyTime deadline);
  // Of one type, for Storage.
  base::Task<absl::StatusOr<std::optional<jetstream::StreamSettings>>> ReadOne(TypeName type,
                                                                               base::SteadyTime deadline);
  base::Task<absl::Status> MakeStreams(TypeName type, base::SteadyTime deadline);
  base::Task<absl::StatusOr<std::map<TypeName, TypeOrigin>>> All(base::SteadyTime deadline);
  base::Task<absl::StatusOr<TypeInfo>> Info(TypeName type, TypeOrigin origin, base::SteadyTime deadline);
  base::Task<absl::StatusOr<TypeStream>> StreamOf(TypeName type, jetstream::StreamKind kind, base::SteadyTime deadline);

  Storage* const storage_;
  jetstream::Kv control_;
  mutable base::Mutex mutex_;
  bool followed_ GUARDED_BY(mutex_) = false;
  StreamsReport report_ GUARDED_BY(mutex_);
};

}  // namespace persistd::repository
