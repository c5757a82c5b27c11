// The repository's results as answers. Pure, thread-safe.
#pragma once

#include <functional>

#include "cim/persistence/v1/aggregates.pb.h"
#include "cim/persistence/v1/types.pb.h"
#include "server/domain/event.h"
#include "server/index/aggregate_list.h"
#include "server/repository/repository.h"

namespace persistd::rpc {

void ToProto(const domain::AggregateRef& ref, cim::persistence::v1::AggregateRef& message);
void ToProto(base::WallTime time, google::protobuf::Timestamp& message);
void ToProto(const repository::AggregateInfo& info, cim::persistence::v1::AggregateMetadata& message);
void ToProto(const repository::SaveResult& result, cim::persistence::v1::Durability::Fsync fsync,
             cim::persistence::v1::SaveResponse& message);
void ToProto(const repository::SaveAllResult& result,
             const std::function<cim::persistence::v1::Durability::Fsync(int replicas)>& fsync,
             cim::persistence::v1::SaveAllResponse& message);
void ToProto(const repository::SaveResult& result, cim::persistence::v1::Durability::Fsync fsync,
             cim::persistence::v1::DeleteAggregateResponse& message);
void ToProto(const repository::SnapshotInfo& info, cim::persistence::v1::Snapshot& message);
void ToProto(const index::ListPage& page, cim::persistence::v1::ListAggregatesResponse& message);
void ToProto(repository::LoadResult result, cim::persistence::v1::PayloadView view,
             cim::persistence::v1::LoadResponse& message);
void ToProto(repository::Event event, cim::persistence::v1::PayloadView view,
             cim::persistence::v1::RecordedEvent& message);
void ToProto(domain::Payload payload, cim::persistence::v1::PayloadView view, cim::persistence::v1::Payload& message);

}  // namespace persistd::rpc
