// Read models in their bucket: written with a guard against older sources, and read. Thread-safe; nothing blocks.
//
// Errors are those of domain/errors.h; whoever calls has checked keys and sizes. See README.md of this folder.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
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
  struct Options {
    size_t max_load_bytes = 4u << 20;  // Of the documents that one call asks for.
  };
  // All must outlive it. announcer: sends what changes to whoever listens.
  Store(jetstream::Kv* kv, jetstream::Connection* announcer, base::Executor* executor, Options options)
      : kv_(*kv), announcer_(*announcer), executor_(*executor), options_(options) {}

  // In the order of the command. REVISION_CONFLICT when one is not as expected; then nothing is written.
  base::Task<absl::StatusOr<std::vector<Written>>> Save(WriteCommand command, base::SteadyTime deadline);

  // READ_MODEL_NOT_FOUND.
  base::Task<absl::StatusOr<ReadModel>> Get(domain::ReadModelKey key, base::SteadyTime deadline);
  // In the order of the keys; nullopt: there is none. TOO_LARGE.
  base::Task<absl::StatusOr<std::vector<std::optional<ReadModel>>>> GetMany(std::vector<domain::ReadModelKey> keys,
                                                                            base::SteadyTime deadline);
  // INVALID_FIELD naming id_pattern.
  base::Task<absl::StatusOr<ListPage>> List(ListQuery query, base::SteadyTime deadline);

 private:
  // What is there of each document of a command.
  base::Task<absl::StatusOr<std::vector<Entry>>> ReadEntries(const WriteCommand& command, base::SteadyTime deadline);
  // Hands over the last message of each key, in their order, and ends with the first error of that.
  using Use = std::function<absl::Status(std::optional<jetstream::KvEntry> stored)>;
  base::Task<absl::Status> ReadEach(std::vector<std::string> keys, Use use, base::SteadyTime deadline);
  void Announce(const Write& write, const Written& written);

  jetstream::Kv& kv_;
  jetstream::Connection& announcer_;
  base::Executor& executor_;
  const Options options_;
};

}  // namespace persistd::readmodel
