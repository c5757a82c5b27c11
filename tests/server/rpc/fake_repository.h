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
  using SaveAnswer = absl::StatusOr<repository::SaveResult>;
  using LoadAnswer = absl::StatusOr<repository::LoadResult>;

  std::function<absl::StatusOr<repository::SaveResult>(repository::SaveCommand, base::SteadyTime)> on_save;
  // Instead of on_save and on_load, for answers that come later.
  std::function<base::Task<SaveAnswer>(repository::SaveCommand, base::SteadyTime)> on_slow_save;
  std::function<base::Task<LoadAnswer>(repository::LoadCommand, base::SteadyTime)> on_slow_load;
  std::function<absl::StatusOr<repository::SaveAllResult>(repository::SaveAllCommand, base::SteadyTime)> on_save_all;
  std::function<LoadAnswer(repository::LoadCommand, base::SteadyTime)> on_load;
  std::function<absl::StatusOr<repository::AggregateInfo>(domain::AggregateRef)> on_info;
  std::function<absl::StatusOr<repository::SnapshotInfo>(repository::SnapshotCommand)> on_create_snapshot;
  std::function<absl::StatusOr<std::vector<repository::SnapshotInfo>>(domain::AggregateRef)> on_list_snapshots;
  std::function<absl::Status(domain::AggregateRef, uint64_t)> on_delete_snapshot;
  std::function<base::Task<absl::Status>(repository::HistoryQuery, repository::EventSink)> on_history;

  std::function<base::Task<absl::StatusOr<repository::Verification>>(repository::VerifyCommand,
                                                                     repository::VerifyProgressSink)>
      on_verify;
  std::function<base::Task<absl::Status>(domain::AggregateRef, uint64_t, uint64_t, repository::ChainSink)>
      on_read_chain;

  base::Task<absl::StatusOr<repository::SaveResult>> Save(repository::SaveCommand command,
                                                          base::SteadyTime deadline) override {
    if (on_slow_save) co_return co_await on_slow_save(std::move(command), deadline);
    if (!on_save) co_return Unexpected();
    co_return on_save(std::move(command), deadline);
  }
  base::Task<absl::StatusOr<repository::SaveAllResult>> SaveAll(repository::SaveAllCommand command,
                                                                base::SteadyTime deadline) override {
    if (!on_save_all) co_return Unexpected();
    co_return on_save_all(std::move(command), deadline);
  }
  base::Task<LoadAnswer> Load(repository::LoadCommand command, base::SteadyTime deadline) override {
    if (on_slow_load) co_return co_await on_slow_load(std::move(command), deadline);
    if (!on_load) co_return Unexpected();
    co_return on_load(std::move(command), deadline);
  }
  base::Task<absl::StatusOr<repository::SnapshotInfo>> CreateSnapshot(repository::SnapshotCommand command,
                                                                      base::SteadyTime) override {
    if (!on_create_snapshot) co_return Unexpected();
    co_return on_create_snapshot(std::move(command));
  }
  base::Task<absl::StatusOr<std::vector<repository::SnapshotInfo>>> ListSnapshots(domain::AggregateRef ref,
                                                                                  base::SteadyTime) override {
    if (!on_list_snapshots) co_return Unexpected();
    co_return on_list_snapshots(std::move(ref));
  }
  base::Task<absl::Status> DeleteSnapshot(domain::AggregateRef ref, uint64_t version, base::SteadyTime) override {
    if (!on_delete_snapshot) co_return Unexpected();
    co_return on_delete_snapshot(std::move(ref), version);
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

  base::Task<absl::StatusOr<repository::Verification>> VerifyChain(repository::VerifyCommand command,
                                                                   repository::VerifyProgressSink progress,
                                                                   base::SteadyTime) override {
    if (!on_verify) co_return Unexpected();
    co_return co_await on_verify(std::move(command), std::move(progress));
  }
  base::Task<absl::Status> ReadChain(domain::AggregateRef ref, uint64_t first, uint64_t last,
                                     repository::ChainSink sink, base::SteadyTime) override {
    if (!on_read_chain) co_return Unexpected();
    co_return co_await on_read_chain(std::move(ref), first, last, std::move(sink));
  }

  void NoteSave(const domain::AggregateRef&, uint64_t, const jetstream::Message&) override {}
  std::vector<jetstream::StreamPtr> streams() const override { return {}; }
  repository::RepositoryStats stats() const override { return {}; }

 private:
  static absl::Status Unexpected() { return domain::Internal("the test expects no such call"); }
};

}  // namespace persistd::testing
