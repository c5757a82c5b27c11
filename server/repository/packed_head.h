// A head as the cache keeps it: some 100 bytes in place of several strings and vectors, so that many fit, and so that
// what is kept for long does not lie scattered between what is freed at once. A plain value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "server/repository/head.h"

namespace persistd::repository {

class PackedHead {
 public:
  explicit PackedHead(const Head& head);

  Head Unpack() const;  // What it was made of.

  const jetstream::StreamPtr& stream() const { return stream_; }
  uint64_t last_sequence() const { return last_sequence_; }
  // That it takes beside its own size.
  size_t extra_bytes() const;

 private:
  jetstream::StreamPtr stream_;
  std::shared_ptr<const domain::AggregateLabels> labels_;  // nullptr: none.
  uint64_t last_sequence_;
  std::string rest_;  // Everything else.
};

}  // namespace persistd::repository
