// Which request or channel of a Connection a message in its inbox belongs to. Pure, thread-safe.
//
// The inbox is one subscription to `{prefix}*`. An answer comes on `{prefix}{token}`. A consumer's message comes there
// as well, but with the subject that it is stored under; what names the consumer then is the subject for its
// acknowledgement, so consumers of a channel have names that end with the channel's number.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace persistd::jetstream {

// nullopt: neither an answer nor from a consumer of a channel.
std::optional<uint64_t> ReplyToken(absl::string_view inbox_prefix, absl::string_view subject, absl::string_view reply);

// The name of a consumer whose messages belong to `channel`. unique: letters and digits that no other consumer of the
// stream has.
std::string DeliveryName(absl::string_view unique, uint64_t channel);

// What a consumer tells with each message.
struct Delivery {
  absl::string_view stream;
  absl::string_view consumer;
  uint64_t stream_sequence = 0;
  uint64_t consumer_sequence = 0;  // Counts what this consumer delivers, from 1, without holes.
  uint64_t time_ns = 0;            // When the stream stored it.
  uint64_t pending = 0;            // Messages that it has still to deliver.
};
// From the reply subject of a message, whose text it refers to. Both forms that servers use are understood:
// `$JS.ACK.{stream}.{consumer}.{delivered}.{stream seq}.{consumer seq}.{time}.{pending}` and the one with domain and
// account after `$JS.ACK`.
std::optional<Delivery> ParseDelivery(absl::string_view reply);

}  // namespace persistd::jetstream
