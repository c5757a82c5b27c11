#include "server/index/follower.h"

#include <utility>

namespace persistd::index {

Follower::Follower(Options options, jetstream::Connection* connection, base::Executor* executor,
                   Feed::Observer observer)
    : indexer_({.path = options.path, .cache_bytes = options.cache_bytes}),
      feed_(&indexer_, std::move(observer)),
      tails_(std::move(options.tails), connection, executor, &feed_),
      index_(
          {.path = options.path, .reader_cache_bytes = options.cache_bytes / 4}, &indexer_, [this] { tails_.Nudge(); },
          executor) {}

Follower::~Follower() { Stop(); }

void Follower::Start() {
  started_ = true;
  indexer_.Start({.done = [this](const std::string& stream, uint64_t count) { tails_.Done(stream, count); },
                  .begin_again = [this] { tails_.BeginAgain(); }});
  tails_.Start();
}

void Follower::Stop() {
  if (started_) tails_.Stop();
  indexer_.Stop();
  index_.Stop();
}

}  // namespace persistd::index
