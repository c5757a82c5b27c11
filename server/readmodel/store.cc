#include "server/readmodel/store.h"

#include <algorithm>
#include <chrono>
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
constexpr size_t kReadsAtOnce = 64;
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
    return domain::InvalidField(
        "source", absl::StrCat("names more than ", kMaxSourceStreams, " streams, together with what is known already"));
  }
  // There is nothing to delete, and nothing to remember of it.
  decision.writes = write.payload.has_value() || !there.deleted || decision.source != there.source;
  return decision;
}

}  // namespace

base::Task<absl::StatusOr<std::vector<Entry>>> Store::ReadEntries(const WriteCommand& command,
                                                                  base::SteadyTime deadline) {
  std::vector<Entry> entries;
  CO_ASSIGN_OR_RETURN(const std::vector<std::optional<KvEntry>> stored, co_await ReadAll(KeysOf(command), deadline));
  for (const std::optional<KvEntry>& entry : stored) entries.push_back(EntryOf(entry));
  co_return entries;
}

base::Task<absl::StatusOr<std::vector<Written>>> Store::Save(WriteCommand command, base::SteadyTime deadline) {
  std::chrono::milliseconds wait = kFirstWait;
  while (true) {
    CO_ASSIGN_OR_RETURN(const std::vector<Entry> there, co_await ReadEntries(command, deadline));
    std::vector<Written> results;
    // They are stored together: what one says is so for all.
    const bool stored = std::any_of(there.begin(), there.end(),
                                    [&](const Entry& entry) { return entry.request_id == command.request_id; });
    std::vector<KvWrite> writes;
    std::vector<size_t> written;
    for (size_t i = 0; i < there.size(); ++i) {
      const Write& write = command.writes[i];
      if (stored) {
        results.push_back({.superseded = false, .revision = there[i].revision, .existed = true, .deduplicated = true});
        continue;
      }
      CO_ASSIGN_OR_RETURN(Decision decision, Decide(write, there[i]));
      results.push_back(decision.result);
      if (!decision.writes) continue;
      written.push_back(i);
      writes.push_back(
          Encode(write, BucketKey(write.key, kGeneration), decision.source, there[i].revision, command.request_id));
    }
    if (writes.empty()) co_return results;
    const absl::StatusOr<uint64_t> last = co_await kv_.WriteAll(std::move(writes), deadline);
    if (last.ok()) {
      uint64_t revision = *last - written.size();
      for (const size_t i : written) {
        results[i].revision = ++revision;
        Announce(command.writes[i], results[i]);
      }
      co_return results;
    }
    if (!absl::IsAborted(last.status())) co_return last.status();
    // Somebody else has written one of them meanwhile.
    const base::SteadyTime next = base::Clock::System().SteadyNow() + wait;
    if (next >= deadline) co_return domain::Overloaded("others write these read models all the time");
    co_await executor_.Sleep(next);
    wait = std::min(wait * 2, kLongestWait);
  }
}

base::Task<absl::StatusOr<std::vector<std::optional<KvEntry>>>> Store::ReadAll(std::vector<std::string> keys,
                                                                               base::SteadyTime deadline) {
  std::vector<std::optional<KvEntry>> entries;
  if (keys.size() == 1) {
    CO_ASSIGN_OR_RETURN(std::optional<KvEntry> entry, co_await kv_.Last(keys.front(), ReadFrom::kLeader, deadline));
    entries.push_back(std::move(entry));
    co_return entries;
  }
  CO_ASSIGN_OR_RETURN(const bool exists, co_await kv_.Exists(deadline));
  if (!exists) co_return std::vector<std::optional<KvEntry>>(keys.size());
  for (size_t begin = 0; begin < keys.size(); begin += kReadsAtOnce) {
    std::vector<base::Future<absl::StatusOr<jetstream::Message>>> gets;
    for (size_t i = begin; i < std::min(keys.size(), begin + kReadsAtOnce); ++i) {
      gets.push_back(kv_.StartGet(keys[i], ReadFrom::kLeader, deadline));
    }
    absl::Status failed;
    for (base::Future<absl::StatusOr<jetstream::Message>>& get : gets) {
      absl::StatusOr<jetstream::Message> answer = co_await get;
      absl::StatusOr<std::optional<KvEntry>> entry = kv_.FinishGet(std::move(answer), ReadFrom::kLeader);
      if (entry.ok()) {
        entries.push_back(*std::move(entry));
      } else {
        failed = entry.status();
      }
    }
    CO_RETURN_IF_ERROR(failed);
  }
  co_return entries;
}

std::vector<std::string> Store::KeysOf(const WriteCommand& command) {
  std::vector<std::string> keys;
  for (const Write& write : command.writes) keys.push_back(BucketKey(write.key, kGeneration));
  return keys;
}

base::Task<absl::StatusOr<ReadModel>> Store::Get(domain::ReadModelKey key, base::SteadyTime deadline) {
  CO_ASSIGN_OR_RETURN(std::optional<KvEntry> entry,
                      co_await kv_.Last(BucketKey(key, kGeneration), ReadFrom::kLeader, deadline));
  const bool deleted = entry.has_value() && entry->operation == KvEntry::Operation::kDelete;
  if (!entry.has_value() || deleted) co_return domain::ReadModelNotFound(key, deleted);
  co_return Decode(std::move(key), kv_.stream(), *std::move(entry));
}

base::Task<absl::StatusOr<std::vector<std::optional<ReadModel>>>> Store::GetMany(std::vector<domain::ReadModelKey> keys,
                                                                                 base::SteadyTime deadline) {
  std::vector<std::string> bucket_keys;
  for (const domain::ReadModelKey& key : keys) bucket_keys.push_back(BucketKey(key, kGeneration));
  CO_ASSIGN_OR_RETURN(std::vector<std::optional<KvEntry>> entries, co_await ReadAll(std::move(bucket_keys), deadline));
  std::vector<std::optional<ReadModel>> models;
  for (size_t i = 0; i < keys.size(); ++i) {
    std::optional<KvEntry>& entry = entries[i];
    if (!entry.has_value() || entry->operation == KvEntry::Operation::kDelete) {
      models.emplace_back();
      continue;
    }
    CO_ASSIGN_OR_RETURN(ReadModel model, Decode(std::move(keys[i]), kv_.stream(), *std::move(entry)));
    models.emplace_back(std::move(model));
  }
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
    CO_ASSIGN_OR_RETURN(ReadModel model, Decode(*std::move(key), kv_.stream(), std::move(entry)));
    page.read_models.push_back(std::move(model));
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
