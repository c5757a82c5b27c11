// How the stream of a key-value bucket is made. Pure, for kv.cc.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/string_view.h"
#include "server/jetstream/kv.h"

namespace persistd::jetstream {

// KV_<bucket>
std::string StreamOfBucket(absl::string_view bucket);

// The configuration to make it with.
nlohmann::json BucketConfig(const KvOptions& options);

}  // namespace persistd::jetstream
