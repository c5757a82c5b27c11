#include "server/repository/snapshot_store.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "server/base/logging.h"
#include "server/base/status_macros.h"
#include "server/domain/errors.h"
#include "server/ipld/cid.h"
#include "server/jetstream/event_codec.h"
#include "server/repository/retry.h"

namespace persistd::repository {
namespace {

using jetstream::KvEntry;
using jetstream::ReadFrom;

// How many damaged snapshots a load passes over before it does without.
constexpr int kMaxDamaged = 3;

jetstream::Message MessageOf(KvEntry entry) {
  jetstream::Message message;
  message.headers = std::move(entry.headers);
  message.data = std::move(entry.value);
  message.sequence = entry.revision;
  message.time = entry.time;
  return message;
}

}  // namespace

base::Task<absl::StatusOr<SnapshotStore::Listed>> SnapshotStore::Find(domain::AggregateRef ref, ReadFrom from,
                                                                      base::SteadyTime deadline) {
  CO_ASSIGN_OR_RETURN(const std::optional<KvEntry> entry, co_await kv_->Last(ManifestKey(ref), from, deadline));
  Listed found;
  if (!entry.has_value()) co_return found;
  found.revision = entry->revision;
  if (entry->operation == KvEntry::Operation::kDelete) co_return found;
  absl::StatusOr<SnapshotManifest> manifest = SnapshotManifest::Parse(entry->value);
  if (!manifest.ok()) {
    co_return domain::CorruptData(kv_->stream(), entry->revision,
                                  absl::StrCat("the list of snapshots: ", manifest.status().message()));
  }
  found.manifest = *std::move(manifest);
  co_return found;
}

base::Task<absl::StatusOr<SnapshotManifest>> SnapshotStore::Manifest(domain::AggregateRef ref,
                                                                     base::SteadyTime deadline) {
  CO_ASSIGN_OR_RETURN(Listed found, co_await Find(std::move(ref), ReadFrom::kLeader, deadline));
  co_return std::move(found.manifest);
}

base::Task<absl::StatusOr<std::optional<SnapshotStore::Stored>>> SnapshotStore::ReadRecord(domain::AggregateRef ref,
                                                                                           ManifestEntry entry,
                                                                                           ReadFrom from,
                                                                                           base::SteadyTime deadline) {
  const std::string key = SnapshotKey(ref, entry.version);
  CO_ASSIGN_OR_RETURN(std::optional<KvEntry> record, co_await kv_->Get(key, from, deadline));
  if (!record.has_value() && from == ReadFrom::kAnyReplica) {
    // The replica that answered may be behind.
    CO_ASSIGN_OR_RETURN(record, co_await kv_->Get(key, ReadFrom::kLeader, deadline));
  }
  if (!record.has_value()) co_return std::optional<Stored>();
  const uint64_t revision = record->revision;
  Stored stored;
  stored.written = std::max(entry.created, record->time);
  absl::StatusOr<domain::StateRecord> state = jetstream::DecodeSnapshot(ref, MessageOf(*std::move(record)));
  if (!state.ok()) co_return domain::CorruptData(kv_->stream(), revision, state.status().message());
  if (state->version != entry.version || state->cid != entry.cid || state->commit_id != entry.commit_id ||
      state->schema_version != entry.schema_version) {
    co_return domain::CorruptData(kv_->stream(), revision, "the snapshot is not the one that its list names");
  }
  const Blocks::How how{.from = from, .written = &stored.written};
  CO_RETURN_IF_ERROR(co_await blocks_->Fill(*state, kv_->stream(), how, deadline));
  // Blocks were checked one by one, but not which ones are listed.
  if (ipld::RawCid(state->payload.data).ToString() != entry.cid) {
    co_return domain::CorruptData(kv_->stream(), revision, "the snapshot's content is not what its CID says");
  }
  stored.state = *std::move(state);
  co_return std::optional<Stored>(std::move(stored));
}

base::Task<absl::StatusOr<std::optional<SnapshotStore::Stored>>> SnapshotStore::ReadBack(domain::AggregateRef ref,
                                                                                         ManifestEntry entry,
                                                                                         base::SteadyTime deadline) {
  return ReadRecord(std::move(ref), std::move(entry), ReadFrom::kLeader, deadline);
}

base::Task<absl::StatusOr<std::optional<Truncation>>> SnapshotStore::TruncationOf(domain::AggregateRef ref,
                                                                                  base::SteadyTime deadline) {
  CO_ASSIGN_OR_RETURN(Listed found, co_await Find(std::move(ref), ReadFrom::kLeader, deadline));
  co_return std::move(found.manifest.truncation);
}

base::Task<absl::StatusOr<bool>> SnapshotStore::IsAsSafeAs(int replicas, base::SteadyTime deadline) {
  for (jetstream::Kv* kv : {kv_, &blocks_->kv()}) {
    CO_ASSIGN_OR_RETURN(const std::optional<jetstream::Kv::Facts> facts, co_await kv->Look(deadline));
    // Without large states there are no blocks.
    if (!facts.has_value() && kv != kv_) continue;
    if (!facts.has_value() || !facts->on_disk || !facts->for_ever || facts->replicas < replicas) {
      // Once: it is asked after every snapshot.
      if (!said_unsafe_.exchange(true)) {
        base::LogWarn("events are not truncated: their snapshots are not kept as safely",
                      {{"bucket", kv->options().bucket}, {"replicas_of_events", replicas}});
      }
      co_return false;
    }
  }
  co_return true;
}

void SnapshotStore::NotePassedOver(const domain::AggregateRef& ref, const ManifestEntry& entry,
                                   const absl::Status& why) {
  ++damaged_;
  base::LogError("a snapshot cannot be read and is passed over",
                 {{"bucket", kv_->options().bucket}, {"key", SnapshotKey(ref, entry.version)}, {"error", why}});
}

base::Task<absl::StatusOr<std::optional<domain::StateRecord>>> SnapshotStore::Needed(domain::AggregateRef ref,
                                                                                     uint64_t at_most_version,
                                                                                     base::SteadyTime deadline) {
  CO_ASSIGN_OR_RETURN(const Listed found, co_await Find(ref, ReadFrom::kLeader, deadline));
  const std::vector<ManifestEntry>& entries = found.manifest.entries;
  for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry) {
    if (entry->version > at_most_version) continue;
    absl::StatusOr<std::optional<Stored>> stored = co_await ReadBack(ref, *entry, deadline);
    if (stored.ok() && stored->has_value()) co_return std::optional<domain::StateRecord>(std::move((*stored)->state));
    if (!stored.ok() && !absl::IsDataLoss(stored.status())) co_return stored.status();
    NotePassedOver(ref, *entry, stored.ok() ? absl::DataLossError("it is missing") : stored.status());
  }
  co_return std::optional<domain::StateRecord>();
}

