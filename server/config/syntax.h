// What single texts of the configuration must look like. Each check answers OK, or INVALID_ARGUMENT with what is wrong,
// as the first half of a sentence that ends with what is allowed. Pure functions; no name is looked up, no file opened.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace persistd::config {

// HOST:PORT, where HOST is a name, an IPv4 address or an IPv6 address in brackets, and PORT 0 to 65535.
absl::Status CheckListenAddress(absl::string_view text);

// nats:// or tls://, optional credentials and @, HOST with an optional :PORT.
absl::Status CheckNatsUrl(absl::string_view text);

// http:// or https://, HOST with an optional :PORT.
absl::Status CheckMonitoringUrl(absl::string_view text);

// A stream or bucket name that leaves room for what the daemon appends and does not collide with its own names.
absl::Status CheckStreamName(absl::string_view text);
absl::Status CheckBucketName(absl::string_view text);

// A context or aggregate type: one token of a subject, as ARCHITECTURE §3 says.
absl::Status CheckToken(absl::string_view text);

// The name of a NATS cluster, or a tag of its servers.
absl::Status CheckPlacementWord(absl::string_view text);

// Text without control characters, of at most `max` bytes.
absl::Status CheckText(absl::string_view text, std::size_t max);

// True when the URL has something before an @.
bool UrlHasCredentials(absl::string_view url);

// The URL with *** in place of its credentials. Works on malformed URLs as well.
std::string WithoutCredentials(absl::string_view url);

}  // namespace persistd::config
