#include "server/repository/blocks.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/base/status_macros.h"
#include "server/domain/errors.h"
#include "server/ipld/cid.h"

namespace persistd::repository {
namespace {

using jetstream::KvEntry;
using jetstream::Message;
using jetstream::ReadFrom;

constexpr size_t kWindow = 8;  // Blocks under way at once: 4 MiB.
constexpr std::chrono::milliseconds kAttempt{5000};
constexpr std::chrono::minutes kClockTolerance{5};

bool IsBlock(const KvEntry& entry, absl::string_view key) {
  return entry.operation == KvEntry::Operation::kPut && ipld::RawCid(entry.value).ToString() == key;
}

absl::string_view Chunk(const std::string& content, size_t index) {
  return absl::string_view(content).substr(index * domain::kChunkBytes, domain::kChunkBytes);
}

// Blocks have a time of their own to arrive in, so that a lost answer leaves some of the call's time for a repeat.
base::SteadyTime Soon(base::SteadyTime deadline) {
  return std::min(deadline, base::Clock::System().SteadyNow() + kAttempt);
}

}  // namespace

std::optional<std::vector<std::string>> BucketsOfChunk(absl::string_view value) {
  std::vector<std::string> buckets = absl::StrSplit(value, ',');
  for (const std::string& bucket : buckets) {
    const auto allowed = [](char c) {
      return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-';
    };
    if (bucket.empty() || !std::all_of(bucket.begin(), bucket.end(), allowed)) return std::nullopt;
  }
  return buckets;
}

base::Task<absl::StatusOr<domain::ChunkList>> Blocks::Store(const std::string& content, base::SteadyTime deadline) {
  CO_RETURN_IF_ERROR(co_await kv_->Ensure(deadline));
  domain::ChunkList list;
  list.size = content.size();
  const size_t count = (content.size() + domain::kChunkBytes - 1) / domain::kChunkBytes;
  for (size_t first = 0; first < count; first += kWindow) {
    const size_t last = std::min(count, first + kWindow);
    std::vector<base::Future<absl::StatusOr<Message>>> creates;
    for (size_t i = first; i < last; ++i) {
      const absl::string_view chunk = Chunk(content, i);
      list.cids.push_back(ipld::RawCid(chunk).ToString());
      creates.push_back(
          kv_->StartCreate(list.cids.back(), std::string(chunk), Soon(deadline), ChunkHeaders(/*before=*/nullptr)));
    }
    std::vector<size_t> again;
    for (size_t i = first; i < last; ++i) {
      absl::StatusOr<Message> answer = co_await creates[i - first];
      if (!kv_->FinishCreate(std::move(answer)).ok()) again.push_back(i);
    }
    // There already, or whatever else went wrong: one by one, with all patience.
    for (const size_t i : again) CO_RETURN_IF_ERROR(co_await StoreOne(list.cids[i], Chunk(content, i), deadline));
  }
  co_return list;
}

base::Task<absl::Status> Blocks::StoreOne(std::string key, absl::string_view bytes, base::SteadyTime deadline) {
  while (true) {
    CO_ASSIGN_OR_RETURN(const std::optional<KvEntry> there, co_await kv_->Last(key, ReadFrom::kLeader, deadline));
    const uint64_t revision = there.has_value() ? there->revision : 0;
    const bool is_put = there.has_value() && there->operation == KvEntry::Operation::kPut;
    const std::string* header = is_put ? there->headers.Find(kChunkHeader) : nullptr;
    const bool is_users = is_put && header == nullptr;
    if (is_put && IsBlock(*there, key)) {
      if (is_users) co_return absl::OkStatus();
      if (IsYoung(there->time) && *ChunkHeaders(header).Find(kChunkHeader) == *header) co_return absl::OkStatus();
    }
    // Missing, old, damaged, or of snapshots in other buckets.
    jetstream::Headers headers = is_users ? jetstream::Headers() : ChunkHeaders(header);
    const absl::StatusOr<uint64_t> written =
        co_await kv_->Update(key, std::string(bytes), revision, deadline, std::move(headers));
    if (written.ok()) co_return absl::OkStatus();
    if (!absl::IsAborted(written.status())) co_return written.status();
    if (base::Clock::System().SteadyNow() >= deadline) {
      co_return domain::Overloaded(absl::StrCat("others write block ", key, " all the time"));
    }
  }
}

base::Task<absl::StatusOr<std::optional<KvEntry>>> Blocks::FetchOne(std::string key, size_t size,
                                                                    base::SteadyTime deadline) {
  // Whoever answered before may have been behind.
  CO_ASSIGN_OR_RETURN(std::optional<KvEntry> there, co_await kv_->Last(key, ReadFrom::kLeader, deadline));
  if (!there.has_value() || there->value.size() != size || !IsBlock(*there, key)) co_return std::optional<KvEntry>();
  co_return std::move(there);
}

base::Task<absl::StatusOr<std::string>> Blocks::Fetch(const domain::ChunkList& list, std::string owner,
                                                      uint64_t sequence, How how, base::SteadyTime deadline) {
  const auto note = [&how](const KvEntry& block) {
    if (how.written != nullptr) *how.written = std::max(*how.written, block.time);
  };
  std::string content;
  content.reserve(list.size);
  const size_t count = list.cids.size();
  for (size_t first = 0; first < count; first += kWindow) {
    const size_t last = std::min(count, first + kWindow);
    std::vector<base::Future<absl::StatusOr<Message>>> gets;
    for (size_t i = first; i < last; ++i) {
      gets.push_back(kv_->StartGet(list.cids[i], how.from, Soon(deadline)));
    }
    // All of them, whatever they bring: nothing of this call may be under way when it ends.
    std::vector<absl::StatusOr<std::optional<KvEntry>>> entries;
    for (base::Future<absl::StatusOr<Message>>& get : gets) {
      absl::StatusOr<Message> answer = co_await get;
      entries.push_back(kv_->FinishGet(std::move(answer), how.from));
    }
    for (size_t i = first; i < last; ++i) {
      const std::string& cid = list.cids[i];
      const size_t size = i + 1 < count ? domain::kChunkBytes : list.size - (count - 1) * domain::kChunkBytes;
      absl::StatusOr<std::optional<KvEntry>>& entry = entries[i - first];
      if (entry.ok() && entry->has_value() && (*entry)->value.size() == size && IsBlock(**entry, cid)) {
        note(**entry);
        content += (*entry)->value;
        continue;
      }
      CO_ASSIGN_OR_RETURN(const std::optional<KvEntry> block, co_await FetchOne(cid, size, deadline));
      if (!block.has_value()) {
        co_return domain::CorruptData(
            owner, sequence,
            absl::StrCat("its content is in ", count, " blocks, of which block ", i + 1, " (", cid, " in bucket ",
                         kv_->options().bucket, ") is missing or is not what its CID says"));
      }
      note(*block);
      content += block->value;
    }
  }
  co_return content;
}

bool Blocks::IsYoung(base::WallTime written) const {
  const auto age = options_.clock->WallNow() - written;
  // One from the future says that our clock is behind, so it may be older than it seems.
  return age < options_.young && age > -kClockTolerance;
}

jetstream::Headers Blocks::ChunkHeaders(const std::string* before) const {
  std::string value = options_.snapshot_bucket;
  if (before != nullptr) {
    // What cannot be read stays what it is; the collector leaves such blocks alone.
    const std::optional<std::vector<std::string>> buckets = BucketsOfChunk(*before);
    const bool add = buckets.has_value() && std::find(buckets->begin(), buckets->end(), value) == buckets->end();
    value = add ? absl::StrCat(*before, ",", value) : *before;
  }
  jetstream::Headers headers;
  headers.Add(kChunkHeader, std::move(value));
  return headers;
}

base::Task<absl::StatusOr<Blocks::Spilled>> Blocks::Spill(domain::StateRecord& state, base::SteadyTime deadline) {
  Spilled spilled;
  if (!IsLarge(state)) co_return spilled;
  spilled.since = options_.clock->SteadyNow();
  spilled.wall_since = options_.clock->WallNow();
  CO_ASSIGN_OR_RETURN(state.chunks, co_await Store(state.payload.data, deadline));
  spilled.content = std::exchange(state.payload.data, std::string());
  co_return spilled;
}

base::Task<absl::Status> Blocks::Renew(Spilled& spilled, base::SteadyTime deadline) {
  if (!spilled.any()) co_return absl::OkStatus();
  const base::SteadyTime now = options_.clock->SteadyNow();
  const base::WallTime wall_now = options_.clock->WallNow();
  const auto passed = std::max<std::chrono::nanoseconds>(now - spilled.since, wall_now - spilled.wall_since);
  if (passed < options_.renew_after) co_return absl::OkStatus();
  const absl::StatusOr<domain::ChunkList> list = co_await Store(spilled.content, deadline);
  if (!list.ok()) co_return list.status();
  spilled.since = now;
  spilled.wall_since = wall_now;
  co_return absl::OkStatus();
}

base::Task<absl::Status> Blocks::Fill(domain::StateRecord& state, std::string owner, How how,
                                      base::SteadyTime deadline) {
  if (!state.chunks.has_value()) co_return absl::OkStatus();
  CO_ASSIGN_OR_RETURN(state.payload.data,
                      co_await Fetch(*state.chunks, std::move(owner), state.sequence, how, deadline));
  state.chunks.reset();
  co_return absl::OkStatus();
}

}  // namespace persistd::repository