base::Task<absl::StatusOr<std::optional<domain::StateRecord>>> SnapshotStore::Latest(domain::AggregateRef ref,
                                                                                     uint64_t at_most_version,
                                                                                     base::SteadyTime deadline) {
  ReadFrom from = ReadFrom::kAnyReplica;
  int damaged = 0;
  uint64_t below = at_most_version;
  while (damaged < kMaxDamaged) {
    absl::StatusOr<Listed> found = co_await Find(ref, from, deadline);
    if (absl::IsDataLoss(found.status())) {
      ++damaged_;
      base::LogError("a list of snapshots cannot be read", {{"error", found.status()}});
      co_return std::optional<domain::StateRecord>();
    }
    if (!found.ok()) co_return found.status();
    const std::vector<ManifestEntry>& entries = found->manifest.entries;
    const auto after = std::upper_bound(entries.begin(), entries.end(), below,
                                        [](uint64_t v, const ManifestEntry& entry) { return v < entry.version; });
    if (after == entries.begin()) co_return std::optional<domain::StateRecord>();
    const ManifestEntry entry = *std::prev(after);
    absl::StatusOr<std::optional<Stored>> state = co_await ReadRecord(ref, entry, ReadFrom::kAnyReplica, deadline);
    if (state.ok() && state->has_value()) co_return std::optional<domain::StateRecord>(std::move((*state)->state));
    if (!state.ok() && !absl::IsDataLoss(state.status())) co_return state.status();
    // Removed since the list was read, or by someone who has an older one: look at the list as it is now.
    if (state.ok() && from == ReadFrom::kAnyReplica) {
      from = ReadFrom::kLeader;
      continue;
    }
    ++damaged;
    NotePassedOver(ref, entry, state.ok() ? absl::DataLossError("it is missing") : state.status());
    if (entry.version <= 1) break;
    below = entry.version - 1;
  }
  co_return std::optional<domain::StateRecord>();
}

