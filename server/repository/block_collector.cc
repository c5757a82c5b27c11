#include "server/repository/block_collector.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/base/future.h"
#include "server/base/logging.h"
#include "server/base/status_macros.h"
#include "server/jetstream/api.h"
#include "server/jetstream/event_codec.h"

namespace persistd::repository {
namespace {

using jetstream::Kv;
using jetstream::KvEntry;
using jetstream::Message;
using jetstream::ReadFrom;
using jetstream::ScanStep;

constexpr std::chrono::seconds kPatience{10};  // For one answer.
// How often a stream is read before it is given up that changes meanwhile, or whose replicas are not level.
constexpr int kMostScans = 5;
constexpr std::chrono::seconds kBetweenScans{1};
constexpr absl::string_view kBodySize = "Nats-Msg-Size";
constexpr absl::string_view kListingStreamsKey = "blocks.listing_streams";

base::SteadyTime Soon() { return base::Clock::System().SteadyNow() + kPatience; }

std::string StreamOf(const std::string& bucket) { return absl::StrCat("KV_", bucket); }

}  // namespace

size_t BlockCollector::DigestHash::operator()(const std::array<uint8_t, 32>& digest) const {
  size_t hash;
  std::memcpy(&hash, digest.data(), sizeof(hash));
  return hash;
}

BlockCollector::BlockCollector(BlockCollectorOptions options, jetstream::Connection* scans,
                               jetstream::Connection* writes, base::Executor* executor)
    : options_(std::move(options)),
      scans_(scans),
      executor_(executor),
      blocks_(options_.block_bucket, writes, scans, executor),
      control_(options_.control_bucket, writes, scans, executor),
      reader_(scans) {}

absl::StatusOr<Collection> BlockCollector::Run() {
  Collection collection;
  Round round;
  do {
    ASSIGN_OR_RETURN(round, FindCandidates(round.last));
    collection.candidates += round.candidates.size();
    if (round.candidates.empty()) continue;
    RETURN_IF_ERROR(Mark(round, collection));
    if (options_.on_marked) options_.on_marked();
    if (round.candidates.empty()) continue;
    RETURN_IF_ERROR(Wait(options_.grace));
    RETURN_IF_ERROR(Sweep(round, collection));
  } while (round.more);
  return collection;
}

void BlockCollector::Cancel() {
  base::MutexLock lock(mutex_);
  cancelled_ = true;
  cancelled_changed_.NotifyAll();
}

bool BlockCollector::cancelled() const {
  base::MutexLock lock(mutex_);
  return cancelled_;
}

absl::Status BlockCollector::Scan(const std::string& stream, const jetstream::ScanVisitor& visit) {
  jetstream::ScanOptions options;
  options.stream = stream;
  options.cancelled = [this] { return cancelled(); };
  for (int scan = 1;; ++scan) {
    const absl::Status status = jetstream::ScanStream(options, scans_, executor_, visit);
    if (!absl::IsAborted(status) || scan == kMostScans) return status;
    RETURN_IF_ERROR(Wait(kBetweenScans));
  }
}

absl::StatusOr<BlockCollector::Round> BlockCollector::FindCandidates(uint64_t after) {
  Round round;
  if (cancelled()) return absl::CancelledError("cancelled");
  ASSIGN_OR_RETURN(const std::optional<jetstream::StreamState> bucket,
                   jetstream::LookAtStream(blocks_.stream(), scans_, Soon()));
  if (!bucket.has_value() || bucket->messages == 0) return round;
  // By the clock of NATS, which also says when a block was written.
  const base::WallTime old = bucket->now - options_.min_age;
  const auto visit = [&](Message message) -> absl::StatusOr<ScanStep> {
    if (message.sequence <= after) return ScanStep::kNext;
    // Whatever comes later is younger.
    if (message.time > old) return ScanStep::kStop;
    if (round.candidates.size() >= options_.max_candidates) {
      round.more = true;
      return ScanStep::kStop;
    }
    round.last = message.sequence;
    Consider(std::move(message), round);
    return ScanStep::kNext;
  };
  RETURN_IF_ERROR(Scan(blocks_.stream(), visit));
  return round;
}

void BlockCollector::Consider(Message message, Round& round) const {
  const std::string* size = message.headers.Find(kBodySize);
  Candidate candidate{.revision = message.sequence};
  if (size != nullptr && !absl::SimpleAtoi(*size, &candidate.bytes)) candidate.bytes = 0;
  const std::optional<KvEntry> entry = blocks_.EntryOf(std::move(message));
  if (!entry.has_value()) return;
  const std::optional<ipld::Cid> cid = ipld::Cid::Parse(entry->key);
  if (!cid.has_value() || cid->codec != ipld::kRawCodec) return;
  // In a bucket that keeps a history the last revision decides.
  round.candidates.erase(cid->digest);
  const std::string* header = entry->headers.Find(kChunkHeader);
  if (entry->operation != KvEntry::Operation::kPut || header == nullptr) return;
  const std::optional<std::vector<std::string>> buckets = BucketsOfChunk(*header);
  if (!buckets.has_value()) return;
  round.snapshot_buckets.insert(buckets->begin(), buckets->end());
  round.candidates.emplace(cid->digest, candidate);
}

absl::StatusOr<std::set<std::string>> BlockCollector::StateStreams() {
  std::set<std::string> streams;
  uint64_t offset = 0;
  std::optional<uint64_t> total;
  while (true) {
    const std::string body = absl::StrCat("{\"offset\":", offset, ",\"subject\":\"cim.aggregates.>\"}");
    ASSIGN_OR_RETURN(const jetstream::ApiAnswer answer,
                     base::BlockOn(jetstream::CallApi(*scans_, "$JS.API.STREAM.NAMES", body, Soon())));
    if (answer.error.has_value()) return absl::UnavailableError(answer.error->ToString());
    // A stream that is removed between two pages moves the others: one might be missed.
    const uint64_t now = jetstream::UnsignedField(answer.body, "total");
    if (now != total.value_or(now)) return absl::AbortedError("streams were made or removed meanwhile");
    total = now;
    const auto names = answer.body.find("streams");
    if (names == answer.body.end() || !names->is_array() || names->empty()) break;
    for (const nlohmann::json& name : *names) {
      if (!name.is_string()) return absl::UnavailableError("NATS answered a list of streams in an unknown form");
      streams.insert(name.get<std::string>());
    }
    offset += names->size();
    if (offset >= *total) break;
  }
  if (streams.size() != total.value_or(0)) return absl::UnavailableError("NATS did not name all streams");
  return streams;
}

absl::Status BlockCollector::Mark(Round& round, Collection& collection) {
  ASSIGN_OR_RETURN(std::set<std::string> streams, StateStreams());
  round.snapshot_buckets.insert(options_.snapshot_bucket);
  for (const std::string& bucket : round.snapshot_buckets) {
    ASSIGN_OR_RETURN(const std::optional<jetstream::StreamState> there,
                     jetstream::LookAtStream(StreamOf(bucket), scans_, Soon()));
    if (there.has_value()) streams.insert(StreamOf(bucket));
  }
  // Rather than that nobody needs the blocks, somebody is just restoring what lists them.
  if (streams.empty()) return absl::FailedPreconditionError("there are no streams that could list the blocks");
  RETURN_IF_ERROR(CheckNoneMissing(streams));
  for (const std::string& stream : streams) {
    if (round.candidates.empty()) return absl::OkStatus();
    RETURN_IF_ERROR(MarkStream(stream, round, collection));
  }
  return absl::OkStatus();
}

absl::Status BlockCollector::CheckNoneMissing(const std::set<std::string>& streams) {
  ASSIGN_OR_RETURN(const std::optional<KvEntry> entry,
                   base::BlockOn(control_.Get(std::string(kListingStreamsKey), ReadFrom::kLeader, Soon())));
  std::set<std::string> known;
  if (entry.has_value()) {
    const nlohmann::json parsed = nlohmann::json::parse(entry->value, nullptr, /*allow_exceptions=*/false);
    const bool well_formed =
        parsed.is_array() &&
        std::all_of(parsed.begin(), parsed.end(), [](const nlohmann::json& name) { return name.is_string(); });
    if (!well_formed) {
      return absl::DataLossError(absl::StrCat("key ", kListingStreamsKey, " of bucket ", options_.control_bucket.bucket,
                                              " is no list of streams; remove it when all streams are there"));
    }
    for (const nlohmann::json& name : parsed) known.insert(name.get<std::string>());
  }
  for (const std::string& name : known) {
    if (streams.contains(name)) continue;
    return absl::FailedPreconditionError(
        absl::StrCat("stream ", name,
                     ", which may list blocks, is not there; nothing is removed until it is back. If it "
                     "was removed on purpose, remove key ",
                     kListingStreamsKey, " of bucket ", options_.control_bucket.bucket));
  }
  if (known == streams) return absl::OkStatus();
  std::string all = nlohmann::json(streams).dump();
  return entry.has_value()
             ? base::BlockOn(control_.Update(std::string(kListingStreamsKey), std::move(all), entry->revision, Soon()))
                   .status()
             : base::BlockOn(control_.Create(std::string(kListingStreamsKey), std::move(all), Soon())).status();
}

absl::Status BlockCollector::MarkStream(const std::string& stream, Round& round, Collection& collection) {
  uint64_t counted = 0;  // Lists up to here, in an earlier scan perhaps.
  const auto visit = [&](Message message) -> absl::StatusOr<ScanStep> {
    if (!jetstream::MayList(message)) return ScanStep::kNext;
    ASSIGN_OR_RETURN(const bool lists, MarkList(stream, message.sequence, round));
    if (lists && message.sequence > counted) {
      counted = message.sequence;
      ++collection.lists;
    }
    return round.candidates.empty() ? ScanStep::kStop : ScanStep::kNext;
  };
  return Scan(stream, visit);
}

absl::StatusOr<bool> BlockCollector::MarkList(const std::string& stream, uint64_t sequence, Round& round) {
  ASSIGN_OR_RETURN(std::optional<Message> message,
                   base::BlockOn(reader_.Get(stream, sequence, ReadFrom::kAnyReplica, Soon())));
  if (!message.has_value() || jetstream::IsFromMirror(*message, stream)) {
    ASSIGN_OR_RETURN(message, base::BlockOn(reader_.Get(stream, sequence, ReadFrom::kLeader, Soon())));
  }
  if (!message.has_value()) return false;  // Replaced since.
  const absl::StatusOr<std::optional<domain::ChunkList>> list = jetstream::ListedBlocks(*message);
  if (!list.ok()) {
    return absl::DataLossError(absl::StrCat("message ", sequence, " cannot be read: ", list.status().message()));
  }
  if (!list->has_value()) return false;
  for (const std::string& key : (*list)->cids) {
    if (const std::optional<ipld::Cid> cid = ipld::Cid::Parse(key)) round.candidates.erase(cid->digest);
  }
  return true;
}

absl::Status BlockCollector::Wait(std::chrono::milliseconds time) {
  const base::SteadyTime until = base::Clock::System().SteadyNow() + time;
  base::MutexLock lock(mutex_);
  while (!cancelled_ && base::Clock::System().SteadyNow() < until) cancelled_changed_.WaitUntil(mutex_, until);
  return cancelled_ ? absl::CancelledError("cancelled") : absl::OkStatus();
}

absl::Status BlockCollector::Sweep(const Round& round, Collection& collection) {
  for (const auto& [digest, candidate] : round.candidates) {
    if (cancelled()) return absl::CancelledError("cancelled");
    const ipld::Cid cid{.codec = ipld::kRawCodec, .digest = digest};
    ASSIGN_OR_RETURN(const uint64_t erased,
                     base::BlockOn(blocks_.EraseCounted(cid.ToString(), candidate.revision, Soon())));
    if (erased == 0) continue;  // Written again, or another daemon was faster.
    ++collection.collected;
    collection.collected_bytes += candidate.bytes;
  }
  return absl::OkStatus();
}

}  // namespace persistd::repository
