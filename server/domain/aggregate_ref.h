// Names one aggregate. A plain value; whether its parts are allowed is checked by ValidateRef in subject.h.
#pragma once

#include <compare>
#include <string>
#include <utility>

namespace persistd::domain {

struct AggregateRef {
  std::string context;
  std::string aggregate;
  std::string entity_id;

  auto operator<=>(const AggregateRef&) const = default;

  // What differs most comes first.
  bool operator==(const AggregateRef& other) const {
    return entity_id == other.entity_id && aggregate == other.aggregate && context == other.context;
  }

  template <typename Hash>
  friend Hash AbslHashValue(Hash hash, const AggregateRef& ref) {
    return Hash::combine(std::move(hash), ref.context, ref.aggregate, ref.entity_id);
  }
};

// Named chains are aggregates of a type of their own, which no caller can name: a leading `_` is reserved.
inline constexpr char kChainContext[] = "_chains";
inline constexpr char kChainAggregate[] = "chain";
inline bool IsChain(const AggregateRef& ref) { return ref.context == kChainContext; }

}  // namespace persistd::domain
