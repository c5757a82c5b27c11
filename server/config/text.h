// Small helpers for text from outside: quoting it in messages, checking its encoding, finding what was meant.
// Pure functions.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace persistd::config {

// `text` between double quotes, safe for a terminal and a YAML reader: quotes, backslashes, control characters and
// bytes that are not UTF-8 are escaped.
std::string Escaped(absl::string_view text);

// The same for messages: cut after about 64 bytes.
std::string Quoted(absl::string_view text);

// The offset of the first byte that is not part of well-formed UTF-8; nullopt when all is well.
std::optional<std::size_t> InvalidUtf8At(absl::string_view text);

// True for an ASCII control character.
bool IsControl(char c);

// The candidate that `word` is most likely a misspelling of: at most two edits away (a swap of neighbours is one; case
// does not matter), or else the only one that `word` begins or that begins `word`.
std::optional<std::string> ClosestTo(absl::string_view word, const std::vector<std::string>& candidates);

}  // namespace persistd::config
