#include "tests/bench/dataset.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/jetstream/pointers.h"

namespace persistd::bench {
namespace {

constexpr uint64_t kProgressEvery = 1'000'000;

// The same for every daemon that asks: a commit id belongs to the event, and the state repeats it.
std::string CommitId(char set, uint64_t number, uint64_t version) {
  return absl::StrCat(EntityId(set, number), "-", version);
}

domain::AggregateRef Ref(const std::string& aggregate, std::string id) {
  return {.context = kContext, .aggregate = aggregate, .entity_id = std::move(id)};
}

// Writes events one after the other and knows the sequence of each.
class EventWriter {
 public:
  EventWriter(World* world, std::string aggregate)
      : writer_(&world->raw(false), world->fsyncs_always()), aggregate_(std::move(aggregate)) {}

  // cid: of the event before, and then of this one.
  void Add(char set, uint64_t number, uint64_t version, const jetstream::PlacePointers& pointers, std::string& cid) {
    writer_.Add(
        EventMessage(Ref(aggregate_, EntityId(set, number)), version, pointers, CommitId(set, number, version), &cid));
    ++next_;
    if (next_ % kProgressEvery == 0) Progress(absl::StrCat("  ", next_, " events"));
  }
  uint64_t next_sequence() const { return next_; }
  uint64_t Finish() { return writer_.Finish(); }

 private:
  BulkWriter writer_;
  const std::string aggregate_;
  uint64_t next_ = 2;  // The first one was made with the stream.
};

struct Spread {
  uint64_t events = 0;
  uint64_t written = 0;
  jetstream::EventPlace place;
  jetstream::PlacePointers pointers;
  std::string cid{};
};

// The next event of the i-th of the spread ones.
void AddNext(EventWriter& writer, uint64_t i, Spread& spread) {
  if (spread.written > 0) {
    spread.pointers = jetstream::NextPointers(spread.written, spread.place, spread.pointers);
  }
  spread.place = {.in_batch = false, .number = writer.next_sequence()};
  writer.Add('s', i, ++spread.written, spread.pointers, spread.cid);
}

}  // namespace

Dataset::Dataset(World* world, DatasetOptions options) : options_(std::move(options)) {
  world->MakeStreams(options_.aggregate);
  Progress(absl::StrCat("storing data set ", options_.aggregate, ": ", options_.aggregates, " aggregates with ",
                        options_.events, " events each"));
  StoreEvents(*world);
  if (options_.with_state > 0) StoreStates(*world);
}

void Dataset::StoreEvents(World& world) {
  EventWriter writer(&world, options_.aggregate);
  std::vector<Spread> spread;
  for (const uint64_t events : options_.spread)
    spread.push_back({.events = events, .written = 0, .place = {}, .pointers = {}, .cid = {}});
  const uint64_t total = options_.aggregates * options_.events;
  // The sequences of each aggregate's events so far; few events each, so no skip pointers.
  std::vector<std::vector<uint32_t>> sequences(options_.aggregates);
  std::vector<std::string> cids(options_.aggregates);
  uint64_t written = 0;
  for (uint64_t version = 1; version <= options_.events; ++version) {
    for (uint64_t number = 0; number < options_.aggregates; ++number, ++written) {
      for (uint64_t i = 0; i < spread.size(); ++i) {
        Spread& own = spread[i];
        if (own.written * total > written * own.events || own.written == own.events) continue;
        AddNext(writer, i, own);
      }
      jetstream::PlacePointers pointers;
      std::vector<uint32_t>& earlier = sequences[number];
      for (size_t i = earlier.size(); i-- > 0;) pointers.back.push_back({.in_batch = false, .number = earlier[i]});
      earlier.push_back(static_cast<uint32_t>(writer.next_sequence()));
      writer.Add('d', number, version, pointers, cids[number]);
    }
  }
  // Whatever is left: all of it when there is nothing to spread it over.
  for (uint64_t i = 0; i < spread.size(); ++i) {
    while (spread[i].written < spread[i].events) AddNext(writer, i, spread[i]);
  }
  if (writer.Finish() + 1 != writer.next_sequence()) throw std::runtime_error("somebody else wrote to the data set");
}

void Dataset::StoreStates(World& world) {
  BulkWriter writer(&world.raw(false), world.fsyncs_always());
  for (uint64_t i = 0; i < options_.with_state; ++i) {
    writer.Add(StateMessage(Ref(options_.aggregate, Id(i)), options_.events, CommitId('d', i, options_.events)));
  }
  writer.Finish();
}

std::vector<std::string> Dataset::Sample(World& world, uint64_t count, bool with_state) const {
  const uint64_t begin = with_state ? 0 : options_.with_state;
  const uint64_t end = with_state ? options_.with_state : options_.aggregates;
  std::vector<uint64_t> numbers(end - begin);
  std::iota(numbers.begin(), numbers.end(), begin);
  std::shuffle(numbers.begin(), numbers.end(), world.random());
  if (numbers.size() > count) numbers.resize(count);
  std::vector<std::string> ids;
  ids.reserve(numbers.size());
  for (const uint64_t number : numbers) ids.push_back(Id(number));
  return ids;
}

}  // namespace persistd::bench