base::Task<absl::StatusOr<SnapshotStore::Records>> SnapshotStore::Drop(const domain::AggregateRef& ref,
                                                                       SnapshotManifest& manifest,
                                                                       std::vector<uint64_t> versions,
                                                                       base::SteadyTime deadline) {
  Records records;
  for (const uint64_t version : versions) {
    manifest.Remove(version);
    // Its revision as it is now: one that is written after the manifest has let go of it belongs to a new snapshot.
    CO_ASSIGN_OR_RETURN(const std::optional<KvEntry> record,
                        co_await kv_->Last(SnapshotKey(ref, version), ReadFrom::kLeader, deadline));
    if (record.has_value()) records.push_back({.version = version, .revision = record->revision});
  }
  co_return records;
}

base::Task<void> SnapshotStore::EraseRecords(domain::AggregateRef ref, Records records, base::SteadyTime deadline) {
  for (const Dropped& record : records) {
    const std::string key = SnapshotKey(ref, record.version);
    const absl::Status erased = co_await kv_->Erase(key, record.revision, deadline);
    // It stays, without a list that names it, until a snapshot of the same version replaces it.
    if (!erased.ok()) base::LogWarn("a snapshot that was dropped is not erased", {{"key", key}, {"error", erased}});
  }
}

base::Task<absl::StatusOr<SnapshotStore::Added>> SnapshotStore::Add(domain::StateRecord state, size_t keep,
                                                                    base::SteadyTime deadline) {
  const domain::AggregateRef ref = state.ref;
  Added added;
  added.entry.version = state.version;
  added.entry.commit_id = state.commit_id;
  Blocks::Spilled spilled;
  Backoff backoff;
  const std::string key = SnapshotKey(ref, state.version);
  while (true) {
    // Before the list: a record that is not listed yet may be another daemon's, of the same version, which is about to
    // list it.
    CO_ASSIGN_OR_RETURN(std::optional<KvEntry> before, co_await kv_->Last(key, ReadFrom::kLeader, deadline));
    const uint64_t revision = before.has_value() ? before->revision : 0;
    CO_ASSIGN_OR_RETURN(Listed found, co_await Find(ref, ReadFrom::kLeader, deadline));
    added.truncated = found.manifest.truncation.has_value();
    const ManifestEntry* there = found.manifest.Find(state.version);
    // One of another save is of a history that was lost.
    if (there != nullptr && there->commit_id == state.commit_id) {
      added.entry = *there;
      added.fresh = false;
      co_return added;
    }
    if (there == nullptr && found.manifest.entries.size() >= SnapshotManifest::kMaxEntries) {
      co_return domain::TooLarge({.name = "snapshots of one aggregate",
                                  .limit = SnapshotManifest::kMaxEntries,
                                  .value = found.manifest.entries.size() + 1,
                                  .config_key = ""},
                                 "delete some");
    }
    if (before.has_value() && before->operation == KvEntry::Operation::kPut) {
      // Then both store the content of the first, so that what either lists is what is there.
      CO_ASSIGN_OR_RETURN(const bool adopted, co_await Adopt(*std::move(before), state, deadline));
      if (adopted) added.fresh = false;
    }
    if (!added.fresh) {
      added.fresh = true;
      added.entry.schema_version = state.schema_version;
      added.entry.content_type = state.payload.content_type;
      added.entry.size = state.payload.data.size();
      added.entry.created = clock_->WallNow();
      added.entry.cid = ipld::RawCid(state.payload.data).ToString();
      state.cid = added.entry.cid;
      CO_ASSIGN_OR_RETURN(spilled, co_await blocks_->Spill(state, deadline));
    }
    CO_RETURN_IF_ERROR(co_await blocks_->Renew(spilled, deadline));
    // Again for each attempt: whoever dropped this version meanwhile may have erased it.
    jetstream::OutgoingMessage record = jetstream::EncodeSnapshot(state);
    absl::StatusOr<uint64_t> written =
        co_await kv_->Update(key, std::move(record.data), revision, deadline, std::move(record.headers));
    if (absl::IsAborted(written.status())) {
      CO_RETURN_IF_ERROR(co_await Pause(backoff, deadline));
      continue;
    }
    CO_RETURN_IF_ERROR(written.status());
    CO_RETURN_IF_ERROR(co_await blocks_->Renew(spilled, deadline));
    found.manifest.Set(added.entry);
    std::vector<uint64_t> superfluous;
    const size_t count = found.manifest.entries.size();
    const bool drops = keep > 0 && !found.manifest.truncation.has_value();
    for (size_t i = 0; drops && i + keep < count; ++i) {
      superfluous.push_back(found.manifest.entries[i].version);
    }
    CO_ASSIGN_OR_RETURN(Records dropped, co_await Drop(ref, found.manifest, std::move(superfluous), deadline));
    written = co_await kv_->Update(ManifestKey(ref), found.manifest.ToJson(), found.revision, deadline);
    if (written.ok()) {
      Announce(ref, added.entry);
      co_await EraseRecords(ref, std::move(dropped), deadline);
      co_return added;
    }
    if (!absl::IsAborted(written.status())) co_return written.status();
    CO_RETURN_IF_ERROR(co_await Pause(backoff, deadline));
  }
}

