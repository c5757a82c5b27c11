// Keys of read models: what is allowed, and how they are spelled in the bucket. Pure, thread-safe.
#pragma once

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/domain/read_model_key.h"

namespace persistd::readmodel {

inline constexpr size_t kMaxIdBytes = 256;
inline constexpr size_t kMaxIdTokens = 16;

// INVALID_FIELD naming `<prefix>type` or `<prefix>id`.
absl::Status ValidateKey(const domain::ReadModelKey& key, absl::string_view prefix = "key.");

// {type}.{generation}.{id}: each token of the id is encoded as an entity id is, so that it is one token in NATS.
// generation: tells copies apart of which one is read at a time.
std::string BucketKey(const domain::ReadModelKey& key, absl::string_view generation);
// The inverse; nullopt for what BucketKey does not make, or of another generation.
std::optional<domain::ReadModelKey> ParseBucketKey(absl::string_view key, absl::string_view generation);

// As BucketKey, for all ids of a type that match a pattern of NATS (`*` is one token, `>` one or more and comes last;
// empty: all). INVALID_FIELD naming `field`.
absl::StatusOr<std::string> BucketPattern(absl::string_view type, absl::string_view generation,
                                          absl::string_view id_pattern, absl::string_view field);
// What the keys of all ids begin with that begin with `id_prefix`.
std::string BucketPrefix(absl::string_view type, absl::string_view generation, absl::string_view id_prefix);

// cim.readmodels.{type}.{id}.{operation}
std::string ChangeSubject(const domain::ReadModelKey& key, absl::string_view operation);

}  // namespace persistd::readmodel
