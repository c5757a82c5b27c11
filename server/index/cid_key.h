// What the index keeps of a CID. Pure.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

#include "absl/strings/string_view.h"
#include "server/ipld/cid.h"

namespace persistd::index {

// The first bytes of a CID's digest: whoever finds something by them compares the rest. Never 0.
inline uint64_t CidKey(const ipld::Cid& cid) {
  uint64_t key = 0;
  for (size_t i = 0; i < sizeof(key); ++i) key = key << 8 | cid.digest[i];
  return std::max<uint64_t>(key, 1);
}

// Of its text; 0: that is no CID.
inline uint64_t CidKey(absl::string_view text) {
  const std::optional<ipld::Cid> cid = ipld::Cid::Parse(text);
  return cid.has_value() ? CidKey(*cid) : 0;
}

}  // namespace persistd::index
