// Bytes as text in the alphabets that CIDs use (https://github.com/multiformats/multibase), without the letter that
// names the alphabet. Pure, thread-safe.
#pragma once

#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace persistd::ipld {

// Lower case, without padding.
std::string EncodeBase32(absl::string_view bytes);
// The inverse: nullopt for every text that EncodeBase32 does not make.
std::optional<std::string> DecodeBase32(absl::string_view text);

// Bitcoin's alphabet. Takes quadratic time: for digests, not for content.
std::string EncodeBase58(absl::string_view bytes);

}  // namespace persistd::ipld
