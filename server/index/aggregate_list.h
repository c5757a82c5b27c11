// Lists aggregates: what rpc/ calls. Thread-safe; nothing blocks.
//
// The list comes from the daemon's local index, which follows the streams: it may be a moment behind, and says in
// `position` how far it has read. See README.md of this folder.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/task.h"
#include "server/domain/position.h"
#include "server/repository/repository.h"

namespace persistd::index {

struct ListQuery {
  std::string context{};            // Empty: all.
  std::string aggregate{};          // Empty: all.
  std::vector<std::string> tags{};  // An aggregate must have all of them.
  std::string filter{};             // AIP-160, see server/filter; empty: all.
  std::string order_by{};    // entity_id (also when empty), last_modified or version, with ` desc` for descending.
  int page_size = 0;         // 0: 100; more than 1000 means 1000.
  std::string page_token{};  // From the page before; empty: the first one.
  bool show_deleted = false;
  bool with_chains = false;                    // Named chains as well, as the aggregates that they are inside.
  std::optional<domain::Position> at_least{};  // Wait until the index has read it.
};

struct ListPage {
  std::vector<repository::AggregateInfo> aggregates;  // Without state_schema_version and state_cid.
  std::string next_page_token;                        // Empty: this is the last page.
  domain::Position position;                          // Up to where the index had read.
};

class AggregateList {
 public:
  virtual ~AggregateList() = default;

  // INVALID_FIELD naming page_size, page_token, order_by or filter; INDEX_NOT_READY while the index is being built, and
  // when `at_least` is not reached by the deadline.
  virtual base::Task<absl::StatusOr<ListPage>> List(ListQuery query, base::SteadyTime deadline) = 0;
};

}  // namespace persistd::index
