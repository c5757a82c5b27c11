// Read models in their bucket: written with a guard against older sources, and read. Thread-safe; nothing blocks.
//
// Errors are those of domain/errors.h; whoever calls has checked keys and sizes. See README.md of this folder.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/executor.h"
#include "server/base/task.h"
#include "server/jetstream/connection.h"
#include "server/jetstream/kv.h"
#include "server/readmodel/document.h"
#include "server/readmodel/read_model.h"

namespace persistd::readmodel {

class Store {
 public:
  // All must outlive it. announcer: sends what changes to whoever listens.
  Store(jetstream::Kv* kv, jetstream::Connection* announcer, base::Executor* executor)
      : kv_(*kv), announcer_(*announcer), executor_(*executor) {}

  // In the order of the command. REVISION_CONFLICT when one is not as expected; then nothing is written.
  base::Task<absl::StatusOr<std::vector<Written>>> Save(WriteCommand command, base::SteadyTime deadline);

  // READ_MODEL_NOT_FOUND.
  base::Task<absl::StatusOr<ReadModel>> Get(domain::ReadModelKey key, base::SteadyTime deadline);
  // In the order of the keys; nullopt: there is none.
  base::Task<absl::StatusOr<std::vector<std::optional<ReadModel>>>> GetMany(std::vector<domain::ReadModelKey> keys,
                                                                            base::SteadyTime deadline);
  // INVALID_FIELD naming id_pattern.
  base::Task<absl::StatusOr<ListPage>> List(ListQuery query, base::SteadyTime deadline);

 private:
  // What is there of each document of a command.
  base::Task<absl::StatusOr<std::vector<Entry>>> ReadEntries(const WriteCommand& command, base::SteadyTime deadline);
  // The last message of each key.
  base::Task<absl::StatusOr<std::vector<std::optional<jetstream::KvEntry>>>> ReadAll(std::vector<std::string> keys,
                                                                                     base::SteadyTime deadline);
  static std::vector<std::string> KeysOf(const WriteCommand& command);
  void Announce(const Write& write, const Written& written);

  jetstream::Kv& kv_;
  jetstream::Connection& announcer_;
  base::Executor& executor_;
};

}  // namespace persistd::readmodel
