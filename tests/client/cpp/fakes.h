// A clock that moves only when somebody sleeps, errors as the daemon reports them, and a stub that answers from a
// script. For single-threaded tests.
#pragma once

#include <chrono>
#include <deque>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/cord.h"
#include "cim/persistence/v1/errors.pb.h"
#include "client/cpp/client.h"

namespace persistd::client {

class FakeClock final : public Clock {
 public:
  TimePoint Now() override { return now_; }
  void SleepFor(Duration duration) override {
    now_ += duration;
    sleeps.push_back(duration);
  }

  std::vector<Duration> sleeps;

 private:
  TimePoint now_{std::chrono::hours(1)};
};

inline absl::Status Error(absl::StatusCode code, const cim::persistence::v1::ErrorDetail& detail) {
  absl::Status status(code, cim::persistence::v1::ErrorReason_Name(detail.reason()));
  status.SetPayload("type.googleapis.com/cim.persistence.v1.ErrorDetail", absl::Cord(detail.SerializeAsString()));
  return status;
}

inline absl::Status Error(absl::StatusCode code, cim::persistence::v1::ErrorReason reason) {
  cim::persistence::v1::ErrorDetail detail;
  detail.set_reason(reason);
  return Error(code, detail);
}

// Each kind of call takes the next answer of its script; the last one is repeated. Keeps what it was asked.
class FakeStub final : public Stub {
 public:
  using SaveResult = absl::StatusOr<cim::persistence::v1::SaveResponse>;
  using LoadResult = absl::StatusOr<cim::persistence::v1::LoadResponse>;
  // The events of a stream, then how it ends.
  struct HistoryScript {
    std::vector<uint64_t> versions;
    absl::Status end;
  };

  // What a stream brings, then how it ends.
  template <typename Item>
  struct ItemScript {
    std::vector<Item> items{};
    absl::Status end{};
  };

  std::deque<SaveResult> saves;
  std::deque<LoadResult> loads;
  std::deque<HistoryScript> histories;
  std::deque<absl::StatusOr<cim::persistence::v1::SaveAllResponse>> save_alls;
  std::deque<std::shared_ptr<SaveStreamCall>> save_streams;
  std::deque<absl::StatusOr<cim::persistence::v1::AppendToChainResponse>> appends;
  std::deque<HistoryScript> chains;
  std::deque<absl::StatusOr<cim::persistence::v1::SaveReadModelResponse>> read_model_saves;
  std::deque<ItemScript<cim::persistence::v1::VerifyChainResponse>> verifications;
  std::deque<ItemScript<cim::persistence::v1::ExportCarResponse>> exports;

  std::vector<cim::persistence::v1::SaveAllRequest> save_all_requests;
  std::vector<cim::persistence::v1::DeleteAggregateRequest> delete_requests;
  std::vector<cim::persistence::v1::SaveRequest> save_requests;
  std::vector<cim::persistence::v1::GetHistoryRequest> history_requests;
  std::vector<cim::persistence::v1::AppendToChainRequest> append_requests;
  std::vector<cim::persistence::v1::GetChainRequest> chain_requests;
  std::vector<cim::persistence::v1::SaveReadModelRequest> read_model_requests;
  std::vector<Deadline> deadlines;

