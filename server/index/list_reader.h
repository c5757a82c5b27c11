// Reads pages of aggregates, and hints for saves and blocks, from the index's file. For one thread; blocks.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/filter/filter.h"
#include "server/index/aggregate_list.h"
#include "server/index/cid_segments.h"
#include "server/index/database.h"
#include "server/index/page_token.h"

namespace persistd::index {

// A ListQuery whose parts were checked.
struct CheckedList {
  enum class Order { kEntityId, kLastModified, kVersion };
  Order order = Order::kEntityId;
  bool descending = false;
  size_t page_size = 0;
  std::optional<filter::Filter> filter;
  std::optional<PageEnd> after;
};

// INVALID_FIELD naming what is wrong.
absl::StatusOr<CheckedList> CheckList(const ListQuery& query);

class ListReader {
 public:
  struct Options {
    std::string path;
    uint64_t cache_bytes = 4u << 20;
  };

  explicit ListReader(Options options) : options_(std::move(options)) {}

  // The file is opened when it is needed, and again after this.
  void Reopen() { database_ = nullptr; }

  // All of the page and its position are of the same moment. Cancelled when the deadline passes.
  absl::StatusOr<ListPage> Read(const ListQuery& query, const CheckedList& checked, base::SteadyTime deadline);
  // The first version of the save, see repository::CommitHints.
  absl::StatusOr<std::optional<uint64_t>> FirstVersion(const domain::AggregateRef& ref, const std::string& commit_id);
  // Where events and payloads with this key may be.
  absl::StatusOr<std::vector<CidSegments::Found>> FindCid(uint64_t key);

 private:
  absl::Status OpenIfNeeded();
  absl::StatusOr<ListPage> ReadPage(const ListQuery& query, const CheckedList& checked);

  const Options options_;
  std::unique_ptr<Database> database_;
};

}  // namespace persistd::index
