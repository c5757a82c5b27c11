#include "server/repository/event_reads.h"

#include <algorithm>

#include "server/base/status_macros.h"

namespace persistd::repository {
namespace {

using jetstream::Message;

// How much of a history is under way at once.
constexpr size_t kReadAheadBytes = 4u << 20;
constexpr size_t kLeastReadAhead = 2;
constexpr size_t kMostReadAhead = 512;
constexpr size_t kMostSingles = 128;
constexpr size_t kAssumedEventBytes = 4096;  // Until some have been seen.
// Of one request for several messages. At least half of what it brings is wanted: an answer that is not costs about
// half of a request for one that is.
constexpr size_t kMostInRun = 256;
constexpr size_t kLeastInRun = 4;
constexpr size_t kRunBytes = 1u << 20;

}  // namespace

size_t EventReads::AverageBytes() const {
  return seen_events_ == 0 ? kAssumedEventBytes : seen_bytes_ / seen_events_ + 1;
}

size_t EventReads::RunLength(size_t most) const {
  const auto at = [this](size_t i) { return sequences_[reverse_ ? sequences_.size() - 1 - i : i]; };
  const uint64_t from = at(started_);
  size_t best = 1;
  for (size_t count = 2; count <= most; ++count) {
    const uint64_t to = at(started_ + count - 1);
    const uint64_t span = (reverse_ ? from - to : to - from) + 1;
    if (span > 2 * count) break;
    best = count;
  }
  return best < kLeastInRun ? 1 : best;
}

void EventReads::StartMore(base::SteadyTime deadline) {
  const size_t average = AverageBytes();
  const size_t window = std::clamp(kReadAheadBytes / average, kLeastReadAhead, kMostReadAhead);
  while (started_ < sequences_.size() && waiting_ < window && under_way_.size() < kMostSingles) {
    const size_t room = std::min(
        {window - waiting_, sequences_.size() - started_, kMostInRun, std::max<size_t>(kRunBytes / (2 * average), 1)});
    const size_t count = from_ == jetstream::ReadFrom::kLeader ? 1 : RunLength(room);
    const size_t first = reverse_ ? sequences_.size() - started_ - count : started_;
    if (count == 1) {
      under_way_.push_back(
          {.first = first, .count = 1, .answer = reader_.StartGet(stream_, sequences_[first], deadline, from_)});
    } else {
      const uint64_t span = sequences_[first + count - 1] - sequences_[first] + 1;
      under_way_.push_back({.first = first,
                            .count = count,
                            .answer = reader_.StartRange(stream_, sequences_[first], span, kRunBytes, deadline)});
    }
    started_ += count;
    waiting_ += count;
  }
}

base::Task<absl::StatusOr<std::optional<EventReads::Part>>> EventReads::NextPart() {
  std::optional<Part> none;
  if (under_way_.empty()) co_return none;
  UnderWay next = std::move(under_way_.front());
  under_way_.pop_front();
  waiting_ -= next.count;
  Part part;
  part.items.resize(next.count);
  for (size_t i = 0; i < next.count; ++i) {
    part.items[i].index = next.first + i;
    part.items[i].sequence = sequences_[next.first + i];
  }
  if (One* one = std::get_if<One>(&next.answer)) {
    absl::StatusOr<Message> answer = co_await *one;
    CO_ASSIGN_OR_RETURN(part.items.front().message, reader_.FinishGet(std::move(answer), stream_, from_));
  } else {
    absl::StatusOr<std::vector<Message>> answers = co_await std::get<Many>(next.answer);
    CO_ASSIGN_OR_RETURN(std::vector<Message> messages, reader_.FinishRange(std::move(answers), stream_));
    auto item = part.items.begin();
    for (Message& message : messages) {
      while (item != part.items.end() && item->sequence < message.sequence) ++item;
      if (item != part.items.end() && item->sequence == message.sequence) item->message = std::move(message);
    }
  }
  for (const Item& item : part.items) {
    if (!item.message.has_value()) continue;
    ++seen_events_;
    seen_bytes_ += item.message->data.size();
  }
  if (reverse_) std::reverse(part.items.begin(), part.items.end());
  co_return std::optional<Part>(std::move(part));
}

}  // namespace persistd::repository
