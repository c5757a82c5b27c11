// Where a page of a list ended, as an opaque text for callers. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "server/index/aggregate_list.h"

namespace persistd::index {

// The last aggregate of a page. `key` is what the list is ordered by, 0 for entity_id.
struct PageEnd {
  int64_t key = 0;
  std::string entity_id;
  std::string context;
  std::string aggregate;

  bool operator==(const PageEnd&) const = default;
};

// query: the one that the page answers; the token fits no other.
std::string ToPageToken(const ListQuery& query, const PageEnd& end);
// nullopt: not a token that was made for `query`.
std::optional<PageEnd> ParsePageToken(const ListQuery& query, absl::string_view token);

}  // namespace persistd::index
