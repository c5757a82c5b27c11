#include "server/rpc/response_mapping.h"

#include <chrono>
#include <optional>
#include <utility>

#include "server/domain/subject.h"
#include "server/rpc/json_payload.h"

namespace persistd::rpc {
namespace {

namespace pb = cim::persistence::v1;

void Fill(const domain::Position& position, pb::Position& message) { message.set_token(position.ToToken()); }

void Fill(const repository::SavedEvent& event, pb::SavedEvent& message) {
  message.set_version(event.version);
  message.set_event_id(event.event_id);
  message.set_cid(event.cid);
  Fill(event.position, *message.mutable_position());
}

void Fill(domain::EventMetadata metadata, pb::EventMetadata& message) {
  message.set_correlation_id(std::move(metadata.correlation_id));
  message.set_causation_id(std::move(metadata.causation_id));
  message.set_actor(std::move(metadata.actor));
  message.set_traceparent(std::move(metadata.traceparent));
  message.mutable_custom()->insert(metadata.custom.begin(), metadata.custom.end());
}

pb::StateResult ToProtoEnum(repository::StateResult result) {
  switch (result) {
    case repository::StateResult::kNone:
      return pb::STATE_RESULT_UNSPECIFIED;
    case repository::StateResult::kWritten:
      return pb::STATE_RESULT_WRITTEN;
    case repository::StateResult::kSuperseded:
      return pb::STATE_RESULT_SUPERSEDED;
    case repository::StateResult::kPending:
      return pb::STATE_RESULT_PENDING;
  }
  return pb::STATE_RESULT_UNSPECIFIED;
}

void Fill(domain::StateRecord state, pb::PayloadView view, pb::AggregateState& message) {
  ToProto(std::move(state.payload), view, *message.mutable_payload());
  message.set_schema_version(state.schema_version);
  message.set_version(state.version);
  message.set_cid(std::move(state.cid));
}

}  // namespace

void ToProto(const domain::AggregateRef& ref, pb::AggregateRef& message) {
  message.set_context(ref.context);
  message.set_aggregate(ref.aggregate);
  message.set_entity_id(ref.entity_id);
}

void ToProto(base::WallTime time, google::protobuf::Timestamp& message) {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(time);
  message.set_seconds(seconds.time_since_epoch().count());
  message.set_nanos(static_cast<int32_t>((time - seconds).count()));
}

void ToProto(domain::Payload payload, pb::PayloadView view, pb::Payload& message) {
  if (view == pb::PAYLOAD_VIEW_JSON && IsJsonType(payload.content_type)) {
    std::optional<google::protobuf::Struct> object = JsonToStruct(payload.data);
    if (object.has_value()) message.mutable_json()->Swap(&*object);
  }
  message.set_content_type(std::move(payload.content_type));
  if (!message.has_json()) message.set_data(std::move(payload.data));
}

void ToProto(const repository::AggregateInfo& info, pb::AggregateMetadata& message) {
  ToProto(info.ref, *message.mutable_ref());
  message.set_version(info.version);
  message.set_state_schema_version(info.state_schema_version);
  ToProto(info.last_modified, *message.mutable_last_modified());
  message.set_state_cid(info.state_cid);
  message.set_head_cid(info.head_cid);
  message.set_subject(domain::EventFilter(info.ref));
  message.mutable_tags()->Assign(info.tags.begin(), info.tags.end());
  message.mutable_metadata()->insert(info.metadata.begin(), info.metadata.end());
  message.set_deleted(info.deleted);
  Fill(info.position, *message.mutable_position());
}

void ToProto(const repository::SaveResult& result, pb::Durability::Fsync fsync, pb::SaveResponse& message) {
  ToProto(result.info, *message.mutable_metadata());
  for (const repository::SavedEvent& event : result.events) Fill(event, *message.add_events());
  message.mutable_durability()->set_replicas(static_cast<uint32_t>(result.replicas));
  message.mutable_durability()->set_fsync(result.in_memory ? pb::Durability::FSYNC_NEVER : fsync);
  message.set_state_result(ToProtoEnum(result.state));
  message.set_deduplicated(result.deduplicated);
  message.set_commit_id(result.commit_id);
}

void ToProto(const repository::SaveAllResult& result, const std::function<pb::Durability::Fsync(int replicas)>& fsync,
             pb::SaveAllResponse& message) {
  for (const repository::SaveResult& save : result.results) {
    ToProto(save, fsync(save.replicas), *message.add_results());
  }
  message.set_deduplicated(result.deduplicated);
  message.set_commit_id(result.commit_id);
}

void ToProto(const repository::SaveResult& result, pb::Durability::Fsync fsync, pb::DeleteAggregateResponse& message) {
  ToProto(result.info, *message.mutable_metadata());
  if (!result.events.empty()) Fill(result.events.back(), *message.mutable_event());
  message.mutable_durability()->set_replicas(static_cast<uint32_t>(result.replicas));
  message.mutable_durability()->set_fsync(result.in_memory ? pb::Durability::FSYNC_NEVER : fsync);
  message.set_deduplicated(result.deduplicated);
  message.set_commit_id(result.commit_id);
}

void ToProto(const repository::SnapshotInfo& info, pb::Snapshot& message) {
  ToProto(info.ref, *message.mutable_ref());
  message.set_version(info.version);
  message.set_schema_version(info.schema_version);
  message.set_content_type(info.content_type);
  message.set_size(info.size);
  message.set_cid(info.cid);
  ToProto(info.created, *message.mutable_create_time());
}

void ToProto(const index::ListPage& page, pb::ListAggregatesResponse& message) {
  for (const repository::AggregateInfo& info : page.aggregates) ToProto(info, *message.add_aggregates());
  message.set_next_page_token(page.next_page_token);
  Fill(page.position, *message.mutable_position());
}

void ToProto(repository::LoadResult result, pb::PayloadView view, pb::LoadResponse& message) {
  ToProto(result.info, *message.mutable_metadata());
  if (result.state.has_value()) Fill(*std::move(result.state), view, *message.mutable_state());
  message.mutable_events()->Reserve(static_cast<int>(result.events.size()));
  for (repository::Event& event : result.events) ToProto(std::move(event), view, *message.add_events());
  message.set_folded(result.folded);
  message.set_snapshot_version(result.snapshot_version);
}

void ToProto(repository::Event stored, pb::PayloadView view, pb::RecordedEvent& message) {
  domain::RecordedEvent& event = stored.event;
  ToProto(event.ref, *message.mutable_ref());
  message.set_version(event.version);
  message.set_event_id(std::move(event.event_id));
  message.set_schema_version(event.schema_version);
  // An absent payload has no content type.
  if (!event.payload.content_type.empty()) ToProto(std::move(event.payload), view, *message.mutable_payload());
  if (event.metadata != domain::EventMetadata{}) Fill(std::move(event.metadata), *message.mutable_metadata());
  ToProto(event.time, *message.mutable_time());
  ToProto(event.recorded_time, *message.mutable_recorded_time());
  message.set_commit_id(std::move(event.commit_id));
  message.set_cid(std::move(event.cid));
  message.set_prev_cid(std::move(event.prev_cid));
  message.set_payload_cid(std::move(event.payload_cid));
  message.set_subject(domain::EventSubject(event.ref, event.type, event.schema_version));
  message.set_type(std::move(event.type));
  Fill(stored.position, *message.mutable_position());
}

}  // namespace persistd::rpc
