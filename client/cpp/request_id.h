// Ids for saves: UUIDs of version 7 (RFC 9562), a millisecond timestamp followed by random bits. The daemon reads the
// timestamp to bound its search for an earlier copy of the save.
#pragma once

#include <string>

namespace persistd::client {

// A fresh id, in the canonical lower-case form of 36 characters. Thread-safe.
std::string NewRequestId();

}  // namespace persistd::client
