#include "server/index/indexer.h"

#include <pthread.h>
#include <sys/resource.h>

#include <algorithm>
#include <utility>

#include "server/base/logging.h"
#include "server/base/status_macros.h"
#include "server/base/uuid.h"

namespace persistd::index {
namespace {

// A transaction ends when nothing more has come for so long ...
constexpr std::chrono::milliseconds kQuietTime{100};
// ... or when it is this old, or this large. The larger it is, the more changes of one page are written at once.
// Whoever reads the index has it ended first.
constexpr std::chrono::milliseconds kLongestTransaction{1000};
constexpr uint64_t kLargestTransaction = 16'384;
constexpr std::chrono::seconds kRecoveryWait{1};
// Saves and loads go first where the processors do not suffice for all: the index may lag, it catches up.
constexpr int kNiceness = 10;

base::SteadyTime Now() { return base::Clock::System().SteadyNow(); }

}  // namespace

Indexer::~Indexer() { Stop(); }

absl::Status Indexer::Open() {
  store_ = nullptr;
  ASSIGN_OR_RETURN(store_, Store::Open({.path = options_.path, .cache_bytes = options_.cache_bytes}));
  ASSIGN_OR_RETURN(const auto stored, store_->ReadStreams());
  streams_.clear();
  ++file_;
  std::map<std::string, jetstream::TailPosition> starts;
  for (const auto& [name, stream] : stored) {
    streams_[name].stored = stream;
    starts[name] = stream.position;
  }
  {
    base::MutexLock lock(mutex_);
    starts_ = std::move(starts);
  }
  Publish();
  return absl::OkStatus();
}

void Indexer::Start(Tails tails) {
  tails_ = std::move(tails);
  thread_ = std::thread([this] { Run(); });
  pthread_setname_np(thread_.native_handle(), "persistd-index");
}

void Indexer::Stop() {
  {
    base::MutexLock lock(mutex_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

void Indexer::Push(Item item) {
  std::optional<base::Promise<bool>> refused;
  {
    base::MutexLock lock(mutex_);
    if (stopping_) {
      refused = std::move(item.flushed);
    } else {
      const bool was_empty = queue_.empty();
      queue_.push_back(std::move(item));
      if (was_empty) changed_.NotifyOne();
    }
  }
  if (refused.has_value()) refused->TrySet(false);
}

jetstream::TailPosition Indexer::StartOf(const std::string& stream) {
  jetstream::TailPosition start;
  {
    base::MutexLock lock(mutex_);
    if (const auto found = starts_.find(stream); found != starts_.end()) start = found->second;
  }
  Push({.kind = Item::Kind::kBegin, .stream = stream});
  return start;
}

void Indexer::OnEntry(const std::string& stream, Entry entry, uint64_t pending) {
  Push({.kind = Item::Kind::kEntry, .stream = stream, .entry = std::move(entry), .number = pending});
}

void Indexer::OnReset(const std::string& stream, uint64_t incarnation) {
  Push({.kind = Item::Kind::kReset, .stream = stream, .number = incarnation});
}

void Indexer::OnCaughtUp(const std::string& stream) { Push({.kind = Item::Kind::kCaughtUp, .stream = stream}); }

void Indexer::OnGone(const std::string& stream) { Push({.kind = Item::Kind::kGone, .stream = stream}); }

void Indexer::OnStreams(const std::vector<std::string>& streams) {
  Push({.kind = Item::Kind::kStreams, .stream = "", .streams = streams});
}

void Indexer::Flush(base::Promise<bool> done) {
  Push({.kind = Item::Kind::kFlush, .stream = "", .flushed = std::move(done)});
}

void Indexer::OnDamage() { Push({.kind = Item::Kind::kDamage, .stream = ""}); }

bool Indexer::Has(const domain::Position& position) const {
  base::MutexLock lock(mutex_);
  const std::map<std::string, IndexedStream>& streams = status_.streams;
  return std::all_of(position.streams().begin(), position.streams().end(), [&](const domain::StreamPosition& wanted) {
    const auto found = streams.find(wanted.stream);
    return found != streams.end() && found->second.incarnation == wanted.incarnation &&
           found->second.sequence >= wanted.sequence;
  });
}

IndexStatus Indexer::status() const {
  base::MutexLock lock(mutex_);
  IndexStatus status = status_;
  status.queued = queue_.size() + unwritten_;
  return status;
}

bool Indexer::CommitIsDue(bool idle) const {
  return in_transaction_ &&
         (idle || events_in_transaction_ >= kLargestTransaction || Now() - began_ >= kLongestTransaction);
}

// False when it is time to stop. No items: it is time to end the transaction.
bool Indexer::WaitForItems(std::vector<Item>& items) {
  const base::SteadyTime quiet_since = Now();
  base::MutexLock lock(mutex_);
  while (queue_.empty() && !stopping_) {
    if (!in_transaction_) {
      changed_.Wait(mutex_);
    } else if (!changed_.WaitUntil(mutex_, quiet_since + kQuietTime)) {
      return true;
    }
  }
  if (queue_.empty()) return false;
  items.swap(queue_);
  return true;
}

void Indexer::Run() {
  // 0 is this thread. Without the permission it runs like the others.
  (void)setpriority(PRIO_PROCESS, 0, kNiceness);
  std::vector<Item> items;
  while (WaitForItems(items)) {
    absl::Status status;
    std::map<std::string, uint64_t> done;
    uint64_t entries = 0;
    std::vector<base::Promise<bool>> flushed;
    for (Item& item : items) {
      if (item.kind == Item::Kind::kEntry) {
        ++done[item.stream];
        ++entries;
      }
      if (status.ok()) status = Apply(item);
      if (item.flushed.has_value()) {
        if (status.ok()) status = CommitNow();
        flushed.push_back(*item.flushed);
      }
    }
    {
      base::MutexLock lock(mutex_);
      unwritten_ = in_transaction_ ? unwritten_ + entries : 0;
    }
    const bool idle = items.empty();
    items.clear();
    if (status.ok() && CommitIsDue(idle)) status = CommitNow();
    if (!status.ok()) Recover(status);
    if (store_ == nullptr) status = absl::UnavailableError("stopping");
    for (const auto& [stream, count] : done) tails_.done(stream, count);
    for (const base::Promise<bool>& promise : flushed) promise.TrySet(status.ok());
    if (store_ == nullptr) break;
  }
  std::vector<Item> rest;
  {
    base::MutexLock lock(mutex_);
    rest.swap(queue_);
  }
  for (const Item& item : rest) {
    if (item.flushed.has_value()) item.flushed->TrySet(false);
  }
  if (store_ == nullptr) return;
  if (const absl::Status status = CommitNow(); !status.ok()) {
    base::LogWarn("index not written", {{"path", options_.path}, {"reason", status}});
  }
}

absl::Status Indexer::Apply(Item& item) {
  switch (item.kind) {
    case Item::Kind::kBegin: {
      Stream& stream = streams_[item.stream];
      stream.active = true;
      stream.assembler.Clear();
      return absl::OkStatus();
    }
    case Item::Kind::kReset:
      return ApplyReset(item.stream, item.number);
    case Item::Kind::kStreams:
      return ApplyStreams(item.streams);
    case Item::Kind::kFlush:
      return absl::OkStatus();
    case Item::Kind::kDamage:
      return absl::DataLossError("a read met damage in it");
    case Item::Kind::kEntry:
    case Item::Kind::kCaughtUp:
    case Item::Kind::kGone:
      break;
  }
  Stream& stream = streams_[item.stream];
  if (!stream.active || stream.stored.id == 0) return absl::OkStatus();
  if (item.kind == Item::Kind::kEntry) return ApplyEntry(item.stream, stream, std::move(item.entry), item.number);
  RETURN_IF_ERROR(BeginIfNeeded());
  stream.changed = true;
  stream.stored.built = true;  // Nothing is missing of a stream that is gone.
  if (item.kind == Item::Kind::kCaughtUp) return absl::OkStatus();
  stream.gone = true;
  return ApplyReset(item.stream, 0);
}

absl::Status Indexer::ApplyReset(const std::string& name, uint64_t incarnation) {
  RETURN_IF_ERROR(BeginIfNeeded());
  Stream& stream = streams_[name];
  if (!stream.active) return absl::OkStatus();
  // What is not written yet of other streams stays; of this one it must not be written after the removal.
  RETURN_IF_ERROR(CommitNow());
  RETURN_IF_ERROR(BeginIfNeeded());
  ASSIGN_OR_RETURN(stream.stored, store_->ResetStream(name, incarnation));
  stream.stored.built = incarnation == 0;
  stream.gone = incarnation == 0;
  stream.assembler.Clear();
  stream.changed = true;
  stream.foreign = 0;
  stream.damaged = 0;
  return absl::OkStatus();
}

absl::Status Indexer::ApplyStreams(const std::vector<std::string>& streams) {
  listed_ = true;
  existing_ = streams;
  std::vector<std::string> removed;
  for (const auto& [name, stream] : streams_) {
    // Those that are followed are dropped when their tails say so.
    const bool exists = std::find(streams.begin(), streams.end(), name) != streams.end();
    if (!exists && !stream.active && stream.stored.id != 0) removed.push_back(name);
  }
  for (const std::string& name : removed) {
    base::LogInfo("index drops a stream that is gone", {{"stream", name}});
    RETURN_IF_ERROR(BeginIfNeeded());
    RETURN_IF_ERROR(CommitNow());
    RETURN_IF_ERROR(BeginIfNeeded());
    RETURN_IF_ERROR(store_->RemoveStream(name));
    streams_.erase(name);
    base::MutexLock lock(mutex_);
    starts_.erase(name);
  }
  if (!in_transaction_) Publish();
  return absl::OkStatus();
}

absl::Status Indexer::ApplyEntry(const std::string& name, Stream& stream, Entry entry, uint64_t pending) {
  RETURN_IF_ERROR(BeginIfNeeded());
  const uint64_t sequence = entry.sequence;
  const uint64_t fingerprint = entry.fingerprint;
  if (entry.kind == Entry::Kind::kForeign) ++stream.foreign;
  if (entry.kind == Entry::Kind::kDamaged && ++stream.damaged == 1) {
    base::LogWarn("message cannot be read by the index", {{"stream", name}, {"sequence", sequence}});
  }
  for (Entry& event : stream.assembler.Add(std::move(entry))) {
    ASSIGN_OR_RETURN(const int64_t type, store_->TypeId(event.ref.context, event.ref.aggregate, stream.stored.id));
    RETURN_IF_ERROR(store_->PutEvent(stream.stored.id, type, event));
    ++events_in_transaction_;
    for (const uint64_t key : {event.cid_key, event.payload_key}) {
      if (key != 0) stream.cids.push_back({.key = key, .sequence = event.sequence});
    }
    if (event.part != event.parts) continue;
    if (!base::UuidV7Time(event.commit_id).has_value()) RETURN_IF_ERROR(store_->PutCommit(event));
    AggregateKey key(type, event.ref.entity_id);
    latest_.insert_or_assign(std::move(key), std::move(event));
  }
  if (stream.assembler.complete()) {
    stream.stored.position.sequence = sequence;
    stream.stored.position.fingerprint = fingerprint;
  }
  if (pending == 0) stream.stored.built = true;
  stream.changed = true;
  return absl::OkStatus();
}

absl::Status Indexer::BeginIfNeeded() {
  if (in_transaction_) return absl::OkStatus();
  RETURN_IF_ERROR(store_->Begin());
  in_transaction_ = true;
  began_ = Now();
  events_in_transaction_ = 0;
  return absl::OkStatus();
}

absl::Status Indexer::CommitNow() {
  if (!in_transaction_) return absl::OkStatus();
  for (const auto& [key, last] : latest_) RETURN_IF_ERROR(store_->PutAggregate(key.first, last));
  latest_.clear();
  for (auto& [name, stream] : streams_) {
    if (!stream.changed) continue;
    RETURN_IF_ERROR(store_->PutCids(stream.stored.id, std::exchange(stream.cids, {})));
    RETURN_IF_ERROR(store_->PutPosition(stream.stored));
    stream.changed = false;
  }
  RETURN_IF_ERROR(store_->Commit());
  in_transaction_ = false;
  Publish();
  return absl::OkStatus();
}

// The file does not hold what was applied since the last commit, and perhaps nothing at all: the tails begin again with
// what it holds.
void Indexer::Recover(const absl::Status& why) {
  base::LogWarn("index could not be written, and begins again with what it has",
                {{"path", options_.path}, {"reason", why}});
  latest_.clear();
  in_transaction_ = false;
  store_->Abandon();
  absl::Status opened;
  if (absl::IsDataLoss(why)) {
    store_ = nullptr;
    opened = Store::Remove(options_.path);
  }
  if (opened.ok()) opened = Open();
  while (!opened.ok() || absl::IsResourceExhausted(why)) {
    {
      base::MutexLock lock(mutex_);
      const base::SteadyTime until = Now() + kRecoveryWait;
      while (!stopping_ && changed_.WaitUntil(mutex_, until)) {
      }
      if (stopping_) break;
    }
    if (opened.ok()) break;
    opened = Open();
  }
  if (!opened.ok()) {
    base::LogError("index cannot be opened", {{"path", options_.path}, {"reason", opened}});
  }
  tails_.begin_again();
}

void Indexer::Publish() {
  IndexStatus status;
  status.ready = listed_;
  status.file = file_;
  for (const auto& [name, stream] : streams_) {
    if (stream.stored.id == 0 || stream.gone) continue;
    status.streams[name] = {.incarnation = stream.stored.position.incarnation,
                            .sequence = stream.stored.position.sequence,
                            .built = stream.stored.built,
                            .foreign_messages = stream.foreign,
                            .damaged_messages = stream.damaged};
  }
  for (const std::string& name : existing_) {
    const auto found = streams_.find(name);
    const bool gone = found != streams_.end() && found->second.gone;
    const auto known = status.streams.find(name);
    status.ready = status.ready && (gone || (known != status.streams.end() && known->second.built));
  }
  base::MutexLock lock(mutex_);
  status_ = std::move(status);
}

}  // namespace persistd::index
