// Events and states as NATS messages. README.md of this folder documents the format; golden messages in the tests hold
// it, for what is stored is for ever. Pure, thread-safe.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/domain/event.h"
#include "server/jetstream/message.h"
#include "server/jetstream/pointers.h"

namespace persistd::jetstream {

// The version of the format, in header ce-persistd. A message without this header is not ours.
inline constexpr absl::string_view kFormatVersion = "1";

// Texts must be UTF-8, the content type printable ASCII without spaces at its ends. batch_index: of this message in its
// publish. labels: nullptr except for the last event of a save.
OutgoingMessage EncodeEvent(const domain::RecordedEvent& event, const PlacePointers& pointers, uint64_t batch_index,
                            const domain::AggregateLabels* labels);

// The message that carries the check of an aggregate which a commit of several does not write. Not an event: readers
// skip it. It belongs to the commit of `event`, whose group_place and group_size are its own.
OutgoingMessage EncodeCheckCarrier(const domain::AggregateRef& checked, const domain::RecordedEvent& event);

struct DecodedEvent {
  domain::RecordedEvent event;
  Pointers pointers;
  domain::AggregateLabels labels;  // Empty except for the last event of a save.
};

// True when the message was written by persistd.
bool IsOurs(const Message& message);

// DataLoss (without details of where) when the message is ours but cannot be read.
absl::StatusOr<DecodedEvent> DecodeEvent(Message message);

// The same, of a message that may not be where, or what, it was when it was stored: its pointers and its place in its
// save need not fit its sequence and version.
struct DisplacedEvent {
  DecodedEvent decoded;
  bool pointers_fit = true;  // False: decoded.pointers is empty.
};
absl::StatusOr<DisplacedEvent> DecodeDisplacedEvent(Message message);

// A state whose content is in blocks (state.chunks) becomes a message that lists them.
OutgoingMessage EncodeState(const domain::StateRecord& state);
// As it is stored: content that is in blocks is not fetched.
absl::StatusOr<domain::StateRecord> DecodeState(Message message);

// A state that is kept as a snapshot. Its message has no subject of its own: where it is stored says the caller.
OutgoingMessage EncodeSnapshot(const domain::StateRecord& state);
// ref: of the key that the message was found under; that of the message must be the same.
absl::StatusOr<domain::StateRecord> DecodeSnapshot(const domain::AggregateRef& ref, Message message);

// The blocks that a state or a snapshot lists; nullopt: its content is in no blocks, or it is not ours. DataLoss when
// that cannot be told. Needs only the headers of messages for which MayList is false.
absl::StatusOr<std::optional<domain::ChunkList>> ListedBlocks(const Message& message);
bool MayList(const Message& message);

// As CloudEvents encodes attribute values in headers: bytes outside printable ASCII, space, `"` and `%` become %XX.
std::string PercentEncode(absl::string_view text);
std::optional<std::string> PercentDecode(absl::string_view text);

}  // namespace persistd::jetstream
