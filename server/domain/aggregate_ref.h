// Names one aggregate. A plain value; whether its parts are allowed is checked by ValidateRef in subject.h.
#pragma once

#include <compare>
#include <string>

namespace persistd::domain {

struct AggregateRef {
  std::string context;
  std::string aggregate;
  std::string entity_id;

  auto operator<=>(const AggregateRef&) const = default;
};

}  // namespace persistd::domain
