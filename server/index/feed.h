// What the tails of the event streams are for: they tell of each saved event, and fill the index.
//
// Called by the tails on their connection's thread, and by nobody else.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "server/index/entry.h"
#include "server/index/indexer.h"
#include "server/jetstream/tails.h"

namespace persistd::index {

class Feed final : public jetstream::TailsSink {
 public:
  // Called for the last event of each save of one aggregate that is in a stream, by whichever daemon, and with the
  // message that holds it. Must be quick.
  using Observer = std::function<void(const Entry& last, const jetstream::Message& message)>;

  Feed(Indexer* indexer, Observer observer) : indexer_(indexer), observer_(std::move(observer)) {}

  std::optional<jetstream::TailPosition> StartOf(const std::string& stream) override;
  void OnMessage(const std::string& stream, jetstream::Message message, uint64_t pending) override;
  void OnReset(const std::string& stream, uint64_t incarnation) override;
  void OnCaughtUp(const std::string& stream) override;
  void OnGone(const std::string& stream) override;
  void OnStreams(const std::vector<std::string>& streams) override;

 private:
  Indexer* const indexer_;
  const Observer observer_;
};

}  // namespace persistd::index
