#include "server/rpc/admin_mapping.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/domain/errors.h"
#include "server/domain/subject.h"

namespace persistd::rpc {
namespace {

namespace pb = cim::persistence::v1;

constexpr uint32_t kMaxReplicas = 5;
constexpr uint64_t kMaxStreamBytes = uint64_t{1} << 50;  // 1024 TiB.
constexpr int kMaxTags = 16;
constexpr size_t kMaxWord = 64;
constexpr int kDefaultPage = 100;
constexpr int kMaxPage = 1000;

bool IsPlacementWord(const std::string& text) {
  return !text.empty() && text.size() <= kMaxWord && std::all_of(text.begin(), text.end(), [](char c) {
    return c > ' ' && c <= '~' && c != '"' && c != '\\' && c != ',';
  });
}

absl::Status BadWord(absl::string_view field) {
  return domain::InvalidField(field, "must be 1 to 64 visible ASCII characters other than \" \\ and comma");
}

absl::StatusOr<jetstream::Placement> ToPlacement(const pb::Placement& from) {
  if (!from.cluster().empty() && !IsPlacementWord(from.cluster())) return BadWord("settings.placement.cluster");
  if (from.tags_size() > kMaxTags) {
    return domain::InvalidField("settings.placement.tags", absl::StrCat("must be at most ", kMaxTags));
  }
  jetstream::Placement placement{.cluster = from.cluster(), .tags = {from.tags().begin(), from.tags().end()}};
  for (int i = 0; i < from.tags_size(); ++i) {
    if (!IsPlacementWord(from.tags(i))) return BadWord(absl::StrCat("settings.placement.tags[", i, "]"));
  }
  return placement;
}

pb::AggregateType::Origin ToProtoEnum(repository::TypeOrigin origin) {
  switch (origin) {
    case repository::TypeOrigin::kDeclared:
      return pb::AggregateType::ORIGIN_DECLARED;
    case repository::TypeOrigin::kCreated:
      return pb::AggregateType::ORIGIN_CREATED;
    case repository::TypeOrigin::kFirstUse:
      return pb::AggregateType::ORIGIN_FIRST_USE;
  }
  return pb::AggregateType::ORIGIN_UNSPECIFIED;
}

void Fill(const repository::TypeStream& stream, pb::StreamInfo& message) {
  message.set_name(stream.name);
  if (stream.facts.has_value()) ToProto(*stream.facts, message);
  message.set_problem(stream.complaint);
}

}  // namespace

absl::StatusOr<repository::TypeName> ToTypeName(const std::string& context, const std::string& aggregate) {
  RETURN_IF_ERROR(domain::ValidateToken(context, "context"));
  RETURN_IF_ERROR(domain::ValidateToken(aggregate, "aggregate"));
  return repository::TypeName(context, aggregate);
}

absl::StatusOr<jetstream::StreamSettings> ToSettings(const pb::StreamSettings& from) {
  jetstream::StreamSettings settings;
  if (from.has_replicas()) {
    if (from.replicas() < 1 || from.replicas() > kMaxReplicas) {
      return domain::InvalidField("settings.replicas", absl::StrCat("must be from 1 to ", kMaxReplicas));
    }
    settings.replicas = static_cast<int>(from.replicas());
  }
  switch (from.storage()) {
    case pb::StreamSettings::STORAGE_UNSPECIFIED:
      break;
    case pb::StreamSettings::STORAGE_FILE:
      settings.storage = "file";
      break;
    case pb::StreamSettings::STORAGE_MEMORY:
      settings.storage = "memory";
      break;
    default:
      return domain::InvalidField("settings.storage", "is none of this version");
  }
  switch (from.compression()) {
    case pb::StreamSettings::COMPRESSION_UNSPECIFIED:
      break;
    case pb::StreamSettings::COMPRESSION_NONE:
      settings.compression = "none";
      break;
    case pb::StreamSettings::COMPRESSION_S2:
      settings.compression = "s2";
      break;
    default:
      return domain::InvalidField("settings.compression", "is none of this version");
  }
  if (from.has_placement()) {
    ASSIGN_OR_RETURN(settings.placement, ToPlacement(from.placement()));
  }
  if (from.has_max_bytes()) {
    if (from.max_bytes() > kMaxStreamBytes) {
      return domain::InvalidField("settings.max_bytes", absl::StrCat("must be at most ", kMaxStreamBytes));
    }
    settings.max_bytes = from.max_bytes();
  }
  return settings;
}

absl::StatusOr<repository::AggregateTypes::ListQuery> ToListQuery(const pb::ListAggregateTypesRequest& request) {
  if (!request.context().empty()) RETURN_IF_ERROR(domain::ValidateToken(request.context(), "context"));
  if (request.page_size() < 0) return domain::InvalidField("page_size", "must not be negative");
  const int size = request.page_size() == 0 ? kDefaultPage : std::min(request.page_size(), kMaxPage);
  return repository::AggregateTypes::ListQuery{
      .context = request.context(), .page_size = static_cast<size_t>(size), .page_token = request.page_token()};
}

void ToProto(const jetstream::StreamSettings& settings, pb::StreamSettings& message) {
  if (settings.replicas) message.set_replicas(static_cast<uint32_t>(*settings.replicas));
  if (settings.storage) {
    message.set_storage(*settings.storage == "memory" ? pb::StreamSettings::STORAGE_MEMORY
                                                      : pb::StreamSettings::STORAGE_FILE);
  }
  if (settings.compression) {
    message.set_compression(*settings.compression == "s2" ? pb::StreamSettings::COMPRESSION_S2
                                                          : pb::StreamSettings::COMPRESSION_NONE);
  }
  if (settings.placement) {
    pb::Placement& placement = *message.mutable_placement();
    placement.set_cluster(settings.placement->cluster);
    for (const std::string& tag : settings.placement->tags) placement.add_tags(tag);
  }
  if (settings.max_bytes) message.set_max_bytes(*settings.max_bytes);
}

void ToProto(const jetstream::StreamFacts& facts, pb::StreamInfo& message) {
  message.set_name(facts.name);
  message.set_replicas(static_cast<uint32_t>(facts.settings.replicas.value_or(1)));
  message.set_messages(facts.messages);
  message.set_bytes(facts.bytes);
  message.set_subjects(facts.subjects);
  message.set_last_sequence(facts.last_sequence);
  ToProto(facts.settings, *message.mutable_settings());
}

void ToProto(const repository::TypeInfo& info, pb::AggregateType& message) {
  message.set_context(info.type.first);
  message.set_aggregate(info.type.second);
  message.set_origin(ToProtoEnum(info.origin));
  ToProto(info.settings, *message.mutable_settings());
  Fill(info.events, *message.mutable_events());
  Fill(info.states, *message.mutable_states());
}

void ToProto(const repository::TypeDescription& description, pb::DescribeAggregateTypeResponse& message) {
  ToProto(description.info, *message.mutable_type());
  message.set_event_types_known(description.event_types.has_value());
  if (description.event_types.has_value()) {
    for (const repository::EventTypeCount& count : *description.event_types) {
      pb::EventType& type = *message.add_event_types();
      type.set_type(count.type);
      type.set_schema_version(count.schema_version);
      type.set_events(count.events);
    }
  }
  if (description.aggregates.has_value()) message.set_aggregates(*description.aggregates);
}

}  // namespace persistd::rpc
