// How a created aggregate type is kept: in the KV bucket `cim-control`, key `type.{context}.{aggregate}`, as a JSON
// object
// {"format": 1, "replicas": 3, "storage": "file", "compression": "s2", "placement": {"cluster": "eu", "tags": ["ssd"]},
// "max_bytes": 0}; what is absent follows repository.stream. Pure functions.
#pragma once

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/jetstream/stream_config.h"
#include "server/repository/storage.h"

namespace persistd::repository {

inline constexpr absl::string_view kTypeKeyPrefix = "type";

std::string TypeKey(const TypeName& type);
// nullopt when it is no such key.
std::optional<TypeName> TypeOfKey(absl::string_view key);

std::string EncodeTypeRecord(const jetstream::StreamSettings& settings);
// InvalidArgument when it is not what EncodeTypeRecord of this or an older version writes.
absl::StatusOr<jetstream::StreamSettings> DecodeTypeRecord(const std::string& json);

}  // namespace persistd::repository
