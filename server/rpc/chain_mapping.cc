#include "server/rpc/chain_mapping.h"

#include <cstdint>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/base/uuid.h"
#include "server/domain/errors.h"
#include "server/domain/subject.h"
#include "server/ipld/dag_cbor.h"
#include "server/rpc/request_validation.h"
#include "server/rpc/response_mapping.h"

namespace persistd::rpc {
namespace {

namespace pb = cim::persistence::v1;

absl::StatusOr<ipld::Cid> CidOf(const std::string& bytes, pb::BlockCodec codec) {
  switch (codec) {
    case pb::BLOCK_CODEC_UNSPECIFIED:
    case pb::BLOCK_CODEC_RAW:
      return ipld::RawCid(bytes);
    case pb::BLOCK_CODEC_DAG_CBOR:
      // Whoever has the CID relies on there being one block for a value.
      if (const absl::Status read = ipld::LinksOfDagCbor(bytes).status(); !read.ok()) {
        return domain::InvalidField("data", absl::StrCat("must be canonical DAG-CBOR: ", read.message()));
      }
      return ipld::DagCborCid(bytes);
    default:
      return domain::InvalidField("codec", "must be BLOCK_CODEC_RAW or BLOCK_CODEC_DAG_CBOR");
  }
}

template <typename Request>
absl::StatusOr<domain::AggregateRef> TargetOf(const Request& request) {
  switch (request.target_case()) {
    case Request::kAggregate:
      return ToRef(request.aggregate(), FieldPath("aggregate"));
    case Request::kChain:
      return ToChainRef(request.chain());
    default:
      return domain::InvalidField("aggregate", "must be set, or `chain` instead of it");
  }
}

pb::ChainBreak::Reason ToProto(ipld::BreakReason reason) {
  using Reason = ipld::BreakReason;
  switch (reason) {
    case Reason::kPayloadAltered:
      return pb::ChainBreak::REASON_PAYLOAD_ALTERED;
    case Reason::kMetadataAltered:
      return pb::ChainBreak::REASON_METADATA_ALTERED;
    case Reason::kEventRemoved:
      return pb::ChainBreak::REASON_EVENT_REMOVED;
    case Reason::kEventReordered:
      return pb::ChainBreak::REASON_EVENT_REORDERED;
    case Reason::kEventInserted:
      return pb::ChainBreak::REASON_EVENT_INSERTED;
    case Reason::kVersionChanged:
      return pb::ChainBreak::REASON_VERSION_CHANGED;
    case Reason::kEventReplaced:
      return pb::ChainBreak::REASON_EVENT_REPLACED;
    case Reason::kTailCut:
      return pb::ChainBreak::REASON_TAIL_CUT;
    case Reason::kPreviousDiffers:
      return pb::ChainBreak::REASON_PREVIOUS_DIFFERS;
    case Reason::kUnreadable:
      return pb::ChainBreak::REASON_UNREADABLE;
    case Reason::kMisplaced:
      return pb::ChainBreak::REASON_MISPLACED;
  }
  return pb::ChainBreak::REASON_UNSPECIFIED;
}

}  // namespace

absl::StatusOr<domain::AggregateRef> ToChainRef(const std::string& name, const FieldPath& path) {
  RETURN_IF_ERROR(domain::ValidateEntityId(name, path.ToString()));
  return domain::ChainRef(name);
}

absl::StatusOr<ipld::Cid> ToCid(const std::string& text, const FieldPath& path) {
  const std::optional<ipld::Cid> cid = ipld::Cid::Parse(text);
  if (cid.has_value() && (cid->codec == ipld::kRawCodec || cid->codec == ipld::kDagCborCodec)) return *cid;
  return domain::InvalidField(path.ToString(),
                              "must be a CID of version 1 with sha2-256, codec raw or dag-cbor, in base32 lower case");
}

absl::StatusOr<repository::SaveCommand> ToSaveCommand(const pb::AppendToChainRequest& request,
                                                      const RequestLimits& limits, const SaveContext& context) {
  repository::SaveCommand command;
  ASSIGN_OR_RETURN(command.ref, ToChainRef(request.chain()));
  if (request.has_expected_sequence()) {
    command.expectation = {.kind = repository::Expectation::Kind::kExact, .version = request.expected_sequence()};
  }
  ASSIGN_OR_RETURN(command.request_id, ToRequestId(request.request_id()));
  repository::SaveEvent entry;
  entry.event.event_id = base::NewUuidV7(context.now);
  entry.event.type = domain::kChainEntryType;
  if (request.has_content()) {
    ASSIGN_OR_RETURN(entry.event.payload, ToEventPayload(request.content(), FieldPath("content"), limits));
  }
  ASSIGN_OR_RETURN(entry.event.metadata, ToEventMetadata(request.metadata(), FieldPath("metadata"), context));
  entry.event.time = context.now;
  entry.has_time = request.has_time();
  if (entry.has_time) {
    ASSIGN_OR_RETURN(entry.event.time, ToWallTime(request.time(), FieldPath("time")));
  }
  command.events.push_back(std::move(entry));
  return command;
}

absl::StatusOr<repository::HistoryQuery> ToHistoryQuery(const pb::GetChainRequest& request) {
  repository::HistoryQuery query;
  ASSIGN_OR_RETURN(query.ref, ToChainRef(request.chain()));
  RETURN_IF_ERROR(CheckView(request.payload_view()));
  query.from_version = request.from_sequence();
  if (request.has_to_sequence()) {
    if (request.to_sequence() < request.from_sequence()) {
      return domain::InvalidField("to_sequence", "must not be less than from_sequence");
    }
    query.to_version = request.to_sequence();
  }
  query.reverse = request.reverse();
  return query;
}

absl::StatusOr<repository::VerifyCommand> ToVerifyCommand(const pb::VerifyChainRequest& request) {
  repository::VerifyCommand command;
  ASSIGN_OR_RETURN(command.ref, TargetOf(request));
  command.from_version = request.from_version();
  if (command.from_version == std::numeric_limits<uint64_t>::max()) {
    return domain::InvalidField("from_version", "must be less than 18446744073709551615: no version comes after it");
  }
  if (request.has_to_version()) {
    if (request.to_version() <= request.from_version()) {
      return domain::InvalidField("to_version", "must be more than from_version");
    }
    command.to_version = request.to_version();
  }
  if (!request.expected_head_cid().empty()) {
    RETURN_IF_ERROR(ToCid(request.expected_head_cid(), FieldPath("expected_head_cid")).status());
    command.expected_head_cid = request.expected_head_cid();
  }
  if (!request.expected_previous_cid().empty()) {
    if (request.from_version() == 0) {
      return domain::InvalidField("expected_previous_cid", "is of the event of from_version, which must be set then");
    }
    RETURN_IF_ERROR(ToCid(request.expected_previous_cid(), FieldPath("expected_previous_cid")).status());
    command.expected_previous_cid = request.expected_previous_cid();
  }
  return command;
}

absl::StatusOr<repository::VerifyCommand> ToVerifyCommand(const pb::ExportCarRequest& request) {
  repository::VerifyCommand command;
  ASSIGN_OR_RETURN(command.ref, TargetOf(request));
  if (request.has_to_version()) {
    if (request.to_version() == 0) return domain::InvalidField("to_version", "must be a version from 1 up");
    command.to_version = request.to_version();
  }
  return command;
}

void ToProto(const repository::Verification& verification, pb::ChainVerification& message) {
  const ipld::ChainResult& chain = verification.chain;
  message.set_valid(!chain.first_break.has_value());
  message.set_verified(chain.verified);
  message.set_without_cid(chain.without_cid);
  message.set_verifiable_from(chain.verifiable_from);
  message.set_head_cid(chain.head_cid);
  message.set_head_version(chain.head_version);
  if (!chain.first_break.has_value()) return;
  pb::ChainBreak& first = *message.mutable_first_break();
  first.set_version(chain.first_break->version);
  first.set_reason(ToProto(chain.first_break->reason));
  first.set_expected(chain.first_break->expected);
  first.set_actual(chain.first_break->actual);
  first.set_detail(chain.first_break->detail);
  if (!verification.position.streams().empty()) first.mutable_position()->set_token(verification.position.ToToken());
}

absl::StatusOr<ipld::Cid> ToBlockCid(const pb::PutBlockRequest& request, const RequestLimits& limits) {
  if (request.data().size() > limits.max_event_bytes) {
    return domain::TooLarge({.name = "data",
                             .limit = limits.max_event_bytes,
                             .value = request.data().size(),
                             .config_key = "limits.max_event_size"},
                            "cut it into several blocks, and store one that links to them");
  }
  ASSIGN_OR_RETURN(const ipld::Cid cid, CidOf(request.data(), request.codec()));
  if (request.expected_cid().empty() || request.expected_cid() == cid.ToString()) return cid;
  return domain::InvalidField("expected_cid", absl::StrCat("must be the CID of the bytes, which is ", cid.ToString()));
}

void ToProto(const repository::SaveResult& result, pb::Durability::Fsync fsync, pb::AppendToChainResponse& message) {
  pb::SaveResponse saved;
  ToProto(result, fsync, saved);
  message.set_deduplicated(saved.deduplicated());
  message.mutable_durability()->Swap(saved.mutable_durability());
  if (result.events.empty()) return;
  const repository::SavedEvent& entry = result.events.front();
  message.set_cid(entry.cid);
  message.set_prev_cid(entry.prev_cid);
  message.set_sequence(entry.version);
  message.mutable_position()->Swap(saved.mutable_events(0)->mutable_position());
}

void ToProto(repository::Event entry, pb::PayloadView view, pb::GetChainResponse& message) {
  pb::RecordedEvent event;
  ToProto(std::move(entry), view, event);
  message.set_sequence(event.version());
  message.set_cid(std::move(*event.mutable_cid()));
  message.set_prev_cid(std::move(*event.mutable_prev_cid()));
  message.set_content_cid(std::move(*event.mutable_payload_cid()));
  message.set_commit_id(std::move(*event.mutable_commit_id()));
  if (event.has_payload()) message.mutable_content()->Swap(event.mutable_payload());
  if (event.has_metadata()) message.mutable_metadata()->Swap(event.mutable_metadata());
  message.mutable_time()->Swap(event.mutable_time());
  message.mutable_recorded_time()->Swap(event.mutable_recorded_time());
  message.mutable_position()->Swap(event.mutable_position());
}

void ToProto(repository::FoundBlock block, pb::GetBlockResponse& message) {
  message.set_data(std::move(block.data));
  switch (block.source) {
    case repository::FoundBlock::Source::kBlock:
      message.set_source(pb::GetBlockResponse::SOURCE_BLOCK);
      break;
    case repository::FoundBlock::Source::kEvent:
      message.set_source(pb::GetBlockResponse::SOURCE_EVENT);
      break;
    case repository::FoundBlock::Source::kPayload:
      message.set_source(pb::GetBlockResponse::SOURCE_PAYLOAD);
      break;
  }
}

absl::Status NamedAsChain(absl::Status status, const domain::AggregateRef& ref) {
  const bool unknown = domain::HasReason(status, pb::ERROR_REASON_AGGREGATE_NOT_FOUND);
  return unknown && ref == domain::ChainRef(ref.entity_id) ? domain::ChainNotFound(ref) : status;
}

}  // namespace persistd::rpc