base::Task<absl::Status> SnapshotStore::Pause(Backoff& backoff, base::SteadyTime deadline) {
  const base::SteadyTime next = backoff.Next();
  if (next >= deadline) co_return domain::Overloaded("other snapshots of this aggregate took all of this call's time");
  co_await executor_->Sleep(next);
  co_return absl::OkStatus();
}

base::Task<absl::StatusOr<bool>> SnapshotStore::Adopt(KvEntry record, domain::StateRecord& state,
                                                      base::SteadyTime deadline) {
  absl::StatusOr<domain::StateRecord> there = jetstream::DecodeSnapshot(state.ref, MessageOf(std::move(record)));
  if (!there.ok() || there->version != state.version || there->commit_id != state.commit_id) co_return false;
  if (there->cid == state.cid) co_return false;  // It is this very content, stored by an earlier attempt perhaps.
  const absl::Status filled = co_await blocks_->Fill(*there, kv_->stream(), deadline);
  if (absl::IsDataLoss(filled)) co_return false;
  if (!filled.ok()) co_return filled;
  if (ipld::RawCid(there->payload.data).ToString() != there->cid) co_return false;
  state = *std::move(there);
  co_return true;
}

base::Task<absl::Status> SnapshotStore::Replace(domain::AggregateRef ref, Listed list, std::vector<uint64_t> dropped,
                                                base::SteadyTime deadline) {
  CO_ASSIGN_OR_RETURN(Records records, co_await Drop(ref, list.manifest, std::move(dropped), deadline));
  const std::string key = ManifestKey(ref);
  const absl::StatusOr<uint64_t> written = co_await kv_->Update(key, list.manifest.ToJson(), list.revision, deadline);
  if (!written.ok()) co_return written.status();
  co_await EraseRecords(std::move(ref), std::move(records), deadline);
  // Nothing of it need stay; a snapshot that was added since has a later revision.
  if (list.manifest.entries.empty() && !list.manifest.truncation.has_value()) {
    const absl::Status erased = co_await kv_->Erase(key, *written, deadline);
    if (!erased.ok()) base::LogDebug("an empty list of snapshots is not erased", {{"key", key}, {"error", erased}});
  }
  co_return absl::OkStatus();
}

void SnapshotStore::Announce(const domain::AggregateRef& ref, const ManifestEntry& entry) {
  jetstream::OutgoingMessage message;
  message.subject = SnapshotSubject(ref, entry.version);
  message.headers.Add("content-type", "application/json");
  message.data = nlohmann::json{
      {"context", ref.context},
      {"aggregate", ref.aggregate},
      {"entity_id", ref.entity_id},
      {"version", entry.version},
      {"schema_version", entry.schema_version},
      {"size", entry.size},
      {"cid",
       entry.cid}}.dump();
  const absl::Status sent = announcer_->Tell(message);
  if (!sent.ok()) base::LogDebug("a snapshot is not announced", {{"subject", message.subject}, {"error", sent}});
}

}  // namespace persistd::repository