  SaveResult Save(const cim::persistence::v1::SaveRequest& request, Deadline deadline) override {
    save_requests.push_back(request);
    deadlines.push_back(deadline);
    return Take(saves);
  }
  LoadResult Load(const cim::persistence::v1::LoadRequest&, Deadline deadline) override {
    deadlines.push_back(deadline);
    return Take(loads);
  }
  LoadResult GetAtVersion(const cim::persistence::v1::GetAtVersionRequest&, Deadline) override { return Take(loads); }
  absl::StatusOr<cim::persistence::v1::AggregateMetadata> GetMetadata(const cim::persistence::v1::GetMetadataRequest&,
                                                                      Deadline) override {
    return cim::persistence::v1::AggregateMetadata();
  }
  absl::StatusOr<cim::persistence::v1::SaveAllResponse> SaveAll(const cim::persistence::v1::SaveAllRequest& request,
                                                                Deadline) override {
    save_all_requests.push_back(request);
    return Take(save_alls);
  }
  absl::StatusOr<cim::persistence::v1::DeleteAggregateResponse> DeleteAggregate(
      const cim::persistence::v1::DeleteAggregateRequest& request, Deadline) override {
    delete_requests.push_back(request);
    return cim::persistence::v1::DeleteAggregateResponse();
  }
  absl::StatusOr<cim::persistence::v1::Snapshot> CreateSnapshot(const cim::persistence::v1::CreateSnapshotRequest&,
                                                                Deadline) override {
    return cim::persistence::v1::Snapshot();
  }
  absl::StatusOr<cim::persistence::v1::ListSnapshotsResponse> ListSnapshots(
      const cim::persistence::v1::ListSnapshotsRequest&, Deadline) override {
    return cim::persistence::v1::ListSnapshotsResponse();
  }
  absl::StatusOr<cim::persistence::v1::DeleteSnapshotResponse> DeleteSnapshot(
      const cim::persistence::v1::DeleteSnapshotRequest&, Deadline) override {
    return cim::persistence::v1::DeleteSnapshotResponse();
  }
  absl::StatusOr<cim::persistence::v1::ListAggregatesResponse> ListAggregates(
      const cim::persistence::v1::ListAggregatesRequest&, Deadline) override {
    return cim::persistence::v1::ListAggregatesResponse();
  }
  absl::StatusOr<std::vector<cim::persistence::v1::BatchLoadResponse>> BatchLoad(
      const std::vector<cim::persistence::v1::LoadRequest>& requests, Deadline) override {
    return std::vector<cim::persistence::v1::BatchLoadResponse>(requests.size());
  }
  std::shared_ptr<SaveStreamCall> SaveStream() override { return Take(save_streams); }
  absl::StatusOr<cim::persistence::v1::AppendToChainResponse> AppendToChain(
      const cim::persistence::v1::AppendToChainRequest& request, Deadline) override {
    append_requests.push_back(request);
    return Take(appends);
  }
  std::unique_ptr<ChainStream> GetChain(const cim::persistence::v1::GetChainRequest& request, Deadline) override {
    chain_requests.push_back(request);
    return StreamOf(Take(chains), &cim::persistence::v1::GetChainResponse::set_sequence);
  }
  std::unique_ptr<VerifyStream> VerifyChain(const cim::persistence::v1::VerifyChainRequest&, Deadline) override {
    return std::make_unique<Stream<cim::persistence::v1::VerifyChainResponse>>(Take(verifications));
  }
  std::unique_ptr<CarStream> ExportCar(const cim::persistence::v1::ExportCarRequest&, Deadline) override {
    return std::make_unique<Stream<cim::persistence::v1::ExportCarResponse>>(Take(exports));
  }
  absl::StatusOr<cim::persistence::v1::PutBlockResponse> PutBlock(const cim::persistence::v1::PutBlockRequest&,
                                                                  Deadline) override {
    return cim::persistence::v1::PutBlockResponse();
  }
  absl::StatusOr<cim::persistence::v1::GetBlockResponse> GetBlock(const cim::persistence::v1::GetBlockRequest&,
                                                                  Deadline) override {
    return cim::persistence::v1::GetBlockResponse();
  }
  absl::StatusOr<cim::persistence::v1::SaveReadModelResponse> SaveReadModel(
      const cim::persistence::v1::SaveReadModelRequest& request, Deadline) override {
    read_model_requests.push_back(request);
    return Take(read_model_saves);
  }
  absl::StatusOr<cim::persistence::v1::SaveReadModelsResponse> SaveReadModels(
      const cim::persistence::v1::SaveReadModelsRequest&, Deadline) override {
    return cim::persistence::v1::SaveReadModelsResponse();
  }
  absl::StatusOr<cim::persistence::v1::GetReadModelResponse> GetReadModel(
      const cim::persistence::v1::GetReadModelRequest&, Deadline) override {
    return cim::persistence::v1::GetReadModelResponse();
  }
  absl::StatusOr<cim::persistence::v1::BatchGetReadModelsResponse> BatchGetReadModels(
      const cim::persistence::v1::BatchGetReadModelsRequest&, Deadline) override {
    return cim::persistence::v1::BatchGetReadModelsResponse();
  }
  absl::StatusOr<cim::persistence::v1::DeleteReadModelResponse> DeleteReadModel(
      const cim::persistence::v1::DeleteReadModelRequest&, Deadline) override {
    return cim::persistence::v1::DeleteReadModelResponse();
  }
  absl::StatusOr<cim::persistence::v1::ListReadModelsResponse> ListReadModels(
      const cim::persistence::v1::ListReadModelsRequest&, Deadline) override {
    return cim::persistence::v1::ListReadModelsResponse();
  }
  absl::StatusOr<cim::persistence::v1::GetServerInfoResponse> GetServerInfo(
      const cim::persistence::v1::GetServerInfoRequest&, Deadline) override {
    return cim::persistence::v1::GetServerInfoResponse();
  }
  absl::StatusOr<cim::persistence::v1::CreateAggregateTypeResponse> CreateAggregateType(
      const cim::persistence::v1::CreateAggregateTypeRequest&, Deadline) override {
    return cim::persistence::v1::CreateAggregateTypeResponse();
  }
  absl::StatusOr<cim::persistence::v1::ListAggregateTypesResponse> ListAggregateTypes(
      const cim::persistence::v1::ListAggregateTypesRequest&, Deadline) override {
    return cim::persistence::v1::ListAggregateTypesResponse();
  }
  absl::StatusOr<cim::persistence::v1::DescribeAggregateTypeResponse> DescribeAggregateType(
      const cim::persistence::v1::DescribeAggregateTypeRequest&, Deadline) override {
    return cim::persistence::v1::DescribeAggregateTypeResponse();
  }
  std::unique_ptr<HistoryStream> GetHistory(const cim::persistence::v1::GetHistoryRequest& request,
                                            Deadline deadline) override {
    history_requests.push_back(request);
    deadlines.push_back(deadline);
    return StreamOf(Take(histories), &cim::persistence::v1::RecordedEvent::set_version);
  }

 private:
  template <typename Item>
  class Stream final : public ItemStream<Item> {
   public:
    explicit Stream(ItemScript<Item> script) : script_(std::move(script)) {}

    absl::StatusOr<std::optional<Item>> Next() override {
      if (next_ < script_.items.size()) return script_.items[next_++];
      if (!script_.end.ok()) return script_.end;
      return std::nullopt;
    }

   private:
    const ItemScript<Item> script_;
    size_t next_ = 0;
  };

  // One item for each version.
  template <typename Item>
  static std::unique_ptr<ItemStream<Item>> StreamOf(const HistoryScript& script, void (Item::*set)(uint64_t)) {
    ItemScript<Item> items{.items = {}, .end = script.end};
    for (const uint64_t version : script.versions) (items.items.emplace_back().*set)(version);
    return std::make_unique<Stream<Item>>(std::move(items));
  }

  template <typename T>
  static T Take(std::deque<T>& script) {
    T answer = script.front();
    if (script.size() > 1) script.pop_front();
    return answer;
  }
};

}  // namespace persistd::client
