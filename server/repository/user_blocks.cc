#include "server/repository/user_blocks.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/domain/errors.h"
#include "server/ipld/event_block.h"
#include "server/jetstream/event_codec.h"
#include "server/repository/blocks.h"

namespace persistd::repository {
namespace {

using jetstream::KvEntry;
using jetstream::Message;
using jetstream::ReadFrom;

constexpr ReadFrom kReads[] = {ReadFrom::kAnyReplica, ReadFrom::kLeader};
constexpr bool kLooks[] = {false, true};

ipld::Cid CidOf(absl::string_view bytes, uint64_t codec) {
  return codec == ipld::kDagCborCodec ? ipld::DagCborCid(bytes) : ipld::RawCid(bytes);
}

// Whether the message was stored as the event, or with the payload, of this CID.
bool Claims(const Message& message, const ipld::Cid& cid) {
  const std::string* claimed = message.headers.Find(cid.codec == ipld::kDagCborCodec ? "ce-cid" : "ce-datacid");
  return claimed != nullptr && *claimed == cid.ToString();
}

// The bytes of this kind that the message holds.
absl::StatusOr<std::string> BytesOf(Message message, uint64_t codec) {
  ASSIGN_OR_RETURN(jetstream::DecodedEvent decoded, jetstream::DecodeEvent(std::move(message)));
  if (codec == ipld::kRawCodec) return std::move(decoded.event.payload.data);
  std::optional<std::string> block = ipld::EventBlock(decoded.event, decoded.labels);
  if (!block.has_value()) return absl::DataLossError("a header that holds a CID is damaged");
  return *std::move(block);
}

}  // namespace

base::Task<absl::StatusOr<bool>> UserBlocks::Put(ipld::Cid cid, std::string bytes, base::SteadyTime deadline) {
  const std::string key = cid.ToString();
  while (true) {
    CO_ASSIGN_OR_RETURN(const std::optional<KvEntry> there, co_await kv_->Last(key, ReadFrom::kLeader, deadline));
    const bool intact =
        there.has_value() && there->operation == KvEntry::Operation::kPut && CidOf(there->value, cid.codec) == cid;
    if (intact && there->headers.Find(kChunkHeader) == nullptr) co_return true;
    // Missing or damaged; or a chunk, which goes when nothing lists it any more, and must not from now on.
    const absl::StatusOr<uint64_t> written =
        co_await kv_->Update(key, bytes, there.has_value() ? there->revision : 0, deadline);
    if (written.ok()) co_return intact;
    if (!absl::IsAborted(written.status())) co_return written.status();
    if (base::Clock::System().SteadyNow() >= deadline) {
      co_return domain::Overloaded(absl::StrCat("others write block ", key, " all the time"));
    }
  }
}

base::Task<absl::StatusOr<FoundBlock>> UserBlocks::Get(ipld::Cid cid, base::SteadyTime deadline) {
  const std::string key = cid.ToString();
  for (const ReadFrom from : kReads) {
    CO_ASSIGN_OR_RETURN(std::optional<KvEntry> there, co_await kv_->Get(key, from, deadline));
    if (!there.has_value()) continue;
    const ipld::Cid actual = CidOf(there->value, cid.codec);
    if (actual == cid) co_return FoundBlock{.data = std::move(there->value), .source = FoundBlock::Source::kBlock};
    if (from == ReadFrom::kAnyReplica) continue;
    co_return domain::CorruptData(kv_->stream(), there->revision, "the block is not what its CID says",
                                  {.expected = key, .actual = actual.ToString()});
  }
  if (hints_ == nullptr) co_return domain::BlockNotFound(key);
  absl::Status corrupt;
  // What is known without waiting is mostly enough.
  for (const bool up_to_date : kLooks) {
    CO_ASSIGN_OR_RETURN(const std::vector<MessagePlace> places, co_await hints_->FindBlock(cid, up_to_date, deadline));
    for (const MessagePlace& place : places) {
      absl::StatusOr<std::optional<FoundBlock>> found = co_await ReadEvent(cid, place, deadline);
      if (found.ok() && found->has_value()) co_return **std::move(found);
      if (found.ok()) continue;
      if (!absl::IsDataLoss(found.status())) co_return found.status();
      corrupt = found.status();  // The same bytes may be intact elsewhere.
    }
  }
  if (!corrupt.ok()) co_return corrupt;
  co_return domain::BlockNotFound(key);
}

base::Task<absl::StatusOr<std::optional<FoundBlock>>> UserBlocks::ReadEvent(ipld::Cid cid, MessagePlace place,
                                                                            base::SteadyTime deadline) {
  CO_ASSIGN_OR_RETURN(std::optional<Message> message,
                      co_await reader_->Get(place.stream, place.sequence, ReadFrom::kLeader, deadline));
  if (!message.has_value()) co_return std::optional<FoundBlock>();
  const bool claims = Claims(*message, cid);
  absl::StatusOr<std::string> bytes = BytesOf(*std::move(message), cid.codec);
  std::string actual;
  if (bytes.ok()) {
    const ipld::Cid found = CidOf(*bytes, cid.codec);
    if (found == cid) {
      co_return FoundBlock{
          .data = *std::move(bytes),
          .source = cid.codec == ipld::kRawCodec ? FoundBlock::Source::kPayload : FoundBlock::Source::kEvent};
    }
    actual = found.ToString();
  }
  if (!claims) co_return std::optional<FoundBlock>();
  co_return domain::CorruptData(place.stream, place.sequence,
                                bytes.ok() ? "the event is not what its CID says" : bytes.status().message(),
                                {.expected = cid.ToString(), .actual = actual});
}

}  // namespace persistd::repository
