// Names one read model. A plain value; whether its parts are allowed is checked by readmodel/key.h.
#pragma once

#include <compare>
#include <string>

namespace persistd::domain {

struct ReadModelKey {
  std::string type;
  std::string id;  // Tokens joined by dots.

  auto operator<=>(const ReadModelKey&) const = default;
};

}  // namespace persistd::domain
