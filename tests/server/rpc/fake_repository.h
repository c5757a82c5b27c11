// A repository whose answers the test writes. Set them before the first call.
#pragma once

#include <functional>
#include <utility>
#include <vector>

#include "server/domain/errors.h"
#include "server/repository/repository.h"

namespace persistd::testing {

class FakeRepository final : public repository::Repository {
 public:
  using LoadAnswer = absl::StatusOr<repository::LoadResult>;

  std::function<absl::StatusOr<repository::SaveResult>(repository::SaveCommand, base::SteadyTime)> on_save;
  std::function<LoadAnswer(domain::AggregateRef, repository::Consistency, base::SteadyTime)> on_load;
  std::function<LoadAnswer(domain::AggregateRef, uint64_t)> on_load_version;
  std::function<LoadAnswer(domain::AggregateRef, base::WallTime)> on_load_as_of;
  std::function<absl::StatusOr<repository::AggregateInfo>(domain::AggregateRef)> on_info;
  std::function<base::Task<absl::Status>(repository::HistoryQuery, repository::EventSink)> on_history;

  base::Task<absl::StatusOr<repository::SaveResult>> Save(repository::SaveCommand command,
                                                          base::SteadyTime deadline) override {
    if (!on_save) co_return Unexpected();
    co_return on_save(std::move(command), deadline);
  }
  base::Task<LoadAnswer> Load(domain::AggregateRef ref, repository::Consistency consistency,
                              base::SteadyTime deadline) override {
    if (!on_load) co_return Unexpected();
    co_return on_load(std::move(ref), consistency, deadline);
  }
  base::Task<LoadAnswer> LoadVersion(domain::AggregateRef ref, uint64_t version, base::SteadyTime) override {
    if (!on_load_version) co_return Unexpected();
    co_return on_load_version(std::move(ref), version);
  }
  base::Task<LoadAnswer> LoadAsOf(domain::AggregateRef ref, base::WallTime as_of, base::SteadyTime) override {
    if (!on_load_as_of) co_return Unexpected();
    co_return on_load_as_of(std::move(ref), as_of);
  }
  base::Task<absl::StatusOr<repository::AggregateInfo>> Info(domain::AggregateRef ref, base::SteadyTime) override {
    if (!on_info) co_return Unexpected();
    co_return on_info(std::move(ref));
  }
  base::Task<absl::Status> History(repository::HistoryQuery query, repository::EventSink sink,
                                   base::SteadyTime) override {
    if (!on_history) co_return Unexpected();
    co_return co_await on_history(std::move(query), std::move(sink));
  }

  std::vector<jetstream::StreamPtr> streams() const override { return {}; }
  repository::RepositoryStats stats() const override { return {}; }

 private:
  static absl::Status Unexpected() { return domain::Internal("the test expects no such call"); }
};

}  // namespace persistd::testing
