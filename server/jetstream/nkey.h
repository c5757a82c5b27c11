// The public key that belongs to an nkey seed. nats.c signs with a seed but wants to be told the public key.
//
// Format: base32 without padding of prefix, key and a CRC-16 (polynomial 0x1021, little-endian), as in the
// nats-io/nkeys documentation. Pure, thread-safe.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace persistd::jetstream {

// seed: the text of a user seed (`SU…`), surrounding white space allowed. Returns the public key (`U…`).
absl::StatusOr<std::string> NkeyPublicKey(absl::string_view seed);

}  // namespace persistd::jetstream
