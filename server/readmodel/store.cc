#include "server/readmodel/store.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/logging.h"
#include "server/base/status_macros.h"
#include "server/domain/errors.h"
#include "server/readmodel/key.h"

namespace persistd::readmodel {
namespace {

using jetstream::KvEntry;
using jetstream::KvWrite;
using jetstream::ReadFrom;

// The copy of all documents that is read and written.
constexpr absl::string_view kGeneration = "0";
constexpr size_t kReadsAtOnce = 16;  // Documents in memory beside those that are asked for.
constexpr size_t kPageBytes = 2u << 20;
constexpr size_t kMaxSourceStreams = 64;
constexpr std::chrono::milliseconds kFirstWait{1};
constexpr std::chrono::milliseconds kLongestWait{100};

// What a call makes of one document.
struct Decision {
  Written result{};
  domain::Position source{};  // Of the document once it is written.
  bool writes = false;
};

// What earlier attempts of a call have made of its documents, as these tell.
struct Earlier {
  std::vector<const Mark*> marks;  // Of each document; nullptr: nothing.
  size_t found = 0;
  // The last of those that were written together is there. The first are stored first: then all of them were stored.
  bool whole = false;
  bool own = false;  // They were attempts of this call itself.
};

Earlier FindEarlier(const std::vector<Entry>& there, const std::string& request_id) {
  Earlier earlier;
  for (const Entry& entry : there) {
    const Mark* mark = entry.Find(request_id);
    earlier.marks.push_back(mark);
    if (mark == nullptr) continue;
    ++earlier.found;
    if (mark->place == mark->count) earlier.whole = true;
  }
  return earlier;
}

absl::StatusOr<Decision> Decide(const Write& write, const Entry& there) {
  Decision decision;
  const uint64_t revision = there.deleted ? 0 : there.revision;
  decision.result = {.superseded = false, .revision = there.revision, .existed = !there.deleted, .deduplicated = false};
  if (write.expected_revision.has_value() && *write.expected_revision != revision) {
    return domain::RevisionConflict(write.key, *write.expected_revision, revision);
  }
  if (write.source.IsBehind(there.source)) {
    decision.result.superseded = true;
    return decision;
  }
  decision.source = there.source;
  decision.source.Advance(write.source);
  if (decision.source.streams().size() > kMaxSourceStreams) {
    return domain::InvalidField(write.source_field, absl::StrCat("names more than ", kMaxSourceStreams,
                                                                 " streams, together with what is known already"));
  }
  // There is nothing to delete, and nothing to remember of it.
  decision.writes = write.payload.has_value() || !there.deleted || decision.source != there.source;
  return decision;
}

// What a call makes of all its documents.
absl::StatusOr<std::vector<Decision>> DecideAll(const WriteCommand& command, const std::vector<Entry>& there,
                                                const Earlier& earlier) {
  std::vector<Decision> decisions(there.size());
  for (size_t i = 0; i < there.size(); ++i) {
    const Write& write = command.writes[i];
    if (const Mark* mark = earlier.marks[i]) {
      decisions[i].result = {
          .superseded = false, .revision = mark->revision, .existed = mark->existed, .deduplicated = !earlier.own};
    } else if (earlier.whole) {
      // It was left out, and stays so.
      decisions[i].result.superseded = write.source.IsBehind(there[i].source);
      decisions[i].result.revision = there[i].revision;
    } else {
      ASSIGN_OR_RETURN(decisions[i], Decide(write, there[i]));
    }
  }
  return decisions;
}

std::vector<KvWrite> EncodeAll(const WriteCommand& command, const std::vector<Entry>& there,
                               const std::vector<Decision>& decisions) {
  Mark mark{.request_id = command.request_id};
  mark.count = static_cast<size_t>(std::count_if(decisions.begin(), decisions.end(), std::mem_fn(&Decision::writes)));
  std::vector<KvWrite> writes;
  for (size_t i = 0; i < decisions.size(); ++i) {
    if (!decisions[i].writes) continue;
    mark.place = writes.size() + 1;
    const Write& write = command.writes[i];
    writes.push_back(Encode(write, BucketKey(write.key, kGeneration), decisions[i].source, there[i], mark));
  }
  return writes;
}

std::vector<Written> ResultsOf(const std::vector<Decision>& decisions) {
  std::vector<Written> results;
  for (const Decision& decision : decisions) results.push_back(decision.result);
  return results;
}

}  // namespace

base::Task<absl::StatusOr<std::vector<Entry>>> Store::ReadEntries(const WriteCommand& command,
                                                                  base::SteadyTime deadline) {
  std::vector<std::string> keys;
  for (const Write& write : command.writes) keys.push_back(BucketKey(write.key, kGeneration));
  std::vector<Entry> entries;
  CO_RETURN_IF_ERROR(co_await ReadEach(
      std::move(keys),
      [&entries](std::optional<KvEntry> stored) {
        entries.push_back(EntryOf(stored));
        return absl::OkStatus();
      },
      deadline));
  co_return entries;
}

base::Task<absl::StatusOr<std::vector<Written>>> Store::Save(WriteCommand command, base::SteadyTime deadline) {
  std::chrono::milliseconds wait = kFirstWait;
  absl::Status lost;  // Of an attempt of which nobody knows whether it is stored.
  size_t seen = 0;    // Documents that told of earlier attempts when they were read before.
  while (true) {
    const absl::StatusOr<std::vector<Entry>> there = co_await ReadEntries(command, deadline);
    if (!there.ok()) co_return lost.ok() ? there.status() : lost;
    Earlier earlier = FindEarlier(*there, command.request_id);
    earlier.own = !lost.ok();
    if (!lost.ok() && earlier.found == 0) co_return lost;
    if (earlier.found < there->size() && earlier.found != seen) {
      // They are not read at one moment: some may be from just before they were written together.
      seen = earlier.found;
      continue;
    }
    absl::StatusOr<std::vector<Decision>> decisions = DecideAll(command, *there, earlier);
    if (!decisions.ok()) co_return lost.ok() ? decisions.status() : lost;
    std::vector<KvWrite> writes = EncodeAll(command, *there, *decisions);
    if (writes.empty()) co_return ResultsOf(*decisions);
    const size_t count = writes.size();
    const absl::StatusOr<uint64_t> last = co_await kv_.WriteAll(std::move(writes), deadline);
    if (last.ok()) {
      uint64_t revision = *last - count;
      for (size_t i = 0; i < decisions->size(); ++i) {
        Decision& decision = (*decisions)[i];
        if (!decision.writes) continue;
        decision.result.revision = ++revision;
        Announce(command.writes[i], decision.result);
      }
      co_return ResultsOf(*decisions);
    }
    if (domain::HasReason(last.status(), cim::persistence::v1::ERROR_REASON_OUTCOME_UNKNOWN)) {
      lost = last.status();
    } else if (!absl::IsAborted(last.status())) {
      co_return lost.ok() ? last.status() : lost;
    }
    // Somebody else has written one of them meanwhile, or the documents tell what became of this attempt.
    const base::SteadyTime next = base::Clock::System().SteadyNow() + wait;
    if (next >= deadline) {
      co_return lost.ok() ? domain::Overloaded("others write these read models all the time") : lost;
    }
    co_await executor_.Sleep(next);
    wait = std::min(wait * 2, kLongestWait);
  }
}

base::Task<absl::Status> Store::ReadEach(std::vector<std::string> keys, Use use, base::SteadyTime deadline) {
  if (keys.size() == 1) {
    CO_ASSIGN_OR_RETURN(std::optional<KvEntry> entry, co_await kv_.Last(keys.front(), ReadFrom::kLeader, deadline));
    co_return use(std::move(entry));
  }
  CO_ASSIGN_OR_RETURN(const bool exists, co_await kv_.Exists(deadline));
  for (size_t begin = 0; begin < keys.size(); begin += kReadsAtOnce) {
    std::vector<base::Future<absl::StatusOr<jetstream::Message>>> gets;
    absl::Status failed;
    for (size_t i = begin; i < std::min(keys.size(), begin + kReadsAtOnce); ++i) {
      if (exists) {
        gets.push_back(kv_.StartGet(keys[i], ReadFrom::kLeader, deadline));
      } else {
        failed.Update(use(std::nullopt));
      }
    }
    for (base::Future<absl::StatusOr<jetstream::Message>>& get : gets) {
      absl::StatusOr<jetstream::Message> answer = co_await get;
      absl::StatusOr<std::optional<KvEntry>> entry = kv_.FinishGet(std::move(answer), ReadFrom::kLeader);
      if (failed.ok()) failed = entry.ok() ? use(*std::move(entry)) : entry.status();
    }
    CO_RETURN_IF_ERROR(failed);
  }
  co_return absl::OkStatus();
}

base::Task<absl::StatusOr<ReadModel>> Store::Get(domain::ReadModelKey key, base::SteadyTime deadline) {
  CO_ASSIGN_OR_RETURN(std::optional<KvEntry> entry,
                      co_await kv_.Last(BucketKey(key, kGeneration), ReadFrom::kLeader, deadline));
  const bool deleted = entry.has_value() && entry->operation == KvEntry::Operation::kDelete;
  if (!entry.has_value() || deleted) co_return domain::ReadModelNotFound(key, deleted);
  co_return Decode(std::move(key), *std::move(entry), kv_.options().ttl);
}

base::Task<absl::StatusOr<std::vector<std::optional<ReadModel>>>> Store::GetMany(std::vector<domain::ReadModelKey> keys,
                                                                                 base::SteadyTime deadline) {
  std::vector<std::string> bucket_keys;
  for (const domain::ReadModelKey& key : keys) bucket_keys.push_back(BucketKey(key, kGeneration));
  std::vector<std::optional<ReadModel>> models;
  size_t bytes = 0;
  const auto use = [&](std::optional<KvEntry> stored) -> absl::Status {
    domain::ReadModelKey& key = keys[models.size()];
    std::optional<ReadModel>& model = models.emplace_back();
    if (!stored.has_value() || stored->operation == KvEntry::Operation::kDelete) return absl::OkStatus();
    bytes += stored->value.size();
    if (bytes > options_.max_load_bytes) {
      return domain::TooLarge({.name = "read models",
                               .limit = options_.max_load_bytes,
                               .value = bytes,
                               .config_key = "limits.max_load_size"},
                              "ask for fewer at once");
    }
    model = Decode(std::move(key), *std::move(stored), kv_.options().ttl);
    return absl::OkStatus();
  };
  CO_RETURN_IF_ERROR(co_await ReadEach(std::move(bucket_keys), use, deadline));
  co_return models;
}

base::Task<absl::StatusOr<ListPage>> Store::List(ListQuery query, base::SteadyTime deadline) {
  jetstream::Kv::KeyFilter filter;
  CO_ASSIGN_OR_RETURN(filter.pattern, BucketPattern(query.type, kGeneration, query.id_pattern, "id_pattern"));
  filter.prefix = BucketPrefix(query.type, kGeneration, query.id_prefix);
  CO_ASSIGN_OR_RETURN(jetstream::KvPage found, co_await kv_.ListMatching(std::move(filter), std::move(query.after),
                                                                         query.page_size, kPageBytes, deadline));
  ListPage page;
  page.next = std::move(found.next);
  for (KvEntry& entry : found.entries) {
    std::optional<domain::ReadModelKey> key = ParseBucketKey(entry.key, kGeneration);
    if (!key.has_value()) continue;  // Not written by us.
    page.read_models.push_back(Decode(*std::move(key), std::move(entry), kv_.options().ttl));
  }
  co_return page;
}

void Store::Announce(const Write& write, const Written& written) {
  jetstream::OutgoingMessage message;
  message.subject = ChangeSubject(write.key, write.payload.has_value() ? "saved" : "deleted");
  message.headers.Add("content-type", "application/json");
  message.data = nlohmann::json{{"type", write.key.type}, {"id", write.key.id}, {"revision", written.revision}}.dump();
  const absl::Status sent = announcer_.Tell(message);
  if (!sent.ok()) base::LogDebug("a change is not announced", {{"subject", message.subject}, {"error", sent}});
}

}  // namespace persistd::readmodel
