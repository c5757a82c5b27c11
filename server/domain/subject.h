// The subject hierarchy of the system (ARCHITECTURE.md, section 3). Pure functions, thread-safe.
//
// nats.c checks neither subjects nor headers, and a CR/LF in one injects a protocol line. So every subject that reaches
// it is made by these functions, from parts that ValidateRef and ValidateToken have accepted.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "server/domain/aggregate_ref.h"

namespace persistd::domain {

inline constexpr size_t kMaxTokenBytes = 64;
inline constexpr size_t kMaxEntityBytes = 128;

// Contexts, aggregate types and event types: 1 to 64 of `A-Z a-z 0-9 _ -`, not starting with `_`. The error names
// `field`.
absl::Status ValidateToken(absl::string_view token, absl::string_view field);

// Checks all parts; the error names the field as `<prefix>context` and so on.
absl::Status ValidateRef(const AggregateRef& ref, absl::string_view prefix = "ref.");

// 1 to 128 bytes of UTF-8: an entity id, or the name of a chain. The error names `field`.
absl::Status ValidateEntityId(absl::string_view id, absl::string_view field);

AggregateRef ChainRef(std::string name);
// Entries of chains are events of this type, of schema version 1.
inline constexpr char kChainEntryType[] = "entry";
// All entries of all chains.
inline constexpr char kChainSubjects[] = "cim.chains.>";

// An entity id as one subject token: bytes outside `A-Z a-z 0-9 _ -` become `=XX` with upper-case hexadecimal digits.
std::string EncodeEntity(absl::string_view entity_id);

// The inverse; nullopt for every text that EncodeEntity does not produce from a valid id.
std::optional<std::string> DecodeEntity(absl::string_view token);

// cim.events.{context}.{aggregate}.{entity}.{event}.v{schema version}; of a chain cim.chains.{name} for every entry.
std::string EventSubject(const AggregateRef& ref, absl::string_view type, uint32_t schema_version);

// cim.events.{context}.{aggregate}.{entity}.>, or cim.chains.{name} : every event of one aggregate. THE spelling for
// JetStream's optimistic concurrency check: on a replicated stream a second spelling of the same filter loses updates,
// so nothing else may build one.
std::string EventFilter(const AggregateRef& ref);

// cim.events.{context}.{aggregate}._check : where a commit of several aggregates carries the checks of those that it
// does not write. A token less than an event's subject, so that no EventFilter matches it.
std::string CheckSubject(const AggregateRef& ref);
// True for whatever CheckSubject makes. A chain may be called `_check`.
bool IsCheckSubject(absl::string_view subject);

// cim.aggregates.{context}.{aggregate}.{entity}.state.v{schema version}
std::string StateSubject(const AggregateRef& ref, uint32_t schema_version);

// cim.aggregates.{context}.{aggregate}.{entity}.state.> ; same rule as EventFilter.
std::string StateFilter(const AggregateRef& ref);

struct ParsedEventSubject {
  AggregateRef ref;
  std::string type;
  uint32_t schema_version = 0;
};
// nullopt when `subject` is not one that EventSubject makes. Reserved event types (`_deleted`) are accepted.
std::optional<ParsedEventSubject> ParseEventSubject(absl::string_view subject);

struct ParsedStateSubject {
  AggregateRef ref;
  uint32_t schema_version = 0;
};
std::optional<ParsedStateSubject> ParseStateSubject(absl::string_view subject);

}  // namespace persistd::domain
