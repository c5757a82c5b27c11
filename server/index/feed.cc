#include "server/index/feed.h"

#include <utility>

namespace persistd::index {

std::optional<jetstream::TailPosition> Feed::StartOf(const std::string& stream) { return indexer_->StartOf(stream); }

void Feed::OnMessage(const std::string& stream, jetstream::Message message, uint64_t pending) {
  Entry entry = ToEntry(message);
  // The last event of a save that is there has all before it. (Not so of a commit of several aggregates that a power
  // cut tore. Who is told of it sees in the message that it belongs to one.)
  if (entry.kind == Entry::Kind::kEvent && entry.part == entry.parts) observer_(entry, message);
  indexer_->OnEntry(stream, std::move(entry), pending);
}

void Feed::OnReset(const std::string& stream, uint64_t incarnation) { indexer_->OnReset(stream, incarnation); }

void Feed::OnCaughtUp(const std::string& stream) { indexer_->OnCaughtUp(stream); }

void Feed::OnGone(const std::string& stream) { indexer_->OnGone(stream); }

void Feed::OnStreams(const std::vector<std::string>& streams) { indexer_->OnStreams(streams); }

}  // namespace persistd::index
